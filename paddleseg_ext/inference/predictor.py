"""The one predictor: from an image to a label map, whatever runs the network.

    predictor = Predictor.open("output/bundle")
    result = predictor("street.png")
    result.label_map, result.overlay()

Its steps `prepare`, `run` and `finish` are public and may be called from several threads. `stream`
is the pipeline over them. Training's evaluation, `val`, `predict`, `infer`, the service, `bench`,
`tune`, `quantize`, parity and Ray all use this class, so that two figures differ by the engine and
nothing else.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError, check_path
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.images.labels import ClassTable, generic_table
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import (
    FAMILIARITY,
    NO_STATISTICS,
    Bundle,
    check_outputs,
    read_bundle,
)
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.base import Engine, RunTimes, probe_batch
from paddleseg_ext.inference.engines.table import ENGINES, open_engine
from paddleseg_ext.inference.outputs import blend
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, SizeHW, Step
from paddleseg_ext.inference.runtime import AUTO, RuntimeReport, RuntimeSpec
from paddleseg_ext.scoring.protocols import EvaluationRule

if TYPE_CHECKING:
    from PIL import Image

    from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions

    ImageLike = str | Path | Image.Image | NDArray[np.uint8]

CHECKPOINT_SUFFIX = ".pdparams"
WARM_MAPS = 2  # the second label map of a size takes the way that all later ones take


class Timings(NamedTuple):
    """Milliseconds per image; its share where a batch ran at once."""

    preprocess_ms: float = 0.0
    inference_ms: float = 0.0
    postprocess_ms: float = 0.0


NO_TIMINGS = Timings()


@dataclass(frozen=True)
class Segmentation:
    """The segmentation of one image.

    Attributes:
        label_map: (H, W) uint8 class ids at the image's own size.
        image: (H, W, 3) uint8 RGB, as read.
        class_table: names and colours of the classes.
        input_hw: size of the preprocessed image.
        timings: milliseconds per step.
        batch_size: images that ran together, this one among them.
        confidence: (H, W) float32, 0 to 1: the largest softmax after all resizing; None where it
            was not asked for.
        familiarity: (H, W) float32: how many standard deviations the largest logit is above the
            mean that training pixels of the same predicted class have; None as above.
    """

    label_map: NDArray[np.uint8]
    image: NDArray[np.uint8]
    class_table: ClassTable
    input_hw: SizeHW
    timings: Timings = NO_TIMINGS
    batch_size: int = 1
    confidence: NDArray[np.float32] | None = None
    familiarity: NDArray[np.float32] | None = None

    def overlay(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the image under its classes' colours."""
        return blend(self.image, self.label_map, self.class_table)

    @property
    def class_pixels(self) -> dict[str, int]:
        """Class name -> pixels of the label map."""
        names = self.class_table.class_names
        counts = np.bincount(self.label_map.ravel(), minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=False)}

    @property
    def unknown_pixels(self) -> int:
        """Pixels of the label map that are unknown; 0 where nothing is marked."""
        value = self.class_table.unknown
        return 0 if value is None else int(np.count_nonzero(self.label_map == value))


@dataclass(frozen=True)
class Prepared:
    """An image on its way to the network.

    Attributes:
        image: (H, W, 3) uint8 RGB, as read.
        tensor: (3, h, w), the network's input.
        geometry: the way back from the tensor's size to the image's.
    """

    image: NDArray[np.uint8]
    tensor: NDArray
    geometry: Geometry
    preprocess_ms: float = 0.0


@dataclass(frozen=True)
class NetworkRun:
    """The outputs of one batch.

    Attributes:
        outputs: (N, C, h, w) scores or (N, h, w) class ids.
        geometries: per image the way back to the original size.
        times: seconds of the whole batch.
    """

    outputs: NDArray
    geometries: Sequence[Geometry]
    times: RunTimes


class Predictor:
    """An engine with the preprocessing, postprocessing and classes of its network."""

    # Whether only images of one geometry may run together; a protocol that resizes needs it.
    needs_one_geometry = False

    def __init__(
        self,
        engine: Engine,
        preprocess: Preprocess,
        postprocess: Postprocess,
        class_table: ClassTable,
        spec: RuntimeSpec | None = None,
        bundle: Bundle | None = None,
    ):
        """
        Args:
            engine: runs the network.
            preprocess: makes the network's input.
            postprocess: makes the label map.
            class_table: names and colours.
            spec: the runtime that was asked for; None for a network that is already loaded.
            bundle: that the engine runs; None for a checkpoint.
        """
        self.engine = engine
        self.preprocess = preprocess
        self.postprocess = postprocess
        self.class_table = class_table
        self.spec = spec
        self.bundle = bundle
        self.outputs: frozenset[str] = frozenset()
        self.unknown_below: float | None = None
        self._free_streams = BoundedSemaphore(engine.streams)
        self._report: RuntimeReport | None = None
        self._is_closed = False

    @classmethod
    def open(
        cls,
        source: str | Path,
        runtime: str | RuntimeSpec = AUTO,
        *,
        config: str | Path | None = None,
        num_classes: int | None = None,
        outputs: Collection[str] = (),
        **settings: Any,
    ) -> "Predictor":
        """A predictor for a bundle (its folder or deploy.yaml) or a checkpoint (.pdparams).

        Args:
            source: the bundle or the checkpoint. A checkpoint runs in the engine `eager`.
            runtime: `auto`, a name such as `openvino_int8`, or a `RuntimeSpec`.
            config: yml of a checkpoint whose manifest holds no configuration.
            num_classes: of a bundle that does not say it: PaddleSeg's, ending in arg-max.
            outputs: further ones of every segmentation: `confidence`, `familiarity`; see
                `with_outputs`.
            **settings: further fields of the `RuntimeSpec`, such as `threads=2`.

        Raises:
            UsageError: no such file, a runtime that is unknown or not installed, or one that cannot
                run this source.
        """
        check_path("source", source)
        path = Path(source)
        if path.suffix == CHECKPOINT_SUFFIX:
            if num_classes is not None:
                raise UsageError("num_classes: a checkpoint's manifest or configuration says it")
            predictor = cls._open_checkpoint(path, _spec_of(runtime, "eager", settings), config)
            return predictor.with_outputs(outputs)
        if config is not None:
            raise UsageError(f"config: only a checkpoint takes one; '{source}' is a bundle")
        bundle = read_bundle(path, hashed=False)
        bundle.require_outputs(outputs)  # before an engine is loaded
        if runtime == AUTO and settings.get("device", "cpu") == "cpu":
            spec, reason = choose_runtime(bundle, settings.pop("precision", "fp32"))
            spec = RuntimeSpec.parse(spec.name, **settings)
            log(f"backend {spec.engine}: {reason}")
        else:
            spec = _spec_of(runtime, "paddle", settings)
        bundle.warn_of_changes(ENGINES[spec.engine].graphs.get(spec.precision))
        if bundle.manifest is not None and bundle.manifest.evaluation is not None:
            warn_of_protocol(bundle.deploy_file, bundle.manifest.evaluation)
        return cls.of_bundle(bundle, spec, num_classes).with_outputs(outputs)

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        spec: RuntimeSpec,
        num_classes: int | None = None,
        class_table: ClassTable | None = None,
    ) -> "Predictor":
        """A predictor for a bundle that was read, in the runtime of `spec`.

        Args:
            bundle: of `read_bundle`.
            spec: the runtime.
            num_classes: see `open`.
            class_table: replaces the bundle's.

        Raises:
            UsageError: see `open`.
        """
        preprocess = bundle.preprocess()  # refuses unknown transforms before an engine is loaded
        engine = open_engine(bundle, spec)
        table = class_table or find_class_table(bundle, engine, num_classes)
        return cls(engine, preprocess, bundle.postprocess(), table, spec, bundle)

    @classmethod
    def _open_checkpoint(
        cls, path: Path, spec: RuntimeSpec, config: str | Path | None
    ) -> "Predictor":
        if spec.engine != "eager":
            raise UsageError(
                f"{path}: a checkpoint runs in 'eager' only; export it first (paddleseg-ext "
                f"export), then open the bundle in '{spec.name}'"
            )
        spec.check()
        fix_thread_count(spec.threads)
        predictor: Predictor = ENGINES["eager"].load()(path, config, spec)
        return predictor

    @property
    def gives_confidence(self) -> bool:
        """Whether there are scores whose softmax is a confidence."""
        return self.postprocess.output_op != "argmax"

    def with_outputs(
        self, outputs: Collection[str] = (), unknown_below: float | None = None
    ) -> "Predictor":
        """A predictor of the same engine whose segmentations hold more; close one of the two.

        Args:
            outputs: `confidence`, `familiarity` (of a bundle with class statistics), or nothing.
            unknown_below: a confidence between 0 and 1: pixels below it are unknown in the
                label map, with the class table's value and colour.

        Raises:
            UsageError: an unknown output, a number out of range, a bundle that returns class ids
                and no scores, or familiarity without class statistics.
        """
        check_outputs(outputs, unknown_below)
        if self.bundle is not None:
            self.bundle.require_outputs(outputs, unknown_below)
        elif FAMILIARITY in outputs:
            raise UsageError(f"a checkpoint has no class statistics: {NO_STATISTICS}")
        other = copy(self)
        other.outputs, other.unknown_below = frozenset(outputs), unknown_below
        if unknown_below is not None:
            other.class_table = self.class_table.with_unknown()
        return other

    def prepare(self, image: "ImageLike") -> Prepared:
        """The network's input of one image.

        Args:
            image: a path, a PIL image, or an (H, W, 3) uint8 RGB array, which is taken as it is.

        Raises:
            DataError: it cannot be read, or does not fit the transforms.
        """
        pixels = _pixels_of(image, self.preprocess.orientation)
        started = time.perf_counter()
        tensor, geometry = self.preprocess(pixels)
        return Prepared(pixels, tensor, geometry, _since(started))

    def run(self, batch: NDArray, geometries: Sequence[Geometry]) -> NetworkRun:
        """The outputs of a batch; waits while as many runs as the engine has streams are under way.

        Args:
            batch: (N, 3, h, w) tensors of `prepare`.
            geometries: per image, from `prepare`.

        Raises:
            DataError: a size that the network does not take.
            UsageError: the predictor is closed.
        """
        if self._is_closed:
            raise UsageError("the predictor is closed; open another one")
        with self._free_streams:
            outputs, times = self.engine.run_timed(batch)
        return NetworkRun(outputs, geometries, times)

    def finish(
        self,
        prepared: Prepared,
        output: NDArray,
        geometry: Geometry,
        batch_size: int = 1,
        inference_ms: float = 0.0,
    ) -> Segmentation:
        """The segmentation of one image of a run.

        Args:
            prepared: of `prepare`.
            output: of `run`, for this image.
            geometry: of `run`, for this image.
            batch_size: images that ran together.
            inference_ms: this image's share of the run.

        Raises:
            DataError: the output holds NaN.
        """
        started = time.perf_counter()
        label_map, confidence = self._maps(output, geometry)
        familiarity = self._familiarity(output, geometry)
        timings = Timings(prepared.preprocess_ms, inference_ms, _since(started))
        network_hw = prepared.geometry.network_hw
        return Segmentation(
            label_map,
            prepared.image,
            self.class_table,
            network_hw,
            timings,
            batch_size,
            confidence,
            familiarity,
        )

    def _maps(
        self, output: NDArray, geometry: Geometry
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """The label map, and the confidence where it was asked for."""
        if "confidence" not in self.outputs and self.unknown_below is None:
            return self.postprocess.label_map(output, geometry), None
        label_map, confidence = self.postprocess.best(output, geometry)
        if self.unknown_below is not None and self.class_table.unknown is not None:
            label_map[confidence < self.unknown_below] = self.class_table.unknown
        return label_map, confidence if "confidence" in self.outputs else None

    def _familiarity(self, output: NDArray, geometry: Geometry) -> NDArray[np.float32] | None:
        """The familiarity where it was asked for."""
        if FAMILIARITY not in self.outputs:
            return None
        assert self.bundle is not None and self.bundle.class_statistics is not None
        label_map, scores = self.postprocess.largest(output, geometry)
        return self.bundle.class_statistics.familiarity(scores, label_map)

    def __call__(self, image: "ImageLike") -> Segmentation:
        """The segmentation of one image, of any kind that `prepare` takes.

        Raises:
            DataError: the image cannot be read or predicted.
        """
        prepared = self.prepare(image)
        ran = self.run(prepared.tensor[np.newaxis], [prepared.geometry])
        ms = ran.times.total_s * 1000
        return self.finish(prepared, ran.outputs[0], ran.geometries[0], inference_ms=ms)

    def stream(
        self,
        samples: "Iterable[SampleLike | str | Path] | str | Path",
        options: "StreamOptions | None" = None,
    ) -> "Iterator[Prediction]":
        """One `Prediction` per sample, in order, with reading and writing beside the network.

        A sample that fails has an error instead of a segmentation; the others are predicted.

        Args:
            samples: samples or image files; or a folder of images, or a list, see
                `images.samples.collect_samples`.
            options: batch size, threads, and work on each prediction.
        """
        from paddleseg_ext.inference.pipeline import StreamOptions, as_sample, predict_samples

        if isinstance(samples, str | Path):
            samples = collect_samples(samples)
        return predict_samples(self, map(as_sample, samples), options or StreamOptions())

    def warm_up(self) -> None:
        """Run the network and the postprocessing, so that later calls compile nothing.

        The compiled code of label maps is loaded whatever the warm-up's own map needs: an image of
        another size, or with other scores, may need it. Only an engine may still compile, once for
        each new input size.
        """
        self.postprocess.compile()
        shape = self.bundle.input_shape if self.bundle else None
        shape = shape or [None, self.preprocess.channels, None, None]
        batch = probe_batch(shape, str(self.preprocess.input_dtype))
        height, width = batch.shape[2:]
        geometry = Geometry((height, width), (height, width))
        if self.preprocess.resizes:
            original_hw = (2 * height, 2 * width)
            geometry = Geometry(original_hw, (height, width), (Step("resize", original_hw),))
        ran = self.run(batch, [geometry] * len(batch))
        self.warm_maps(ran.outputs[0], ran.geometries[0])

    def warm_maps(self, output: NDArray, geometry: Geometry) -> None:
        """Make label maps of an output until later ones of its size take no longer."""
        for _ in range(WARM_MAPS):
            self._maps(output, geometry)

    def describe(self, again: bool = False) -> RuntimeReport:
        """The engine's own report.

        Args:
            again: make it anew. The kernels of a graph of free size are known after it has run.
        """
        if self._report is None or again:
            self._report = self.engine.describe()
        return self._report

    def shortfall(self) -> str:
        """Why the engine runs otherwise than asked for; empty where it runs as asked."""
        return self.spec.shortfall(self.describe()) if self.spec else ""

    def warn_of_shortfall(self) -> None:
        """Log a warning where the engine runs otherwise than asked for."""
        if (fallen := self.shortfall()) and self.spec:
            warn(f"backend {self.spec.name}: {fallen}")

    def set_colours(self, values: Sequence[int] | None, where: str) -> None:
        """Colour classes otherwise in overlays and label maps; see `ClassTable.with_colours`."""
        self.class_table = self.class_table.with_colours(values, where)

    def close(self) -> None:
        """Release the engine; running the network afterwards is refused."""
        self._is_closed = True
        self.engine.close()

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def warn_of_protocol(source: Path, rule: EvaluationRule) -> None:
    """Warn where a network was evaluated by another protocol than the plain one."""
    if not rule.make().is_plain:
        warn(
            f"{source}: this network was evaluated by the protocol {rule.protocol}, and "
            "Predictor.open runs whole images; evaluation.protocols.by_protocol(predictor, "
            "PROTOCOLS[NAME]) runs it so (docs/evaluation.md)"
        )


def _spec_of(runtime: str | RuntimeSpec, default: str, settings: Mapping[str, Any]) -> RuntimeSpec:
    if isinstance(runtime, RuntimeSpec):
        if settings:
            raise UsageError(f"{', '.join(settings)}: set in the RuntimeSpec, or name the runtime")
        return runtime
    return RuntimeSpec.parse(default if runtime == AUTO else runtime, **settings)


def find_class_table(bundle: Bundle, engine: Engine, num_classes: int | None) -> ClassTable:
    """The manifest's class table; for a bundle of PaddleSeg's a generic one of the right size.

    Raises:
        UsageError: the manifest has another number, or the graph gives class ids and their number
            is unknown.
    """
    if bundle.manifest is not None:
        table = bundle.manifest.class_table
        if num_classes not in (None, table.num_classes):
            raise UsageError(
                f"--num_classes {num_classes}: {bundle.deploy_file} says {table.num_classes}; "
                "leave the flag out"
            )
        return table
    if num_classes is not None:
        return generic_table(num_classes)
    if bundle.output_op == "argmax":
        raise UsageError(
            f"{bundle.deploy_file} has no Manifest and its graph ends in argmax: "
            "give --num_classes, or export it with export_model.py"
        )
    return generic_table(engine.run(probe_batch(bundle.input_shape, bundle.input_dtype)).shape[1])


def _pixels_of(image: Any, orientation: Orientation) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        return read_image(image, orientation)
    if hasattr(image, "convert"):
        if image.mode.startswith(("I", "F")):  # `convert` clips their values to 255
            raise DataError(f"image: 8 bits a channel are expected, got a PIL image '{image.mode}'")
        try:
            image = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise DataError(f"image: PIL cannot decode it: {error}") from None
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        found = f"{image.dtype} {image.shape}"
    else:
        found = str(type(image))
    raise DataError(f"image: a path or an (H, W, 3) uint8 RGB array is expected, got {found}")


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
