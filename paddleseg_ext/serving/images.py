"""Images of clients: limits are checked on the header, before a pixel is decoded.

The pixels are decoded by `images.functional.decode_image`, as `infer` does, so that the service
returns what the command writes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.functional import decode_image
from paddleseg_ext.images.header import opened_header
from paddleseg_ext.images.orientation import orientation_of, turn_upright
from paddleseg_ext.images.structure import essential, require_bounded_pixels
from paddleseg_ext.inference.preprocess import Preprocess

# Pillow's name -> media type. TIFF is left out: its many codecs are a large surface of attack.
FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
}
CAMERA_FORMAT = "MPO"  # a JPEG with a second picture behind it, as phones write
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


@dataclass(frozen=True)
class Header:
    """Size in pixels and Exif orientation of an image, from its header."""

    width: int
    height: int
    orientation: int


def read_header(content: bytes, limits: ImageLimits) -> Header:
    """Size and orientation from a file's header, within the limits.

    Raises:
        Refused: 400 empty or damaged, 413 too large, 415 another format or an animation.
    """
    if not content:
        raise Refused(400, "an image is expected, the body is empty")
    if len(content) > limits.max_bytes:
        raise Refused(413, f"an image of at most {limits.max_bytes} bytes is expected")
    try:
        essential(content, NAME)  # bounds the parts: Pillow walks through them in Python
    except DataError as error:
        raise Refused(400, str(error)) from None
    try:
        with opened_header(content, NAME, tuple(FORMATS), any_size=True) as opened:
            width, height = opened.size
            if max(width, height) > MAX_SIDE or width * height > limits.max_pixels:
                raise Refused(413, f"{_too_many_pixels(limits)}, got {width}x{height}")
            if getattr(opened, "n_frames", 1) > 1 and opened.format != CAMERA_FORMAT:
                raise Refused(415, "one still picture is expected, this is an animation")
            return Header(width, height, orientation_of(opened))
    except DataError:
        raise Refused(
            415, f"an image in one of {', '.join(FORMATS)} is expected; this is none, or damaged"
        ) from None


def decode_upload(
    content: bytes, limits: ImageLimits, preprocess: Preprocess, upright: bool
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    Args:
        content: of an image file.
        limits: of its size, before and after the transforms.
        preprocess: its transforms.
        upright: apply the camera's orientation tag; else the pixels come as they are stored.

    Raises:
        Refused: 400, 413 or 415 as `read_header`, or 422 where it does not fit the transforms.
    """
    header = read_header(content, limits)
    turned = upright and header.orientation > 4  # 5 to 8 exchange width and height
    size_hw = (header.width, header.height) if turned else (header.height, header.width)
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
    try:
        require_bounded_pixels(content, NAME)
        image = decode_image(content, NAME)
    except DataError as error:
        raise Refused(400, str(error)) from None
    if image.shape[:2] != (header.height, header.width):
        raise Refused(400, "the image is damaged: its header and its pixels disagree in size")
    return turn_upright(image, header.orientation) if upright else image


def _too_many_pixels(limits: ImageLimits) -> str:
    return f"an image of at most {limits.max_pixels} pixels and {MAX_SIDE} a side is expected"
