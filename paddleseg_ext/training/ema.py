"""The moving average of a network's weights, which is scored and deployed in their place.

The defaults of the section `ema:` are the rule of the system that publishes .9995. PaddleSeg's own
rule is `{decay: 0.999, warmup: true, buffers: average}`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.options import option

if TYPE_CHECKING:
    from paddle import Tensor, nn


@dataclass(frozen=True)
class EmaOptions:
    """The section `ema:`.

    Source: MaybeShewill-CV/bisenetv2-tensorflow trainner/cityscapes (.9995 from the first step on,
    over the trainable variables); warm-up and averaged buffers: PaddleSeg 2.8 utils/ema.py.
    """

    decay: float = option(
        0.9995,
        "d of `average = d * average + (1 - d) * weights`, after every iteration",
        above=0,
        below=1,
    )
    warmup: bool = option(
        False,
        "`min(d, 1 - 1 / (i + 1))` at iteration i (from 1), so that the average leaves the "
        "initial weights at once",
    )
    buffers: Literal["copy", "average"] = option(
        "copy",
        "batch norm's running statistics, which are averages already: `copy` takes the network's, "
        "`average` averages them like weights",
    )


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
        """Add the weights after iteration `iteration` (from 1)."""
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
        """Give the network the averaged weights inside the context, and its own afterwards."""
        tensors = _tensors(self._model)
        own = {name: tensor.clone() for name, tensor in tensors.items()}
        try:
            _fill(tensors, self._average)
            yield
        finally:
            _fill(tensors, own)

    def arrays(self) -> dict[str, np.ndarray]:
        """The average under the names of the network's tensors, as in `weights_of`."""
        return {name: tensor.numpy() for name, tensor in self._average.items()}

    def restore(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Take over an average that `arrays` gave.

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
    """The tensors that `state_dict` names, never copies: under AMP O2 `state_dict` casts."""
    live = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: live[name] for name in model.state_dict()}


def _copy(tensor: "Tensor") -> "Tensor":
    copied = tensor.detach().clone()
    return copied.astype("float32") if tensor.is_floating_point() else copied


def _fill(tensors: "Mapping[str, Tensor]", values: "Mapping[str, Tensor]") -> None:
    for name, tensor in tensors.items():
        tensor.set_value(values[name].astype(tensor.dtype))
