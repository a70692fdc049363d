"""The reference of a comparison: by rule the eager network's predictions.

Where there is a graph only (an ONNX file from elsewhere), the first stage is the reference.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.label_counts import fault_of
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.postprocess import Postprocess, softmax
from paddleseg_ext.inference.predictor import Predictor, Prepared
from paddleseg_ext.inference.preprocess import Geometry, Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.verdict import FAILED, ImageVerdict, judge_image

Key = TypeVar("Key")
Value = TypeVar("Value")
# Called with the number of a sample, the label map of a run (or None) and the verdict on it.
Watch = Callable[[int, NDArray[np.uint8] | None, ImageVerdict], None]

# Of decoded images, and as many of outputs, that are kept for the runs to come.
MOST_KEPT_BYTES = 256 << 20
# In street scenes a third of the pixels is road; a trained network stays far below this.
ONE_SIDED = 0.85


class _Kept(Generic[Key, Value]):
    """Values that were read or computed first, up to `MOST_KEPT_BYTES`; for several threads."""

    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}
        self._left = MOST_KEPT_BYTES
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """The value that is kept; None where none is."""
        return self._values.get(key)

    def add(self, key: Key, value: Value, size: int) -> None:
        """Keep a value of so many bytes, where there is room."""
        with self._lock:
            if key not in self._values and size <= self._left:
                self._values[key] = value
                self._left -= size


class Reference:
    """A predictor's label maps (kept on disk), counts, and scores where they are needed.

    The first images and outputs, up to `MOST_KEPT_BYTES` each, stay in memory: every run reads the
    same images, and the outputs are asked for wherever a run differs. The others are read and
    computed again.

    Attributes:
        samples: those that were predicted; the runs are compared on them.
        failed: why each of the others has no prediction, one line that names its file.
        class_pixels: (C,) pixels of each class in the label maps, with or without labels.
    """

    def __init__(self, predictor: Predictor, samples: Sequence[SampleLike], folder: Path):
        """Predict every sample.

        Args:
            predictor: opened for a `spec`, which names the stage; its class table is the data
                set's.
            samples: the images; those that have labels are scored.
            folder: an empty one, for label maps.

        Raises:
            DataError: no image can be used; one that cannot among others is in `failed`.
            UsageError: the network gives a class that the table lacks.
        """
        self.predictor = predictor
        if fault := fault_of((sample.label for sample in samples), predictor.class_table):
            warn(f"nothing is scored: {fault}")
            samples = [Sample(sample.image, None, sample.name) for sample in samples]
        self.samples: list[SampleLike] = []
        self.failed: list[str] = []
        self._folder = folder
        self.class_pixels: IntArray = np.zeros(self.table.num_classes, np.int64)
        self._image_counts: list[IntArray | None] = []
        self._images = _Kept[tuple[Path, Orientation], NDArray[np.uint8]]()
        self._outputs = _Kept[int, tuple[NDArray, Geometry]]()
        reading = StreamOptions(
            keep_output=True, finish=self._count, read=self.reader(predictor.preprocess.orientation)
        )
        predictions = predictor.stream(samples, reading)
        for prediction in track(predictions, self.stage, total=len(samples)):
            if prediction.label_map is None:
                self.failed.append(prediction.error or f"{prediction.sample.image}: no prediction")
                continue
            number = len(self.samples)
            write_png(self._path(number), prediction.label_map, compression=1)
            if prediction.output is not None and prediction.geometry is not None:
                ran = prediction.output, prediction.geometry
                self._outputs.add(number, ran, prediction.output.nbytes)
            self.samples.append(prediction.sample)
            self.class_pixels += np.bincount(
                prediction.label_map.ravel(), minlength=self.table.num_classes
            )
            self._image_counts.append(prediction.finished)
        if self.failed and not self.samples:
            raise DataError(self.failed[0])

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing of the network's input."""
        if isinstance(self.predictor, ProtocolPredictor):
            return self.predictor.network_preprocess
        return self.predictor.preprocess

    @property
    def stage(self) -> str:
        """Name of the runtime: `eager` by rule."""
        return self.predictor.spec.name if self.predictor.spec else ""

    @property
    def table(self) -> ClassTable:
        """The classes of the data set."""
        return self.predictor.class_table

    @property
    def counts(self) -> IntArray | None:
        """(C, C) counts of the images that have labels; None where none has."""
        return total_counts(self._image_counts)

    def first(self, count: int) -> "Reference":
        """The reference of only the first `count` samples."""
        part = copy.copy(self)
        part.samples = self.samples[:count]
        part._image_counts = self._image_counts[:count]
        return part

    def _count(self, prediction: Prediction) -> IntArray | None:
        """Check the classes of one label map, then count it; called by several threads."""
        assert prediction.label_map is not None
        highest, num_classes = int(prediction.label_map.max()), self.table.num_classes
        if highest >= num_classes:
            raise UsageError(  # not of this image alone
                f"{prediction.sample.image}: the network gives class {highest}, and "
                f"{self.table.name} has the classes 0 to {num_classes - 1}: give the --config of "
                "this network"
            )
        return count_pixels(prediction, self.table)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.png"

    def one_sided(self) -> str:
        """A warning where one class fills nearly all maps, so that equal maps prove little."""
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

    def image(self, path: Path, orientation: Orientation) -> NDArray[np.uint8]:
        """(H, W, 3) pixels of an image file, not to be changed.

        Raises:
            DataError: it cannot be read.
        """
        pixels = self._images.get((path, orientation))
        if pixels is None:
            pixels = read_image(path, orientation)
            self._images.add((path, orientation), pixels, pixels.nbytes)
        return pixels

    def reader(self, orientation: Orientation) -> Callable[[SampleLike], NDArray[np.uint8]]:
        """The reader of a stream's images, in the orientation of its predictor."""
        return lambda sample: self.image(sample.image, orientation)

    def output(self, number: int) -> NDArray:
        """(C, h, w) scores or (h, w) class ids of sample `number`, not to be changed."""
        return self._ran(number)[0]

    def scores(self, number: int) -> NDArray[np.float32] | None:
        """(C, H, W) scores of sample `number`, whose arg-max is `label_map(number)`.

        None where the network gives class ids only.
        """
        if self.predictor.postprocess.output_op == "argmax":
            return None
        return self.predictor.postprocess.full_logits(*self._ran(number))

    def _ran(self, number: int) -> tuple[NDArray, Geometry]:
        """The output of sample `number` and the way back to the original size."""
        ran = self._outputs.get(number)
        if ran is None:
            orientation = self.predictor.preprocess.orientation
            prepared = self.predictor.prepare(self.image(self.samples[number].image, orientation))
            again = self.predictor.run(prepared.tensor[np.newaxis], [prepared.geometry])
            ran = again.outputs[0], again.geometries[0]
            self._outputs.add(number, ran, ran[0].nbytes)
        return ran

    def judge(
        self,
        label_maps: Iterable[tuple[NDArray[np.uint8] | None, str]],
        watch: Watch | None = None,
    ) -> list[ImageVerdict]:
        """Verdicts on label maps.

        Args:
            label_maps: a map, or None and the reason why there is none; in the order of the
                samples.
            watch: called with every map and its verdict.
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


def count_pixels(prediction: Prediction, table: ClassTable) -> IntArray | None:
    """(C, C) counts of one prediction; None without a label.

    Raises:
        DataError: a label that cannot be used, or a class that the table lacks.
    """
    if prediction.sample.label is None:
        return None
    return Scorer(table).count_prediction(prediction).pairs


def total_counts(counts: Iterable[IntArray | None]) -> IntArray | None:
    """(C, C) sum over the images that have labels; None where they have no labelled pixel."""
    counted = [each for each in counts if each is not None and each.any()]
    return np.sum(counted, axis=0) if counted else None


def run_one(predictor: Predictor, prepared: Prepared) -> NDArray:
    """(C, h, w) scores or (h, w) class ids of one image."""
    return predictor.run(prepared.tensor[np.newaxis], [prepared.geometry]).outputs[0]


def with_output_op(eager: Predictor, output_op: str) -> Predictor:
    """The eager network's predictor, ending as the graph of a bundle does.

    Args:
        eager: gives logits.
        output_op: of the bundle. For `softmax` probabilities are resized to the image's size, for
            `argmax` class ids, by nearest.
    """
    engine = SoftmaxOf(eager.engine) if output_op == "softmax" else eager.engine
    postprocess = Postprocess(nearest_labels=output_op == "argmax")
    return Predictor(engine, eager.preprocess, postprocess, eager.class_table, eager.spec)


class SoftmaxOf(Engine):
    """An engine's logits as probabilities, as a graph exported with `softmax` gives them."""

    def __init__(self, engine: Engine):
        """
        Args:
            engine: gives logits.
        """
        self._engine = engine

    def run(self, batch: NDArray) -> NDArray[np.float32]:
        """(N, C, h, w) probabilities."""
        return softmax(self._engine.run(batch))

    def describe(self) -> RuntimeReport:
        """The report of the engine inside."""
        return self._engine.describe()
