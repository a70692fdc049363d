"""The pipeline over a predictor's steps: reading and writing beside the network, in order.

The network runs in the caller's thread, or in one thread per stream. Beside it, workers read and
preprocess the next images and postprocess, encode and write the finished ones, so that it never
waits for a file. The label maps do not depend on the number of threads.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError, check_count, failing_alone
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.ordered import ordered_map, worker_threads
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.predictor import Prepared, Segmentation
from paddleseg_ext.inference.preprocess import Geometry

if TYPE_CHECKING:
    from paddleseg_ext.inference.predictor import Predictor

MOST_WORKERS = 8


class SampleLike(Protocol):
    """An image to predict, from a list (`images.samples.Sample`) or a video's frame."""

    @property
    def image(self) -> Path:
        """The image file."""
        ...

    @property
    def label(self) -> Path | None:
        """The label file, if there is one."""
        ...

    @property
    def name(self) -> str:
        """A name that no other sample of the run has; outputs are named by it."""
        ...


@dataclass(frozen=True)
class Prediction:
    """One sample with its segmentation, or with the reason why there is none.

    Attributes:
        output: the network's output for this image, where `keep_output` asked for it; memory of
            the batch.
        geometry: the way back from `output` to the original size.
        finished: the return value of `StreamOptions.finish`.
    """

    sample: SampleLike
    segmentation: Segmentation | None = None
    error: str | None = None
    output: NDArray | None = None
    geometry: Geometry | None = None
    finished: Any = None

    @property
    def label_map(self) -> NDArray[np.uint8] | None:
        """(H, W) uint8 class ids; None where the sample failed."""
        return self.segmentation.label_map if self.segmentation else None


@dataclass(frozen=True)
class StreamOptions:
    """How samples are streamed.

    Attributes:
        batch_size: images that run at a time; only those of one input shape run together.
        num_workers: threads beside the network's; None takes one per core, 0 does one step after
            the other. Up to `2 * (num_workers + batch_size)` images are in memory.
        streams: batches that run at a time, each in a thread of its own, for an engine that was
            opened for as many. 1 runs the network in the caller's thread.
        warm_up_runs: runs of each input shape before its first timed one, not counted in timings.
        keep_output: put the network's output into each `Prediction` (a batch at full size is
            large: do not collect such predictions in a list).
        finish: called in a worker with every prediction that has a segmentation, and with its
            output: encoding, writing, counting. Its return value is `Prediction.finished`, its
            `DataError` the prediction's `error`.
        read: returns a sample's (H, W, 3) uint8 RGB image, in a worker; by default from its file.
        most_output_bytes: bound on the outputs that wait for a worker or are in one, where the
            number of images allows more; one output is always allowed.

    Raises:
        UsageError: a number is no whole number or out of range.
    """

    batch_size: int = 1
    num_workers: int | None = None
    streams: int = 1
    warm_up_runs: int = 0
    keep_output: bool = False
    finish: Callable[[Prediction], Any] | None = None
    read: Callable[[SampleLike], NDArray[np.uint8]] | None = None
    most_output_bytes: float = math.inf

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size, 1)
        check_count("num_workers", self.num_workers, 0, optional=True)
        check_count("streams", self.streams, 1)
        check_count("warm_up_runs", self.warm_up_runs, 0)


def as_sample(source: "SampleLike | str | Path") -> SampleLike:
    """A path as a sample named after its file; a sample as it is."""
    if isinstance(source, str | Path):
        path = Path(source)
        return Sample(path, None, path.stem)
    if not hasattr(source, "image"):
        raise UsageError(
            "stream: samples or image files are expected, got "
            f"{type(source).__name__}; an image in memory goes to predictor(image)"
        )
    return source


def predict_samples(
    predictor: "Predictor", samples: Iterable[SampleLike], options: StreamOptions
) -> Iterator[Prediction]:
    """See `Predictor.stream`; samples are taken in the caller's thread."""
    num_workers = options.num_workers
    if num_workers is None:
        num_workers = min(available_cores(), MOST_WORKERS)
    streams, ahead = options.streams, num_workers + options.batch_size
    runner = _Runner(predictor, options.warm_up_runs)
    load = partial(_load, predictor=predictor, read=options.read)
    complete = partial(_complete, predictor=predictor, options=options)
    with (
        worker_threads(num_workers) as pool,
        closing(ordered_map(load, samples, pool, ahead)) as loaded,
        worker_threads(streams if streams > 1 else 0) as network,
        closing(runner.run_all(_chunks(loaded, options.batch_size), network, streams)) as outputs,
        closing(
            ordered_map(complete, outputs, pool, ahead, _output_bytes, options.most_output_bytes)
        ) as predictions,
    ):
        yield from predictions


@dataclass(frozen=True)
class _Loaded:
    """A sample on its way to the network: prepared, or the reason why it is not."""

    sample: SampleLike
    prepared: Prepared | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Output:
    """One image's share of a run."""

    output: NDArray
    geometry: Geometry
    inference_ms: float
    batch_size: int


class _Runner:
    """Runs chunks of loaded samples; those of one input shape together."""

    def __init__(self, predictor: "Predictor", warm_up_runs: int):
        self._predictor = predictor
        self._warm_up_runs = warm_up_runs
        self._warm_shapes: set[tuple[int, ...]] = set()

    def run_all(
        self, chunks: Iterable[list[_Loaded]], network: Executor | None, streams: int
    ) -> Generator[tuple[_Loaded, _Output | str], None, None]:
        """Each loaded sample with its output, or the reason why there is none."""

        def run(chunk: list[_Loaded]) -> deque[tuple[_Loaded, _Output | str]]:
            results = self.run(chunk)
            return deque(zip(map(_without_tensor, chunk), results, strict=True))

        with closing(ordered_map(run, chunks, network, streams + 1)) as done:
            for finished in done:
                while finished:  # what is handed on is not held here: outputs are large
                    yield finished.popleft()

    def run(self, chunk: list[_Loaded]) -> list[_Output | str]:
        """An output, or the reason why there is none, per sample of the chunk."""
        results: dict[int, _Output | str] = {
            i: loaded.error for i, loaded in enumerate(chunk) if loaded.error is not None
        }
        for group in _alike(chunk, self._predictor.needs_one_geometry):
            prepared = [p for i in group if (p := chunk[i].prepared) is not None]
            results |= zip(group, self._run_alike(prepared), strict=True)
        return [results[i] for i in range(len(chunk))]

    def _run_alike(self, group: list[Prepared]) -> Sequence[_Output | str]:
        """As `run`, of one shape; where they cannot run together, each runs alone."""
        try:
            with failing_alone():
                return self._run_group(group)
        except DataError as error:
            if len(group) == 1:
                return [str(error)]
        return [result for one in group for result in self._run_alike([one])]

    def _run_group(self, group: list[Prepared]) -> list[_Output]:
        tensors = [prepared.tensor for prepared in group]
        batch = np.stack(tensors) if len(tensors) > 1 else tensors[0][np.newaxis]
        geometries = [prepared.geometry for prepared in group]
        if batch.shape not in self._warm_shapes:
            self._warm_shapes.add(batch.shape)
            for _ in range(self._warm_up_runs):
                ran = self._predictor.run(batch, geometries)
            if self._warm_up_runs:
                self._predictor.warm_maps(ran.outputs[0], ran.geometries[0])
        ran = self._predictor.run(batch, geometries)
        share_ms = ran.times.total_s * 1000 / len(group)
        return [
            _Output(output, geometry, share_ms, len(group))
            for output, geometry in zip(ran.outputs, ran.geometries, strict=True)
        ]


def _without_tensor(loaded: _Loaded) -> _Loaded:
    """The sample after its run: the network's input is not read again."""
    if loaded.prepared is None:
        return loaded
    return replace(loaded, prepared=replace(loaded.prepared, tensor=np.empty(0)))


def _output_bytes(run: tuple[_Loaded, _Output | str]) -> int:
    result = run[1]
    return 0 if isinstance(result, str) else result.output.nbytes


def _complete(
    run: tuple[_Loaded, _Output | str], predictor: "Predictor", options: StreamOptions
) -> Prediction:
    """Postprocess and finish one sample, in a worker."""
    loaded, result = run
    if isinstance(result, str):
        return Prediction(loaded.sample, error=_naming(loaded.sample, result))
    try:
        with failing_alone():
            return _finished(loaded, result, predictor, options)
    except DataError as error:
        return Prediction(loaded.sample, error=_naming(loaded.sample, str(error)))


def _finished(
    loaded: _Loaded, result: _Output, predictor: "Predictor", options: StreamOptions
) -> Prediction:
    assert loaded.prepared is not None
    segmentation = predictor.finish(
        loaded.prepared,
        result.output,
        result.geometry,
        result.batch_size,
        result.inference_ms,
    )
    prediction = Prediction(
        sample=loaded.sample,
        segmentation=segmentation,
        output=result.output,
        geometry=result.geometry,
    )
    return replace(
        prediction,
        output=result.output if options.keep_output else None,
        finished=options.finish(prediction) if options.finish is not None else None,
    )


def _load(
    sample: SampleLike,
    predictor: "Predictor",
    read: Callable[[SampleLike], NDArray[np.uint8]] | None,
) -> _Loaded:
    try:
        with failing_alone():
            if read is None:
                image = read_image(sample.image, predictor.preprocess.orientation)
            else:
                image = read(sample)
            return _Loaded(sample, predictor.prepare(image))
    except DataError as error:
        return _Loaded(sample, error=str(error))


def _chunks(items: Iterable[_Loaded], size: int) -> Iterator[list[_Loaded]]:
    chunk: list[_Loaded] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _alike(chunk: list[_Loaded], by_geometry: bool) -> list[list[int]]:
    """Positions in the chunk, grouped by the shape of their tensors, in order of appearance.

    With `by_geometry` a group also has one way back to the original size.
    """
    groups: dict[tuple, list[int]] = {}
    for i, loaded in enumerate(chunk):
        if loaded.prepared is not None:
            way_back = loaded.prepared.geometry if by_geometry else None
            groups.setdefault((loaded.prepared.tensor.shape, way_back), []).append(i)
    return list(groups.values())


def _naming(sample: SampleLike, message: str | None) -> str:
    message = message or "no reason given"
    return message if str(sample.image) in message else f"{sample.image}: {message}"
