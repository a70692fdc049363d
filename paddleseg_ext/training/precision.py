"""Float32 or Paddle's automatic mixed precision, with the same calls for both.

O1 runs operators in float16 where that is faster and keeps the weights in float32. O2 also keeps
the weights in float16, with float32 copies in the optimizer. Losses are float32 in both.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError

FP32, AMP_O1, AMP_O2 = "fp32", "amp_O1", "amp_O2"
PADDLESEG_FP16 = "fp16"  # PaddleSeg's flag; its --amp_level says which of the two
PRECISIONS = (FP32, AMP_O1, AMP_O2)
_INITIAL_SCALING = 1024.0  # PaddleSeg's


def resolve_precision(precision: str, amp_level: str | None, device: str) -> str:
    """Returns one of `PRECISIONS` for `--precision`, `--amp_level` and the device.

    Raises:
        UsageError: flags that contradict each other, or mixed precision on a CPU.
    """
    if precision == PADDLESEG_FP16:
        resolved = f"amp_{amp_level or 'O1'}"
    elif amp_level is not None:
        raise UsageError(f"--amp_level {amp_level} belongs to --precision fp16, not {precision}")
    else:
        resolved = precision
    if resolved != FP32 and device == "cpu":
        raise UsageError(
            f"--precision {precision}: Paddle's mixed precision has no effect on a CPU; use "
            "--device gpu, or --precision fp32"
        )
    return resolved


class Precision:
    """Forward pass, backward pass and step of a network in one of `PRECISIONS`."""

    def __init__(self, name: str):
        """`name` is one of `PRECISIONS`."""
        import paddle

        self._level = None if name == FP32 else name.removeprefix("amp_")
        self._scaler = None
        if self._level:
            self._scaler = paddle.amp.GradScaler(init_loss_scaling=_INITIAL_SCALING)

    def prepare(self, model: Any, optimizer: Any) -> None:
        """Cast weights in place where O2 does; they must be loaded before."""
        import paddle

        if self._level == "O2":
            paddle.amp.decorate(
                models=model, optimizers=optimizer, level="O2", save_dtype="float32"
            )

    def forward(self, model: Any, images: Any) -> list[Any]:
        """The heads of `model(images)`, float32."""
        if not self._level:
            return model(images)
        with self._autocast():
            heads = model(images)
        return [head.astype("float32") for head in heads]

    def evaluating(self) -> AbstractContextManager[None]:
        """The context of an evaluation: autocast for float16 weights (O2), else none."""
        return self._autocast() if self._level == "O2" else nullcontext()

    def _autocast(self) -> AbstractContextManager[None]:
        import paddle

        return paddle.amp.auto_cast(level=self._level)

    def backward(self, loss: Any) -> None:
        """Add the gradients of a scalar loss to the accumulated ones."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def step(self, optimizer: Any) -> None:
        """Step and clear. Gradients are unscaled before, so that clipping uses their true norm."""
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.unscale_(optimizer)
            self._scaler.step(optimizer)
            self._scaler.update()
        optimizer.clear_grad()

    def state(self) -> dict[str, Any]:
        """The loss scaling's state, for JSON; empty without one."""
        if self._scaler is None:
            return {}
        return {key: np.asarray(v).tolist() for key, v in self._scaler.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state` gave.

        Raises:
            UsageError: it holds no scale.
        """
        if self._scaler is not None:
            if "scale" not in state:
                raise UsageError(
                    "the state of the run that is resumed holds no 'loss_scaling.scale', which "
                    "mixed precision continues with; resume an earlier iter_N"
                )
            self._scaler.load_state_dict({**state, "scale": np.float32(state["scale"])})
