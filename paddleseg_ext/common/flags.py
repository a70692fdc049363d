"""Command-line flags with PaddleSeg's names, checked as they are read and without Paddle."""

import argparse
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from paddleseg_ext.common.chatter import Verbose

TRUE_WORDS = ("true", "1", "yes")
FALSE_WORDS = ("false", "0", "no")
LIMITS = {"at least": operator.ge, "above": operator.gt}
LIMITS |= {"at most": operator.le, "below": operator.lt}
NUMBERS = {int: "a whole number", float: "a number"}


def boolean(text: str) -> bool:
    """`True` or `False` (any case, also 1/0, yes/no); anything else is rejected."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise argparse.ArgumentTypeError(f"expected True or False, got '{text}'")


def number_parser(kind: type, bounds: Mapping[str, float]) -> Callable[[str], Any]:
    """Returns the function that reads a flag's number.

    Args:
        kind: `int` or `float`.
        bounds: by the words of `LIMITS`.
    """

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not is_within(value, bounds):
            expected = limited(NUMBERS[kind], bounds)
            raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")
        return value

    return parse


def is_within(value: float, bounds: Mapping[str, float]) -> bool:
    """Whether a number is in a range; the unlimited one contains values that are not finite."""
    is_finite = not bounds or -math.inf < value < math.inf
    return is_finite and all(LIMITS[words](value, bound) for words, bound in bounds.items())


def limited(kind: str, bounds: Mapping[str, float]) -> str:
    """`a whole number of at least 1`, for messages."""
    limits = " and ".join(f"{words} {bound}" for words, bound in bounds.items())
    joint = " of " if "at least" in bounds else " "
    return f"{kind}{joint}{limits}" if limits else kind


positive_int = number_parser(int, {"at least": 1})
natural_int = number_parser(int, {"at least": 0})
positive_float = number_parser(float, {"above": 0})
natural_float = number_parser(float, {"at least": 0})


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the examples of a description as written and prints the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if action.required or action.default in (None, "", []) or "default:" in text:
            return text
        return super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if action.type is boolean:
            return "True|False"
        return super()._get_default_metavar_for_optional(action)


class Parser(argparse.ArgumentParser):
    """Refuses abbreviations: `--iter` must not silently mean `--iters`. So do its subparsers."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **settings)


def make_parser(description: str | None, verb: str = "") -> Parser:
    """Returns a command's parser with `--verbose` alone.

    Args:
        description: printed by `--help`.
        verb: of `paddleseg-ext`; empty for a script that is none of its verbs.
    """
    parser = Parser(prog=f"paddleseg-ext {verb}" if verb else None, description=description)
    parser.add_argument(
        "--verbose",
        action=Verbose,
        nargs=0,
        default=False,
        help="everything: what Paddle prints when it is loaded, and each line of long lists",
    )
    return parser


class _Elsewhere(argparse.Action):
    """A flag that is known and refused, with what to use instead (its `metavar`)."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Refuse the flag."""
        raise argparse.ArgumentError(self, str(self.metavar))


def add_flags_of_paddleseg(parser: argparse.ArgumentParser, flags: Mapping[str, str]) -> None:
    """Add flags of PaddleSeg's that mean nothing here.

    Args:
        flags: the flag, and what the message says.
    """
    for flag, instead in flags.items():
        parser.add_argument(
            flag, nargs="*", action=_Elsewhere, metavar=instead, help=argparse.SUPPRESS
        )


def add_config_flags(
    parser: argparse.ArgumentParser,
    required: bool = True,
    default: str = "the one in the checkpoint's manifest",
) -> None:
    """`--config` and `--opts`, for every command that reads a yml.

    Args:
        parser: of the command.
        required: False where the configuration may come from elsewhere.
        default: where it comes from then, for `--help`.
    """
    where = "" if required else f" (default: {default})"
    parser.add_argument(
        "--config",
        required=required,
        metavar="YML",
        help=f"the configuration: a path, or a name that `paddleseg-ext config list` prints{where}",
    )
    add_opts_flag(parser)


def add_opts_flag(parser: argparse.ArgumentParser) -> None:
    """`--opts`."""
    parser.add_argument(
        "--opts",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change single keys: --opts optimizer.weight_decay=1e-4 train_dataset.mode=trainval; "
        "an unknown key is an error",
    )


def add_input_shape_flag(parser: argparse.ArgumentParser, help_text: str) -> None:
    """`--input_shape`, for commands that count multiply-adds."""
    parser.add_argument(
        "--input_shape",
        nargs=4,
        type=positive_int,
        default=[1, 3, 1024, 2048],
        metavar=("N", "C", "H", "W"),
        help=help_text,
    )


def add_device_flag(parser: argparse.ArgumentParser) -> None:
    """`--device`; whether a GPU is usable is checked by `common.machine.resolve_device`."""
    parser.add_argument(
        "--device",
        default=None,
        choices=("cpu", "gpu"),
        help="where to run (default: gpu where Paddle is built with CUDA and one is there)",
    )
