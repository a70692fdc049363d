"""Scores of predictions: one function for every engine, exact integer counts first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, DataError, failing_alone
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images import functional
from paddleseg_ext.images.label_counts import LabelCounts
from paddleseg_ext.images.labels import ClassTable, decode_label
from paddleseg_ext.images.reading import turned_hint
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import SizeHW
from paddleseg_ext.scoring.confusion import ClassPixels, ConfusionMatrix, IntArray, count_pairs
from paddleseg_ext.scoring.metrics import AbsentRule, Scores, plain, summarize
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol

# Of outputs that are not yet label maps. 19 classes at 2048x1024 are 152 MiB: one at a time, beside
# the one that the network is computing.
MOST_OUTPUT_BYTES = 256 << 20

TABLE_TITLE = (
    "[EVAL] Classes (precision: of the pixels predicted as the class; PaddleSeg's Class Acc):"
)


@dataclass(frozen=True)
class ImageCounts(ClassPixels):
    """Pixel counts per class of one image, (C,) int64 each."""

    name: str


# Called with a prediction, its label and its counts.
Watch = Callable[[Prediction, NDArray[np.uint8], ImageCounts], None]


@dataclass(frozen=True)
class Evaluation:
    """The counts of a whole run and what follows from them.

    Attributes:
        counts: (C, C) int64, row = label, column = prediction.
        absent: how a class that occurs nowhere counts in means.
        images: each image's counts, in the order of the samples.
        protocol: how the network was run and where it was scored, in words.
        input_sizes: `WIDTHxHEIGHT` of the preprocessed images, each once, in order of appearance.
        ignored_pixels: pixels of the labels that are not scored.
        unknown_labels: (C,) labelled pixels that are unknown in the label maps, in none of the
            counts; None where none were marked.
        failed: name -> reason of the samples that are not in the counts.
        auc_roc: area under the ROC curve, where it was asked for.
    """

    class_table: ClassTable
    counts: IntArray
    absent: AbsentRule
    images: tuple[ImageCounts, ...]
    protocol: str = PROTOCOLS[DEFAULT_PROTOCOL].describe()
    input_sizes: tuple[str, ...] = ()
    ignored_pixels: int = 0
    unknown_labels: IntArray | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    auc_roc: float | None = None

    @property
    def label_counts(self) -> LabelCounts:
        """The pixels per class of the labels, those that are unknown in the label maps too."""
        pixels = _added(self.counts.sum(axis=1), self.unknown_labels)
        assert pixels is not None
        return LabelCounts.of(self.class_table, pixels, self.ignored_pixels, len(self.images))

    def require_labelled(self) -> "Evaluation":
        """The evaluation itself; raises `CheckFailed` where no labelled pixel was scored."""
        if not self.counts.any():
            raise CheckFailed(f"nothing was scored: {self.label_counts.fault()}")
        return self

    @property
    def scores(self) -> Scores:
        """All scores of the whole run."""
        return summarize(self.counts, self.absent)

    @property
    def unknown_pixels(self) -> int:
        """Labelled pixels that are unknown in the label maps: not scored."""
        return 0 if self.unknown_labels is None else int(self.unknown_labels.sum())

    @property
    def mean_iou_with_unknown(self) -> float:
        """The mIoU where unknown pixels count as wrong: missed by their class, taken by none."""
        classes = self.class_table.num_classes
        counts = np.zeros((classes + 1, classes + 1), np.int64)
        counts[:classes, :classes] = self.counts
        counts[:classes, classes] = 0 if self.unknown_labels is None else self.unknown_labels
        values = summarize(counts, self.absent).class_iou[:classes]
        return float(np.nanmean(values)) if counts.any() else float("nan")

    def how(self) -> str:
        """Protocol, input sizes and rule for absent classes, in one line."""
        sizes = ", ".join(self.input_sizes[:3]) + (", ..." if len(self.input_sizes) > 3 else "")
        how = f"protocol: {self.protocol}; input: {sizes}; absent classes: {self.absent}"
        if self.unknown_labels is None:
            return how
        share = self.unknown_pixels / max(1, self.unknown_pixels + int(self.counts.sum()))
        return (
            f"{how}; {share:.2%} of the labelled pixels are unknown and not scored; mIoU with them "
            f"counted as wrong: {self.mean_iou_with_unknown:.4f}"
        )

    def eval_lines(self) -> list[str]:
        """PaddleSeg's `[EVAL]` messages for tools; the last says how it was measured."""
        scores = self.scores
        return [
            f"[EVAL] #Images: {len(self.images)} mIoU: {scores.mean_iou:.4f} "
            f"Acc: {scores.accuracy:.4f} Kappa: {scores.kappa:.4f} Dice: {scores.mean_dice:.4f}"
            + ("" if self.auc_roc is None else f" Auc_roc: {self.auc_roc:.4f}"),
            f"[EVAL] FW-IoU: {scores.frequency_weighted_iou:.4f} Macro F1: {scores.mean_dice:.4f} "
            f"Micro F1: {scores.accuracy:.4f}",
            f"[EVAL] Class IoU: \n{format_array(scores.class_iou)}",
            f"[EVAL] Class Precision: \n{format_array(scores.class_precision)}",
            f"[EVAL] Class Recall: \n{format_array(scores.class_recall)}",
            f"[EVAL] {self.how()}",
        ]

    def print_lines(self) -> None:
        """Log the table of the classes, and the `[EVAL]` messages behind it."""
        log("\n".join([TABLE_TITLE, *self.table_lines()]))
        for line in self.eval_lines():
            log(line)

    def table_lines(self) -> list[str]:
        """A table for people: a row per class by name, `absent` where nothing has the class."""
        scores, names = self.scores, self.class_table.class_names
        width = max(len("class"), *map(len, names))
        lines = [f"  {'class':<{width}}     IoU  precision  recall    label pixels"]
        for i, (name, pixels) in enumerate(zip(names, self.counts.sum(axis=1), strict=True)):
            columns = (scores.class_iou, scores.class_precision, scores.class_recall)
            iou, precision, recall = (
                "absent" if np.isnan(column[i]) else f"{column[i]:.4f}" for column in columns
            )
            lines.append(f"  {name:<{width}}  {iou:>6}  {precision:>9}  {recall:>6}  {pixels:14,}")
        return lines

    def section_lines(self, title: str) -> list[str]:
        """The `#predict` or `#inference` section: two arrays under their names, and the table."""
        scores = self.scores
        return [
            f"#{title}",
            f"mIoU: {scores.mean_iou:.4f} Acc: {scores.accuracy:.4f} images: {len(self.images)}; "
            f"{self.how()}",
            "Class IoU:",
            format_array(scores.class_iou),
            "Class Acc:",
            format_array(scores.class_precision),
            *self.table_lines(),
        ]

    def to_json(self) -> dict[str, Any]:
        """Counts of the run and of each image, and the scores that follow from them."""
        return {
            "num_images": len(self.images),
            "absent": self.absent,
            "protocol": self.protocol,
            "input_sizes": list(self.input_sizes),
            "class_names": list(self.class_table.class_names),
            "ignore_index": self.class_table.ignore_index,
            "ignored_pixels": self.ignored_pixels,
            # Only where pixels were marked, so that programs that mark none write the same keys.
            **self._unknown_figures(),
            "scores": self.scores.to_dict(),
            "counts": ClassPixels.of(self.counts).to_dict(),
            "confusion_matrix": self.counts.tolist(),
            "images": [{"name": image.name} | image.to_dict() for image in self.images],
        }

    def _unknown_figures(self) -> dict[str, Any]:
        if self.unknown_labels is None:
            return {}
        return {
            "unknown_pixels": self.unknown_pixels,
            "mean_iou_with_unknown": plain(np.float64(self.mean_iou_with_unknown)),
        }


@dataclass(frozen=True)
class Counted:
    """One prediction, counted.

    Attributes:
        label: train ids, at the size it was scored at.
        pairs: (C, C) counts.
        image: what follows from them.
        input_hw: size of the preprocessed image.
        unknown_labels: see `Evaluation`.
    """

    label: NDArray[np.uint8]
    pairs: IntArray
    image: ImageCounts
    input_hw: tuple[int, int] | None
    unknown_labels: IntArray | None = None


class Scorer:
    """Adds predictions one by one; the counts of a run do not depend on their order."""

    def __init__(
        self,
        class_table: ClassTable,
        absent: AbsentRule = "skip",
        protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL],
        marks_unknown: bool = False,
    ):
        """
        Args:
            class_table: the classes, and how the values in label files become them.
            absent: how a class that occurs nowhere counts in means.
            protocol: that the predictions were made by.
            marks_unknown: whether unknown pixels are reported where there are none, too.
        """
        self.class_table = class_table
        self.absent = absent
        self.protocol = protocol
        self._input_sizes: dict[str, None] = {}
        self._matrix = ConfusionMatrix(class_table.num_classes, class_table.ignore_index)
        self._images: list[ImageCounts] = []
        self._ignored_pixels = 0
        self._unknown_labels: IntArray | None = (
            np.zeros(class_table.num_classes, np.int64) if marks_unknown else None
        )

    def add(
        self, sample: SampleLike, label_map: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], ImageCounts]:
        """Score one label map against its sample's label.

        Returns:
            The label (train ids, at the size it was scored at) and the image's counts.

        Raises:
            DataError: see `count`.
        """
        counted = self.count(sample, label_map)
        self.add_counted(counted)
        return counted.label, counted.image

    def count_prediction(self, prediction: Prediction) -> "Counted":
        """Count one prediction of a stream; see `count`."""
        if prediction.segmentation is None:
            image = prediction.sample.image
            raise DataError(prediction.error or f"{image}: there is no prediction")
        segmentation = prediction.segmentation
        return self.count(prediction.sample, segmentation.label_map, segmentation.input_hw)

    def count(
        self, sample: SampleLike, label_map: NDArray[np.uint8], input_hw: SizeHW | None = None
    ) -> "Counted":
        """Count one label map against its sample's label; adds nothing, so threads may call it.

        Pixels that are unknown in the label map are not scored: their label counts as ignored.

        Raises:
            DataError: no label, an unreadable one, or one of another size.
        """
        if sample.label is None:
            raise DataError(f"{sample.image}: there is no label to score against")
        label = decode_label(sample.label, self.class_table)
        if self.protocol.label_stride > 1:
            height, width = self.protocol.label_hw((label.shape[0], label.shape[1]))
            label = functional.resize_label(label, (width, height))
        require_image_size(sample, label.shape, label_map.shape)
        table = self.class_table
        undecided, unknown_labels = label_map == table.unknown, None
        if table.unknown is not None and undecided.any():
            labelled = label[undecided & (label < table.num_classes)]
            unknown_labels = np.bincount(labelled, minlength=table.num_classes)
            label = np.where(undecided, np.uint8(table.ignore_index), label)
            label_map = np.where(undecided, np.uint8(0), label_map)
        try:
            pairs = count_pairs(label_map, label, table.num_classes, table.ignore_index)
        except ValueError as error:
            raise DataError(f"{sample.image}: {error}") from None
        image = ImageCounts(**vars(ClassPixels.of(pairs)), name=sample.name)
        return Counted(label, pairs, image, input_hw, unknown_labels)

    def add_counted(self, counted: "Counted") -> None:
        """Add a result of `count`."""
        self._matrix.merge(counted.pairs)
        scored = int(counted.pairs.sum())
        self._ignored_pixels += counted.label.size - scored
        if counted.unknown_labels is not None:
            self._ignored_pixels -= int(counted.unknown_labels.sum())
            self._unknown_labels = _added(self._unknown_labels, counted.unknown_labels)
        if counted.input_hw is not None:
            self._input_sizes["{1}x{0}".format(*counted.input_hw)] = None
        self._images.append(counted.image)

    @property
    def num_images(self) -> int:
        """How many predictions were scored."""
        return len(self._images)

    def result(self) -> Evaluation:
        """Evaluation of all predictions that were added."""
        return Evaluation(
            class_table=self.class_table,
            counts=self._matrix.counts.copy(),
            absent=self.absent,
            images=tuple(self._images),
            protocol=self.protocol.describe(),
            input_sizes=tuple(self._input_sizes),
            ignored_pixels=self._ignored_pixels,
            unknown_labels=self._unknown_labels,
        )


@dataclass(frozen=True)
class EvaluationOptions:
    """How a predictor is scored.

    Attributes:
        batch_size: images per run.
        num_workers: threads beside the network's; None takes one per core.
        absent: how a class that occurs nowhere counts in means.
        protocol: how the network is run and where it is scored.
        show_progress: a progress bar and the line that opens it.
        print_scores: PaddleSeg's `[EVAL]` lines.
        watch: called with every prediction that was scored, its label and its counts.
        watch_output: called in a worker with every prediction, its output included, and its label.
        goes_on: log a sample that fails and score the others; False raises its error.
    """

    batch_size: int = 1
    num_workers: int | None = None
    absent: AbsentRule = "skip"
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL]
    show_progress: bool = True
    print_scores: bool = True
    watch: Watch | None = None
    watch_output: Callable[[Prediction, NDArray[np.uint8]], None] | None = None
    goes_on: bool = False


def evaluate(
    predictor: Predictor, samples: Sequence[SampleLike], options: EvaluationOptions | None = None
) -> Evaluation:
    """The scores of a predictor on labelled samples.

    Raises:
        DataError: the first sample that cannot be read, predicted or scored, unless the run goes
            on without it.
        UsageError: the protocol starts from the full-size image and preprocessing resizes.
    """
    options = options or EvaluationOptions()
    scorer = Scorer(predictor.class_table, options.absent, options.protocol)
    if options.show_progress:
        log(f"Start evaluating (total_samples: {len(samples)})...")
    stream = StreamOptions(
        options.batch_size,
        options.num_workers,
        finish=partial(_count, scorer, options.watch_output),
        most_output_bytes=MOST_OUTPUT_BYTES,
    )
    predictions: Iterable[Prediction] = by_protocol(predictor, options.protocol).stream(
        samples, stream
    )
    if options.show_progress:
        predictions = track(predictions, "evaluate", total=len(samples))
    failed: dict[str, str] = {}
    for prediction in predictions:
        try:
            _add(prediction, scorer, options.watch)
        except DataError as error:
            if not options.goes_on:
                raise
            failed[prediction.sample.name] = str(error)
            log(str(error), "ERROR")
    evaluation = replace(scorer.result(), failed=failed)
    if options.print_scores:
        evaluation.print_lines()
    return evaluation


def _count(
    scorer: Scorer,
    watch_output: Callable[[Prediction, NDArray[np.uint8]], None] | None,
    prediction: Prediction,
) -> Counted:
    counted = scorer.count_prediction(prediction)
    if watch_output is not None:
        watch_output(prediction, counted.label)
    return counted


def _add(prediction: Prediction, scorer: Scorer, watch: Watch | None) -> None:
    if prediction.error is not None:
        raise DataError(prediction.error)
    if watch is not None:
        with failing_alone():
            watch(prediction, prediction.finished.label, prediction.finished.image)
    scorer.add_counted(prediction.finished)


def merge_evaluations(parts: Sequence[Evaluation], names: Sequence[str]) -> Evaluation:
    """One evaluation from the parts that several processes scored.

    Args:
        parts: of the same classes and protocol; each image in one of them.
        names: of all samples, in their order.

    Raises:
        CheckFailed: an image that did not fail is missing, or one was scored twice.
    """
    failed = {name: reason for part in parts for name, reason in part.failed.items()}
    images = {image.name: image for part in parts for image in part.images}
    scored = sum(len(part.images) for part in parts)
    if len(images) != scored or images.keys() != set(names) - failed.keys():
        raise CheckFailed(f"{len(names)} images are expected, {scored} were scored")
    sizes = dict.fromkeys(size for part in parts for size in part.input_sizes)
    return replace(
        parts[0],
        counts=np.sum([part.counts for part in parts], axis=0),
        images=tuple(images[name] for name in names if name in images),
        input_sizes=tuple(sizes),
        ignored_pixels=sum(part.ignored_pixels for part in parts),
        unknown_labels=reduce(_added, (part.unknown_labels for part in parts)),
        failed=failed,
    )


def _added(first: IntArray | None, second: IntArray | None) -> IntArray | None:
    """The sum of counts, of which any may be missing."""
    if first is None or second is None:
        return second if first is None else first
    return first + second


def format_array(values: NDArray[np.float64]) -> str:
    """A score for each class on one line, 4 decimals, `0.` where a class is absent."""
    return np.array2string(
        Scores.printable(values), max_line_width=10**9, threshold=10**9, suppress_small=True
    )


def require_image_size(
    sample: SampleLike, label_hw: tuple[int, ...], image_hw: tuple[int, ...]
) -> None:
    """Refuse a label of another size than its image, or its predicted label map.

    Raises:
        DataError: it has another size.
    """
    if label_hw != image_hw:
        expected, got = (f"{size_hw[1]}x{size_hw[0]}" for size_hw in (image_hw, label_hw))
        raise DataError(
            f"{sample.label}: a label of the image's size is expected, {expected} (width x "
            f"height), got {got}{turned_hint(sample.image, image_hw, label_hw)}"
        )
