"""Runs of one network in other ways, each compared with the reference.

A run is either done here (a `Candidate`: static graph, Paddle Inference, ONNX Runtime, OpenVINO) or
was done before by one of the commands and left its label maps and counts in a folder, or its counts
in the manifest of the checkpoint (the evaluation while training).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.images.functional import read_label
from paddleseg_ext.images.samples import image_sizes
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Backend
from paddleseg_ext.inference.engines.tensorrt import TensorRtOptions, shapes_of
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, predict_samples
from paddleseg_ext.parity.checkpoint import STALE_CHECKPOINT
from paddleseg_ext.parity.divergence import INPUT, Divergence, Evidence, locate, locate_counts
from paddleseg_ext.parity.pictures import WorstImage, WorstImages
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.stages import EAGER, STAGES, STATIC, Stage
from paddleseg_ext.parity.static_graph import open_stage
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS
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
MapOrReason = tuple[NDArray[np.uint8] | None, str]


@dataclass(frozen=True)
class Candidate:
    """One way of running a bundle.

    Attributes:
        name: `paddle_onednn threads 2 batch 1`.
        stage: what was asked for.
        load: makes the backend; called when the run begins.
        threads: what was asked for; None where the stage has no such setting.
        without_onednn: the same graph with oneDNN off, where it is on.
    """

    name: str
    stage: Stage
    load: Callable[[], Backend]
    batch_size: int = 1
    threads: int | None = None
    without_onednn: Callable[[], Backend] | None = None


@dataclass
class Outcome:
    """What came of one run.

    Attributes:
        verdict: None where the run cannot be compared; `note` says why.
        counts: (C, C) of the run, where there are labels.
        backend: what ran, in its own words.
        note: why there is no verdict.
        divergence: the first place at which it differs; None where nothing does.
        fullest_batch: images that really ran together, at most; 0 where that is not known.
        worst: pictures of the images that differ most.
    """

    name: str
    stage: str
    verdict: RunVerdict | None
    counts: IntArray | None = None
    backend: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    precision: str = "fp32"
    images: list[ImageVerdict] = field(default_factory=list)
    divergence: Divergence | None = None
    fullest_batch: int = 0
    worst: list[WorstImage] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """What every run is held against.

    Attributes:
        bundle: that is run; its transforms make the input.
        budgets: by precision; one that is not named allows nothing.
        evidence: what the cause of a difference can be told from.
        stale: why the bundle is not of the reference's checkpoint; empty where it is. Fails every
            run of the bundle, also those within their budget.
    """

    bundle: Bundle
    reference: Reference
    budgets: Mapping[str, Budget]
    evidence: Evidence
    stale: str = ""

    def budget(self, precision: str) -> Budget:
        """Of one precision."""
        return self.budgets.get(precision, EXACT)


def candidates(
    bundle: Bundle,
    stages: Sequence[Stage],
    threads: Sequence[int],
    batch_sizes: Sequence[int],
    samples: Sequence[SampleLike],
) -> list[Candidate]:
    """The runs of the asked-for stages: each runtime with each thread count and batch size.

    On a GPU threads do not matter. TensorRT gets the sizes of the samples.
    """
    runs = []
    for stage in stages:
        if stage.runtime == EAGER:
            continue
        if stage.runtime == STATIC:
            runs.append(Candidate(stage.name, stage, partial(open_stage, bundle, stage)))
            continue
        if stage.device == "gpu":
            runs += [
                Candidate(
                    f"{stage.name} batch {batch_size}",
                    stage,
                    partial(_open_on_gpu, bundle, stage, samples, batch_size),
                    batch_size,
                )
                for batch_size in batch_sizes
            ]
            continue
        for number, batch_size in product(threads, batch_sizes):
            plain = partial(open_stage, bundle, STAGES["paddle"], number)
            runs.append(
                Candidate(
                    f"{stage.name} threads {number} batch {batch_size}",
                    stage,
                    partial(open_stage, bundle, stage, number),
                    batch_size,
                    number,
                    plain if stage.name == "paddle_onednn" else None,
                )
            )
    return runs


def _open_on_gpu(
    bundle: Bundle, stage: Stage, samples: Sequence[SampleLike], batch_size: int
) -> Backend:
    shapes = (
        shapes_of(bundle, image_sizes([sample.image for sample in samples]), batch_size)
        if stage.use_trt
        else None
    )
    return open_stage(bundle, stage, tensorrt=TensorRtOptions(shapes))


def run_candidate(candidate: Candidate, comparison: Comparison) -> Outcome:
    """Load the bundle, predict every sample of the reference, compare.

    What goes wrong is the run's verdict, not an exception.
    """
    started = time.perf_counter()
    reference, bundle = comparison.reference, comparison.bundle
    stage = candidate.stage
    outcome = Outcome(candidate.name, stage.name, None, precision=stage.precision)
    pictures = WorstImages(reference)
    scorer = Scorer(reference.table)
    evidence = replace(comparison.evidence, without_onednn=candidate.without_onednn)
    try:
        backend = candidate.load()
        predictions = predict_samples(
            backend,
            reference.samples,
            bundle.preprocess(),
            bundle.postprocess(),
            candidate.batch_size,
        )
        shown = track(predictions, candidate.name, total=len(reference.samples))
        outcome.images = reference.judge(_scored(shown, scorer, outcome), pictures)
        outcome.backend = backend.describe()
        outcome.divergence = locate(outcome.images, backend, bundle, reference, evidence)
    except UsageError as error:
        outcome.verdict = RunVerdict(FAILED, len(reference.samples), reason=str(error))
        return outcome
    outcome.counts = scorer.result().counts if scorer.num_images else None
    outcome.worst = pictures.images
    _judge(outcome, comparison)
    if comparison.stale:
        _fail_as_stale(outcome, comparison.stale)
    missing = shortfall(
        outcome.backend,
        stage.runtime,
        stage.precision,
        candidate.threads,
        stage.device,
        stage.use_trt,
    )
    if missing and outcome.verdict:
        outcome.verdict.grade = FAILED
        outcome.verdict.reason = f"it did not run as asked: {missing}"
    if outcome.fullest_batch < min(candidate.batch_size, len(reference.samples)):
        warn(
            f"[PARITY] {outcome.name}: no batch held more than {outcome.fullest_batch}: images of "
            "one size share a batch"
        )
    outcome.seconds = time.perf_counter() - started
    return outcome


def judge_reference(reference: Reference) -> Outcome | None:
    """The failure of a reference that did not run as asked; None where it did.

    Runs that agree with a fallback prove nothing of what was asked for.
    """
    stage, told = STAGES[reference.stage], reference.backend.describe()
    missing = shortfall(
        told, stage.runtime, stage.precision, device=stage.device, use_trt=stage.use_trt
    )
    if not missing:
        return None
    reason = f"it did not run as asked: {missing}"
    verdict = RunVerdict(FAILED, len(reference.samples), reason=reason)
    name = f"{stage.name} (reference)"
    return Outcome(name, stage.name, verdict, backend=told, precision=stage.precision)


def _fail_as_stale(outcome: Outcome, stale: str) -> None:
    """Whatever was predicted: a label map within the budget says nothing of another checkpoint."""
    assert outcome.verdict is not None
    if outcome.verdict.grade != FAILED:
        outcome.verdict.grade, outcome.verdict.reason = FAILED, stale
    found = outcome.divergence or Divergence("", "", "the bundle is of another checkpoint")
    # A wrong input is a fault of its own, whatever the weights.
    if found.place != INPUT and not found.cause.startswith(STALE_CHECKPOINT):
        outcome.divergence = replace(found, cause=stale)


def _judge(outcome: Outcome, comparison: Comparison) -> None:
    reference = comparison.reference
    outcome.verdict = judge_run(
        outcome.images,
        reference.counts,
        outcome.counts,
        reference.table.class_names,
        comparison.budget(outcome.precision),
    )
    if outcome.divergence is None and reference.counts is not None and outcome.counts is not None:
        outcome.divergence = locate_counts(reference.counts, outcome.counts)


def _scored(
    predictions: Iterable[Prediction], scorer: Scorer, outcome: Outcome
) -> Iterator[MapOrReason]:
    """Label maps, scored on their way."""
    for prediction in predictions:
        outcome.fullest_batch = max(outcome.fullest_batch, prediction.batch_size)
        try:
            if prediction.label_map is not None and prediction.sample.label is not None:
                scorer.add(prediction)
            yield prediction.label_map, prediction.error or ""
        except DataError as error:
            yield None, str(error)


def judge_folder(name: str, folder: Path, comparison: Comparison) -> Outcome:
    """Compare what a command (`val.py`, `predict.py`, `infer.py`) left in its `--save_dir`.

    The label maps are compared where there are some, and the counts are the command's own.
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
    except (ValueError, OSError) as error:
        reason = f"{paths[0]}: {error}; run the command again"
        return Outcome(name, "command", RunVerdict(FAILED, 0, reason=reason))
    if (folder / LABEL_MAPS).is_dir():
        maps = (_read_map(folder, sample.name) for sample in reference.samples)
        pictures = WorstImages(reference)
        outcome = Outcome(name, "command", None, counts, backend)
        outcome.precision = backend.get("precision", "fp32")
        fullest = result.get("fullest_batch")
        outcome.fullest_batch = fullest if isinstance(fullest, int) else 0
        outcome.images = reference.judge(maps, pictures)
        outcome.worst = pictures.images
        _judge(outcome, comparison)
        return outcome
    return _judge_evaluation(name, "command", counts, reference, backend)


def _read_section(path: Path) -> dict[str, Any]:
    """A JSON file of a command.

    Raises:
        ValueError: it is none, or holds something else than a section.
    """
    try:
        return _section(json.loads(path.read_text(encoding="utf-8")), "the file")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no whole JSON file ({error})") from None


def _section(value: Any, name: str) -> dict[str, Any]:
    """`value` as a section; an empty one for null.

    Raises:
        ValueError: it is something else.
    """
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name}: a section is expected, got a {type(value).__name__}")
    return value or {}


def _read_map(folder: Path, name: str) -> MapOrReason:
    path = folder / LABEL_MAPS / f"{name}.png"
    if not path.is_file():
        return None, f"'{path}' does not exist"
    try:
        return read_label(path), ""
    except DataError as error:
        return None, str(error)


def judge_training(scores: dict[str, Any] | None, reference: Reference) -> Outcome:
    """Compare the evaluation that the training run wrote beside its checkpoint."""
    name = "evaluation while training"
    if not scores:
        note = "the checkpoint's manifest holds no evaluation (train.py --do_eval writes one)"
        return Outcome(name, "train", None, note=note)
    if scores["num_images"] != len(reference.samples):
        note = f"it scored {scores['num_images']} images, the list has {len(reference.samples)}"
        return Outcome(name, "train", None, note=note)
    whole = PROTOCOLS[DEFAULT_PROTOCOL].describe()
    if scores.get("protocol", whole) != whole:  # as `keep_best:` or `test_config:` asked for
        note = f"it scored by another protocol, {scores['protocol']}"
        return Outcome(name, "train", None, note=note)
    try:
        counts = _counts_of(scores, len(reference.table.class_names))
    except ValueError as error:
        return Outcome(name, "train", RunVerdict(FAILED, 0, reason=f"the manifest: {error}"))
    return _judge_evaluation(name, "train", counts, reference, {"name": "eager"})


def _judge_evaluation(
    name: str, stage: str, counts: IntArray | None, reference: Reference, backend: dict[str, Any]
) -> Outcome:
    if counts is None or reference.counts is None:
        reason = "it holds neither label maps nor counts" if counts is None else "no labels"
        return Outcome(name, stage, RunVerdict(FAILED, 0, reason=reason))
    verdict = judge_counts(
        reference.counts, counts, reference.table.class_names, len(reference.samples)
    )
    divergence = locate_counts(reference.counts, counts)
    return Outcome(name, stage, verdict, counts, backend, divergence=divergence)


def _counts_of(evaluation: dict[str, Any], num_classes: int) -> IntArray | None:
    """The (C, C) counts that a command wrote; None where it scored nothing.

    Raises:
        ValueError: something else stands there, or another number of classes.
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
    runs: Sequence[Candidate],
    folders: Sequence[tuple[str, Path]],
    training_scores: dict[str, Any] | None,
) -> list[Outcome]:
    """Every comparison, one log line each, in the order train, commands, runs.

    The reference comes first, where it did not run as asked.

    Args:
        training_scores: of the checkpoint's manifest; None where it was not evaluated.
    """
    outcomes: list[Outcome] = []

    def add(outcome: Outcome) -> None:
        outcomes.append(outcome)
        log(f"[PARITY] {outcome.name}: {describe(outcome)}")

    fallen = judge_reference(comparison.reference)
    if fallen:
        add(fallen)
    if comparison.reference.stage == EAGER:
        add(judge_training(training_scores, comparison.reference))
    for name, folder in folders:
        add(judge_folder(name, folder, comparison))
    for candidate in runs:
        add(run_candidate(candidate, comparison))
    return outcomes


def first_divergence(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The run that left the reference first: the first failed one, else the first that differs."""
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
