"""Several backends on the same images, taking turns, so that a busy machine is unfair to none."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.data.functional import read_image
from paddleseg_ext.data.labels import ClassTable
from paddleseg_ext.data.samples import Sample
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.inference.backends.base import Backend
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.pipeline import Prediction
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


@dataclass
class Trial:
    """One backend on its way through the images.

    Attributes:
        bundle: whose graph it runs.
        fallen: why it is not what was asked for; empty where it is.
        scorer: of the images that have labels.
        seconds: of each timed run.
    """

    backend: Backend
    bundle: Bundle
    fallen: str
    scorer: Scorer
    verdicts: list[ImageVerdict] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def counts(self) -> IntArray | None:
        """(C, C) of the images that have labels; None where none has."""
        return self.scorer.result().counts if self.scorer.num_images else None

    def verdict(self, reference: "Trial", table: ClassTable, budget: Budget = EXACT) -> RunVerdict:
        """Of all its images against the reference's; a backend that fell back has failed."""
        if self.fallen:
            return RunVerdict(FAILED, len(self.verdicts), reason=self.fallen)
        return judge_run(
            self.verdicts, reference.counts(), self.counts(), table.class_names, budget
        )

    def ratio(self, reference: "Trial") -> float:
        """How many times as fast as the reference, by the medians of both."""
        return float(np.median(reference.seconds) / np.median(self.seconds))


def run_trials(trials: Mapping[str, Trial], reference: str, samples: Iterable[Sample]) -> None:
    """Predict every image with every backend in turn; all bundles have the same transforms.

    Raises:
        DataError: an image or label that cannot be used.
    """
    bundle = trials[reference].bundle
    preprocess, postprocess = bundle.preprocess(), bundle.postprocess()
    warm: set[tuple[int, ...]] = set()
    for sample in samples:
        tensor, geometry = preprocess(read_image(sample.image))
        batch = tensor[None]
        if batch.shape not in warm:
            warm.add(batch.shape)
            for trial in trials.values():
                trial.backend.run(batch)
        outputs = {name: _timed(trial, batch) for name, trial in trials.items()}
        expected = postprocess.label_map(outputs[reference], geometry)
        scores = None
        if bundle.output_op != "argmax":
            scores = postprocess.full_logits(outputs[reference], geometry)
        for name, trial in trials.items():
            got = postprocess.label_map(outputs[name], geometry)
            trial.verdicts.append(_judge(sample.name, expected, got, scores))
            if sample.label is not None:
                trial.scorer.add(Prediction(sample, got))


def _timed(trial: Trial, batch: NDArray) -> NDArray:
    started = time.perf_counter()
    output = trial.backend.run(batch)[0]
    trial.seconds.append(time.perf_counter() - started)
    return output


def _judge(
    name: str,
    expected: NDArray[np.uint8],
    got: NDArray[np.uint8],
    scores: NDArray[np.float32] | None,
) -> ImageVerdict:
    different = int(np.count_nonzero(expected != got))
    if scores is None and different:
        # Class ids tell no margins: every pixel that differs counts as one that was decided.
        reason = f"{different} pixels differ, and a graph that ends in argmax tells no margins"
        return ImageVerdict(name, FAILED, different, different, expected.size, [], reason)
    return judge_image(name, expected, got, scores)
