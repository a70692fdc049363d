"""Small pictures of the images that a report shows: the worst, the best, those of highest loss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.evaluation.evaluator import ImageCounts
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.pipeline import Prediction

PICTURED = 4  # images of each kind
PICTURE_WIDTH = 480
RIGHT_COLOR, WRONG_COLOR, VOID_COLOR = (225, 235, 225), (215, 40, 40), (0, 0, 0)


@dataclass(frozen=True)
class PicturedImage:
    """Small pictures of one image: itself, its label, its prediction, where they differ.

    Attributes:
        legend: of the label, see `ClassTable.legend`.
        loss: mean cross entropy; None where it is not known.
    """

    name: str
    mean_iou: float
    parts: tuple[tuple[str, str], ...]
    legend: list[tuple[str, tuple[int, ...], float]]
    loss: float | None = None

    @property
    def title(self) -> str:
        """Name and figures."""
        loss = "" if self.loss is None else f", loss {self.loss:.4f}"
        return f"{self.name}: mIoU {self.mean_iou:.4f}{loss}"


class PictureShelf:
    """Keeps the pictures of the worst, the best and those of highest loss, and no others."""

    def __init__(self, table: ClassTable):
        self._table = table
        self._worst: list[PicturedImage] = []
        self._best: list[PicturedImage] = []
        self._lossy: list[PicturedImage] = []

    def add(
        self,
        prediction: Prediction,
        label: NDArray[np.uint8],
        counts: ImageCounts,
        loss: float | None = None,
    ) -> None:
        """Look at one scored image, whose loss may be known."""
        value = float(counts.mean_iou())
        if np.isnan(value):
            return
        is_bad = len(self._worst) < PICTURED or value < self._worst[-1].mean_iou
        is_good = len(self._best) < PICTURED or value > self._best[-1].mean_iou
        is_lossy = loss is not None and (
            len(self._lossy) < PICTURED or loss > (self._lossy[-1].loss or 0.0)
        )
        if not (is_bad or is_good or is_lossy):
            return
        parts, legend = self._parts(prediction, label), self._table.legend(label)
        self._keep([PicturedImage(prediction.sample.name, value, parts, legend, loss)])

    def merge(self, other: "PictureShelf") -> None:
        """Take over the pictures of another process."""
        theirs = [*other._worst, *other._best, *other._lossy]
        seen = {picture.name: picture for picture in theirs}
        self._keep(list(seen.values()))

    def _keep(self, pictures: list[PicturedImage]) -> None:
        self._worst = sorted([*self._worst, *pictures], key=lambda p: p.mean_iou)[:PICTURED]
        self._best = sorted([*self._best, *pictures], key=lambda p: -p.mean_iou)[:PICTURED]
        lossy = [p for p in [*self._lossy, *pictures] if p.loss is not None]
        self._lossy = sorted(lossy, key=lambda p: -(p.loss or 0.0))[:PICTURED]

    def shelves(self) -> list[tuple[str, list[PicturedImage]]]:
        """Headings and pictures, the worst first; an image is on one shelf only."""
        kinds = {
            "Worst images": self._worst,
            "Highest loss": self._lossy,
            "Best images": self._best,
        }
        shown: set[str] = set()
        found = []
        for heading, pictures in kinds.items():
            found.append((heading, [p for p in pictures if p.name not in shown]))
            shown |= {picture.name for picture in pictures}
        return [shelf for shelf in found if shelf[1]]

    def _parts(
        self, prediction: Prediction, label: NDArray[np.uint8]
    ) -> tuple[tuple[str, str], ...]:
        segmentation = prediction.segmentation
        assert segmentation is not None
        errors = np.array([RIGHT_COLOR, WRONG_COLOR, VOID_COLOR], np.uint8)[
            np.where(label == self._table.ignore_index, 2, segmentation.label_map != label)
        ]
        parts = {
            "image": segmentation.image,
            "label": self._table.paint(label),
            "prediction": self._table.paint(segmentation.label_map),
            "errors": errors,
        }
        return tuple((name, html.picture_uri(part, PICTURE_WIDTH)) for name, part in parts.items())
