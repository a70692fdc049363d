"""The network in dynamic graph, as a backend like any other."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.log import log
from paddleseg_ext.config import Config


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
        import paddle

        return {
            "name": "eager",
            "paddle": paddle.__version__,
            "paddle_commit": paddle.version.commit,
            "device": paddle.get_device().partition(":")[0],
            "cpu_threads": int(os.environ.get("OMP_NUM_THREADS") or 0) or "unset",
            "precision": "fp32",
        }


def load_eager(config: Config, model_path: str, num_classes: int, device: str) -> EagerNetwork:
    """The network of a yml with the weights of a checkpoint, on `device`.

    Raises:
        UsageError: the yml does not describe a network, or the checkpoint is not of this network.
    """
    import paddle

    from paddleseg_ext.checkpoints.store import load_into
    from paddleseg_ext.models.build import build_model

    paddle.set_device(device)
    model = build_model(config, num_classes)
    log(f"{model_path}: {load_into(model, model_path).describe()}")
    model.eval()
    return EagerNetwork(model)
