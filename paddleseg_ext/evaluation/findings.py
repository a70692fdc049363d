"""Findings of a report beside the scores, collected while images are scored."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.log import warn
from paddleseg_ext.evaluation.class_faults import ClassShelf, confusions
from paddleseg_ext.evaluation.depth import DepthCounts, read_depth
from paddleseg_ext.evaluation.evaluator import Evaluation, ImageCounts
from paddleseg_ext.evaluation.image_loss import image_loss
from paddleseg_ext.evaluation.objects import ObjectCounts, instance_file
from paddleseg_ext.evaluation.picture_shelf import PictureShelf
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.palette import shown_share
from paddleseg_ext.images.reading import read_whole_numbers
from paddleseg_ext.inference.outputs import LABEL_MAPS, save_label_map
from paddleseg_ext.inference.pipeline import Prediction
from paddleseg_ext.inference.postprocess import Postprocess

LISTED = 5  # classes and images on the terminal


class Findings:
    """Pictures, losses, objects and depth of an evaluation.

    Attributes:
        losses: by name of the image, where the protocol's scores are logits.
    """

    def __init__(self, table: ClassTable, save_dir: Path | None, with_loss: bool):
        """
        Args:
            table: the classes.
            save_dir: gets the label maps, which `--compare` draws; None keeps none.
            with_loss: whether the outputs are logits.
        """
        self._table = table
        self._save_dir = save_dir
        self.with_loss = with_loss
        self.losses: dict[str, float] = {}
        self.shelf = PictureShelf(table)
        self.classes = ClassShelf(table)
        self.objects = ObjectCounts(table)
        self.depth = DepthCounts(table)
        self._samples: dict[str, list[str]] = {}
        self._other_sizes: set[str] = set()

    def watch(self, prediction: Prediction, label: NDArray[np.uint8], counts: ImageCounts) -> None:
        """See `evaluator.Watch`."""
        label_map, sample = prediction.label_map, prediction.sample
        assert label_map is not None
        self.shelf.add(prediction, label, counts, self.losses.get(sample.name))
        self.classes.add(prediction, label, counts)
        if sample.label is not None:
            self._add_measured(label_map, label, sample.label)
        if self._save_dir is not None:
            path = self._save_dir / LABEL_MAPS / f"{sample.name}.png"
            save_label_map(label_map, path, self._table)
            self._samples[sample.name] = [str(sample.image), str(sample.label)]

    def _add_measured(
        self, label_map: NDArray[np.uint8], label: NDArray[np.uint8], path: Path
    ) -> None:
        """Count by object and by depth, where files beside the label tell them."""
        instances = instance_file(path)
        if instances is not None:
            ids = read_whole_numbers(instances, "instance ids")
            if self._fits(ids, label, path, "instance ids"):
                self.objects.add(label_map, label, ids)
        metres = read_depth(path)
        if metres is not None and self._fits(metres, label, path, "depth"):
            self.depth.add(label_map, label, metres)

    def _fits(self, values: NDArray, label: NDArray[np.uint8], path: Path, what: str) -> bool:
        """Whether values have the label's size; warns once if not."""
        if values.shape != label.shape and what not in self._other_sizes:
            self._other_sizes.add(what)
            warn(f"{path}: its {what} have another size than what is scored: not counted")
        return values.shape == label.shape

    def watch_output(
        self, postprocess: Postprocess, prediction: Prediction, label: NDArray[np.uint8]
    ) -> None:
        """Note the loss of one image; see `EvaluationOptions`. Threads may call it."""
        assert prediction.output is not None and prediction.geometry is not None
        self.losses[prediction.sample.name] = image_loss(
            prediction.output, prediction.geometry, label, self._table.ignore_index, postprocess
        )

    def merge(self, other: "Findings") -> None:
        """Add the findings of another process."""
        self.losses |= other.losses
        self._samples |= other._samples
        self.shelf.merge(other.shelf)
        self.classes.merge(other.classes)
        self.objects.merge(other.objects)
        self.depth.merge(other.depth)

    def figures(self, evaluation: Evaluation) -> dict[str, Any]:
        """The findings for the JSON."""
        found: dict[str, Any] = {
            "confusions": confusions(evaluation.counts, self._table.class_names)
        }
        ranked = sorted(self.losses.items(), key=lambda item: -item[1])
        losses = [{"name": name, "loss": loss} for name, loss in ranked if np.isfinite(loss)]
        if losses:
            found["images_by_loss"] = losses
        if self.objects.num_images:
            found["objects"] = self.objects.to_dict()
        if self.depth.num_images:
            found["depth"] = self.depth.to_dict()
        if self._samples:
            found["pictured"] = {
                "label_maps": LABEL_MAPS,
                "classes": self._table.to_dict(),
                "samples": self._samples,
            }
        return found


def finding_lines(figures: dict[str, Any]) -> list[str]:
    """The worst of the findings as `[EVAL]` messages, for a terminal.

    Args:
        figures: of `Findings.figures`.
    """
    rows = [row for row in figures["confusions"] if row["missed_as"]]
    rows = sorted(rows, key=lambda row: row["recall"])[:LISTED]
    lines = [
        f"[EVAL] {row['name']}: {shown_share(row['recall'])} of its pixels are found; the others "
        "are predicted as "
        + ", ".join(f"{each['name']} {shown_share(each['share'])}" for each in row["missed_as"])
        for row in rows
    ]
    objects, depth = figures.get("objects", {}), figures.get("depth", {})
    for name, row in objects.get("classes", {}).items():
        shares = _listed(objects["sizes"], row["size_recall"], row["objects"], "objects")
        lines.append(f"[EVAL] {name}, pixels found by size: {shares}")
    for name, row in depth.get("classes", {}).items():
        shares = _listed(depth["ranges"], row["recall"], row["pixels"], "pixels")
        lines.append(f"[EVAL] {name}, pixels found by distance from the camera: {shares}")
    for row in figures.get("images_by_loss", [])[:LISTED]:
        lines.append(f"[EVAL] loss {row['loss']:.4f}: {row['name']}")
    return lines


def _listed(names: list[str], shares: list[float | None], counts: list[int], unit: str) -> str:
    """`NAME SHARE of COUNT UNIT`, of those that occur."""
    return ", ".join(
        f"{name} {shown_share(share)} of {count:,} {unit}"
        for name, share, count in zip(names, shares, counts, strict=True)
        if share is not None
    )
