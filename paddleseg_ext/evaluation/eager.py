"""The network in dynamic graph, as a backend like any other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class EagerNetwork:
    """A `paddle.nn.Layer` of ours or of PaddleSeg's behind the `Backend` protocol."""

    def __init__(self, model: Any):
        """
        Args:
            model: called with (N, 3, H, W) images, gives a list of logits, the main head first.
        """
        self.model = model

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The main head's (N, C, h, w) logits. The model's training mode is left as it was."""
        import paddle

        was_training = self.model.training
        self.model.eval()
        try:
            with paddle.no_grad():
                return self.model(paddle.to_tensor(batch))[0].numpy()
        finally:
            if was_training:
                self.model.train()

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`."""
        import os

        import paddle

        return {
            "name": "eager",
            "paddle": paddle.__version__,
            "paddle_commit": paddle.version.commit,
            "device": paddle.get_device().partition(":")[0],
            "cpu_threads": int(os.environ.get("OMP_NUM_THREADS") or 0) or "unset",
            "precision": "fp32",
        }
