"""What every other way of running a network is compared with: by rule the eager network's answers.

Where there is a graph only (an ONNX file from elsewhere), one way of running it takes that part.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.images.functional import read_image, read_label, write_png
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.engines.base import Backend
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, predict_samples
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.verdict import FAILED, ImageVerdict, judge_image

# Called with the number of a sample, the label map of a run (or None) and the verdict on it.
Watch = Callable[[int, NDArray[np.uint8] | None, ImageVerdict], None]

# Streets are a third road; a network that knows more than a class stays far below this.
ONE_SIDED = 0.85


class Reference:
    """A network's label maps (kept on disk), counts, and scores where they are asked for.

    Attributes:
        stage: how it was run: `eager` by rule.
        class_pixels: (C,) pixels of each class in the label maps, with or without labels.
    """

    def __init__(
        self,
        backend: Backend,
        samples: Sequence[SampleLike],
        preprocess: Preprocess,
        output_op: str,
        table: ClassTable,
        folder: Path,
        stage: str = "eager",
    ):
        """Run the network on every sample.

        Args:
            backend: the network; the eager one gives logits, another what `output_op` says.
            samples: the images; those that have labels are scored.
            preprocess: of the yml that the network was trained with.
            output_op: of the bundle that is compared: what the eager network answers is brought
                to the image's size in the same way (`argmax`: class ids, by nearest).
            table: of the data set.
            folder: an empty one, for label maps.
            stage: how `backend` runs the network.

        Raises:
            DataError: an image or label that cannot be used, or a class that the table lacks.
        """
        self.samples = samples
        self.preprocess = preprocess
        self.stage = stage
        self.table = table
        if stage == "eager":
            self.postprocess = Postprocess(nearest_labels=output_op == "argmax")
            self.backend = _SoftmaxOf(backend) if output_op == "softmax" else backend
        else:
            self.postprocess = Postprocess(output_op)
            self.backend = backend
        self._folder = folder
        self.class_pixels: IntArray = np.zeros(table.num_classes, np.int64)
        self._image_counts: list[IntArray | None] = []
        predictions = predict_samples(self.backend, samples, preprocess, self.postprocess)
        for number, prediction in enumerate(track(predictions, stage, total=len(samples))):
            if prediction.label_map is None:
                raise DataError(prediction.error or f"{prediction.sample.image}: no prediction")
            self._check_classes(prediction)
            self._write(number, prediction.label_map)
            self.class_pixels += np.bincount(
                prediction.label_map.ravel(), minlength=table.num_classes
            )
            self._image_counts.append(_counts_of(prediction, table))

    @property
    def counts(self) -> IntArray | None:
        """(C, C) counts of the images that have labels; None where none has."""
        counted = [counts for counts in self._image_counts if counts is not None]
        return np.sum(counted, axis=0) if counted else None

    def first(self, count: int) -> "Reference":
        """The reference of only the first `count` samples."""
        part = copy.copy(self)
        part.samples = self.samples[:count]
        part._image_counts = self._image_counts[:count]
        return part

    def _check_classes(self, prediction: Prediction) -> None:
        assert prediction.label_map is not None
        highest, num_classes = int(prediction.label_map.max()), self.table.num_classes
        if highest >= num_classes:
            raise DataError(
                f"{prediction.sample.image}: the network gives class {highest}, and "
                f"{self.table.name} has the classes 0 to {num_classes - 1}: give the --config of "
                "this network"
            )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.png"

    def _write(self, number: int, label_map: NDArray[np.uint8]) -> None:
        write_png(self._path(number), label_map, compression=1)

    def one_sided(self) -> str:
        """A warning where one class fills nearly all maps: then equal maps prove little."""
        share = self.class_pixels.max() / max(1, self.class_pixels.sum())
        if share <= ONE_SIDED:
            return ""
        name = self.table.class_names[int(self.class_pixels.argmax())]
        return (
            f"the network predicts '{name}' at {share:.1%} of all pixels: equal label maps prove "
            "little here, compare a network that has learnt more"
        )

    def label_map(self, number: int) -> NDArray[np.uint8]:
        """(H, W) classes of sample `number`."""
        return read_label(self._path(number))

    def output(self, number: int) -> NDArray:
        """(C, h, w) scores or (h, w) class ids of sample `number`, computed again."""
        tensor, _ = self.preprocess(read_image(self.samples[number].image))
        return self.backend.run(tensor[None])[0]

    def scores(self, number: int) -> NDArray[np.float32] | None:
        """(C, H, W) scores of sample `number`, whose arg-max is `label_map(number)`.

        None where the network gives class ids only.
        """
        if self.postprocess.output_op == "argmax":
            return None
        tensor, geometry = self.preprocess(read_image(self.samples[number].image))
        return self.postprocess.full_logits(self.backend.run(tensor[None])[0], geometry)

    def judge(
        self,
        label_maps: Iterable[tuple[NDArray[np.uint8] | None, str]],
        watch: Watch | None = None,
    ) -> list[ImageVerdict]:
        """Compare label maps, in the order of the samples.

        Args:
            label_maps: a map, or None and the reason why there is none.
            watch: sees every map with its verdict.
        """
        verdicts = []
        for number, (got, reason) in enumerate(label_maps):
            verdict = self._judge(number, got, reason)
            verdicts.append(verdict)
            if watch is not None:
                watch(number, got, verdict)
        return verdicts

    def _judge(self, number: int, got: NDArray[np.uint8] | None, reason: str) -> ImageVerdict:
        name = self.samples[number].name
        if got is None:
            return ImageVerdict(name, FAILED, reason=reason or "no label map")
        expected = self.label_map(number)
        differs = expected.shape == got.shape and not np.array_equal(expected, got)
        return judge_image(name, expected, got, self.scores(number) if differs else None)


def _counts_of(prediction: Prediction, table: ClassTable) -> IntArray | None:
    if prediction.sample.label is None:
        return None
    scorer = Scorer(table)
    scorer.add(prediction)
    return scorer.result().counts


class _SoftmaxOf:
    """A backend's logits as probabilities, as a graph exported with `softmax` gives them."""

    def __init__(self, backend: Backend):
        self._backend = backend

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = self._backend.run(batch)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def describe(self) -> dict[str, Any]:
        return self._backend.describe()
