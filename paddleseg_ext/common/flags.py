"""Command-line flags with PaddleSeg's names, checked as they are read and without Paddle."""

import argparse
from collections.abc import Sequence

TRUE_WORDS = ("true", "1", "yes")
FALSE_WORDS = ("false", "0", "no")


def boolean(text: str) -> bool:
    """`True` or `False` (any case, also 1/0, yes/no); anything else is rejected."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise argparse.ArgumentTypeError(f"expected True or False, got '{text}'")


def positive_int(text: str) -> int:
    """An integer of at least 1."""
    value = _integer(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return value


def natural_int(text: str) -> int:
    """An integer of at least 0."""
    value = _integer(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got '{text}'")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    value = _number(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return value


def natural_float(text: str) -> float:
    """A finite number of at least 0."""
    value = _number(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got '{text}'")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got '{text}'") from None


def add_switch(parser: argparse._ActionsContainer, name: str, help_text: str) -> None:
    """A flag that is False unless given, alone (`--do_eval`) or with a value (`--do_eval=True`)."""
    parser.add_argument(
        name,
        type=boolean,
        nargs="?",
        const=True,
        default=False,
        metavar="True|False",
        help=help_text,
    )


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


def make_parser(description: str, verb: str = "") -> argparse.ArgumentParser:
    """A parser that refuses abbreviations: `--iter` must not silently mean `--iters`.

    Args:
        description: printed by `--help`.
        verb: of `paddleseg-ext`; empty for a script that is none of its verbs.
    """
    return argparse.ArgumentParser(
        prog=f"paddleseg-ext {verb}" if verb else None,
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )


def add_config_flags(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--config` and `--opts`, for every command that reads a yml.

    Args:
        parser: of the command.
        required: False where the manifest of a checkpoint may hold the configuration.
    """
    where = "" if required else " (default: the one in the checkpoint's manifest)"
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


def add_device_flag(
    parser: argparse.ArgumentParser, choices: Sequence[str] = ("cpu", "gpu")
) -> None:
    """`--device`; whether a GPU is usable is checked by `common.machine.resolve_device`."""
    parser.add_argument(
        "--device",
        default=None,
        choices=choices,
        help="where to run (default: gpu where Paddle is built with CUDA and one is there)",
    )
