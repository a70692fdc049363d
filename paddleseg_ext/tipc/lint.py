"""Checks a TIPC txt before anything runs: its lines, its values, the flags and files it names.

Reading a file for a run stops at its first fault and ignores the order of lines. The linter finds
every fault, and compares the lines with the order that PaddleSeg's scripts count on.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.config import load_config
from paddleseg_ext.tipc import txt
from paddleseg_ext.tipc.train_infer import NOT_OFFERED
from paddleseg_ext.tipc.verbs import PROGRAM, Call, Verbs

# Lines that the chain reads itself, though they look like flags; and the flags of other lines.
_NO_FLAGS = ("--model_dir", "--int8_model_dir", "--dirname")
_FLAG_OF = {"batch_size": "--batch_size", "epoch": "--iters", "fp_items": "--precision"}
# `0`, `0,1` or `HOST,HOST;0,1`
_PROCESSES = re.compile(r"(?:[\w.,-]+;)?\d+(?:,\d+)*")

# Flags that a chain adds to every command, beside those that have a line in its section.
_ADDED = ("--model_path", "--save_dir")
_COMMANDS = {*txt.ALIASES}.union(
    *(form.commands for forms in txt.FILE_FORMS.values() for form in forms.values())
)

Found = Iterator[tuple[int, str]]


@dataclass(frozen=True)
class Problem:
    """One fault: where, what, and what to do."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def lint_files(paths: Iterable[Path], verbs: Verbs) -> list[Problem]:
    """Returns every problem of every file, in the order of lines.

    Args:
        verbs: check the flags of the commands.
    """
    return [problem for path in paths for problem in lint_file(path, verbs)]


def lint_file(path: Path, verbs: Verbs) -> list[Problem]:
    """Returns every problem of a txt; just one of a file that cannot be read or is of no kind."""
    try:
        lines = txt.read_lines(path)
        kind = txt.kind_of(lines, path)
    except UsageError as error:
        return [Problem(path, 1, str(error))]
    entries = [line for line in lines if line.kind == "entry"]
    found = {*_order(lines, kind), *_alternatives(entries)}
    for line in entries:
        for check in (_about_value(line, entries, kind), _about_calls(line, entries, kind, verbs)):
            try:
                found |= {(line.number, message) for message in check}
            except UsageError as error:
                found.add((line.number, str(error)))
    return [Problem(path, number, message) for number, message in sorted(found)]


def _order(lines: Sequence[txt.Line], kind: str) -> Found:
    """Lines that are unknown, missing, doubled or out of place."""
    forms = txt.FILE_FORMS[kind]
    present = {line.key for line in lines if line.kind == "header"}
    expected = []
    for name, form in forms.items():
        if form.required or name in present:
            expected += [f"==={name}===", *form.lines]
    got = [_token(line) for line in lines]
    known = set(expected)
    matcher = SequenceMatcher(None, expected, got, autojunk=False)
    for change, first, last, start, stop in matcher.get_opcodes():
        if change == "equal":
            continue
        number = lines[min(start, len(lines) - 1)].number
        surplus = lines[start:stop]
        for line in surplus:
            yield line.number, _about_surplus(line, expected[first:last], known)
        missing = [token for token in expected[first:last] if not surplus or token != txt.SEPARATOR]
        if missing and not (surplus and len(surplus) == last - first):
            shown = ", ".join(f"'{_spelled(token)}'" for token in missing)
            yield number, f"missing before this line: {shown}; PaddleSeg's scripts count lines"


def _token(line: txt.Line) -> str:
    if line.kind == "header":
        return f"==={line.key}==="
    return txt.ALIASES.get(line.key, line.key)


def _spelled(token: str) -> str:
    return token if token == txt.SEPARATOR or token.startswith("===") else f"{token}:"


def _about_surplus(line: txt.Line, wanted: Sequence[str], known: set[str]) -> str:
    if line.kind == "other":
        return f"'key:value' is expected, got '{line.key}'"
    token = _token(line)
    expected = f"; '{_spelled(wanted[0])}' is expected here" if wanted else "; remove it"
    if token in known:
        return f"'{_spelled(token)}' is out of place or is given twice{expected}"
    return f"unknown '{_spelled(token)}'{nearest_name(token, known)}"


def _about_value(line: txt.Line, entries: Sequence[txt.Line], kind: str) -> Iterator[str]:
    """Faults of a value that no parser of a verb finds."""
    key, value, form = line.key, line.value, txt.FILE_FORMS[kind].get(line.section)
    if not line.is_set:
        if form and key in form.filled:
            yield f"{key}: a value is expected, got '{value}'"
    elif key == txt.NULL:
        yield txt.about_null(line)
    elif key == "--config":
        yield from _about_yml(value)
    elif key == "gpu_list":
        for each in txt.choices_of(value):
            if not _PROCESSES.fullmatch(each):
                yield f"gpu_list: '0', '0,1' or 'HOST,HOST;0,1' is expected, got '{each}'"
    elif key == "infer_quant" and value not in ("True", "False"):
        yield f"infer_quant: True or False is expected, got '{value}'"
    elif key.partition("_")[0] in NOT_OFFERED and key in _COMMANDS:
        yield f"{key}: {NOT_OFFERED[key.partition('_')[0]]}"
    elif key == "trainer":
        yield from _about_trainers(line, entries)
    elif _is_by_mode(line):
        lacking = [mode for mode in txt.TRAIN_MODES if mode not in txt.modes_of(value, key)]
        if lacking:
            yield f"{key}: no value for mode {', '.join(lacking)}; add MODE=VALUE"


def _about_trainers(line: txt.Line, entries: Sequence[txt.Line]) -> Iterator[str]:
    given = {each.key for each in entries if each.section == line.section and each.is_set}
    for trainer in txt.choices_of(line.value):
        kind = trainer.removesuffix("_train")
        if trainer != txt.NULL and not given & {kind, f"{kind}_train"}:
            yield f"trainer: no command '{kind}_train:' for '{trainer}'"


def _is_by_mode(line: txt.Line) -> bool:
    """Whether a value is spelled `mode=value|...`, which only the lines of a training may be."""
    return line.section == "train_params" and txt.is_by_mode(line.value)


def _values_of(line: txt.Line) -> list[str]:
    """The alternatives of a value, `null` left out; a command is one.

    Raises:
        UsageError: an unknown mode.
    """
    if _is_by_mode(line):
        return list(txt.modes_of(line.value, line.key).values())
    values = [line.value] if line.key in _COMMANDS else txt.choices_of(line.value)
    return [value for value in values if value != txt.NULL]


def _about_calls(
    line: txt.Line, entries: Sequence[txt.Line], kind: str, verbs: Verbs
) -> Iterator[str]:
    """Faults that the verbs' parsers find in a command, or in a line that becomes a flag of one."""
    forms, key = txt.FILE_FORMS[kind], _FLAG_OF.get(line.key, line.key)
    form = forms.get(line.section)
    if not form or line.value == txt.NULL:
        return
    if line.section == "cpp_infer_params" and key == "inference":
        return  # a program that `make cpp` builds; where it is missing, the chain says so
    if key.partition("_")[0] in NOT_OFFERED:
        return
    if key in _COMMANDS and line.is_set:
        for command in _values_of(line):
            yield from _about_command(command, verbs, {*form.keys, *_ADDED})
    elif key == "to_static_train" or (key.startswith("--") and key not in _NO_FLAGS):
        # The lines of a section without commands are for the training.
        calls = _calls_of(entries, form.commands or forms[kind].commands, verbs)
        if key == "to_static_train":
            words = tuple(txt.split_command(line.value))
            for call in calls[:1]:
                yield from replace(call, words=words, required=()).faults()
        elif calls:  # without, the fault is reported with the command
            yield from _about_flag(key, _values_of(line) if line.is_set else [], calls)


def _about_command(command: str, verbs: Verbs, added: Collection[str]) -> Iterator[str]:
    """Faults of a command: no such program or verb, wrong flags, a yml that cannot be read."""
    words = txt.split_command(command)
    if not words:
        yield "a command is expected"
    elif words[0] not in ("-m", PROGRAM) and not Path(words[0]).is_file():
        yield f"'{words[0]}' does not exist here; run from the project's folder"
    elif not (call := verbs.find(words)):
        program = " ".join(words[: 2 if words[0] == "-m" else 1])
        yield f"'{program}' is none of this project's commands, so its flags cannot be checked"
    else:
        yield from call.faults(added)
        with suppress(UsageError):  # where it has no --config, a line of the section is for it
            yml = txt.option_of(command, "--config")
            yield from _about_yml(yml) if yml.endswith((".yml", ".yaml")) else ()


def _about_flag(flag: str, values: Sequence[str], calls: Sequence[Call]) -> Iterator[str]:
    """Faults of a flag that one of the calls must have, and of its alternatives."""
    takers = [call for call in calls if flag in call.flags]
    if not takers:
        shown = " or ".join(f"'{call.program}'" for call in calls)
        hint = nearest_name(flag, [name for call in calls for name in call.flags])
        yield f"{shown} has no flag '{flag}'{hint}"
    for value in values:
        faults = [call.about([f"{flag}={value}"]) for call in takers]
        if faults and all(faults):
            yield faults[0]


def _calls_of(entries: Sequence[txt.Line], keys: Collection[str], verbs: Verbs) -> list[Call]:
    """The calls of the commands at some keys, without those that are wrong."""
    calls = []
    for line in entries:
        if txt.ALIASES.get(line.key, line.key) in keys and line.is_set:
            with suppress(UsageError):  # reported with the command
                calls += [verbs.find(txt.split_command(command)) for command in _values_of(line)]
    return [call for call in calls if call]


def _about_yml(path: str) -> Iterator[str]:
    try:
        load_config(path)
    except UsageError as error:
        yield str(error)


def _alternatives(entries: Sequence[txt.Line]) -> Found:
    """Lists that must be as long as each other."""
    found = {line.key: line for line in reversed(entries)}
    for first, second in (("gpu_list", "--device"), ("infer_model", "infer_export")):
        one, other = found.get(first), found.get(second)
        if one and other and len(txt.choices_of(one.value)) != len(txt.choices_of(other.value)):
            message = f"{second}: one value for each of {first}:{one.value} is expected"
            yield other.number, message
