"""The values that arguments of transforms may have, by name.

PaddleSeg's transforms and ours call the same thing by the same name, and most constructors of
PaddleSeg's take any value: a wrong one ends in a traceback in the middle of a run. So what a yml or
a bundle gives is checked here before any transform is built.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from paddleseg_ext.common.errors import UsageError, shown

LARGEST_SIDE = 1 << 16  # pixels; no image file has more


def _number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and least <= value <= most


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and _number(value, least, most)


def _side(value: Any) -> bool:
    return _whole(value, 1, LARGEST_SIDE)


def _sides(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_side, value))


def _numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_number, value))


_Kind = tuple[str, Callable[[Any], bool]]
_SIDE: _Kind = (f"a whole number from 1 to {LARGEST_SIDE}", _side)
_SIDE_OR_NONE: _Kind = (_SIDE[0], lambda value: value is None or _side(value))
_SIZE: _Kind = ("[width, height]", _sides)
_SHARE: _Kind = ("a number from 0 to 1", lambda value: _number(value, 0, 1))
_POSITIVE: _Kind = ("a number above 0", lambda value: _number(value) and value > 0)
_NATURAL: _Kind = ("a number of at least 0", lambda value: _number(value, 0))
_BYTE: _Kind = ("a whole number from 0 to 255", lambda value: _whole(value, 0, 255))

_KINDS: Mapping[str, _Kind] = {
    **dict.fromkeys(("target_size", "crop_size"), _SIZE),
    **dict.fromkeys(("long_size", "min_value", "max_value"), _SIDE),
    **dict.fromkeys(("max_long", "min_long", "size_divisor"), _SIDE_OR_NONE),
    "short_size": (
        f"{_SIDE[0]} (in training also a list of them)",
        lambda value: (
            _side(value) or (isinstance(value, list) and len(value) > 0 and all(map(_side, value)))
        ),
    ),
    **dict.fromkeys(
        ("max_size", "aspect_ratio", "min_scale_factor", "max_scale_factor"),
        _POSITIVE,
    ),
    **dict.fromkeys(
        ("scale_step_size", "max_rotation", "min_scale", "max_sigma", "loop_times"), _NATURAL
    ),
    "label_padding_value": _BYTE,
    "ignore_index": _BYTE,
    "im_padding_value": (
        "a number, or one per channel",
        lambda value: _number(value) or _numbers(value),
    ),
    **dict.fromkeys(
        ("mean", "std"), ("a list of numbers, one per channel or one for all", _numbers)
    ),
    **dict.fromkeys(("prob", "category_max_ratio"), _SHARE),
    **dict.fromkeys(
        (f"{name}_prob" for name in ("brightness", "contrast", "saturation", "hue", "sharpness")),
        _SHARE,
    ),
    **dict.fromkeys(
        (f"{name}_range" for name in ("brightness", "contrast", "saturation", "hue", "sharpness")),
        _NATURAL,
    ),
    **dict.fromkeys(
        ("brightness_delta", "hue_delta"),
        ("a whole number from 0 to 255", lambda value: _whole(value, 0, 255)),
    ),
    **dict.fromkeys(
        ("keep_ratio", "in_order", "enlarge_small"),
        ("true or false", lambda value: isinstance(value, bool)),
    ),
    **dict.fromkeys(
        ("interp", "blur_type", "rounding", "small"),
        ("a word", lambda value: isinstance(value, str)),
    ),
}


def check_transform(where: str, arguments: Mapping[str, Any]) -> None:
    """Refuse the first argument of a transform that is of the wrong kind or out of range.

    Args:
        where: the transform's place and name, which the message begins with.
        arguments: as given; those of other names are not looked at.

    Raises:
        UsageError: naming the argument, what is expected and what came.
    """
    for key, value in arguments.items():
        expected, fits = _KINDS.get(key, ("", lambda _: True))
        if fits(value):
            continue
        is_square = _KINDS[key] is _SIZE and _side(value)
        hint = f"; write [{value}, {value}]" if is_square else ""
        raise UsageError(f"{where}: '{key}' must be {expected}, got {shown(value)}{hint}")
