"""The yml's `test_config:`, PaddleSeg's way to say how a network is evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any

from paddleseg_ext.common.errors import UsageError, check_choice, check_keys
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol, make_protocol

TEST_CONFIG_KEYS = (
    "aug_eval",
    "scales",
    "flip_horizontal",
    "is_slide",
    "crop_size",
    "stride",
)
SWITCHES = ("aug_eval", "flip_horizontal", "is_slide")


def requested_protocol(wanted: Mapping[str, Any], name: str | None = None) -> Protocol:
    """The protocol that a `test_config:` (or the flags of the same names) describes.

    Args:
        wanted: some of `TEST_CONFIG_KEYS`. As in PaddleSeg, `whole` and `slide` look at scales and
            mirrored images only with `aug_eval`.
        name: of a protocol; by default `slide` where `is_slide` is set, else `whole`.

    Raises:
        UsageError: an unknown key, or a value that does not fit the protocol.
    """
    check_keys("test_config", wanted, TEST_CONFIG_KEYS)
    for key, value in wanted.items():
        if key in SWITCHES and not isinstance(value, bool):
            raise UsageError(f"test_config: '{key}' must be true or false, got {value!r}")
    name = name or ("slide" if wanted.get("is_slide") else DEFAULT_PROTOCOL)
    scales: Any = wanted.get("scales")
    flip = bool(wanted.get("flip_horizontal"))
    if isinstance(scales, (int, float)) and not isinstance(scales, bool):
        scales = [float(scales)]
    if name in ("whole", "slide") and not wanted.get("aug_eval"):
        scales, flip = None, False
    windows = (wanted.get("crop_size"), wanted.get("stride"))
    if name == "whole":
        windows = (None, None)
    try:
        return make_protocol(name, scales, flip, *windows)
    except ValueError as error:
        raise UsageError(str(error)) from None


def kept_protocols(names: Sequence[Any]) -> dict[str, Protocol]:
    """The protocols that `keep_best:` of the yml names; those that need no options can be named.

    Raises:
        UsageError: an unknown name (the nearest is named), one that is given twice, or one
            that needs options.
    """
    protocols: dict[str, Protocol] = {}
    for name in names:
        check_choice("keep_best", name, PROTOCOLS, "protocol")
        if name in protocols:
            raise UsageError(f"keep_best: '{name}' is given twice")
        try:
            protocols[name] = make_protocol(name)
        except ValueError as error:
            raise UsageError(f"keep_best: {error}") from None
    return protocols
