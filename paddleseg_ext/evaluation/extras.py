"""Optional figures and files of an evaluation, collected while images are scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.files import write_text
from paddleseg_ext.evaluation.boundary import BAND, TOLERANCE, boundary_f1, boundary_pixels
from paddleseg_ext.evaluation.categories import category_scores
from paddleseg_ext.evaluation.evaluator import Evaluation, ImageCounts, format_array
from paddleseg_ext.evaluation.findings import Findings, finding_lines
from paddleseg_ext.evaluation.report import report_html
from paddleseg_ext.evaluation.submission import Submission
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.pipeline import Prediction
from paddleseg_ext.inference.postprocess import Postprocess, softmax
from paddleseg_ext.scoring.auc import ClassRanks
from paddleseg_ext.scoring.bootstrap import CONFIDENCE, bootstrap_mean_iou
from paddleseg_ext.scoring.confusion import ClassPixels
from paddleseg_ext.scoring.metrics import plain

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class ExtraOptions:
    """Figures and files beside the counts.

    Attributes:
        resamples: of the bootstrap; 0 for none.
        report_dir: folder of the HTML page.
        submission_dir: folder of the Cityscapes server's PNGs.
        boundary_f1: whether it is computed.
        boundary_iou: whether it is computed.
        auc_roc: the area under the ROC curve, see `scoring.auc`.
        label_maps: folder below which a report's label maps are kept; None keeps none.
        with_loss: whether the outputs are logits, by whose loss a report ranks images.
    """

    boundary_f1: bool = False
    resamples: int = 0
    report_dir: Path | None = None
    submission_dir: Path | None = None
    auc_roc: bool = False
    boundary_iou: bool = False
    label_maps: Path | None = None
    with_loss: bool = False


class Extras:
    """Watches an evaluation; after it, gives figures, lines and files."""

    def __init__(self, options: ExtraOptions, table: ClassTable, images: Sequence[Path]):
        """
        Raises:
            UsageError: the submission cannot be made of these classes or image names.
        """
        self.options = options
        self._table = table
        self._boundary_sum = np.zeros(table.num_classes)
        self._boundary_images = np.zeros(table.num_classes, np.int64)
        self._band_pixels = np.zeros((2, table.num_classes), np.int64)
        self.findings = (
            Findings(table, options.label_maps, options.with_loss) if options.report_dir else None
        )
        folder = options.submission_dir
        self.submission = Submission(folder, table, images) if folder else None
        self.ranks = ClassRanks(table.num_classes, table.ignore_index) if options.auc_roc else None

    def watch(self, prediction: Prediction, label: NDArray[np.uint8], counts: ImageCounts) -> None:
        """See `evaluator.Watch`."""
        label_map = prediction.label_map
        assert label_map is not None
        maps = (label_map, label, self._table.num_classes, self._table.ignore_index)
        if self.options.boundary_iou:
            self._band_pixels += boundary_pixels(*maps)
        if self.options.boundary_f1:
            values = boundary_f1(*maps)
            self._boundary_sum += np.nan_to_num(values)
            self._boundary_images += ~np.isnan(values)
        if self.findings is not None:
            self.findings.watch(prediction, label, counts)
        if self.submission is not None:
            self.submission.add(prediction.sample.image, label_map)

    @property
    def needs_output(self) -> bool:
        """Whether `watch_output` has anything to do."""
        return self.ranks is not None or (self.findings is not None and self.findings.with_loss)

    def watch_output(
        self, postprocess: Postprocess, prediction: Prediction, label: NDArray[np.uint8]
    ) -> None:
        """Look at the scores at the label's size; see `EvaluationOptions`.

        The classes' probabilities are ranked, and the loss is noted, where that was asked for.

        Source: PaddleSeg 2.8 `core/val.py`: the softmax of what the protocol returns, also where
        that is a sum of probabilities.
        """
        if self.findings is not None and self.findings.with_loss:
            self.findings.watch_output(postprocess, prediction, label)
        if self.ranks is None:
            return
        assert prediction.output is not None and prediction.geometry is not None
        logits = postprocess.full_logits(prediction.output, prediction.geometry)
        self.ranks.add(softmax(logits[np.newaxis], overwrite=True)[0], label)

    def merge(self, other: "Extras") -> None:
        """Add the findings of another process."""
        self._boundary_sum += other._boundary_sum
        self._boundary_images += other._boundary_images
        self._band_pixels += other._band_pixels
        if self.findings is not None and other.findings is not None:
            self.findings.merge(other.findings)
        if self.ranks is not None and other.ranks is not None:
            self.ranks.merge(other.ranks)

    def figures(self, evaluation: Evaluation) -> dict[str, Any]:
        """The figures that were asked for, for the JSON."""
        figures: dict[str, Any] = {}
        categories = category_scores(evaluation.counts, self._table, evaluation.absent)
        if categories is not None:
            names, scores = categories
            figures_of = scores.to_dict()
            values = dict(zip(names, figures_of["class_iou"], strict=True))
            figures["categories"] = {"mean_iou": figures_of["mean_iou"], "category_iou": values}
        if self.ranks is not None:
            area = plain(np.float64(self.ranks.area()))
            figures["auc_roc"] = {"auc_roc": area, "class_auc_roc": plain(self.ranks.areas())}
        if self.options.boundary_f1:
            figures["boundary_f1"] = self._boundary_figures()
        if self.options.boundary_iou:
            figures["boundary_iou"] = self._boundary_iou_figures()
        if self.options.resamples:
            areas = ClassPixels.of_images(map(vars, evaluation.images))
            interval = bootstrap_mean_iou(areas, evaluation.absent, self.options.resamples)
            figures["bootstrap"] = interval.to_dict() | {"confidence": CONFIDENCE}
        if self.findings is not None:
            figures |= self.findings.figures(evaluation)
        return figures

    def _boundary_figures(self) -> dict[str, Any]:
        seen = self._boundary_images > 0
        values = self._boundary_sum / np.maximum(self._boundary_images, 1)
        return {
            "tolerance": f"{TOLERANCE} of the diagonal",
            "mean_boundary_f1": float(values[seen].mean()) if seen.any() else None,
            "class_boundary_f1": plain(np.where(seen, values, np.nan)),
        }

    def _boundary_iou_figures(self) -> dict[str, Any]:
        both, either = self._band_pixels
        values = np.where(either > 0, both / np.maximum(either, 1), np.nan)
        return {
            "band": f"{BAND} of the diagonal",
            "mean_boundary_iou": plain(np.nanmean(values)) if either.any() else None,
            "class_boundary_iou": plain(values),
        }

    def lines(self, figures: dict[str, Any]) -> list[str]:
        """The figures as `[EVAL]` messages."""
        lines = []
        if "categories" in figures:
            categories = figures["categories"]
            lines.append(
                f"[EVAL] Category mIoU: {_four(categories['mean_iou'])} "
                f"({', '.join(categories['category_iou'])}): \n"
                f"{format_array(np.array([*categories['category_iou'].values()], np.float64))}"
            )
        if "auc_roc" in figures:
            areas = np.array(figures["auc_roc"]["class_auc_roc"], np.float64)
            lines.append(f"[EVAL] Class Auc_roc: \n{format_array(areas)}")
            absent = np.flatnonzero(np.isnan(areas))
            if absent.size:
                names = ", ".join(self._table.class_names[number] for number in absent)
                lines.append(f"[EVAL] Auc_roc is without the classes of no or all pixels: {names}")
        if "boundary_f1" in figures:
            boundary = figures["boundary_f1"]
            lines.append(
                f"[EVAL] Boundary F1: {_four(boundary['mean_boundary_f1'])} "
                f"(within {boundary['tolerance']}): \n"
                f"{format_array(np.array(boundary['class_boundary_f1'], np.float64))}"
            )
        if "boundary_iou" in figures:
            boundary = figures["boundary_iou"]
            lines.append(
                f"[EVAL] Boundary IoU: {_four(boundary['mean_boundary_iou'])} "
                f"(band of {boundary['band']}): \n"
                f"{format_array(np.array(boundary['class_boundary_iou'], np.float64))}"
            )
        if "bootstrap" in figures:
            interval = figures["bootstrap"]
            found = f"{_four(interval['low'])} to {_four(interval['high'])}"
            if interval["low"] is None:
                found = "none; more images are needed"
            lines.append(
                f"[EVAL] mIoU {_four(interval['value'])}, {CONFIDENCE:.0%} bootstrap interval over "
                f"{interval['num_images']} images: {found}"
            )
        if self.findings is not None:
            lines += finding_lines(figures)
        return lines

    def write_report(self, title: str, evaluation: Evaluation, figures: dict[str, Any]) -> Path:
        """Write the HTML page; only where `report_dir` was given."""
        assert self.findings is not None and self.options.report_dir is not None
        path = self.options.report_dir / REPORT_FILE
        write_text(path, report_html(title, evaluation, figures, self.findings))
        return path


def _four(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4f}"
