"""The moving average of a network's weights, which is what is scored and deployed.

`ema:` of the yml. The defaults are the rule of the system that publishes .9995; PaddleSeg's own is
`{decay: 0.999, warmup: true, buffers: average}`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.common.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from paddle import Tensor, nn

BUFFER_RULES = ("copy", "average")


@dataclass(frozen=True)
class EmaOptions:
    """What `ema:` may say.

    Attributes:
        decay: d of `average = d * average + (1 - d) * weights`, after every iteration.
        warmup: use `min(d, 1 - 1 / (i + 1))` at iteration i (from 1), so that the average leaves
            the initial weights at once.
        buffers: what becomes of batch norm's running statistics, which are averages already:
            `copy` takes the network's, `average` averages them like weights.

    Source: MaybeShewill-CV/bisenetv2-tensorflow trainner/cityscapes (.9995 from the first step on,
    over the trainable variables); warm-up and averaged buffers: PaddleSeg 2.8 utils/ema.py.
    """

    decay: float = 0.9995
    warmup: bool = False
    buffers: str = "copy"

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "EmaOptions":
        """Check the section.

        Raises:
            UsageError: an unknown key (the nearest is named) or unfit value.
        """
        known = [f.name for f in fields(cls)]
        for key in section:
            if key not in known:
                raise UsageError(f"ema: unknown key '{key}'{nearest_name(str(key), known)}")
        options = cls(**section)
        decay: Any = options.decay
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay < 1:
            raise UsageError(f"ema: 'decay' must be above 0 and below 1, got {decay!r}")
        if not isinstance(options.warmup, bool):
            raise UsageError(f"ema: 'warmup' must be true or false, got {options.warmup!r}")
        if options.buffers not in BUFFER_RULES:
            raise UsageError(f"ema: 'buffers' must be copy or average, got {options.buffers!r}")
        return options


class WeightAverage:
    """The average of one network's weights, in float32."""

    def __init__(self, options: EmaOptions, model: "nn.Layer"):
        """
        Args:
            options: the rule.
            model: the network, whose weights are read at `restart` and every `update`.
        """
        self._options = options
        self._model = model
        self._average: dict[str, Tensor] = {}

    def restart(self) -> None:
        """Begin from the weights that the network has now."""
        self._average = {name: _copy(tensor) for name, tensor in _tensors(self._model).items()}

    def update(self, iteration: int) -> None:
        """Take in the weights that iteration `iteration` (from 1) came to."""
        import paddle

        decay = self._options.decay
        if self._options.warmup:
            decay = min(decay, 1.0 - 1.0 / (iteration + 1))
        with paddle.no_grad():
            for name, tensor in _tensors(self._model).items():
                # Paddle counts running statistics among the parameters; they have no gradient.
                averaged = not tensor.stop_gradient or self._options.buffers == "average"
                if averaged and tensor.is_floating_point():
                    new = decay * self._average[name] + (1.0 - decay) * tensor.astype("float32")
                else:
                    new = _copy(tensor)
                self._average[name] = new

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """The network has the averaged weights inside, and its own again after."""
        tensors = _tensors(self._model)
        own = {name: tensor.clone() for name, tensor in tensors.items()}
        try:
            _fill(tensors, self._average)
            yield
        finally:
            _fill(tensors, own)

    def arrays(self) -> dict[str, np.ndarray]:
        """The average by the network's own names, as `weights_of` gives the weights."""
        return {name: tensor.numpy() for name, tensor in self._average.items()}

    def restore(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Undo `arrays`.

        Raises:
            UsageError: the average is of another network.
        """
        import paddle

        own = {name: list(tensor.shape) for name, tensor in self._average.items()}
        if own != {name: list(array.shape) for name, array in arrays.items()}:
            raise UsageError(f"{source}: the averaged weights are of another network")
        self._average = {
            name: paddle.to_tensor(arrays[name]).astype(tensor.dtype)
            for name, tensor in self._average.items()
        }


def _tensors(model: "nn.Layer") -> "dict[str, Tensor]":
    """What `state_dict` names, but never copies: under AMP O2 it casts what it gives."""
    live = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: live[name] for name in model.state_dict()}


def _copy(tensor: "Tensor") -> "Tensor":
    copied = tensor.detach().clone()
    return copied.astype("float32") if tensor.is_floating_point() else copied


def _fill(tensors: "Mapping[str, Tensor]", values: "Mapping[str, Tensor]") -> None:
    for name, tensor in tensors.items():
        tensor.set_value(values[name].astype(tensor.dtype))
