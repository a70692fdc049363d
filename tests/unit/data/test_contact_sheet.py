"""The sheet of `data browse`."""

import numpy as np

from paddleseg_ext.data.contact_sheet import CELL_WIDTH, COLUMNS, GAP, SheetOptions, contact_sheet
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.palette import LEGEND_ROW


class Halves:
    """Two samples of grey pixels: above class 0, below class 1 and ignored pixels."""

    class_table = generic_table(3, ["sky", "road", "car"])
    transform_specs = ({"type": "Normalize"},)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        label = np.zeros((40, 60), np.int64)
        label[20:], label[30:] = 1, 255
        return {"img": np.zeros((3, 40, 60), np.float32), "label": label}


def test_the_sheet_has_a_legend_of_its_samples() -> None:
    sheet = contact_sheet(Halves(), SheetOptions(count=2))
    assert sheet.shape == (240 + GAP + LEGEND_ROW, COLUMNS * (2 * CELL_WIDTH + GAP), 3)
    palette = Halves.class_table.palette
    below = sheet[-LEGEND_ROW:]
    shown = [(below == colour).all(axis=2).any() for colour in palette]
    assert shown == [True, True, False]  # no car in these samples
    assert (sheet[10, CELL_WIDTH + 10] == palette[0]).all()
    assert set(sheet[235, CELL_WIDTH : 2 * CELL_WIDTH, 0].tolist()) == {90, 200}
