"""Files of a segmentation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.palette import LEGEND_ROW
from paddleseg_ext.inference.outputs import (
    LONGEST_JPEG_SIDE,
    OVERLAY_WEIGHT,
    blend,
    save_segmentation,
)
from paddleseg_ext.inference.predictor import Segmentation

TABLE = generic_table(3)


@pytest.mark.parametrize("taken", ["label_maps/a.png", "overlays/a.jpg"])
def test_a_name_that_is_taken_leaves_neither_file(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        save_segmentation(segmentation(5, 9), "a", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    """Also where all of it follows a dot, and the temporary name would be longer than it."""
    for name in ("x" * 251, "x." + "y" * 249, "\u00e9" * 125):
        save_segmentation(segmentation(5, 9), name, tmp_path)
        assert (tmp_path / f"label_maps/{name}.png").is_file()


def segmentation(height: int, width: int) -> Segmentation:
    label_map = np.random.default_rng(0).integers(0, 3, (height, width), dtype=np.uint8)
    image = np.full((height, width, 3), 7, np.uint8)
    return Segmentation(label_map, image, TABLE, (height, width))


def test_a_label_map_keeps_its_classes_and_an_overlay_its_size(tmp_path: Path) -> None:
    given = segmentation(5, 9)
    save_segmentation(given, "town/a", tmp_path)
    with Image.open(tmp_path / "label_maps/town/a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), given.label_map)
    with Image.open(tmp_path / "overlays/town/a.jpg") as picture:
        assert picture.size == (9, 5)
    save_segmentation(given, "town/a", tmp_path, with_legend=True)
    with Image.open(tmp_path / "overlays/town/a.jpg") as picture:
        assert picture.size == (9, 5 + 3 * LEGEND_ROW)


@pytest.mark.parametrize("size", [(1, LONGEST_JPEG_SIDE + 1), (LONGEST_JPEG_SIDE + 1, 1)])
def test_a_side_that_no_jpeg_has_is_an_error_of_that_image(tmp_path: Path, size) -> None:
    with pytest.raises(DataError, match="at most 65500 pixels a side"):
        save_segmentation(segmentation(*size), "a", tmp_path)
    assert not list(tmp_path.iterdir())
    save_segmentation(segmentation(1, LONGEST_JPEG_SIDE), "a", tmp_path)


@pytest.mark.parametrize("step", [1, 2])
def test_the_blend_has_the_colour_of_every_value(step: int) -> None:
    """Also of values that are no class, and of a map that is not contiguous."""
    table = generic_table(7)
    label_map = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(step, axis=1)[:, ::step]
    black = np.zeros((16, 16, 3), np.uint8)
    expected = np.rint(table.full_palette[label_map] * OVERLAY_WEIGHT)
    assert np.abs(blend(black, label_map, table) - expected).max() <= 1
