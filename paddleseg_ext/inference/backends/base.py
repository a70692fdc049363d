"""What every way of running a network offers. All of them are scored through the same pipeline."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """A network that is ready to run."""

    def run(self, batch: NDArray[np.float32]) -> NDArray:
        """Run one batch.

        Args:
            batch: (N, 3, H, W) float32, contiguous; any H and W that the network takes.

        Returns:
            (N, C, h, w) float32 scores, or (N, h, w) integer class ids.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What runs, for reports: name, version, device, threads, precision, proof of activity."""
        ...
