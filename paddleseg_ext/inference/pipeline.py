"""The one path from images to label maps, whatever runs the network.

Eager evaluation, `val.py`, `predict.py`, `infer.py` and the parity checks all come through here
with another `Backend`; what they compare is therefore the backend and nothing else.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.data import functional
from paddleseg_ext.inference.backends.base import Backend
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import FloatImage, Geometry, Preprocess, SizeHW

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
    """

    sample: SampleLike
    label_map: NDArray[np.uint8] | None = None
    image: NDArray[np.uint8] | None = None
    error: str | None = None
    timings: Timings = Timings()
    input_hw: SizeHW | None = None
    output: NDArray | None = None
    geometry: Geometry | None = None


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
    num_workers: int = 0,
    warm_up_runs: int = 0,
    keep_output: bool = False,
    run_batch: RunBatch | None = None,
) -> Iterator[Prediction]:
    """Predict samples in their order, one `Prediction` each.

    Images of different sizes may stand in one batch: those whose tensors are alike run together.
    A sample that cannot be read or predicted comes back with its `error`, and the rest goes on.

    Args:
        backend: what runs the network.
        samples: what to predict.
        preprocess: makes the network's input.
        postprocess: makes the label map.
        batch_size: how many images are held at a time.
        num_workers: threads that read ahead; 0 reads between the runs.
        warm_up_runs: runs before the first timed one of each input shape, not counted in timings.
        keep_output: put the network's output into each `Prediction` (a batch at full size is
            large: do not collect such predictions in a list).
        run_batch: how a batch is run, for evaluation protocols; by default once, as it is.
    """
    runner = _Runner(backend, run_batch, warm_up_runs)
    for chunk in _chunks(_load_all(samples, preprocess, num_workers, batch_size), batch_size):
        results = runner.run(chunk)
        for loaded, result in zip(chunk, results, strict=True):
            if isinstance(result, str):
                yield Prediction(loaded.sample, error=_naming(loaded.sample, result))
            else:
                yield _finish(loaded, result, postprocess, keep_output)


@dataclass(frozen=True)
class _Output:
    """One image's share of a run."""

    output: NDArray
    geometry: Geometry
    inference_ms: float


class _Runner:
    """Runs chunks, what is alike together."""

    def __init__(self, backend: Backend, run_batch: RunBatch | None, warm_up_runs: int):
        self._backend = backend
        self._run_batch = run_batch
        self._warm_up_runs = warm_up_runs
        self._warm_shapes: set[tuple[int, ...]] = set()

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
        batch = np.stack([loaded.tensor for loaded in group])  # type: ignore[misc]
        geometries = [loaded.geometry for loaded in group if loaded.geometry is not None]
        if batch.shape not in self._warm_shapes:
            self._warm_shapes.add(batch.shape)
            for _ in range(self._warm_up_runs):
                self._backend.run(batch)
        start = time.perf_counter()
        if self._run_batch is None:
            outputs = self._backend.run(batch)
        else:
            outputs, geometry = self._run_batch(self._backend, batch, geometries[0])
            geometries = [geometry] * len(group)
        share_ms = (time.perf_counter() - start) * 1000 / len(group)
        return [
            _Output(output, geometry, share_ms)
            for output, geometry in zip(outputs, geometries, strict=True)
        ]


def _finish(
    loaded: _Loaded, result: _Output, postprocess: Postprocess, keep_output: bool
) -> Prediction:
    assert loaded.geometry is not None
    start = time.perf_counter()
    try:
        label_map = postprocess.label_map(result.output, result.geometry)
    except DataError as error:
        return Prediction(loaded.sample, error=_naming(loaded.sample, str(error)))
    postprocess_ms = (time.perf_counter() - start) * 1000
    return Prediction(
        sample=loaded.sample,
        label_map=label_map,
        image=loaded.image,
        timings=Timings(loaded.preprocess_ms, result.inference_ms, postprocess_ms),
        input_hw=loaded.geometry.network_hw,
        output=result.output if keep_output else None,
        geometry=result.geometry,
    )


def _load(sample: SampleLike, preprocess: Preprocess) -> _Loaded:
    try:
        image = functional.read_image(sample.image)
        start = time.perf_counter()
        tensor, geometry = preprocess(image)
    except DataError as error:
        return _Loaded(sample, error=str(error))
    return _Loaded(sample, image, tensor, geometry, None, (time.perf_counter() - start) * 1000)


def _load_all(
    samples: Iterable[SampleLike], preprocess: Preprocess, num_workers: int, batch_size: int
) -> Iterator[_Loaded]:
    if num_workers == 0:
        yield from (_load(sample, preprocess) for sample in samples)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        pending: deque[Future[_Loaded]] = deque()
        for sample in samples:
            pending.append(pool.submit(_load, sample, preprocess))
            if len(pending) >= num_workers + batch_size:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


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
