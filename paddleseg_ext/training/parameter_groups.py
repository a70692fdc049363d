"""Which parameters of a network have another rate or another weight decay."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.common.errors import UsageError, check_keys, nearest_name, shown
from paddleseg_ext.common.log import warn

if TYPE_CHECKING:
    from paddle import Tensor, nn

    from paddleseg_ext.training.optimizer import OptimizerOptions

_CUSTOM_KEYS = ("name", "lr_mult", "weight_decay_mult")
# A key of ymls that PaddleSeg publishes, which its optimizer does not read.
_UNREAD_KEY = "lr_multi"


def check_factor(name: str, factor: Any) -> None:
    """Raises `ValueError` for a factor that is no number of at least 0."""
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not is_number or not 0 <= factor < np.inf:
        raise ValueError(f"'{name}' must be a number of at least 0, got {shown(factor)}")


def check_custom_cfg(items: Sequence[Any]) -> None:
    """Raises `ValueError` for an item that is no mapping with a name and factors."""
    for number, item in enumerate(items):
        where = f"custom_cfg[{number}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise ValueError(f"'{where}' must be a section with 'name', got {shown(item)}")
        try:
            check_keys(where, item, (*_CUSTOM_KEYS, _UNREAD_KEY))
        except UsageError as error:
            raise ValueError(str(error)) from None
        for key in _CUSTOM_KEYS[1:]:
            if item.get(key) is not None:
                check_factor(f"{where}.{key}", item[key])


def group_parameters(options: "OptimizerOptions", model: "nn.Layer") -> list[dict[str, Any]]:
    """The trained parameters, grouped as Paddle's optimizers take them.

    In a group, Paddle takes `learning_rate` as a factor on the optimizer's rate.

    Raises:
        UsageError: a name in `lr_multipliers` is part of no parameter's name, or the network has no
            layers for `layerwise_decay`.
    """
    layers = None if options.layerwise_decay is None else _num_layers(model)
    rules = _rules(options)
    unused = {part for part, _, _ in rules}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        part, factor, decay_factor = next(
            (rule for rule in rules if fnmatchcase(name, f"*{rule[0]}*")), ("", 1.0, 1.0)
        )
        unused.discard(part)
        if layers is not None:
            factor *= _layer_factor(name, options.layerwise_decay or 1.0, layers)
        if options.no_decay_on_norm_and_bias and len(parameter.shape) <= 1:
            decay_factor = 0.0
        key = (float(factor), float(options.weight_decay) * decay_factor)
        groups.setdefault(key, []).append(parameter)
    _say_unused(sorted(unused), options, model)
    return [
        {"params": parameters, "learning_rate": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def _rules(options: "OptimizerOptions") -> list[tuple[str, float, float]]:
    """Part of a name, factor on the rate, factor on the weight decay; the first that fits counts.

    Source: PaddleSeg 2.8, optimizers/optimizer.py, for `custom_cfg`.
    """
    rules = [(part, factor, 1.0) for part, factor in options.lr_multipliers.items()]
    for item in options.custom_cfg:
        rate, decay = (1.0 if item.get(key) is None else item[key] for key in _CUSTOM_KEYS[1:])
        if _UNREAD_KEY in item:
            warn(
                f"optimizer: custom_cfg: '{_UNREAD_KEY}' of '{item['name']}' is not used, as in "
                "PaddleSeg; for another rate write lr_mult"
            )
        rules.append((item["name"], rate, decay))
    return rules


def _say_unused(parts: Sequence[str], options: "OptimizerOptions", model: "nn.Layer") -> None:
    """Refuse a part of `lr_multipliers` that no name has; warn of one of `custom_cfg`."""
    network = type(model).__name__
    for part in parts:
        if part in options.lr_multipliers:
            raise UsageError(
                f"optimizer: lr_multipliers: no parameter of {network} has '{part}' in its name"
            )
    if parts:
        modules = {name.partition(".")[0] for name, _ in model.named_parameters()}
        warn(
            f"optimizer: custom_cfg: no parameter of {network} has '{parts[0]}' in its name"
            f"{nearest_name(parts[0], modules)}"
        )


def _num_layers(model: "nn.Layer") -> int:
    """The number of blocks of a transformer of PaddleSeg's."""
    backbone: Any = getattr(model, "backbone", None)
    if not hasattr(backbone, "get_num_layers"):
        raise UsageError(
            f"optimizer: layerwise_decay needs a backbone of numbered blocks, such as CAE; "
            f"{type(model).__name__} has none"
        )
    return backbone.get_num_layers()


def _layer_factor(name: str, decay: float, layers: int) -> float:
    """Source: PaddleSeg 2.8, optimizers/custom_optimizers.py, layerwise_lr_decay."""
    _, found, behind = name.partition("blocks.")
    if found:
        return decay ** (layers - int(behind.partition(".")[0]))
    return decay ** (layers + 1) if "embed" in name else 1.0
