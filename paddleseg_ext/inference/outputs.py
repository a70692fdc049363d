"""Files of a segmentation: a label map for tools to score, an overlay for people."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.files import write_bytes
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.palette import legend

if TYPE_CHECKING:
    from paddleseg_ext.inference.predictor import Segmentation

LABEL_MAPS = "label_maps"
OVERLAYS = "overlays"
CONFIDENCE = "confidence"
FAMILIARITY = "familiarity"
SUFFIXES = {LABEL_MAPS: ".png", OVERLAYS: ".jpg", CONFIDENCE: ".png", FAMILIARITY: ".png"}
FAMILIARITY_STEPS = 16  # grey levels of a standard deviation; 128 is the mean
FAMILIARITY_MEANS = (
    "familiarity: the standardised largest logit at the original size, as (value - 128) / 16 "
    "standard deviations above the mean of training pixels of the same predicted class"
)
CONFIDENCE_MEANS = (
    "confidence: the largest softmax at the original size after all resizing, as value / 255"
)
OVERLAY_WEIGHT = 0.6  # of the colours; the rest is the image
JPEG_QUALITY = 90
LONGEST_JPEG_SIDE = 65500


def result_file(save_dir: str | Path, kind: str, name: str) -> Path:
    """The file of a result below `save_dir`, of a kind of `SUFFIXES`."""
    return Path(save_dir) / kind / f"{name}{SUFFIXES[kind]}"


def save_segmentation(
    segmentation: "Segmentation", name: str, save_dir: str | Path, with_legend: bool = False
) -> None:
    """Write `label_maps/<name>.png` and `overlays/<name>.jpg` below `save_dir`.

    A segmentation with confidence has it in `confidence/<name>.png`, one with familiarity in
    `familiarity/<name>.png`.

    Args:
        segmentation: that is written.
        name: of the files, without suffix.
        save_dir: the folder.
        with_legend: names and shares of the classes below the overlay, which is higher then.

    Raises:
        DataError: the picture cannot be encoded; nothing is written.
        OSError: one of the files cannot be written; the others are not there either.
    """
    table = segmentation.class_table
    picture = segmentation.overlay()
    if with_legend:
        entries = table.legend(segmentation.label_map)
        strip = legend(entries, table.class_names, picture.shape[1])
        picture = np.vstack([picture, strip])
    encoded = {
        LABEL_MAPS: encode_label_map(segmentation.label_map, table),
        OVERLAYS: encode_jpeg(picture),
    }
    if segmentation.confidence is not None:
        encoded[CONFIDENCE] = encode_confidence(segmentation.confidence)
    if segmentation.familiarity is not None:
        encoded[FAMILIARITY] = encode_familiarity(segmentation.familiarity)
    contents = {result_file(save_dir, kind, name): each for kind, each in encoded.items()}
    try:
        for path, content in contents.items():
            write_bytes(path, content)
    except OSError:
        for path in contents:
            path.unlink(missing_ok=True)
        raise


def save_label_map(label_map: NDArray[np.uint8], path: Path, table: ClassTable) -> None:
    """Write `encode_label_map`."""
    write_bytes(path, encode_label_map(label_map, table))


def encode_label_map(label_map: NDArray[np.uint8], table: ClassTable) -> bytes:
    """A palette PNG: the pixel's value is the class id, its colour is for people."""
    picture = Image.fromarray(label_map, mode="L")
    picture.putpalette(table.full_palette.tobytes())
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def encode_confidence(confidence: NDArray[np.float32]) -> bytes:
    """A grey PNG of (H, W) confidence: round(255 * confidence), and its meaning as a comment."""
    return _encode_grey(np.rint(confidence * 255), CONFIDENCE_MEANS)


def encode_familiarity(familiarity: NDArray[np.float32]) -> bytes:
    """A grey PNG of (H, W) familiarity: 128 + 16 * value, within 0 to 255, and its meaning."""
    grey = np.clip(np.rint(128 + FAMILIARITY_STEPS * familiarity), 0, 255)
    return _encode_grey(grey, FAMILIARITY_MEANS)


def _encode_grey(values: NDArray[np.float32], meaning: str) -> bytes:
    picture = Image.fromarray(values.astype(np.uint8), mode="L")
    note = PngImagePlugin.PngInfo()
    note.add_text("Description", meaning)
    content = io.BytesIO()
    picture.save(content, format="PNG", pnginfo=note)
    return content.getvalue()


def blend(
    image: NDArray[np.uint8], label_map: NDArray[np.uint8], table: ClassTable
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: the image under its classes' colours."""
    # The lookup of 2 million pixels takes 2 ms, NumPy's indexing 21.
    colors = cv2.applyColorMap(np.ascontiguousarray(label_map), table.full_palette[:, None])
    return cv2.addWeighted(image, 1 - OVERLAY_WEIGHT, colors, OVERLAY_WEIGHT, 0)


def encode_overlay(
    image: NDArray[np.uint8], label_map: NDArray[np.uint8], table: ClassTable
) -> bytes:
    """The blend as a JPEG.

    Raises:
        DataError: a side is longer than OpenCV's JPEGs can be.
    """
    return encode_jpeg(blend(image, label_map, table))


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB overlay as a JPEG.

    Raises:
        DataError: a side is longer than OpenCV's JPEGs can be.
    """
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST_JPEG_SIDE:
        raise DataError(
            f"{width}x{height} (width x height): its overlay is a JPEG, which holds at most "
            f"{LONGEST_JPEG_SIDE} pixels a side; cut the image into parts"
        )
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError("OpenCV could not encode an overlay")
    return encoded.tobytes()
