"""The `optimizer:` section of a yml -> a Paddle optimizer, its parameter groups and its state.

The section is checked without Paddle. The rate itself comes from `training.schedules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.common.errors import UsageError, nearest_name

if TYPE_CHECKING:
    import paddle
    from paddle import nn

SGD, ADAM, ADAMW = "SGD", "Adam", "AdamW"
_TYPES = {"sgd": SGD, "momentum": SGD, "adam": ADAM, "adamw": ADAMW}
# What Paddle's optimizers keep for a parameter, by the class's name.
_MOMENTS = {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
_SLOTS = {"Momentum": {"velocity_0"}, ADAM: _MOMENTS, ADAMW: _MOMENTS}
# Paddle's entry for the float32 copies of float16 weights: parameter name -> tensor.
_MASTER_WEIGHTS = "master_weights"
_ONLY_FOR = {"momentum": (SGD,), "nesterov": (SGD,), "beta1": (ADAM, ADAMW), "beta2": (ADAM, ADAMW)}


@dataclass(frozen=True)
class OptimizerOptions:
    """What `optimizer:` may say.

    Attributes:
        type: SGD, Adam or AdamW (any case).
        momentum: of SGD.
        nesterov: Nesterov's form of the momentum.
        weight_decay: L2 coefficient (AdamW: decoupled).
        beta1: Adam's decay rate of the first moment.
        beta2: Adam's decay rate of the second moment.
        no_decay_on_norm_and_bias: spare every one-dimensional parameter the weight decay, as
            CoinCheung's BiSeNet does.
        lr_multipliers: name part -> factor on the rate of every parameter whose name contains it;
            the first that fits counts.
        clip_grad_norm: global norm at which gradients are clipped; none by default.
    """

    type: str = SGD
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    no_decay_on_norm_and_bias: bool = False
    lr_multipliers: dict[str, float] = field(default_factory=dict)
    clip_grad_norm: float | None = None

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> "OptimizerOptions":
        """Check the section.

        Raises:
            UsageError: an unknown key (the nearest is named), type or unfit value.
        """
        known = [f.name for f in fields(cls)]
        for key in section:
            if key not in known:
                raise UsageError(f"optimizer: unknown key '{key}'{nearest_name(str(key), known)}")
        arguments = dict(section)
        name = str(arguments.get("type", SGD))
        if name.lower() not in _TYPES:
            raise UsageError(f"optimizer: unknown type '{name}'{nearest_name(name, _TYPES)}")
        arguments["type"] = _TYPES[name.lower()]
        for key, types in _ONLY_FOR.items():
            if key in arguments and arguments["type"] not in types:
                raise UsageError(f"optimizer: {arguments['type']} has no '{key}'")
        for key in ("momentum", "weight_decay", "beta1", "beta2", "clip_grad_norm"):
            _check_number(arguments.get(key, 0.0), key)
        for key in ("momentum", "beta1", "beta2"):
            if arguments.get(key, 0.0) >= 1:
                raise UsageError(f"optimizer: '{key}' must be below 1, got {arguments[key]}")
        for key in ("nesterov", "no_decay_on_norm_and_bias"):
            if not isinstance(arguments.get(key, False), bool):
                raise UsageError(
                    f"optimizer: '{key}' must be true or false, got {arguments[key]!r}"
                )
        multipliers = arguments.get("lr_multipliers", {})
        if not isinstance(multipliers, Mapping):
            raise UsageError(
                f"optimizer: 'lr_multipliers' must be a section, got {multipliers!r}; for one rate "
                "for all, change lr_scheduler.learning_rate"
            )
        for part, factor in multipliers.items():
            _check_number(factor, f"lr_multipliers.{part}")
        return cls(**arguments)


def _check_number(value: Any, key: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
        raise UsageError(f"optimizer: '{key}' must be a number of at least 0, got {value!r}")


def build_optimizer(
    options: OptimizerOptions, model: "nn.Layer", learning_rate: float
) -> "paddle.optimizer.Optimizer":
    """An optimizer over the trainable parameters of `model`, in the groups that `options` ask for.

    Raises:
        UsageError: an `lr_multipliers` name that is part of no parameter's name.
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
    """The optimizer's state by the network's own parameter names.

    Paddle keys it by names such as `conv2d_7.w_0`, which count the layers a process has made.
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
    """Undo `optimizer_arrays`.

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
