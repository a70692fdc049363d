"""Images of clients: limits are checked on the header, before a pixel is decoded.

The pixels are decoded by `images.functional.decode_image`, as `infer` does, so that the service
returns what the command writes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.functional import decode_image
from paddleseg_ext.images.header import opened_header
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
ORIENTATION_TAG = 0x0112
UPRIGHT = 1
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
            return Header(width, height, _orientation(opened))
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


def turn_upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an orientation tag.

    Args:
        image: (H, W, 3).
        orientation: 1 to 8.

    Source: Exif 2.3, 4.6.4, tag 274: which side of the scene the first row and column are.
    """
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # after the transposition, where there is one
    image = np.ascontiguousarray(image)
    return cv2.flip(image, flips[orientation]) if orientation in flips else image


def _orientation(opened: Image.Image) -> int:
    """EXIF orientation as browsers honour it, so that the page's picture and its labels agree.

    Browsers ignore XMP, and the tag in WebP. `getexif` is not used: it decodes a PNG's pixels.
    """
    if opened.format == "WEBP":
        return UPRIGHT
    try:
        exif = Image.Exif()
        exif.load(opened.info.get("exif", b""))
        orientation = exif.get(ORIENTATION_TAG, UPRIGHT)
    except Exception:  # damaged metadata turns nothing
        return UPRIGHT
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def _too_many_pixels(limits: ImageLimits) -> str:
    return f"an image of at most {limits.max_pixels} pixels and {MAX_SIDE} a side is expected"
