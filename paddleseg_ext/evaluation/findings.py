"""Findings of a report beside the scores, collected while images are scored."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.log import warn
from paddleseg_ext.evaluation.class_faults import ClassShelf, confusions
from paddleseg_ext.evaluation.evaluator import Evaluation, ImageCounts
from paddleseg_ext.evaluation.image_loss import image_loss
from paddleseg_ext.evaluation.objects import ObjectCounts, instance_file
from paddleseg_ext.evaluation.picture_shelf import PictureShelf
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.palette import shown_share
from paddleseg_ext.images.reading import read_instance_ids
from paddleseg_ext.inference.outputs import LABEL_MAPS, save_label_map
from paddleseg_ext.inference.pipeline import Prediction
from paddleseg_ext.inference.postprocess import Postprocess

LISTED = 5  # classes and images on the terminal


class Findings:
    """Pictures, losses and objects of an evaluation.

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
        self._samples: dict[str, list[str]] = {}
        self._warned = False

    def watch(self, prediction: Prediction, label: NDArray[np.uint8], counts: ImageCounts) -> None:
        """See `evaluator.Watch`."""
        label_map, sample = prediction.label_map, prediction.sample
        assert label_map is not None
        self.shelf.add(prediction, label, counts, self.losses.get(sample.name))
        self.classes.add(prediction, label, counts)
        self._add_objects(prediction, label)
        if self._save_dir is not None:
            path = self._save_dir / LABEL_MAPS / f"{sample.name}.png"
            save_label_map(label_map, path, self._table)
            self._samples[sample.name] = [str(sample.image), str(sample.label)]

    def _add_objects(self, prediction: Prediction, label: NDArray[np.uint8]) -> None:
        given = prediction.sample.label
        path = None if given is None else instance_file(given)
        if path is None or prediction.label_map is None:
            return
        ids = read_instance_ids(path)
        if ids.shape == label.shape:
            self.objects.add(prediction.label_map, label, ids)
        elif not self._warned:
            self._warned = True
            warn(f"{path}: another size than what is scored: such objects are not counted")

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
    for name, row in figures.get("objects", {}).get("classes", {}).items():
        parts = [
            f"{size} {shown_share(share)} of {count:,} objects"
            for size, share, count in zip(
                figures["objects"]["sizes"], row["size_recall"], row["objects"], strict=True
            )
            if share is not None
        ]
        lines.append(f"[EVAL] {name}, pixels found by size: {', '.join(parts)}")
    for row in figures.get("images_by_loss", [])[:LISTED]:
        lines.append(f"[EVAL] loss {row['loss']:.4f}: {row['name']}")
    return lines
