"""Pictures of the images in which a run differs most from the reference."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.images.labels import decode_label
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.scoring.verdict import ImageVerdict

PICTURED = 2  # images per run
PICTURE_WIDTH = 400
DIFFERENT_COLOR, EQUAL_SHARE = (215, 30, 30), 0.3
# A single pixel would vanish when a picture is made smaller.
LEAST_MARK = 3


@dataclass(frozen=True)
class WorstImage:
    """One image that differs, and small pictures of it: `(caption, data URI)`."""

    name: str
    num_different: int
    num_decided: int
    parts: tuple[tuple[str, str], ...]


class WorstImages:
    """Keeps the pictures of the images with most pixels that differ; a `reference.Watch`."""

    def __init__(self, reference: Reference):
        self._reference = reference
        self.images: list[WorstImage] = []

    def __call__(self, number: int, got: NDArray[np.uint8] | None, verdict: ImageVerdict) -> None:
        """Keep the pictures of one judged label map, if it is among the worst."""
        if got is None or not verdict.num_different:
            return
        full = len(self.images) == PICTURED
        if full and verdict.num_different <= self.images[-1].num_different:
            return
        pictured = WorstImage(
            verdict.image, verdict.num_different, verdict.num_decided, self._parts(number, got)
        )
        ranked = sorted([*self.images, pictured], key=lambda image: -image.num_different)
        self.images = ranked[:PICTURED]

    def _parts(self, number: int, got: NDArray[np.uint8]) -> tuple[tuple[str, str], ...]:
        sample, table = self._reference.samples[number], self._reference.table
        image, expected = (
            self._reference.image(sample.image, self._reference.preprocess.orientation),
            self._reference.label_map(number),
        )
        parts = {"image": image}
        if sample.label is not None:
            parts["label"] = table.paint(decode_label(sample.label, table))
        parts[f"reference ({self._reference.stage})"] = table.paint(expected)
        parts["this run"] = table.paint(got)
        parts["pixels that differ"] = mark_differences(image, expected != got)
        return tuple((name, html.picture_uri(part, PICTURE_WIDTH)) for name, part in parts.items())


def mark_differences(image: NDArray[np.uint8], differs: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image pale, and red where `differs`, wide enough to be seen.

    Args:
        image: (H, W, 3) RGB.
        differs: (H, W).
    """
    shown = (255 - EQUAL_SHARE * (255 - image.astype(np.float32))).astype(np.uint8)
    scale = max(1, round(image.shape[1] / PICTURE_WIDTH))
    mark = np.ones((LEAST_MARK * scale, LEAST_MARK * scale), np.uint8)
    shown[cv2.dilate(differs.astype(np.uint8), mark) > 0] = DIFFERENT_COLOR
    return shown
