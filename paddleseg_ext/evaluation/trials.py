"""Several runtimes on the same images, in turns, so that a busy machine is unfair to none.

`export`, `tune` and `quantize` record what they find in the bundle (`Manifest.verified`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.evaluation.budgets import Budgets
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.turns import LABELS_PARTS, TimedImage, take_turn, time_image
from paddleseg_ext.images.samples import Sample, image_sizes
from paddleseg_ext.inference.bundle import Bundle, record_verified
from paddleseg_ext.inference.engines.base import MOST_SIZES
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import SizeHW
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.verdict import (
    EXACT,
    FAILED,
    Budget,
    ImageVerdict,
    RunVerdict,
    judge_image,
    judge_run,
)

MOST_TIMED = 24
REFERENCE = "paddle"  # what the other runtimes of a bundle are compared with


@dataclass
class Trial:
    """One predictor on its way through the images.

    Attributes:
        scorer: of the images that have labels.
        seconds: per timed image, from the network's input to the label map.
        first_seconds: the same where the input's size was new.
    """

    predictor: Predictor
    verdicts: list[ImageVerdict] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sizes_hw: set[SizeHW] = set()
        self.scorer = Scorer(self.predictor.class_table)

    def counts(self) -> IntArray | None:
        """(C, C) of the images that have labels; None without, and where they cannot be meant."""
        result = self.scorer.result()
        return None if not result.images or result.label_counts.fault() else result.counts

    def mean_iou(self) -> float | None:
        """Mean IoU of the images that have labels; None where there are no `counts`."""
        return None if self.counts() is None else self.scorer.result().scores.mean_iou

    def verdict(self, reference: "Trial", budget: Budget = EXACT) -> RunVerdict:
        """Verdict on all its images against the reference's; one that fell back has failed."""
        if fallen := self.predictor.shortfall():
            return RunVerdict(FAILED, len(self.verdicts), reason=fallen)
        names = self.predictor.class_table.class_names
        return judge_run(self.verdicts, reference.counts(), self.counts(), names, budget)

    def new_size_s(self) -> float:
        """Seconds that the first run of an input size takes more than the others, by medians."""
        if not self.first_seconds:
            return 0.0
        return max(0.0, float(np.median(self.first_seconds) - np.median(self.seconds)))

    def ratio(self, reference: "Trial", new_size_share: float = 0.0) -> float:
        """How many times as fast as the reference, by the medians of both.

        Args:
            new_size_share: of the images, those that are the first of their size.
        """
        ours, theirs = (
            np.median(trial.seconds) + new_size_share * trial.new_size_s()
            for trial in (self, reference)
        )
        return float(theirs / ours)


@dataclass(frozen=True)
class Judging:
    """How trials are judged and recorded.

    Attributes:
        command: the verb that compares.
        threads: of a run; None means every core.
        budgets: by precision; one that is not named allows near ties only.
        new_size_share: of the list's images, those that are the first of their size.
    """

    command: str
    threads: int | None
    budgets: Budgets = field(default_factory=dict)
    new_size_share: float = 0.0

    def verdict(self, trial: Trial, reference: Trial) -> RunVerdict:
        """The verdict on a trial's images against the reference's, by its precision's budget."""
        return trial.verdict(reference, self.budgets.get(_precision(trial), EXACT))

    def record(self, trial: Trial, reference: Trial) -> Verified:
        """The record of a trial for the bundle's `Manifest.verified`.

        Args:
            trial: after its images.
            reference: of runtime `paddle`, on the same images.
        """
        report, precision = trial.predictor.describe(), _precision(trial)
        reduced: dict[str, Any] = {}
        if precision != "fp32":
            reduced = {"mean_iou_before": reference.mean_iou(), "mean_iou_after": trial.mean_iou()}
        if precision == "int8":
            reduced["int8_kernels"] = report.int8_kernels
        return Verified(
            **self.verdict(trial, reference).figures(),
            command=self.command,
            version=report.version,
            cpu=cpu_name(),
            cpu_threads=self.threads,
            ratio=round(trial.ratio(reference, self.new_size_share), 3),
            new_size_s=round(trial.new_size_s(), 4),
            new_size_share=round(self.new_size_share, 4),
            **reduced,
        )

    def record_all(
        self, bundle: Bundle, trials: Mapping[str, Trial], reference: Trial
    ) -> dict[str, Verified]:
        """Write the record of every trial into the bundle, and log them; returns them."""
        records = {name: self.record(trial, reference) for name, trial in trials.items()}
        for name, record in records.items():
            findings = [self.verdict(trials[name], reference).summary()]
            before, after = record.mean_iou_before, record.mean_iou_after
            if before is not None and after:
                findings.append(f"mIoU {before:.4f} -> {after:.4f}")
            if record.int8_kernels is not None:
                findings.append(f"{record.int8_kernels} INT8 kernels")
            log(f"{name}: {'; '.join([*findings, record.pace()])}")
        record_verified(bundle, records)
        return records


def _precision(trial: Trial) -> str:
    """The precision that was asked for."""
    return trial.predictor.spec.precision if trial.predictor.spec else "fp32"


def new_size_share(bundle: Bundle, samples: Sequence[Sample]) -> float:
    """Share of a list's images whose input size is new to an engine; 0 where all have one size.

    A size is new again after many others: an engine keeps what it made for the last few only.
    """
    preprocess = bundle.preprocess()
    sizes = []
    for size_hw in image_sizes([sample.image for sample in samples]):
        try:
            sizes.append(preprocess.network_hw(size_hw))
        except DataError:
            continue  # reported where it is predicted
    if len(set(sizes)) < 2:
        return 0.0
    kept: dict[tuple[int, int], None] = {}
    num_new = 0
    for size in sizes:
        num_new += size not in kept
        kept = {other: None for other in kept if other != size} | {size: None}
        if len(kept) > MOST_SIZES:
            del kept[next(iter(kept))]
    return num_new / len(sizes)


def run_trials(trials: Mapping[str, Trial], reference: str, samples: Iterable[Sample]) -> None:
    """Predict every image with every predictor in turns; all have the reference's transforms.

    The first `MOST_TIMED` images are timed; the others are compared only.

    Raises:
        DataError: an image or label that cannot be used.
    """
    first = trials[reference].predictor
    for trial in trials.values():
        trial.predictor.postprocess.compile()
    for number, sample in enumerate(samples):
        found = {}
        for name, trial in trials.items():
            if number < MOST_TIMED:
                found[name] = _timed(trial, sample.image)
            else:
                found[name] = time_image(trial.predictor, sample.image)
        expected, scores = found[reference], None
        if first.postprocess.output_op != "argmax":
            scores = first.postprocess.full_logits(expected.output, expected.geometry)
        for name, trial in trials.items():
            got = found[name].segmentation.label_map
            right = expected.segmentation.label_map
            trial.verdicts.append(judge_image(sample.name, right, got, scores))
            if sample.label is not None:
                trial.scorer.add(sample, got)


def _timed(trial: Trial, image: Path) -> TimedImage:
    turn = take_turn(trial.predictor, image, trial.sizes_hw)
    trial.seconds.append(turn.seconds_of(LABELS_PARTS))
    if turn.new_size_s is not None:
        trial.first_seconds.append(turn.new_size_s + turn.seconds["postprocess"])
    return turn
