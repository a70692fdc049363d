"""Images and labels as arrays: resizing, padding, cropping, writing.

Images are RGB `(H, W, 3)`, labels `(H, W)` uint8, logits `(C, H, W)` float32. Sizes are
`(width, height)` where the name ends in `_wh`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from paddleseg_ext.common.errors import DataError, UsageError, shown
from paddleseg_ext.common.files import write_bytes

CHANNELS = (1, 3)  # that images are read with
# Pillow's bilinear filter, whose support grows with the reduction: antialiased.
PILLOW_LINEAR = "pillow_linear"
INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos4": cv2.INTER_LANCZOS4,
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


def write_png(path: str | Path, array: np.ndarray, compression: int | None = None) -> None:
    """Write a label `(H, W)` or an RGB image `(H, W, 3)`, uint8, whole or not at all.

    Args:
        compression: 0 (none) to 9; None for OpenCV's default.
    """
    stored = array if array.ndim == 2 else array[:, :, ::-1]
    settings = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    done, encoded = cv2.imencode(".png", stored, settings)
    if not done:
        raise DataError(f"{path}: an array of shape {array.shape} cannot be encoded as PNG")
    write_bytes(path, encoded.tobytes())


def normalize(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """`(image / 255 - mean) / std`, every step in float32.

    Args:
        image: `(H, W, 3)`, values 0..255.
        mean: one value per channel, or one for all, in 0..1.
        std: as `mean`.
    """
    result = image.astype(np.float32) / np.float32(255.0)
    result -= np.asarray(mean, np.float32)
    result /= np.asarray(std, np.float32)
    return result


def resize_image(
    image: np.ndarray, size_wh: Sequence[int], interpolation: str = "linear"
) -> np.ndarray:
    """Resize `(H, W, 3)` with half-pixel centres, of any dtype.

    Args:
        interpolation: a key of `INTERPOLATIONS`, or `PILLOW_LINEAR`.
    """
    width, height = size_wh
    if interpolation == PILLOW_LINEAR:
        return _resize_by_pillow(image, (width, height))
    return cv2.resize(image, (width, height), interpolation=INTERPOLATIONS[interpolation])


def _resize_by_pillow(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Resize by Pillow, which averages where it shrinks. Pixels of whole values stay whole."""
    pixels = image.astype(np.uint8)
    if np.array_equal(pixels, image):
        resized = np.asarray(Image.fromarray(pixels).resize(size_wh, Image.Resampling.BILINEAR))
        return resized.astype(image.dtype)
    result = np.empty((size_wh[1], size_wh[0], image.shape[2]), image.dtype)
    for channel in range(image.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(image[:, :, channel], np.float32))
        result[:, :, channel] = plane.resize(size_wh, Image.Resampling.BILINEAR)
    return result


def resize_label(label: np.ndarray, size_wh: Sequence[int], centred: bool = False) -> np.ndarray:
    """Resize `(H, W)` by nearest neighbour, so that no new values arise.

    Args:
        centred: with half-pixel centres, as Pillow; else pixel i is taken from floor(i * in / out).
    """
    width, height = size_wh
    if centred:
        resized = Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST)
        return np.array(resized)
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)


def keep_ratio_size_wh(size_wh: Sequence[int], target_wh: Sequence[int]) -> tuple[int, int]:
    """The largest size with the ratio of `size_wh` that fits `target_wh`.

    Long side is compared with long side, so that the target may be turned. A very narrow image
    keeps one pixel, where PaddleSeg fails.

    Source: PaddleSeg `rescale_size`, as in mmseg.
    """
    scale = min(max(target_wh) / max(size_wh), min(target_wh) / min(size_wh))
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))


def check_channels(channels: Any, name: str = "input channels") -> int:
    """`channels`, if images are read with as many.

    Raises:
        UsageError: it is neither 1 nor 3.
    """
    if type(channels) is not int or channels not in CHANNELS:
        raise UsageError(
            f"{name}: 1 (grey) or 3 (RGB) is expected, got {shown(channels)}: images are read as "
            "grey or RGB, as by PaddleSeg; train and export a network of 3 input channels"
        )
    return channels


def as_grey(image: np.ndarray) -> np.ndarray:
    """The brightness of an RGB image `(H, W, 3)` uint8 as three equal channels.

    A grey image keeps its values. Source: OpenCV's conversion, by which PaddleSeg 2.8 reads images
    where `img_channels` is 1.
    """
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def pad(
    array: np.ndarray,
    size_wh: Sequence[int],
    value: float | Sequence[float],
    left: int = 0,
    top: int = 0,
) -> np.ndarray:
    """Pad up to `size_wh`, by default at the right and the bottom; larger sides are kept.

    Args:
        array: image `(H, W, 3)` or label `(H, W)`.
        value: one for all channels, or one per channel.
        left: columns of the padding that come before the array.
        top: rows of the padding that come before the array.
    """
    height, width = array.shape[:2]
    right, bottom = max(size_wh[0] - width - left, 0), max(size_wh[1] - height - top, 0)
    if not (left or top or right or bottom):
        return array
    channels = 1 if array.ndim == 2 else array.shape[2]
    if array.dtype == np.uint8 and np.any(np.asarray(value) % 1):
        array = array.astype(np.float32)  # bytes would round 127.5, which deployment pads with
    # OpenCV pads channels beyond the list's end with 0.
    values = np.broadcast_to(np.asarray(value, np.float64), channels).tolist()
    return cv2.copyMakeBorder(array, top, bottom, left, right, cv2.BORDER_CONSTANT, value=values)


def crop(array: np.ndarray, left: int, top: int, size_wh: Sequence[int]) -> np.ndarray:
    """The window of `size_wh` at `(left, top)`; a view, not a copy."""
    return array[top : top + size_wh[1], left : left + size_wh[0]]


def flip_horizontal(array: np.ndarray) -> np.ndarray:
    """The array with left and right exchanged; a view, not a copy."""
    return array[:, ::-1]


def exchange_classes(label: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The label, (H, W) of bytes, with the classes of each pair in one another's place."""
    lookup = np.arange(256, dtype=label.dtype)
    for one, other in pairs:
        lookup[[one, other]] = other, one
    return lookup[label]


def resize_logits(
    logits: np.ndarray, size_wh: Sequence[int], align_corners: bool = False
) -> np.ndarray:
    """Bilinear resize of `(C, h, w)` float32 to `(C, H, W)` float32, without anti-aliasing."""
    width, height = size_wh
    if logits.shape[1:] == (height, width):
        return logits
    if align_corners:
        return _resize_corners(_resize_corners(logits, 1, height), 2, width)
    resized = np.empty((len(logits), height, width), np.float32)
    for channel, target in zip(logits, resized, strict=True):
        cv2.resize(channel, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def _resize_corners(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation along one axis that keeps the first and last samples in place."""
    last = values.shape[axis] - 1
    step = last / (size - 1) if size > 1 else 0.0
    position = np.arange(size, dtype=np.float64) * step
    low = np.minimum(position.astype(np.int64), last)
    high = np.minimum(low + 1, last)
    shape = [1, 1, 1]
    shape[axis] = size
    weight = (position - low).astype(np.float32).reshape(shape)
    return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
