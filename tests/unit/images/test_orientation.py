"""The orientation tag, against Pillow's own."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from paddleseg_ext.images.orientation import orientation_of, turn_upright


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned(orientation: int, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    tag, file = Image.Exif(), io.BytesIO()
    tag[0x0112] = orientation
    Image.fromarray(array).save(file, "PNG", exif=tag)
    with Image.open(file) as opened:
        assert orientation_of(opened) == orientation
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(turn_upright(array, orientation), expected)
