"""What a prediction leaves on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.outputs import LONGEST_JPEG_SIDE, save_prediction
from paddleseg_ext.inference.pipeline import Prediction

TABLE = generic_table(3)


def prediction(height: int, width: int) -> Prediction:
    label_map = np.random.default_rng(0).integers(0, 3, (height, width), dtype=np.uint8)
    image = np.full((height, width, 3), 7, np.uint8)
    return Prediction(Sample(Path("a.png"), None, "town/a"), label_map=label_map, image=image)


def test_a_label_map_keeps_its_classes_and_an_overlay_its_size(tmp_path: Path) -> None:
    given = prediction(5, 9)
    save_prediction(given, tmp_path, TABLE)
    with Image.open(tmp_path / "label_maps/town/a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), given.label_map)
    with Image.open(tmp_path / "overlays/town/a.jpg") as picture:
        assert picture.size == (9, 5)


@pytest.mark.parametrize("size", [(1, LONGEST_JPEG_SIDE + 1), (LONGEST_JPEG_SIDE + 1, 1)])
def test_a_side_that_no_jpeg_has_is_an_error_of_that_image(tmp_path: Path, size) -> None:
    with pytest.raises(DataError, match="at most 65500 pixels a side"):
        save_prediction(prediction(*size), tmp_path, TABLE)
    assert not list(tmp_path.iterdir())
    save_prediction(prediction(1, LONGEST_JPEG_SIDE), tmp_path, TABLE)
