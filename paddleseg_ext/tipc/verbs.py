"""The verbs that a txt's commands call, and the check of their flags by the verbs' own parsers.

The parsers are handed in by `commands/tipc.py`, which may import the commands.
"""

import argparse
import contextlib
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from paddleseg_ext.common.errors import UsageError, nearest_name

CHECKOUT = Path(__file__).resolve().parents[2]
MODULE, PROGRAM = "paddleseg_ext", "paddleseg-ext"
# PaddleSeg's names of the root scripts -> the verbs that they call.
SCRIPTS = {f"{verb}.py": verb for verb in ("train", "val", "predict", "infer")}
SCRIPTS["export_model.py"] = "export"
Named = TypeVar("Named")
# Flags of which one each must be given.
Required = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Call:
    """A verb that is called in a command line.

    Attributes:
        program: as written: `train.py`, `-m paddleseg_ext tipc ask`.
        parser: of the verb or its action; it requires nothing and raises its errors.
        required: flags of which one each must be given.
        words: behind the program.
    """

    program: str
    parser: argparse.ArgumentParser
    required: Required
    words: tuple[str, ...]

    @property
    def flags(self) -> list[str]:
        """The flags of the verb."""
        return [flag for each in self.parser._actions for flag in each.option_strings]

    def about(self, words: Sequence[str]) -> str:
        """Returns the fault of one flag and its values, as the parser finds it; empty if none."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                _, unknown = self.parser.parse_known_args(words)
        except (argparse.ArgumentError, UsageError) as error:
            return str(error)
        except SystemExit:  # of --help
            return f"'{' '.join(words)}' ends '{self.program}' before it does anything"
        if not unknown:
            return ""
        if not unknown[0].startswith("--"):
            return f"'{self.program}' does not take '{unknown[0]}'"
        name = unknown[0].partition("=")[0]
        return f"'{self.program}' has no flag '{name}'{nearest_name(name, self.flags)}"

    def faults(self, added: Collection[str] = ()) -> Iterator[str]:
        """Yields every fault of the words.

        Args:
            added: flags that the chain adds to them.
        """
        groups = _by_flag(self.words)
        given = {group[0].partition("=")[0] for group in groups if group} | {*added}
        for flags in self.required:
            if not given & {*flags}:
                yield f"'{self.program}' needs {' or '.join(flags)}"
        yield from filter(None, map(self.about, groups))


def _by_flag(words: Sequence[str]) -> list[list[str]]:
    """The words before the first flag, then each flag with its values, up to a `--`."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            break
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return groups


class Verbs:
    """Finds the verbs that command lines call.

    Args:
        parsers: verb -> makes its parser.
    """

    def __init__(self, parsers: Mapping[str, Callable[[], argparse.ArgumentParser]]):
        self._parsers = {verb: cache(make) for verb, make in parsers.items()}
        self._required: dict[argparse.ArgumentParser, Required] = {}

    def find(self, words: Sequence[str]) -> Call | None:
        """Returns the first call of a verb in a command line; None if it calls none of ours.

        Raises:
            UsageError: there is no such verb or action; the nearest is named.
        """
        for place, word in enumerate(words):
            path, rest = Path(word), words[place + 1 :]
            if path.name in SCRIPTS and path.parent in (Path(), CHECKOUT):
                return self._call(word, self._parsers[SCRIPTS[path.name]](), rest)
            if word == PROGRAM or (word == MODULE and place and words[place - 1] == "-m"):
                program = word if word == PROGRAM else f"-m {word}"
                verb = _named(program, self._parsers, rest)
                return self._call(f"{program} {rest[0]}", verb(), rest[1:])
        return None

    def _call(self, program: str, parser: argparse.ArgumentParser, words: Sequence[str]) -> Call:
        """Returns the call of a verb; one with actions is called by the first of `words`."""
        while actions := _actions_of(parser):
            parser = _named(program, actions, words)
            program, words = f"{program} {words[0]}", words[1:]
        if parser not in self._required:
            self._required[parser] = _relax(parser)
        return Call(program, parser, self._required[parser], tuple(words))

    def require_sound(self, words: Sequence[str]) -> None:
        """Checks the flags of every call in a command line, also of one behind a `--`.

        Raises:
            UsageError: a verb, flag or value is wrong, or a required flag is missing.
        """
        while call := self.find(words):
            for fault in call.faults():
                raise UsageError(fault)
            words = call.words[call.words.index("--") :] if "--" in call.words else ()


def _named(program: str, known: Mapping[str, Named], words: Sequence[str]) -> Named:
    """Returns the one of the known verbs or actions that the first word names."""
    name = words[0] if words else ""
    if name not in known:
        hint = nearest_name(name, known)
        raise UsageError(f"'{program} {name}': there is no such command{hint}")
    return known[name]


def _actions_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Returns the parsers of a verb's actions, such as `prepare` of `tipc`; mostly none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _relax(parser: argparse.ArgumentParser) -> Required:
    """Makes a parser read single flags: it requires none, and raises instead of ending.

    Returns:
        The flags that it required.
    """
    parser.exit_on_error = False
    required = [tuple(each.option_strings) for each in parser._actions if each.required]
    for group in parser._mutually_exclusive_groups:
        if group.required:
            required.append(tuple(f for each in group._group_actions for f in each.option_strings))
        group.required = False
    for each in parser._actions:
        each.required = False
    return tuple(filter(None, required))
