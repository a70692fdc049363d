"""Images of clients: limits are checked on the header, before a pixel is decoded.

The pixels are decoded by `images.reading.decode_image`, as `infer` does, so that the service
returns what the command writes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.reading import FileHeader, decode_image, header_of
from paddleseg_ext.images.structure import OtherKind
from paddleseg_ext.inference.preprocess import Preprocess, SizeHW

# Pillow's name -> media type. TIFF is left out: its many codecs are a large surface of attack.
FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
}
MAX_SIDE = 16384  # pixels
NAME = "the image"


class Refused(Exception):
    """A refusal: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str, retry_after_s: int | None = None):
        """
        Args:
            status: HTTP status.
            sentence: what was expected, what came.
            retry_after_s: for `Retry-After`, where another try may succeed.
        """
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class ImageLimits:
    """Limits of an image.

    Attributes:
        max_bytes: of the file.
        max_pixels: of the image, and of the network's input made from it.
    """

    max_bytes: int
    max_pixels: int


def read_header(content: bytes, limits: ImageLimits) -> FileHeader:
    """A file's header, within the limits.

    Raises:
        Refused: 400 empty or damaged, 413 too large, 415 another format or an animation.
    """
    if not content:
        raise Refused(400, "an image is expected, the body is empty")
    if len(content) > limits.max_bytes:
        raise Refused(413, f"an image of at most {limits.max_bytes} bytes is expected")
    try:
        _, header = header_of(content, NAME, tuple(FORMATS))
    except OtherKind as error:
        raise Refused(415, str(error)) from None
    except DataError as error:
        raise Refused(400, str(error)) from None
    check_size(header.size_wh[::-1], limits)
    return header


def check_size(size_hw: SizeHW, limits: ImageLimits) -> None:
    """Refuse an image of too many pixels.

    Raises:
        Refused: 413.
    """
    height, width = size_hw
    if max(width, height) > MAX_SIDE or width * height > limits.max_pixels:
        raise Refused(413, f"{_too_many_pixels(limits)}, got {width}x{height}")


def check_network_size(size_hw: SizeHW, limits: ImageLimits, preprocess: Preprocess) -> None:
    """Refuse an image of which the transforms make too many pixels, or nothing.

    Raises:
        Refused: 413, or 422 where it does not fit the transforms.
    """
    try:
        network_h, network_w = preprocess.network_hw(size_hw)
    except DataError as error:
        raise Refused(422, str(error)) from None
    if network_h * network_w > limits.max_pixels:
        raise Refused(
            413,
            f"{_too_many_pixels(limits)} after the bundle's transforms, "
            f"got {network_w}x{network_h}",
        )


def decode_upload(
    content: bytes, limits: ImageLimits, preprocess: Preprocess, orientation: Orientation
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    Args:
        content: of an image file.
        limits: of its size, before and after the transforms.
        preprocess: its transforms.
        orientation: `upright` applies the camera's orientation tag.

    Raises:
        Refused: 400, 413 or 415 as `read_header`, or 422 where it does not fit the transforms.
    """
    header = read_header(content, limits)
    turned = orientation == "upright" and header.orientation > 4  # 5 to 8 exchange the sides
    check_network_size(header.size_wh if turned else header.size_wh[::-1], limits, preprocess)
    try:
        return decode_image(content, NAME, orientation)
    except DataError as error:
        raise Refused(400, str(error)) from None


def _too_many_pixels(limits: ImageLimits) -> str:
    return f"an image of at most {limits.max_pixels} pixels and {MAX_SIDE} a side is expected"
