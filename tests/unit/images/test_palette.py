"""Colours for people."""

import numpy as np

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.palette import (
    HATCH_GREYS,
    LEGEND_ROW,
    legend,
    legend_entries,
    spread_palette,
)


def test_the_default_palette_differs_and_has_neither_black_nor_grey() -> None:
    palette = spread_palette(254).astype(int)
    assert len({tuple(colour) for colour in palette.tolist()}) == 254
    spread = palette.max(axis=1) - palette.min(axis=1)
    assert spread.min() >= 34, palette[spread.argmin()]
    first = palette[:10]
    distances = np.abs(first[:, None] - first).sum(axis=2)
    assert distances[distances > 0].min() > 100


def test_a_class_keeps_its_colour_when_others_are_added() -> None:
    known = [[17, 119, 187], [238, 34, 34], [68, 187, 0], [238, 34, 187]]
    assert spread_palette(4).tolist() == known == spread_palette(30)[:4].tolist()
    palette = generic_table(4).palette
    palette[:] = 0  # a copy of its own
    assert spread_palette(4).tolist() == known


def test_ignored_pixels_are_hatched() -> None:
    table = generic_table(2)
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 255
    picture = table.paint(label)
    assert (picture[:, :30] == table.palette[0]).all()
    greys, counts = np.unique(picture[:, 30:], return_counts=True)
    assert tuple(greys) == HATCH_GREYS and counts.min() > 0.4 * counts.sum()


def test_a_legend_names_the_classes_that_occur_by_share() -> None:
    palette = spread_palette(3)
    entries = legend_entries([10, 0, 30], ("sky", "road", "car"), palette)
    assert [entry[0] for entry in entries] == ["car", "sky"]
    assert [entry[2] for entry in entries] == [0.75, 0.25]
    names = ("sky", "road", "car")
    strip = legend(entries, names, 200)
    assert strip.shape == (LEGEND_ROW, 200, 3)
    for _, colour, _ in entries:
        assert (strip == colour).all(axis=2).sum() > 50
    assert legend(entries, names, 60).shape == (2 * LEGEND_ROW, 60, 3)
    assert legend([("\u8def\u9762", (1, 2, 3), 1.0)], ["\u8def\u9762"], 60).shape[1] == 60
