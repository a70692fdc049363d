"""Which protocol evaluates a network: one rule for training, val, predict and what runs a bundle.

Flags (`--protocol`, or PaddleSeg's `--is_slide` and `--aug_eval`) come before the yml's
`test_config:`, which comes before `whole`. The rule is printed, and written into the manifests of
checkpoint and bundle; what runs a bundle takes it from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddleseg_ext.common.errors import UsageError, check_choice, check_keys
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import option, switch
from paddleseg_ext.config import Config
from paddleseg_ext.scoring.metrics import AbsentRule
from paddleseg_ext.scoring.protocols import (
    DEFAULT_PROTOCOL,
    OPTIONS_OF,
    PROTOCOLS,
    EvaluationRule,
    Protocol,
    make_protocol,
)

SWITCHES = ("aug_eval", "flip_horizontal", "is_slide")
AUC_ROC = "auc_roc"  # PaddleSeg's key for `val --auc_roc`
TEST_CONFIG_KEYS = ("protocol", *SWITCHES, "scales", "crop_size", "stride")


@dataclass(frozen=True)
class ProtocolFlags:
    """The flags that choose a protocol; `rule_of` reads them."""

    protocol: str | None = option(
        None,
        f"whose arithmetic (default: test_config of the yml, else {DEFAULT_PROTOCOL})",
        choices=list(PROTOCOLS),
    )
    aug_eval: bool | None = switch(
        "whole, slide: with --scales and --flip_horizontal", None, names=("--aug_pred",)
    )
    scales: list[float] | None = option(None, "sizes to look at", above=0)
    flip_horizontal: bool | None = switch("look at the mirrored image, too", None)
    is_slide: bool | None = switch("PaddleSeg's name for --protocol slide", None)
    crop_size: list[int] | None = option(
        None, "sliding: of a crop", at_least=1, nargs=2, metavar=("W", "H")
    )
    stride: list[int] | None = option(
        None, "sliding: from one crop to the next", at_least=1, nargs=2, metavar=("W", "H")
    )
    absent_class: AbsentRule | None = option(
        None, "how absent classes count (default: as in the yml)"
    )


def rule_of(flags: ProtocolFlags, config: Config) -> EvaluationRule:
    """The rule of the flags; what they leave open is taken from the configuration.

    Raises:
        UsageError: flags that contradict each other or the protocol.
    """
    given = {
        key: getattr(flags, key) for key in TEST_CONFIG_KEYS if getattr(flags, key) is not None
    }
    if flags.protocol is None:
        wanted = config.test_config | given
        if flags.is_slide:
            wanted.pop("protocol", None)
    else:
        # A named protocol is what its name says: the yml's own habits do not change it.
        wanted = given
        if flags.is_slide and flags.protocol != "slide":
            raise UsageError(f"--is_slide and --protocol {flags.protocol} contradict each other")
    rule = requested_rule(wanted, flags.absent_class or config.absent_class)
    is_plain = rule.protocol in ("whole", "slide") and not wanted.get("aug_eval")
    if is_plain and (flags.scales or flags.flip_horizontal):
        raise UsageError("--scales and --flip_horizontal do nothing without --aug_eval")
    if rule.protocol == "whole" and (flags.crop_size or flags.stride):
        raise UsageError("--crop_size and --stride do nothing without --is_slide")
    if flags.aug_eval and "scales" not in OPTIONS_OF.get(rule.protocol, ()):
        raise UsageError(f"--aug_eval does nothing: protocol {rule.protocol} fixes scales and flip")
    return rule


def require_whole_maps(rule: EvaluationRule, flag: str) -> None:
    """Refuse a protocol that makes label maps at a fraction of the images' size.

    Raises:
        UsageError: naming the flag that needs whole ones.
    """
    stride = rule.make().label_stride
    if stride > 1:
        raise UsageError(
            f"{flag} needs whole label maps; protocol {rule.protocol} makes them at 1/{stride} of "
            "the size"
        )


def say_rule(rule: EvaluationRule, flags: ProtocolFlags, config: Config) -> None:
    """Log the rule and where it comes from."""
    has_flags = any(getattr(flags, key) is not None for key in TEST_CONFIG_KEYS)
    origin = "default"
    if has_flags:
        origin = "flags"
    elif config.test_config:
        origin = f"test_config of {config.path}"
    log(f"protocol: {rule.describe()} ({origin})")


def requested_rule(wanted: Mapping[str, Any], absent: AbsentRule = "skip") -> EvaluationRule:
    """The rule that a `test_config:` (or the flags of the same names) describes.

    Args:
        wanted: some of `TEST_CONFIG_KEYS`. Without `protocol`, `is_slide` means `slide`. As in
            PaddleSeg, `whole` and `slide` look at scales and mirrored images only with `aug_eval`.
        absent: how absent classes count.

    Raises:
        UsageError: an unknown key, or a value that does not fit the protocol.
    """
    check_keys("test_config", wanted, (*TEST_CONFIG_KEYS, AUC_ROC))
    for key, value in wanted.items():
        if key in (*SWITCHES, AUC_ROC) and not isinstance(value, bool):
            raise UsageError(f"test_config: '{key}' must be true or false, got {value!r}")
    name = wanted.get("protocol") or ("slide" if wanted.get("is_slide") else DEFAULT_PROTOCOL)
    check_choice("test_config: protocol", name, list(PROTOCOLS))
    if wanted.get("is_slide") and name != "slide":
        raise UsageError(f"test_config: 'is_slide' and 'protocol: {name}' contradict each other")
    scales: Any = wanted.get("scales")
    flip = bool(wanted.get("flip_horizontal"))
    if isinstance(scales, (int, float)) and not isinstance(scales, bool):
        scales = [float(scales)]
    if name in ("whole", "slide") and not wanted.get("aug_eval"):
        scales, flip = None, False
    windows = (wanted.get("crop_size"), wanted.get("stride"))
    if name == "whole":
        windows = (None, None)
    options = [tuple(v) if isinstance(v, list) else v for v in (scales, *windows)]
    try:
        return EvaluationRule(name, options[0], flip, options[1], options[2], absent)
    except ValueError as error:
        raise UsageError(str(error)) from None


def rules_of(config: Config) -> dict[str | None, EvaluationRule]:
    """The rules that training evaluates by: those of `keep_best:`, else that of `test_config:`.

    Returns:
        Name of the protocol -> rule; None is the name of `test_config:`'s.

    Raises:
        UsageError: see `requested_rule` and `kept_protocols`.
    """
    kept = kept_protocols(config.keep_best)
    requested = requested_rule(config.test_config, config.absent_class)
    if kept:
        return {name: EvaluationRule(name, absent_class=config.absent_class) for name in kept}
    return {None: requested}


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
