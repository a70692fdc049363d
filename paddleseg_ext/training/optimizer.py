"""The `optimizer:` section of a yml -> a Paddle optimizer, its parameter groups and its state.

The section is checked without Paddle. The rate itself comes from `training.schedules`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paddleseg_ext.checkpoints.store import MASTER_WEIGHTS
from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.training.parameter_groups import (
    check_custom_cfg,
    check_factor,
)

if TYPE_CHECKING:
    import paddle
    from paddle import nn

SGD, ADAM, ADAMW = "SGD", "Adam", "AdamW"
_CAE = "adamwdl_cae"  # PaddleSeg's AdamW for the network CAE
_TYPES = {"sgd": SGD, "momentum": SGD, "adam": ADAM, "adamw": ADAMW, _CAE: ADAMW}
# State per parameter of Paddle's optimizers, by the class's name.
_MOMENTS = {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
_SLOTS = {"Momentum": {"velocity_0"}, ADAM: _MOMENTS, ADAMW: _MOMENTS}
_ONLY_FOR = {
    **dict.fromkeys(("momentum", "nesterov"), (SGD,)),
    **dict.fromkeys(("beta1", "beta2", "epsilon"), (ADAM, ADAMW)),
}
# PaddleSeg's `grad_clip_cfg`: name -> keys of Paddle's class, the needed ones first.
_CLIPS = {
    "ClipGradByGlobalNorm": ("clip_norm",),
    "ClipGradByNorm": ("clip_norm",),
    "ClipGradByValue": ("max", "min"),
}


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
        "part of a name (`*`: any letters) -> factor on the rate of every "
        "parameter whose name contains it; the first that fits counts, and 0 trains nothing",
    )
    clip_grad_norm: float | None = option(
        None, "global norm at which gradients are clipped", at_least=0
    )
    epsilon: float = option(1e-8, "of Adam", above=0)
    custom_cfg: list[dict[str, Any]] = option(
        [],
        "PaddleSeg's form of `lr_multipliers`: items of `name`, part of a name, with `lr_mult` and "
        "`weight_decay_mult`; the first that fits counts",
    )
    grad_clip_cfg: dict[str, Any] | None = option(
        None,
        "PaddleSeg's clipping: `name` (`ClipGradByGlobalNorm`, `ClipGradByNorm`, "
        "`ClipGradByValue`) with `clip_norm`, or `max` and `min`",
    )
    layerwise_decay: float | None = option(
        None,
        "factor on the rate per block of a transformer, counted from the last (PaddleSeg's "
        "AdamWDL_CAE)",
        above=0,
    )

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that do not fit, or two keys for one thing."""
        for part, factor in self.lr_multipliers.items():
            check_factor(f"lr_multipliers.{part}", factor)
        check_custom_cfg(self.custom_cfg)
        if self.lr_multipliers and self.custom_cfg:
            raise ValueError("'lr_multipliers' and 'custom_cfg' do the same; give one of them")
        if self.grad_clip_cfg is not None:
            _check_clip(self.grad_clip_cfg)
            if self.clip_grad_norm:
                raise ValueError("'clip_grad_norm' and 'grad_clip_cfg' do the same; give one")

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "OptimizerOptions":
        """The checked section.

        Raises:
            UsageError: an unknown key or type (the nearest is named) or an unfit value.
        """
        name = str(section.get("type", SGD))
        if name.lower() not in _TYPES:
            raise UsageError(f"optimizer: unknown type '{name}'{nearest_name(name, _TYPES)}")
        section = _without_paddlesegs_names(section)
        kind = _TYPES[name.lower()]
        for key, types in _ONLY_FOR.items():
            if key in section and kind not in types:
                raise UsageError(f"optimizer: {kind} has no '{key}'")
        if name.lower() == _CAE:
            defaults = {"weight_decay": 0.01, "layerwise_decay": 0.65}
            section = {**defaults, "no_decay_on_norm_and_bias": True, **section}
        return from_section(cls, {**section, "type": kind}, "optimizer")


def _without_paddlesegs_names(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section with PaddleSeg's other names replaced by ours.

    Raises:
        UsageError: both names are given, or gradients would have to be sparse.
    """
    renamed = {key: value for key, value in section.items() if key != "lazy_mode"}
    if section.get("lazy_mode"):
        raise UsageError("optimizer: lazy_mode is for sparse gradients, which no network here has")
    if "use_nesterov" in renamed:
        if "nesterov" in renamed:
            raise UsageError("optimizer: 'use_nesterov' is 'nesterov', and both are given")
        renamed["nesterov"] = renamed.pop("use_nesterov")
    return renamed


def _check_clip(section: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a `grad_clip_cfg` that is none."""
    name = section.get("name")
    if name not in _CLIPS:
        raise ValueError(f"grad_clip_cfg: unknown name '{name}'{nearest_name(name, _CLIPS)}")
    for key, value in section.items():
        if key == "name":
            continue
        if key not in _CLIPS[name]:
            raise ValueError(f"grad_clip_cfg: {name} takes no '{key}'")
        if key == "min":
            check_factor("grad_clip_cfg.min (below 0)", -value if _is_number(value) else value)
        else:
            check_factor(f"grad_clip_cfg.{key}", value)
        if value == 0:
            raise ValueError(
                f"grad_clip_cfg: with '{key}' 0 every gradient is 0; for no clipping leave "
                "grad_clip_cfg out"
            )
    if _CLIPS[name][0] not in section:
        raise ValueError(f"grad_clip_cfg: '{_CLIPS[name][0]}' is missing")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def build_optimizer(
    options: OptimizerOptions, groups: Sequence[Mapping[str, Any]], learning_rate: float
) -> "paddle.optimizer.Optimizer":
    """An optimizer of the parameters in `groups`, from `group_parameters`."""
    import paddle

    common = {
        "learning_rate": learning_rate,
        "parameters": [dict(group) for group in groups],  # Paddle writes into them
        "weight_decay": float(options.weight_decay),  # Paddle takes a whole number for a function
        "grad_clip": _clip(options),
    }
    if options.type == SGD:
        return paddle.optimizer.Momentum(
            momentum=options.momentum, use_nesterov=options.nesterov, **common
        )
    adam = paddle.optimizer.Adam if options.type == ADAM else paddle.optimizer.AdamW
    return adam(beta1=options.beta1, beta2=options.beta2, epsilon=options.epsilon, **common)


def l2_loss(options: OptimizerOptions, groups: Sequence[Mapping[str, Any]]) -> float | None:
    """Half of the squared weights times their weight decay: the loss whose gradient that is.

    Source: MaybeShewill-CV/bisenetv2-tensorflow, which adds it to the loss that it logs.

    Args:
        options: of the optimizer.
        groups: the parameters, from `group_parameters`.

    Returns:
        None without weight decay, and for AdamW, whose decay is no gradient of a loss.
    """
    import paddle

    decayed = [group for group in groups if group["weight_decay"]]
    if not decayed or options.type == ADAMW:
        return None
    with paddle.no_grad():
        return sum(
            0.5 * group["weight_decay"] * float(parameter.astype("float32").square().sum())
            for group in decayed
            for parameter in group["params"]
        )


def _clip(options: OptimizerOptions) -> Any:
    """Paddle's clipping of gradients, or None."""
    from paddle import nn

    if options.grad_clip_cfg is not None:
        arguments = {key: value for key, value in options.grad_clip_cfg.items() if key != "name"}
        return getattr(nn, options.grad_clip_cfg["name"])(**arguments)
    return nn.ClipGradByGlobalNorm(options.clip_grad_norm) if options.clip_grad_norm else None


def optimizer_arrays(
    optimizer: "paddle.optimizer.Optimizer", model: "nn.Layer"
) -> dict[str, np.ndarray]:
    """The optimizer's state under the network's parameter names, as `stem.weight/velocity_0`.

    Paddle's names, such as `conv2d_7.w_0`, count the layers that a process has made.
    """
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    saved = dict(optimizer.state_dict())
    masters = saved.pop(MASTER_WEIGHTS, {})
    saved |= {f"{MASTER_WEIGHTS}/{name}": tensor for name, tensor in masters.items()}
    renamed = under_structured_names(saved, names)
    return {name: tensor.numpy() for name, tensor in renamed.items()}


def under_structured_names(saved: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Entries of Paddle's optimizer state under the names of `optimizer_arrays`.

    Args:
        saved: `conv2d_7.w_0_velocity_0` -> value; the float32 copy of a float16 weight as
            `master_weights/conv2d_7.w_0`.
        names: parameter name -> structured name. Entries of other parameters are left out.
    """
    renamed = {}
    for key, value in saved.items():
        kind, _, parameter = key.rpartition("/")
        if kind == MASTER_WEIGHTS and parameter in names:
            renamed[f"{names[parameter]}/{MASTER_WEIGHTS}"] = value
            continue
        owner = max((n for n in names if key.startswith(f"{n}_")), key=len, default=None)
        if owner is not None:
            renamed[f"{names[owner]}/{key[len(owner) + 1 :]}"] = value
    return renamed


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
    slots = {key.rpartition("/")[2] for key in arrays} - {MASTER_WEIGHTS}
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
        if slot == MASTER_WEIGHTS:
            masters[names[name]] = paddle.to_tensor(array)
        else:
            state[f"{names[name]}_{slot}"] = paddle.to_tensor(array)
    if masters:
        state[MASTER_WEIGHTS] = masters
    optimizer.set_state_dict(state)
