"""Runs of one network in other ways, each compared with the eager reference.

A run is either done here (a `Candidate`: static graph, Paddle Inference) or was done before by one
of the commands and left its label maps and counts in a folder, or its counts in the manifest of
the checkpoint (the evaluation while training).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.functional import read_image, read_label
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.inference.backends.base import Backend
from paddleseg_ext.inference.backends.paddle_inference import PaddleInference, PaddleOptions
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.inference.pipeline import Prediction, predict_samples
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.static_graph import StaticGraph
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.verdict import (
    FAILED,
    NEAR_TIE,
    ImageVerdict,
    RunVerdict,
    judge_counts,
    judge_run,
)

STAGES = ("static", "paddle", "paddle_onednn")
RESULT_FILES = ("inference.json", "predict.json", "val.json")
MapOrReason = tuple[NDArray[np.uint8] | None, str]


@dataclass(frozen=True)
class Candidate:
    """One way of running a bundle.

    Attributes:
        name: `paddle_onednn threads 2 batch 1`.
        stage: one of STAGES.
        load: makes the backend; called when the run begins.
    """

    name: str
    stage: str
    load: Callable[[], Backend]
    batch_size: int = 1


@dataclass
class Outcome:
    """What came of one run.

    Attributes:
        verdict: None where the run cannot be compared; `note` says why.
        counts: (C, C) of the run, where there are labels.
        backend: what ran, in its own words.
        note: the first stage of a failed run that differs and by how much; or why there is no
            verdict.
    """

    name: str
    stage: str
    verdict: RunVerdict | None
    counts: IntArray | None = None
    backend: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""


def candidates(
    bundle: Bundle, stages: Sequence[str], threads: Sequence[int], batch_sizes: Sequence[int]
) -> list[Candidate]:
    """The runs of the asked-for stages: Paddle Inference with each thread count and batch size."""
    runs = []
    if "static" in stages:
        runs.append(Candidate("static", "static", lambda: StaticGraph(bundle)))
    for onednn, stage in ((False, "paddle"), (True, "paddle_onednn")):
        if stage not in stages:
            continue
        for number, batch_size in product(threads, batch_sizes):
            options = PaddleOptions(enable_mkldnn=onednn, cpu_threads=number)
            runs.append(
                Candidate(
                    f"{stage} threads {number} batch {batch_size}",
                    stage,
                    lambda options=options: PaddleInference(bundle, options),  # type: ignore[misc]
                    batch_size,
                )
            )
    return runs


def run_candidate(candidate: Candidate, bundle: Bundle, reference: Reference) -> Outcome:
    """Load the bundle, predict every sample of the reference, compare.

    What goes wrong is the run's verdict, not an exception.
    """
    started = time.perf_counter()
    try:
        backend = candidate.load()
        preprocess = bundle.preprocess()
        predictions = predict_samples(
            backend,
            reference.samples,
            preprocess,
            Postprocess(bundle.output_op),
            candidate.batch_size,
        )
        shown = track(predictions, candidate.name, total=len(reference.samples))
        scorer = Scorer(reference.table)
        verdicts = reference.judge(_scored(shown, scorer))
        note = _divergence(verdicts, backend, preprocess, reference)
    except UsageError as error:
        verdict = RunVerdict(FAILED, len(reference.samples), reason=str(error))
        return Outcome(candidate.name, candidate.stage, verdict)
    counts = scorer.result().counts if scorer.num_images else None
    verdict = judge_run(verdicts, reference.counts, counts, reference.table.class_names)
    seconds = time.perf_counter() - started
    return Outcome(
        candidate.name, candidate.stage, verdict, counts, backend.describe(), seconds, note
    )


def _scored(predictions: Iterable[Prediction], scorer: Scorer) -> Iterator[MapOrReason]:
    """Label maps, scored on their way."""
    for prediction in predictions:
        try:
            if prediction.label_map is not None and prediction.sample.label is not None:
                scorer.add(prediction)
            yield prediction.label_map, prediction.error or ""
        except DataError as error:
            yield None, str(error)


def _divergence(
    verdicts: Sequence[ImageVerdict],
    backend: Backend,
    preprocess: Preprocess,
    reference: Reference,
) -> str:
    """Where the first failed image leaves the eager path: input tensor, output, or after it."""
    failed = [number for number, verdict in enumerate(verdicts) if verdict.grade == FAILED]
    if not failed:
        return ""
    number = failed[0]
    name = verdicts[number].image
    image = read_image(reference.samples[number].image)
    expected, _ = reference.preprocess(image)
    tensor, _ = preprocess(image)
    if expected.shape != tensor.shape:
        return f"{name}: the input tensor is {tensor.shape} instead of {expected.shape}"
    difference = float(np.abs(tensor - expected).max())
    if difference:
        return f"{name}: the input tensor differs by up to {difference:.3g}"
    output, scores = backend.run(tensor[None])[0], reference.output(number)
    if output.ndim == 2:
        changed = (output != scores.argmax(axis=0)).mean()
        return f"{name}: equal input; the network's class ids differ at {changed:.2%} of its pixels"
    difference, largest = float(np.abs(output - scores).max()), float(np.abs(scores).max())
    if not difference <= NEAR_TIE * largest:
        return (
            f"{name}: equal input; the network's output differs by up to {difference:.3g} "
            f"at a scale of {largest:.3g}"
        )
    return f"{name}: equal input and output; the way from the output to the label map differs"


def judge_folder(name: str, folder: Path, reference: Reference) -> Outcome:
    """Compare what a command (`val.py`, `predict.py`, `infer.py`) left in its `--save_dir`.

    The label maps are compared where there are some, and the counts are the command's own.
    """
    paths = [folder / file for file in RESULT_FILES if (folder / file).is_file()]
    if len(paths) != 1:
        found = f"one of {', '.join(RESULT_FILES)} is expected in '{folder}', {len(paths)} found"
        return Outcome(name, "command", RunVerdict(FAILED, 0, reason=found))
    result = json.loads(paths[0].read_text(encoding="utf-8"))
    evaluation = result.get("evaluation", result) or {}
    counts = _counts_of(evaluation)
    backend = result.get("backend") or {}
    if (folder / LABEL_MAPS).is_dir():
        maps = (_read_map(folder, sample.name) for sample in reference.samples)
        verdict = judge_run(
            reference.judge(maps), reference.counts, counts, reference.table.class_names
        )
        return Outcome(name, "command", verdict, counts, backend)
    return _judge_evaluation(name, "command", evaluation, reference, backend)


def _read_map(folder: Path, name: str) -> MapOrReason:
    path = folder / LABEL_MAPS / f"{name}.png"
    if not path.is_file():
        return None, f"'{path}' does not exist"
    try:
        return read_label(path), ""
    except DataError as error:
        return None, str(error)


def judge_training(manifest: dict[str, Any] | None, reference: Reference) -> Outcome:
    """Compare the evaluation that the training run wrote beside its checkpoint."""
    name = "evaluation while training"
    scores = (manifest or {}).get("scores")
    if not scores:
        note = "the checkpoint's manifest holds no evaluation (train.py --do_eval writes one)"
        return Outcome(name, "train", None, note=note)
    if scores["num_images"] != len(reference.samples):
        note = f"it scored {scores['num_images']} images, the list has {len(reference.samples)}"
        return Outcome(name, "train", None, note=note)
    return _judge_evaluation(name, "train", scores, reference, {"name": "eager"})


def _judge_evaluation(
    name: str, stage: str, evaluation: dict[str, Any], reference: Reference, backend: dict[str, Any]
) -> Outcome:
    counts = _counts_of(evaluation)
    if counts is None or reference.counts is None:
        reason = "it holds neither label maps nor counts" if counts is None else "no labels"
        return Outcome(name, stage, RunVerdict(FAILED, 0, reason=reason))
    verdict = judge_counts(
        reference.counts, counts, reference.table.class_names, len(reference.samples)
    )
    return Outcome(name, stage, verdict, counts, backend)


def _counts_of(evaluation: dict[str, Any]) -> IntArray | None:
    matrix = evaluation.get("confusion_matrix")
    return None if matrix is None else np.asarray(matrix, np.int64)


def compare_all(
    bundle: Bundle,
    reference: Reference,
    runs: Sequence[Candidate],
    folders: Sequence[tuple[str, Path]],
    manifest: dict[str, Any] | None,
) -> list[Outcome]:
    """Every comparison, one log line each, in the order train, commands, runs."""
    outcomes: list[Outcome] = []

    def add(outcome: Outcome) -> None:
        outcomes.append(outcome)
        log(f"[PARITY] {outcome.name}: {describe(outcome)}")

    add(judge_training(manifest, reference))
    for name, folder in folders:
        add(judge_folder(name, folder, reference))
    for candidate in runs:
        add(run_candidate(candidate, bundle, reference))
    return outcomes


def describe(outcome: Outcome) -> str:
    """The verdict in one line."""
    if outcome.verdict is None:
        return f"not compared: {outcome.note}"
    note = f" [{outcome.note}]" if outcome.note else ""
    return outcome.verdict.summary() + note
