"""The orientation tag of cameras: reading it from a header, and applying it to pixels."""

from typing import Literal

import cv2
import numpy as np
from PIL import Image

Orientation = Literal["stored", "upright"]
ORIENTATION_TAG = 0x0112
UPRIGHT = 1


def orientation_of(opened: Image.Image) -> int:
    """The EXIF orientation of an opened JPEG, PNG, WebP or TIFF, 1 to 8; 1 where there is none.

    XMP is ignored. `getexif` is not used: it decodes a PNG's pixels.
    """
    try:
        if opened.format == "TIFF":
            orientation = opened.tag_v2.get(ORIENTATION_TAG, UPRIGHT)  # type: ignore[attr-defined]
        else:
            exif = Image.Exif()
            exif.load(opened.info.get("exif", b""))
            orientation = exif.get(ORIENTATION_TAG, UPRIGHT)
    except Exception:  # damaged metadata turns nothing
        return UPRIGHT
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an orientation tag.

    Args:
        image: (H, W, 3), or a label (H, W).
        orientation: 1 to 8.

    Source: Exif 2.3, 4.6.4, tag 274: which side of the scene the first row and column are.
    """
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # after the transposition, where there is one
    image = np.ascontiguousarray(image)
    return cv2.flip(image, flips[orientation]) if orientation in flips else image
