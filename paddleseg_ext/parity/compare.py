"""Runs of one network in other ways, each compared with the reference.

A run is done here, in the runtime of a stage, or it was done by a command that left its label maps
and counts in a folder, or by the evaluation while training, whose counts are in the checkpoint's
manifest.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError, shortened
from paddleseg_ext.common.json_files import MOST_LISTED_BYTES, read_json
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.reading import read_label
from paddleseg_ext.images.samples import image_sizes
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.tensorrt import shapes_of
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.parity.checkpoint import STALE_CHECKPOINT
from paddleseg_ext.parity.divergence import (
    INPUT,
    Divergence,
    Evidence,
    locate,
    locate_counts,
    locate_input,
)
from paddleseg_ext.parity.pictures import WorstImage, WorstImages
from paddleseg_ext.parity.reference import Reference, count_pixels, total_counts
from paddleseg_ext.parity.stages import EAGER, STATIC
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol
from paddleseg_ext.scoring.verdict import (
    EXACT,
    FAILED,
    Budget,
    ImageVerdict,
    RunVerdict,
    judge_counts,
    judge_run,
)

RESULT_FILES = ("inference.json", "predict.json", "val.json")


@dataclass(frozen=True)
class ParityRun:
    """One way of running a bundle: a runtime, with its threads, and a batch size.

    Attributes:
        name: `paddle_onednn threads 2 batch 1`.
    """

    name: str
    spec: RuntimeSpec
    batch_size: int = 1


@dataclass
class Outcome:
    """The result of one run.

    Attributes:
        stage: name of the runtime; `command` or `train` for a run that was done before.
        verdict: None where the run cannot be compared; `note` says why.
        counts: (C, C) of the run, where there are labels.
        report: the engine's own; None where the run did not begin or left none.
        note: why there is no verdict.
        divergence: the first place at which it differs; None where nothing does.
        fullest_batch: the most images that ran together; 0 where that is unknown.
        worst: pictures of the images that differ most.
    """

    name: str
    stage: str
    verdict: RunVerdict | None
    counts: IntArray | None = None
    report: RuntimeReport | None = None
    seconds: float = 0.0
    note: str = ""
    precision: str = "fp32"
    images: list[ImageVerdict] = field(default_factory=list)
    divergence: Divergence | None = None
    fullest_batch: int = 0
    worst: list[WorstImage] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """A bundle, and the reference that every run of it is compared with.

    Attributes:
        bundle: its transforms make the input.
        budgets: by precision; one that is not named allows nothing.
        evidence: facts that the cause of a difference can be inferred from.
        faults: of the bundle itself, one line each: of another checkpoint, with changed weights,
            with other classes. The first fails every run, also those within their budget.
        protocol: that the reference and every run go by.
    """

    bundle: Bundle
    reference: Reference
    budgets: Mapping[str, Budget]
    evidence: Evidence
    faults: Sequence[str] = ()
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL]

    @cached_property
    def wrong_input(self) -> Divergence | None:
        """The first image of which the bundle makes another input tensor than the reference."""
        return locate_input(self.bundle, self.reference, self.evidence)

    def budget(self, precision: str) -> Budget:
        """The budget of one precision."""
        return self.budgets.get(precision, EXACT)

    def open(self, spec: RuntimeSpec) -> Predictor:
        """A predictor for the bundle, with the classes of the data set.

        Raises:
            UsageError: the bundle cannot run in that runtime.
        """
        predictor = Predictor.of_bundle(self.bundle, spec, class_table=self.reference.table)
        return by_protocol(predictor, self.protocol)


def runs_of(
    bundle: Bundle,
    stages: Sequence[RuntimeSpec],
    threads: Sequence[int],
    batch_sizes: Sequence[int],
    samples: Sequence[SampleLike],
) -> list[ParityRun]:
    """The runs of some stages: each with every thread count (on a CPU) and every batch size.

    `static` has neither. TensorRT gets the shapes of the samples.
    """
    runs = []
    for stage in stages:
        if stage.engine == STATIC:
            runs.append(ParityRun(stage.name, stage))
            continue
        numbers = [None] if stage.device == "gpu" else threads
        for number, size in product(numbers, batch_sizes):
            spec = replace(_with_shapes(stage, bundle, samples, size), threads=number)
            name = stage.name if number is None else f"{stage.name} threads {number}"
            runs.append(ParityRun(f"{name} batch {size}", spec, size))
    return runs


def _with_shapes(
    spec: RuntimeSpec, bundle: Bundle, samples: Sequence[SampleLike], batch_size: int
) -> RuntimeSpec:
    if spec.tensorrt is None:
        return spec
    shapes = shapes_of(bundle, image_sizes([sample.image for sample in samples]), batch_size)
    return replace(spec, tensorrt=replace(spec.tensorrt, shapes=shapes))


def evidence_of(spec: RuntimeSpec, comparison: Comparison) -> Evidence:
    """The evidence for a runtime's run; in oneDNN's FP32 with the same graph without oneDNN.

    In bf16 that would blame oneDNN for the rounding.
    """
    if spec.engine != "paddle_onednn" or spec.precision != "fp32":
        return comparison.evidence
    plain = replace(spec, engine="paddle")
    return replace(comparison.evidence, without_onednn=partial(comparison.open, plain))


def compare_run(
    run: ParityRun, comparison: Comparison, open_predictor: Callable[[], Predictor] | None = None
) -> Outcome:
    """Predict every sample of the reference with the bundle, and judge the label maps.

    An error becomes the run's verdict, not an exception.

    Args:
        run: the runtime and the batch size.
        comparison: the bundle and the reference.
        open_predictor: opens the bundle otherwise, or gives one that is open in `run.spec`.
    """
    started = time.perf_counter()
    reference, spec = comparison.reference, run.spec
    outcome = Outcome(run.name, spec.name, None, precision=spec.precision)
    pictures, counts = WorstImages(reference), list[IntArray | None]()
    evidence = evidence_of(spec, comparison)
    try:
        predictor = open_predictor() if open_predictor else comparison.open(spec)
        count = partial(count_pixels, table=reference.table)
        read = reference.reader(predictor.preprocess.orientation)
        predictions = predictor.stream(
            reference.samples, StreamOptions(run.batch_size, finish=count, read=read)
        )
        shown = track(predictions, run.name, total=len(reference.samples))
        outcome.images = reference.judge(_collected(shown, outcome, counts), pictures)
        outcome.report = predictor.describe()
        outcome.divergence = locate(
            outcome.images, predictor, comparison.bundle, reference, evidence
        )
    except UsageError as error:
        outcome.verdict = RunVerdict(FAILED, len(reference.samples), reason=str(error))
        return outcome
    outcome.counts, outcome.worst = total_counts(counts), pictures.images
    verdict = _judge(outcome, comparison)
    if comparison.wrong_input is not None:
        _fail_by_input(outcome, verdict, comparison.wrong_input)
    if comparison.faults:
        _fail_by_fault(outcome, verdict, comparison.faults[0])
    if missing := predictor.shortfall():
        verdict.grade, verdict.reason = FAILED, f"it did not run as asked: {missing}"
    if outcome.fullest_batch < min(run.batch_size, len(reference.samples)):
        warn(
            f"[PARITY] {outcome.name}: no batch held more than {outcome.fullest_batch}: images of "
            "one size share a batch"
        )
    outcome.seconds = time.perf_counter() - started
    return outcome


def judge_reference(reference: Reference) -> Outcome | None:
    """The failure of a reference that did not run as asked; None where it did.

    Runs that agree with a fallback prove nothing of the runtime that was asked for.
    """
    missing = reference.predictor.shortfall()
    if not missing:
        return None
    reason = f"it did not run as asked: {missing}"
    verdict = RunVerdict(FAILED, len(reference.samples), reason=reason)
    spec, report = reference.predictor.spec, reference.predictor.describe()
    name = f"{reference.stage} (reference)"
    precision = spec.precision if spec else report.precision
    return Outcome(name, reference.stage, verdict, report=report, precision=precision)


def judge_images(reference: Reference) -> Outcome | None:
    """The failure of the images that the reference could not predict; None where it did all.

    The runs are compared on the others. No runtime is to blame, so its stage is none.
    """
    failed = reference.failed
    if not failed:
        return None
    number = len(failed) + len(reference.samples)
    reason = f"{len(failed)} of {number} images cannot be compared: {shortened(failed)}"
    name = "images of the reference"
    return Outcome(name, "images", RunVerdict(FAILED, number, reason=reason))


def _fail_by_input(outcome: Outcome, verdict: RunVerdict, found: Divergence) -> None:
    """Fail the run: no budget is for another input tensor, and equal label maps are luck."""
    if verdict.grade != FAILED:
        verdict.grade, verdict.reason = FAILED, found.text
    if outcome.divergence is None or outcome.divergence.place != INPUT:
        outcome.divergence = found


def _fail_by_fault(outcome: Outcome, verdict: RunVerdict, fault: str) -> None:
    """Fail the run: label maps within a budget do not show that the bundle is the right one."""
    if verdict.grade != FAILED:
        verdict.grade, verdict.reason = FAILED, fault
    kind = fault.partition(":")[0]
    found = outcome.divergence or Divergence("", "", "the bundle is not the network's")
    # A wrong input is a fault of its own, whatever the weights.
    known = found.place == INPUT or found.cause.startswith(kind)
    if not known and (kind == STALE_CHECKPOINT or not found.cause):
        outcome.divergence = replace(found, cause=fault)


def _judge(outcome: Outcome, comparison: Comparison) -> RunVerdict:
    """The verdict on the outcome's images and counts, which also goes into the outcome."""
    reference = comparison.reference
    verdict = outcome.verdict = judge_run(
        outcome.images,
        reference.counts,
        outcome.counts,
        reference.table.class_names,
        comparison.budget(outcome.precision),
    )
    if outcome.divergence is None and reference.counts is not None and outcome.counts is not None:
        outcome.divergence = locate_counts(reference.counts, outcome.counts)
    return verdict


def _collected(
    predictions: Iterable[Prediction], outcome: Outcome, counts: list[IntArray | None]
) -> Iterator[tuple[NDArray[np.uint8] | None, str]]:
    """Label maps or errors; counts go into the list, the largest batch into the outcome."""
    for prediction in predictions:
        counts.append(prediction.finished)
        if prediction.segmentation is not None:
            size = prediction.segmentation.batch_size
            outcome.fullest_batch = max(outcome.fullest_batch, size)
        yield prediction.label_map, prediction.error or ""


def judge_folder(name: str, folder: Path, comparison: Comparison) -> Outcome:
    """The outcome of a command (`val.py`, `predict.py`, `infer.py`) from its `--save_dir`.

    Label maps are compared where there are some. The counts are the command's own.
    """
    reference = comparison.reference
    paths = [folder / file for file in RESULT_FILES if (folder / file).is_file()]
    if len(paths) != 1:
        found = f"one of {', '.join(RESULT_FILES)} is expected in '{folder}', {len(paths)} found"
        return Outcome(name, "command", RunVerdict(FAILED, 0, reason=found))
    try:
        result = _read_section(paths[0])
        evaluation = _section(result.get("evaluation", result), "evaluation")
        counts = _counts_of(evaluation, reference.table.num_classes)
        backend = _section(result.get("backend"), "backend")
        report = RuntimeReport.from_dict(backend) if backend else None
    except (ValueError, OSError) as error:
        reason = f"{paths[0]}: {error}; run the command again"
        return Outcome(name, "command", RunVerdict(FAILED, 0, reason=reason))
    if not (folder / LABEL_MAPS).is_dir():
        return _judge_evaluation(name, "command", counts, reference, report)
    fullest, pictures = result.get("fullest_batch"), WorstImages(reference)
    outcome = Outcome(name, "command", None, counts, report)
    outcome.precision = report.precision if report else "fp32"
    outcome.fullest_batch = fullest if isinstance(fullest, int) else 0
    maps = (_read_map(folder, sample.name) for sample in reference.samples)
    outcome.images = reference.judge(maps, pictures)
    outcome.worst = pictures.images
    _judge(outcome, comparison)
    return outcome


def _read_section(path: Path) -> dict[str, Any]:
    """The content of a command's JSON file.

    Raises:
        ValueError: it is no JSON, or no section.
    """
    try:
        content = read_json(path, MOST_LISTED_BYTES)
    except ValueError as error:
        raise ValueError(f"it is no whole JSON file ({error})") from None
    return _section(content, "the file")


def _section(value: Any, name: str) -> dict[str, Any]:
    """`value` as a section; an empty one for null.

    Raises:
        ValueError: it is something else.
    """
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name}: a section is expected, got a {type(value).__name__}")
    return value or {}


def _read_map(folder: Path, name: str) -> tuple[NDArray[np.uint8] | None, str]:
    path = folder / LABEL_MAPS / f"{name}.png"
    if not path.is_file():
        return None, f"'{path}' does not exist"
    try:
        return read_label(path), ""
    except DataError as error:
        return None, str(error)


def judge_training(
    scores: dict[str, Any] | None,
    reference: Reference,
    protocol: Protocol = PROTOCOLS[DEFAULT_PROTOCOL],
    other_size: str = "",
) -> Outcome:
    """The outcome of the evaluation that the training run wrote beside its checkpoint.

    Args:
        scores: of the checkpoint's manifest; None where it was not evaluated.
        reference: to compare with.
        protocol: of the reference.
        other_size: how the training run resized images otherwise; empty where it did not.
    """
    name = "evaluation while training"
    if not scores:
        note = "the checkpoint's manifest holds no evaluation (train.py --do_eval writes one)"
        return Outcome(name, "train", None, note=note)
    if scores["num_images"] != len(reference.samples):
        note = f"it scored {scores['num_images']} images, the list has {len(reference.samples)}"
        return Outcome(name, "train", None, note=note)
    whole = PROTOCOLS[DEFAULT_PROTOCOL].describe()
    if (
        scores.get("protocol", whole) != protocol.describe()
    ):  # as `keep_best:` or `test_config:` asked for
        note = f"it scored by another protocol, {scores['protocol']}"
        return Outcome(name, "train", None, note=note)
    if other_size:
        return Outcome(name, "train", None, note=other_size)
    try:
        counts = _counts_of(scores, len(reference.table.class_names))
    except ValueError as error:
        return Outcome(name, "train", RunVerdict(FAILED, 0, reason=f"the manifest: {error}"))
    report = RuntimeReport(EAGER, device="", precision="")  # the manifest holds neither
    return _judge_evaluation(name, "train", counts, reference, report)


def _judge_evaluation(
    name: str,
    stage: str,
    counts: IntArray | None,
    reference: Reference,
    report: RuntimeReport | None,
) -> Outcome:
    if counts is None or reference.counts is None:
        reason = "it holds neither label maps nor counts" if counts is None else "no labels"
        return Outcome(name, stage, RunVerdict(FAILED, 0, reason=reason))
    verdict = judge_counts(
        reference.counts, counts, reference.table.class_names, len(reference.samples)
    )
    divergence = locate_counts(reference.counts, counts)
    return Outcome(name, stage, verdict, counts, report, divergence=divergence)


def _counts_of(evaluation: dict[str, Any], num_classes: int) -> IntArray | None:
    """The (C, C) counts that a command wrote; None where it scored nothing.

    Raises:
        ValueError: no matrix of counts, or one of another number of classes.
    """
    matrix = evaluation.get("confusion_matrix")
    if matrix is None:
        return None
    try:
        counts = np.asarray(matrix)
    except ValueError:  # rows of different lengths
        counts = np.empty(0)
    if counts.dtype.kind not in "iu" or counts.shape != (num_classes, num_classes):
        raise ValueError(
            f"confusion_matrix: {num_classes} rows of {num_classes} pixel counts are expected, "
            f"got {counts.dtype} of shape {counts.shape}"
        )
    return counts.astype(np.int64)


def compare_all(
    comparison: Comparison,
    runs: Sequence[ParityRun],
    folders: Sequence[tuple[str, Path]],
    training_scores: dict[str, Any] | None,
    other_size: str = "",
) -> list[Outcome]:
    """The outcomes of the evaluation while training, of commands and of runs; logs each.

    The reference comes first where it did not run as asked, and before it its failed images.

    Args:
        comparison: the bundle and the reference.
        runs: done here.
        folders: name and `--save_dir` of commands.
        training_scores: of the checkpoint's manifest; None where it was not evaluated.
        other_size: see `judge_training`.
    """
    outcomes: list[Outcome] = []

    def add(outcome: Outcome) -> None:
        outcomes.append(outcome)
        log(f"[PARITY] {outcome.name}: {describe(outcome)}")

    for judge in (judge_images, judge_reference):
        fallen = judge(comparison.reference)
        if fallen:
            add(fallen)
    if comparison.reference.stage == EAGER:
        reference, protocol = comparison.reference, comparison.protocol
        add(judge_training(training_scores, reference, protocol, other_size))
    for name, folder in folders:
        add(judge_folder(name, folder, comparison))
    opened = _LastOpened(comparison)
    for run in runs:
        add(compare_run(run, comparison, partial(opened, run.spec)))
    return outcomes


class _LastOpened:
    """Opens the bundle, once for runs of one runtime that follow each other (two batch sizes)."""

    def __init__(self, comparison: Comparison):
        self._comparison = comparison
        self._predictor: Predictor | None = None

    def __call__(self, spec: RuntimeSpec) -> Predictor:
        """The predictor of a runtime.

        Raises:
            UsageError: see `Comparison.open`.
        """
        if self._predictor is None or self._predictor.spec != spec:
            if self._predictor is not None:
                self._predictor.close()
            self._predictor = None  # of two networks only one is in memory
            self._predictor = self._comparison.open(spec)
        return self._predictor


def first_divergence(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The first run that failed, else the first that differs; None without either."""
    judged = [outcome for outcome in outcomes if outcome.verdict]
    failed = [o for o in judged if o.verdict and not o.verdict.passed]
    differing = [o for o in judged if o.divergence]
    return next(iter([*failed, *differing]), None)


def describe(outcome: Outcome) -> str:
    """The verdict in one line."""
    if outcome.verdict is None:
        return f"not compared: {outcome.note}"
    note = f" [{outcome.divergence.describe()}]" if outcome.divergence else ""
    return outcome.verdict.summary() + note
