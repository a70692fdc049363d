"""How large an image may be, checked on its header before a pixel is decoded."""

import io

from PIL import Image

from paddleseg_ext.common.errors import DataError

# Pillow's names for IMAGE_SUFFIXES.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")


def require_few_pixels(content: bytes, name: str, max_pixels: int) -> None:
    """Read the header of an image file.

    Args:
        content: of the file.
        name: what messages call it.
        max_pixels: 0 for any number; nothing is read then.

    Raises:
        DataError: it promises more pixels, or has no header that tells.
    """
    if not max_pixels:
        return
    pillows_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours counts
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
    except Exception:  # Pillow raises many kinds for a damaged header
        raise DataError(
            f"{name}: its header cannot be read; one of {', '.join(FORMATS)} is expected"
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = pillows_limit
    require_size((height, width), name, max_pixels)


def require_size(size_hw: tuple[int, int], name: str, max_pixels: int) -> None:
    """Compare a size with the limit; 0 is none.

    Raises:
        DataError: it is larger.
    """
    height, width = size_hw
    if max_pixels and width * height > max_pixels:
        raise DataError(
            f"{name}: {width}x{height} are more pixels than --max_megapixels {max_pixels / 1e6:g}"
        )
