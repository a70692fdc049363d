"""The header of an image file, read by Pillow without decoding a pixel."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from paddleseg_ext.common.errors import DataError

# Pillow's names for `functional.IMAGE_SUFFIXES`.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
_pillows_limit = Lock()


@contextmanager
def opened_header(
    file: bytes | Path, name: str, formats: tuple[str, ...] | None = None, any_size: bool = False
) -> Iterator[Image.Image]:
    """Yields the opened file: its size, mode and format are known, its pixels are not decoded.

    Args:
        file: the content, or a path.
        name: what messages call it.
        formats: those that are accepted, by Pillow's names; None for all that Pillow knows.
        any_size: accept more pixels than Pillow does (179 million); the caller has its own limit.

    Raises:
        DataError: it is no image of these formats, its header is damaged, or it is too large.
    """
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with _without_limit() if any_size else nullcontext():
            opened = Image.open(source, formats=formats)
    except Exception:  # Pillow raises many kinds for a damaged header
        expected = ", ".join(formats or FORMATS)
        raise DataError(
            f"{name}: its header cannot be read; one of {expected} is expected"
        ) from None
    with opened:
        yield opened


def load_pixels(
    content: bytes, kind: str, name: str, what: str, to_rgb: bool = False
) -> tuple[np.ndarray, str]:
    """The pixels of a file as Pillow decodes them, and their mode.

    Args:
        kind: its format, by Pillow's name.
        name: what messages call it.
        what: the kind of file, for the message where Pillow has no mode for it.
        to_rgb: 8 bits become RGB, or RGBA, whose colours are as stored.

    Raises:
        DataError: it is damaged, or Pillow does not read its kind of pixels.
    """
    try:
        with opened_header(content, name, (kind,), any_size=True) as opened:
            mode = opened.mode
            deep = mode.startswith(("I", "F"))
            keep = not to_rgb or deep or mode in ("RGB", "RGBA", "RGBX")
            pixels = np.asarray(opened if keep else opened.convert("RGB"))
    except DataError:
        raise DataError(f"{name}: {what} is damaged, or of a kind that is not read") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise DataError(f"{name}: cannot be decoded: {what}: {error}") from None
    if to_rgb and mode in ("LAB", "HSV", "I", "F"):
        raise DataError(f"{name}: {what} (mode {mode}) is not read; save it as RGB")
    return pixels, mode


@contextmanager
def _without_limit() -> Iterator[None]:
    with _pillows_limit:  # a setting of the whole process
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
