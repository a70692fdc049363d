"""The inputs that a protocol makes of one image: scaled, mirrored, cut into windows."""

import copy

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.predictor import Prepared
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.parity.reference import run_one


def worst_look(predictor: ProtocolPredictor, reference: Engine, prepared: Prepared) -> NDArray:
    """The (3, H, W) network's input of the look at which a run differs most from another engine.

    Where outputs have other sizes (a graph that is upsampled afterwards), the first look.

    Args:
        predictor: of the run.
        reference: the engine that is right.
        prepared: the image.
    """
    watched = copy.copy(predictor)
    watched.engine = looks = _Looks(predictor.engine, reference)
    run_one(watched, prepared)
    return looks.worst


class _Looks(Engine):
    """An engine that keeps the input of its worst run."""

    def __init__(self, engine: Engine, reference: Engine):
        self._engine, self._reference = engine, reference
        self._most = -1.0
        self.worst: NDArray = np.empty(0)

    def run(self, batch: NDArray) -> NDArray:
        """See `Engine.run`."""
        found, expected = self._engine.run(batch), self._reference.run(batch)
        is_alike = found.shape == expected.shape
        difference = float(np.abs(found - expected).max()) if is_alike else 0.0
        if not difference <= self._most:
            self._most, self.worst = difference, batch[0].copy()
        return found

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`."""
        return self._engine.describe()
