"""The limit of an image's size, checked on its header before a pixel is decoded."""

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.header import FORMATS
from paddleseg_ext.images.reading import header_of


def require_few_pixels(content: bytes, name: str, max_pixels: int) -> None:
    """Read the header of an image file and compare its size with the limit.

    Args:
        content: of the file.
        name: what messages call it.
        max_pixels: 0 for any number; nothing is read then.

    Raises:
        DataError: it promises more pixels, or its header cannot be read.
    """
    if max_pixels:
        _, header = header_of(content, name, FORMATS)
        require_size(header.size_wh[::-1], name, max_pixels)


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
