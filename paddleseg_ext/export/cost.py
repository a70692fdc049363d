"""Cost of a network in inference mode: parameters, multiply-adds, sizes of its outputs.

They are counted while the network runs once: convolutions and linear layers, a multiplication and
its addition as one. docs/networks.md compares the counts with the published ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.paddle2_types import types_for

if TYPE_CHECKING:
    from paddle import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-adds of one forward pass.

    Attributes:
        used_parameters: of the layers that ran, without running statistics.
        multiply_adds: of all layers.
        multiply_adds_of_parts: name of a part -> its multiply-adds, in the order they run.
    """

    used_parameters: int
    multiply_adds: int
    multiply_adds_of_parts: Mapping[str, int]


@dataclass(frozen=True)
class Diagnosis(Cost):
    """The cost of a network, and the sizes of its features and heads.

    Attributes:
        parameters: of all layers, without running statistics.
        parts: name of a part -> its multiply-adds and parameters, in the order they run.
        sizes: name -> shape of every feature and head.
    """

    parameters: int
    parts: Mapping[str, tuple[int, int]]
    sizes: Mapping[str, list[int]]

    def lines(self, input_shape: list[int]) -> list[str]:
        """A report for people."""
        size = "x".join(map(str, input_shape))
        lines = [
            f"parameters      {self.parameters / 1e6:.3f} M "
            f"({self.used_parameters / 1e6:.3f} M run at inference)",
            f"multiply-adds   {self.multiply_adds / 1e9:.3f} G for {size}",
        ]
        for name, (work, weights) in self.parts.items():
            lines.append(f"  {name:<14}{work / 1e9:.3f} G, {weights / 1e6:.3f} M parameters")
        for name, shape in self.sizes.items():
            stride = input_shape[2] / shape[2]
            lines.append(f"{name:<15} {'x'.join(map(str, shape))}, stride {stride:g}")
        return lines


def diagnose(model: "nn.Layer", input_shape: list[int]) -> Diagnosis:
    """Runs `model` once on zeros of `input_shape` and counts.

    Raises:
        UsageError: the network refuses this shape.
    """
    import paddle

    cost = count_cost(model, input_shape)
    parts = cost.multiply_adds_of_parts.items()
    return Diagnosis(
        **vars(cost),
        parameters=_parameter_count(model),
        parts={part: (work, _parameter_count(getattr(model, part))) for part, work in parts},
        sizes=_sizes(model, paddle.zeros(input_shape)),
    )


def count_cost(model: "nn.Layer", input_shape: list[int]) -> Cost:
    """Multiply-adds of one forward pass in inference mode, and the parameters that it uses.

    Raises:
        UsageError: the network refuses this shape.
    """
    import paddle
    from paddle import nn

    used: dict[int, int] = {}
    names = {id(layer): name for name, layer in model.named_sublayers()}
    parts: dict[str, int] = {}

    def count(layer: "nn.Layer", _inputs: Any, output: "Tensor") -> None:
        for parameter in layer.parameters(include_sublayers=False):
            if not parameter.stop_gradient:  # running statistics are "parameters" in Paddle
                used[id(parameter)] = parameter.size
        if isinstance(layer, nn.Conv2D):
            _, per_group, height, width = layer.weight.shape
            work = output.size * per_group * height * width
        elif isinstance(layer, nn.Linear):
            work = output.size * layer.weight.shape[0]
        else:
            return
        part = names[id(layer)].partition(".")[0]
        parts[part] = parts.get(part, 0) + work

    model.eval()
    hooks = [layer.register_forward_post_hook(count) for layer in model.sublayers()]
    try:
        with paddle.no_grad(), types_for(model):
            model(paddle.zeros(input_shape))
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UsageError(f"--input_shape: {type(model).__name__}: {reason}") from None
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(sum(used.values()), sum(parts.values()), parts)


def _parameter_count(layer: "nn.Layer") -> int:
    return sum(p.size for p in layer.parameters() if not p.stop_gradient)


def _sizes(model: "nn.Layer", images: "Tensor") -> dict[str, list[int]]:
    import paddle

    sizes = {}
    with paddle.no_grad():
        if callable(getattr(model, "backbone", None)):
            for index, feature in enumerate(model.backbone(images)):
                sizes[f"feature {index}"] = list(feature.shape)
        outputs = model.heads(images) if hasattr(model, "heads") else {"logits": model(images)[0]}
    return sizes | {name: list(output.shape) for name, output in outputs.items()}
