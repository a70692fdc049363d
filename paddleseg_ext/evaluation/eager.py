"""The network in dynamic graph: the engine `eager`, which runs checkpoints."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.checkpoints.manifest import configuration_for
from paddleseg_ext.checkpoints.store import load_into
from paddleseg_ext.common.log import log
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.evaluation.other_preprocessing import warn_of_other_preprocessing
from paddleseg_ext.evaluation.protocol_choice import requested_rule
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor, warn_of_protocol
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

# Paddle's and a network's own for a size that does not fit. Others are defects of the network and
# keep their traceback.
PADDLE_ERRORS = (ValueError, RuntimeError, MemoryError, OSError, IndexError, AssertionError)


class EagerEngine(Engine):
    """A `paddle.nn.Layer` of ours or of PaddleSeg's as an engine."""

    title = "Paddle"

    def __init__(self, model: Any):
        """
        Args:
            model: called with (N, 3, H, W) images, returns a list of logits, the main head first.
        """
        self.model = model

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The main head's (N, C, h, w) logits. The model's training mode is left as it was.

        Raises:
            DataError: a size that the network does not take, or for which there is no memory.
        """
        import paddle

        was_training = self.model.training
        self.model.eval()
        try:
            with paddle.no_grad(), types_for(self.model), self.errors(batch, PADDLE_ERRORS):
                logits = self.model(paddle.to_tensor(batch))[0].numpy()
            self.check_output(batch, logits)
            return logits
        finally:
            if was_training:
                self.model.train()

    @property
    def subject(self) -> str:
        """See `Engine.subject`: the network."""
        return type(self.model).__name__

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`."""
        import paddle

        return RuntimeReport(
            name="eager",
            version=paddle.__version__,
            device=paddle.get_device().partition(":")[0],
            cpu_threads=int(os.environ.get("OMP_NUM_THREADS") or 0) or None,
            details={"paddle": paddle.__version__, "paddle_commit": paddle.version.commit},
        )


def open_checkpoint(weights: str | Path, config: str | Path | None, spec: RuntimeSpec) -> Predictor:
    """A predictor for a checkpoint; what the engine table calls for `eager`.

    Args:
        weights: the `.pdparams`.
        config: yml of its training; None takes the configuration of the checkpoint's manifest.
        spec: the device.

    Raises:
        UsageError: the configuration describes no network, or the checkpoint is not of it.
    """
    described = configuration_for(weights, config)
    warn_of_protocol(Path(weights), requested_rule(described.test_config, described.absent_class))
    return eager_predictor(described, weights, spec.device)


def eager_predictor(
    config: Config,
    weights: str | Path,
    device: str,
    class_table: ClassTable | None = None,
    postprocess: Postprocess | None = None,
) -> Predictor:
    """A predictor for the network of a configuration with the weights of a checkpoint.

    Args:
        config: `model:` and the validation transforms are used.
        weights: the `.pdparams`.
        device: `cpu` or `gpu`.
        class_table: by default that of the configuration.
        postprocess: by default bilinear logits.

    Raises:
        UsageError: the configuration describes no network, or the checkpoint is not of it.
    """
    import paddle

    from paddleseg_ext.models.build import build_model

    transforms = config.val_dataset.get("transforms") or []
    preprocess = Preprocess(
        transforms, orientation=config.orientation, channels=config.img_channels
    )
    table = class_table or class_table_of(config)
    paddle.set_device(device)
    model = build_model(config, table.num_classes)
    log(f"{weights}: {load_into(model, str(weights)).describe()}")
    warn_of_other_preprocessing(config, weights)
    model.eval()
    spec = RuntimeSpec("eager", device=device)
    return Predictor(EagerEngine(model), preprocess, postprocess or Postprocess(), table, spec)
