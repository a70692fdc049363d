"""The `optimizer:` section of a yml -> a Paddle optimizer, its parameter groups and its state.

The section is checked without Paddle. The rate itself comes from `training.schedules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.options import from_section, option

if TYPE_CHECKING:
    import paddle
    from paddle import nn

SGD, ADAM, ADAMW = "SGD", "Adam", "AdamW"
_TYPES = {"sgd": SGD, "momentum": SGD, "adam": ADAM, "adamw": ADAMW}
# State per parameter of Paddle's optimizers, by the class's name.
_MOMENTS = {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
_SLOTS = {"Momentum": {"velocity_0"}, ADAM: _MOMENTS, ADAMW: _MOMENTS}
# Paddle's entry for the float32 copies of float16 weights: parameter name -> tensor.
_MASTER_WEIGHTS = "master_weights"
_ONLY_FOR = {"momentum": (SGD,), "nesterov": (SGD,), "beta1": (ADAM, ADAMW), "beta2": (ADAM, ADAMW)}


@dataclass(frozen=True)
class OptimizerOptions:
    """The section `optimizer:`."""

    type: Literal["SGD", "Adam", "AdamW"] = option(SGD, "SGD, Adam or AdamW, in any case")
    momentum: float = option(0.9, "of SGD", at_least=0, below=1)
    nesterov: bool = option(False, "Nesterov's form of the momentum")
    weight_decay: float = option(0.0, "L2 coefficient (AdamW: decoupled)", at_least=0)
    beta1: float = option(0.9, "Adam's decay rate of the first moment", at_least=0, below=1)
    beta2: float = option(0.999, "Adam's decay rate of the second moment", at_least=0, below=1)
    no_decay_on_norm_and_bias: bool = option(
        False, "no weight decay on one-dimensional parameters, as in CoinCheung's BiSeNet"
    )
    lr_multipliers: dict[str, float] = option(
        {},
        "part of a name -> factor on the rate of every parameter whose name contains it; the "
        "first that fits counts",
    )
    clip_grad_norm: float | None = option(
        None, "global norm at which gradients are clipped", at_least=0
    )

    def __post_init__(self) -> None:
        """Raise `ValueError` for a multiplier that is no number of at least 0."""
        for part, factor in self.lr_multipliers.items():
            is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
            if not is_number or not 0 <= factor < np.inf:
                raise ValueError(
                    f"'lr_multipliers.{part}' must be a number of at least 0, got {factor!r}"
                )

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "OptimizerOptions":
        """The checked section.

        Raises:
            UsageError: an unknown key or type (the nearest is named) or an unfit value.
        """
        name = str(section.get("type", SGD))
        if name.lower() not in _TYPES:
            raise UsageError(f"optimizer: unknown type '{name}'{nearest_name(name, _TYPES)}")
        kind = _TYPES[name.lower()]
        for key, types in _ONLY_FOR.items():
            if key in section and kind not in types:
                raise UsageError(f"optimizer: {kind} has no '{key}'")
        return from_section(cls, {**section, "type": kind}, "optimizer")


def build_optimizer(
    options: OptimizerOptions, model: "nn.Layer", learning_rate: float
) -> "paddle.optimizer.Optimizer":
    """An optimizer of the parameters of `model`, grouped by rate and weight decay.

    Raises:
        UsageError: a name in `lr_multipliers` is part of no parameter's name.
    """
    import paddle
    from paddle import nn

    groups = _group_parameters(options, model)
    clip = nn.ClipGradByGlobalNorm(options.clip_grad_norm) if options.clip_grad_norm else None
    common = {
        "learning_rate": learning_rate,
        "parameters": groups,
        "weight_decay": float(options.weight_decay),  # Paddle takes a whole number for a function
        "grad_clip": clip,
    }
    if options.type == SGD:
        return paddle.optimizer.Momentum(
            momentum=options.momentum, use_nesterov=options.nesterov, **common
        )
    adam = paddle.optimizer.Adam if options.type == ADAM else paddle.optimizer.AdamW
    return adam(beta1=options.beta1, beta2=options.beta2, **common)


def _group_parameters(options: OptimizerOptions, model: "nn.Layer") -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[Any]] = {}
    unused = set(options.lr_multipliers)
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        factor = 1.0
        for part, value in options.lr_multipliers.items():
            if part in name:
                factor = value
                unused.discard(part)
                break
        decays = len(parameter.shape) > 1 or not options.no_decay_on_norm_and_bias
        key = (float(factor), float(options.weight_decay) if decays else 0.0)
        groups.setdefault(key, []).append(parameter)
    if unused:
        raise UsageError(
            f"optimizer: lr_multipliers: no parameter of {type(model).__name__} has "
            f"'{sorted(unused)[0]}' in its name"
        )
    # In a group, Paddle takes `learning_rate` as a factor on the optimizer's rate.
    return [
        {"params": parameters, "learning_rate": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def optimizer_arrays(
    optimizer: "paddle.optimizer.Optimizer", model: "nn.Layer"
) -> dict[str, np.ndarray]:
    """The optimizer's state under the network's parameter names.

    Paddle's names, such as `conv2d_7.w_0`, count the layers that a process has made.
    """
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    saved = dict(optimizer.state_dict())
    masters = saved.pop(_MASTER_WEIGHTS, {})
    state = {f"{names[key]}/{_MASTER_WEIGHTS}": value.numpy() for key, value in masters.items()}
    for key, value in saved.items():
        owner = max((n for n in names if key.startswith(f"{n}_")), key=len, default=None)
        if owner is not None:
            state[f"{names[owner]}/{key[len(owner) + 1 :]}"] = value.numpy()
    return state


def restore_optimizer(
    optimizer: "paddle.optimizer.Optimizer",
    model: "nn.Layer",
    arrays: Mapping[str, np.ndarray],
    source: str,
) -> None:
    """Take over a state that `optimizer_arrays` gave.

    Raises:
        UsageError: the state is of another network or another type of optimizer.
    """
    import paddle

    # Paddle begins with zeros, in silence, where a state is missing.
    slots = {key.rpartition("/")[2] for key in arrays} - {_MASTER_WEIGHTS}
    if slots != _SLOTS[type(optimizer).__name__]:
        raise UsageError(
            f"{source}: the state of another optimizer than {type(optimizer).__name__} (it has "
            f"{', '.join(sorted(slots)) or 'nothing'}); resume with the one that the run had"
        )
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    state: dict[str, Any] = {}
    masters = {}
    for key, array in arrays.items():
        name, _, slot = key.rpartition("/")
        if name not in names:
            raise UsageError(f"{source}: '{name}' is no parameter of {type(model).__name__}")
        if slot == _MASTER_WEIGHTS:
            masters[names[name]] = paddle.to_tensor(array)
        else:
            state[f"{names[name]}_{slot}"] = paddle.to_tensor(array)
    if masters:
        state[_MASTER_WEIGHTS] = masters
    optimizer.set_state_dict(state)
