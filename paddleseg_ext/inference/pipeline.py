"""The one path from images to label maps, whatever runs the network.

Eager evaluation, `val.py`, `predict.py`, `infer.py` and the parity checks all come through here
with another `Backend`; what they compare is therefore the backend and nothing else.

The network runs in the caller's thread. Beside it, others read and preprocess the images to come
and post-process, encode and write those that are done (`ordered`), so that it never waits for a
file. The label maps do not depend on how many threads there are.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.ordered import ordered_map, worker_threads
from paddleseg_ext.images import functional
from paddleseg_ext.inference.engines.base import Backend
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import FloatImage, Geometry, Preprocess, SizeHW

MOST_WORKERS = 8
WARM_MAPS = 2  # the second one of a size takes the way that all others take

# Runs a batch of one shape and says how its output goes back to the original size.
RunBatch = Callable[[Backend, FloatImage, Geometry], tuple[NDArray, Geometry]]


class SampleLike(Protocol):
    """What is predicted: `data.datasets.Sample`, named here so that inference stands alone."""

    @property
    def image(self) -> Path:
        """The image file."""
        ...

    @property
    def label(self) -> Path | None:
        """The label file, where there is one."""
        ...

    @property
    def name(self) -> str:
        """A name that no other sample of the run has; outputs are named by it."""
        ...


@dataclass(frozen=True)
class Timings:
    """Milliseconds that one image took; its share where a batch ran at once."""

    preprocess_ms: float = 0.0
    inference_ms: float = 0.0
    postprocess_ms: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """What became of one sample: a label map, or the reason why there is none.

    Attributes:
        label_map: (H, W) uint8 class ids at the original size.
        image: (H, W, 3) uint8 RGB as read.
        input_hw: size of the preprocessed image.
        output: the network's output for this image, where it was asked for; memory of the batch.
        geometry: the way back from `output` to the original size.
        batch_size: images that the network really ran together, this one among them.
        finished: what `finish` returned for it.
    """

    sample: SampleLike
    label_map: NDArray[np.uint8] | None = None
    image: NDArray[np.uint8] | None = None
    error: str | None = None
    timings: Timings = Timings()
    input_hw: SizeHW | None = None
    output: NDArray | None = None
    geometry: Geometry | None = None
    batch_size: int = 1
    finished: Any = None


@dataclass(frozen=True)
class _Loaded:
    """A sample on its way to the network."""

    sample: SampleLike
    image: NDArray[np.uint8] | None = None
    tensor: FloatImage | None = None
    geometry: Geometry | None = None
    error: str | None = None
    preprocess_ms: float = 0.0


def predict_samples(
    backend: Backend,
    samples: Iterable[SampleLike],
    preprocess: Preprocess,
    postprocess: Postprocess,
    batch_size: int = 1,
    num_workers: int | None = None,
    warm_up_runs: int = 0,
    keep_output: bool = False,
    run_batch: RunBatch | None = None,
    finish: Callable[[Prediction], Any] | None = None,
    read: Callable[[SampleLike], NDArray[np.uint8]] | None = None,
    streams: int = 1,
    most_output_bytes: int | None = None,
) -> Iterator[Prediction]:
    """Predict samples in their order, one `Prediction` each.

    Images of different sizes may stand in one batch: those whose tensors are alike run together.
    A sample that cannot be read or predicted comes back with its `error`, and the rest goes on.

    Args:
        backend: what runs the network, in the caller's thread.
        samples: what to predict; taken in the caller's thread.
        preprocess: makes the network's input.
        postprocess: makes the label map.
        batch_size: how many images run at a time.
        num_workers: threads beside the network's; None takes one for each core, 0 does one thing
            after the other. Up to `2 * (num_workers + batch_size)` images are in memory.
        warm_up_runs: runs before the first timed one of each input shape, not counted in timings.
        keep_output: put the network's output into each `Prediction` (a batch at full size is
            large: do not collect such predictions in a list).
        run_batch: how a batch is run, for evaluation protocols; by default once, as it is.
        finish: called with every prediction that has a label map, in a worker: encoding, writing,
            counting. What it returns is in `Prediction.finished`; its `DataError` becomes the
            prediction's `error`.
        read: gives a sample's (H, W, 3) uint8 RGB image, in a worker; by default from its file.
        streams: batches that are run at a time, each in a thread of its own; for a backend that
            was opened for as many. 1 runs the network in the caller's thread.
        most_output_bytes: of outputs that wait for a worker or are in one, where that is to be
            less than the number of images allows; one output always may.
    """
    if num_workers is None:
        num_workers = min(available_cores(), MOST_WORKERS)
    runner = _Runner(backend, run_batch, warm_up_runs, postprocess)
    load = partial(_load, preprocess=preprocess, read=read or _read_file)
    complete = partial(_complete, postprocess=postprocess, keep_output=keep_output, finish=finish)
    with (
        worker_threads(num_workers) as pool,
        closing(ordered_map(load, samples, pool, num_workers + batch_size)) as loaded,
        worker_threads(streams if streams > 1 else 0) as network,
        closing(runner.run_all(_chunks(loaded, batch_size), network, streams)) as outputs,
        closing(
            ordered_map(
                *(complete, outputs, pool, num_workers + batch_size),
                size_of=None if most_output_bytes is None else _output_bytes,
                most_bytes=most_output_bytes or 0,
            )
        ) as predictions,
    ):
        yield from predictions


@dataclass(frozen=True)
class _Output:
    """One image's share of a run."""

    output: NDArray
    geometry: Geometry
    inference_ms: float
    batch_size: int


class _Runner:
    """Runs chunks, what is alike together."""

    def __init__(
        self,
        backend: Backend,
        run_batch: RunBatch | None,
        warm_up_runs: int,
        postprocess: Postprocess,
    ):
        self._backend = backend
        self._postprocess = postprocess
        self._run_batch = run_batch
        self._warm_up_runs = warm_up_runs
        self._warm_shapes: set[tuple[int, ...]] = set()

    def run_all(
        self, chunks: Iterable[list[_Loaded]], network: Executor | None, streams: int
    ) -> Generator[tuple[_Loaded, _Output | str], None, None]:
        """Each loaded sample with its output, or the reason why there is none."""

        def run(chunk: list[_Loaded]) -> deque[tuple[_Loaded, _Output | str]]:
            results = self.run(chunk)
            # Nobody reads the network's input again.
            read = [replace(loaded, tensor=None) for loaded in chunk]
            return deque(zip(read, results, strict=True))

        with closing(ordered_map(run, chunks, network, streams + 1)) as done:
            for finished in done:
                while finished:  # what is handed on is not held here: outputs are large
                    yield finished.popleft()

    def run(self, chunk: list[_Loaded]) -> list[_Output | str]:
        """An output, or the reason why there is none, for each of the chunk."""
        results: dict[int, _Output | str] = {
            i: loaded.error for i, loaded in enumerate(chunk) if loaded.error is not None
        }
        for group in _alike(chunk, by_geometry=self._run_batch is not None):
            try:
                results |= zip(group, self._run_group([chunk[i] for i in group]), strict=True)
            except DataError as error:
                results |= dict.fromkeys(group, str(error))
        return [results[i] for i in range(len(chunk))]

    def _run_group(self, group: list[_Loaded]) -> list[_Output]:
        tensors = [loaded.tensor for loaded in group if loaded.tensor is not None]
        batch = np.stack(tensors) if len(tensors) > 1 else tensors[0][np.newaxis]
        geometries = [loaded.geometry for loaded in group if loaded.geometry is not None]
        if batch.shape not in self._warm_shapes:
            self._warm_shapes.add(batch.shape)
            for _ in range(self._warm_up_runs):
                outputs = self._backend.run(batch)
            if self._warm_up_runs and self._run_batch is None:
                for _ in range(WARM_MAPS):
                    self._postprocess.label_map(outputs[0], geometries[0])
        start = time.perf_counter()
        if self._run_batch is None:
            outputs = self._backend.run(batch)
        else:
            outputs, geometry = self._run_batch(self._backend, batch, geometries[0])
            geometries = [geometry] * len(group)
        share_ms = (time.perf_counter() - start) * 1000 / len(group)
        return [
            _Output(output, geometry, share_ms, len(group))
            for output, geometry in zip(outputs, geometries, strict=True)
        ]


def _output_bytes(run: tuple[_Loaded, _Output | str]) -> int:
    result = run[1]
    return 0 if isinstance(result, str) else result.output.nbytes


def _complete(
    run: tuple[_Loaded, _Output | str],
    postprocess: Postprocess,
    keep_output: bool,
    finish: Callable[[Prediction], Any] | None,
) -> Prediction:
    """What a worker does after the network."""
    loaded, result = run
    if isinstance(result, str):
        return Prediction(loaded.sample, error=_naming(loaded.sample, result))
    assert loaded.geometry is not None
    start = time.perf_counter()
    try:
        label_map = postprocess.label_map(result.output, result.geometry)
        postprocess_ms = (time.perf_counter() - start) * 1000
        prediction = Prediction(
            sample=loaded.sample,
            label_map=label_map,
            image=loaded.image,
            timings=Timings(loaded.preprocess_ms, result.inference_ms, postprocess_ms),
            input_hw=loaded.geometry.network_hw,
            output=result.output if keep_output else None,
            geometry=result.geometry,
            batch_size=result.batch_size,
        )
        return replace(prediction, finished=finish(prediction)) if finish else prediction
    except DataError as error:
        return Prediction(loaded.sample, error=_naming(loaded.sample, str(error)))


def _read_file(sample: SampleLike) -> NDArray[np.uint8]:
    return functional.read_image(sample.image)


def _load(
    sample: SampleLike,
    preprocess: Preprocess,
    read: Callable[[SampleLike], NDArray[np.uint8]],
) -> _Loaded:
    try:
        image = read(sample)
        start = time.perf_counter()
        tensor, geometry = preprocess(image)
    except DataError as error:
        return _Loaded(sample, error=str(error))
    return _Loaded(sample, image, tensor, geometry, None, (time.perf_counter() - start) * 1000)


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
        if loaded.tensor is not None:
            way_back = loaded.geometry if by_geometry else None
            groups.setdefault((loaded.tensor.shape, way_back), []).append(i)
    return list(groups.values())


def _naming(sample: SampleLike, message: str | None) -> str:
    message = message or "no reason given"
    return message if str(sample.image) in message else f"{sample.image}: {message}"
