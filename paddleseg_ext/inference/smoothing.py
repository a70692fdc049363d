"""Steadier films: scores averaged with those of the frames before, along optical flow."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.flow import Counterparts, Grey, find_counterparts
from paddleseg_ext.inference.postprocess import NO_SCORES
from paddleseg_ext.inference.predictor import NetworkRun, Predictor
from paddleseg_ext.inference.preprocess import Geometry

DEFAULT_MEMORY = 0.6


class SmoothedPredictor(Predictor):
    """A predictor of one film's frames, in their order, in one stream.

    The scores of a pixel become `(1 - memory) * own + memory * average of its counterpart before`;
    a pixel without one keeps its own. Only frames that were shown are looked at, so it delays
    nothing. Flow is found in the network's input, and averages have the size of the run's output.
    """

    def __init__(self, inner: Predictor, memory: float):
        """
        Args:
            inner: runs the frames, by a protocol or not.
            memory: weight of the frames before, above 0 and below 1.

        Raises:
            UsageError: the network returns class ids and no scores, or runs several streams.
        """
        check_smoothing(inner.postprocess.output_op, inner.engine.streams)
        super().__init__(
            inner.engine,
            inner.preprocess,
            inner.postprocess,
            inner.class_table,
            inner.spec,
            inner.bundle,
        )
        self.outputs, self.unknown_below = inner.outputs, inner.unknown_below
        self.needs_one_geometry = inner.needs_one_geometry
        self._inner = inner
        self._memory = np.float32(memory)
        self._before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def run(self, batch: NDArray, geometries: Sequence[Geometry]) -> NetworkRun:
        """Averaged scores of the next frames; see `Predictor.run`."""
        ran = self._inner.run(batch, geometries)
        averaged = [self._averaged(*pair) for pair in zip(batch, ran.outputs, strict=True)]
        return replace(ran, outputs=np.stack(averaged))

    def _averaged(self, tensor: NDArray, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        brightness, before = tensor.mean(axis=0, dtype=np.float32), self._before
        if before is not None and before[0].shape == brightness.shape:
            greys = _greys(before[0], brightness)
            found = find_counterparts(*greys).resized(scores.shape[1:])
            scores = _average(scores, before[1], found, self._memory)
        self._before = (brightness, scores)
        return scores


def check_smoothing(output_op: str, streams: int) -> None:
    """Refuse what cannot be averaged over time.

    Raises:
        UsageError: the network returns class ids and no scores, or runs several streams.
    """
    if output_op == "argmax":
        raise UsageError(f"--smooth: {NO_SCORES}")
    if streams > 1:
        raise UsageError("--smooth needs the frames in their order: leave --streams out")


def _greys(before: NDArray[np.float32], now: NDArray[np.float32]) -> tuple[Grey, Grey]:
    """(H, W) uint8 of two inputs, whatever normalised them: 0 to 255 is the range of both."""
    low, high = min(before.min(), now.min()), max(before.max(), now.max())
    scale = 255 / max(high - low, np.float32(1e-6))
    first, second = (((each - low) * scale).astype(np.uint8) for each in (before, now))
    return first, second


def _average(
    scores: NDArray[np.float32],
    before: NDArray[np.float32],
    found: Counterparts,
    memory: np.float32,
) -> NDArray[np.float32]:
    weight = np.where(found.exist, memory, np.float32(0))
    return np.stack(
        [own + weight * (found.fetch(old) - own) for own, old in zip(scores, before, strict=True)]
    )
