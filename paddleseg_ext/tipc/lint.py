"""Checks a TIPC txt before anything runs: its lines, its values, the flags and files it names.

Reading a file for a run stops at its first fault and does not care for the order of lines. This
finds every fault, and holds the file to the order of lines that PaddleSeg's scripts count on.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.config import load_config
from paddleseg_ext.tipc.commands import flags_of, program_of
from paddleseg_ext.tipc.format import (
    ALIASES,
    FILE_FORMS,
    NULL,
    SEPARATOR,
    TRAIN_MODES,
    Line,
    choices_of,
    is_by_mode,
    kind_of,
    modes_of,
    read_lines,
    split_command,
)

_WORDS = {
    "--device": ("cpu", "gpu"),
    "--enable_mkldnn": ("True", "False"),
    "--use_trt": ("True", "False"),
    "--benchmark": ("True", "False"),
    "infer_quant": ("True", "False"),
}
_NUMBERS = (
    "--cpu_threads",
    "--batch_size",
    "--iters",
    "--calibration_images",
    "batch_size",
    "epoch",
)
# Values that depend on the mode; each must say what a run in every training mode takes.
_BY_MODE = ("--iters", "--batch_size", "norm_train", "amp_train")
_COMMANDS = (
    *("norm_train", "amp_train", "pact_train", "fpgm_train", "distill_train", "eval"),
    *("norm_export", "quant_export", "fpgm_export", "distill_export", "export1", "export2"),
    *("infer_export", "inference", "2onnx", "PTQ", "web_service", "pipline"),
)
# Section -> the commands that get its lines `--flag:value`; one of them must have the flag.
_TAKERS = {
    "train_params": ("norm_train",),
    "export_params": ("norm_export",),
    "infer_params": ("inference",),
    "train_benchmark_params": ("norm_train",),
    "paddle2onnx_params": ("2onnx", "inference"),
    "ptq_params": ("PTQ",),
    "serving_params": ("web_service", "pipline"),
}
# The chain's own, though they look like flags.
_NO_FLAGS = ("--model_dir", "--dirname")
# Section -> what a run cannot do without; other values may be blank or null.
_FILLED = {
    "train_params": ("model_name", "python", "gpu_list", "--device", "train_model_name", "trainer"),
    "export_params": ("norm_export",),
    "infer_params": ("inference", "--device", "--image_path"),
    "paddle2onnx_params": (
        *("model_name", "python", "2onnx", "--config", "inference", "--backend", "--image_path"),
    ),
    "ptq_params": ("model_name", "python", "--model_dir", "--config", "--data", "trainer"),
    "serving_params": FILE_FORMS["serving_params"]["serving_params"].keys,
}
# `0`, `0,1` or `HOST,HOST;0,1`
_PROCESSES = re.compile(r"(?:[\w.,-]+;)?\d+(?:,\d+)*")


@dataclass(frozen=True)
class Problem:
    """One fault: where, what, and what to do."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def lint_files(paths: Iterable[Path]) -> list[Problem]:
    """Every problem of every file, in the order of lines."""
    return [problem for path in paths for problem in lint_file(path)]


def lint_file(path: Path) -> list[Problem]:
    """Every problem of a txt; a file that cannot be read, or is of no kind, has just that one."""
    try:
        lines = read_lines(path)
        kind = kind_of(lines, path)
    except UsageError as error:
        return [Problem(path, 1, str(error))]
    checks = (_values, _filled, _trainers, _commands, _flag_lines, _to_static, _alternatives)
    found = [*_order(lines, kind), *(problem for check in checks for problem in check(lines))]
    return [Problem(path, number, message) for number, message in sorted(set(found))]


def _order(lines: Sequence[Line], kind: str) -> Iterator[tuple[int, str]]:
    """Lines that are unknown, missing, doubled or out of place."""
    forms = FILE_FORMS[kind]
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
        missing = [token for token in expected[first:last] if not surplus or token != SEPARATOR]
        if missing and not (surplus and len(surplus) == last - first):
            shown = ", ".join(f"'{_spelled(token)}'" for token in missing)
            yield number, f"missing before this line: {shown}; PaddleSeg's scripts count lines"


def _token(line: Line) -> str:
    if line.kind == "header":
        return f"==={line.key}==="
    return ALIASES.get(line.key, line.key)


def _spelled(token: str) -> str:
    return token if token == SEPARATOR or token.startswith("===") else f"{token}:"


def _about_surplus(line: Line, wanted: Sequence[str], known: set[str]) -> str:
    if line.kind == "other":
        return f"'key:value' is expected, got '{line.key}'"
    token = _token(line)
    expected = f"; '{_spelled(wanted[0])}' is expected here" if wanted else "; remove it"
    if token in known:
        return f"'{_spelled(token)}' is out of place or stands twice{expected}"
    return f"unknown '{_spelled(token)}'{nearest_name(token, known)}"


def _values(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """Values of the wrong kind."""
    for line in lines:
        if line.kind != "entry" or line.value in (NULL, ""):
            continue
        if line.key == NULL:
            yield line.number, f"'null:{line.value}' does nothing; give the key a name"
            continue
        try:
            values = _values_of(line)
        except UsageError as error:
            yield line.number, str(error)
            continue
        lacking = [mode for mode in TRAIN_MODES if mode not in values]
        if is_by_mode(line.value) and line.key in _BY_MODE and lacking:
            yield line.number, f"{line.key}: no value for mode {', '.join(lacking)}; add MODE=VALUE"
        for value in values.values():
            if line.key in _WORDS and value not in _WORDS[line.key]:
                wanted = " or ".join(_WORDS[line.key])
                yield line.number, f"{line.key}: {wanted} is expected, got '{value}'"
            if line.key in _NUMBERS and not (value.isdecimal() and int(value) > 0):
                expected = "a whole number of at least 1 is expected"
                yield line.number, f"{line.key}: {expected}, got '{value}'"


def _filled(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """Values that are missing, and ymls of the chain's own that cannot be read."""
    for header, entries in _sections(lines).items():
        for line in entries:
            if line.key in _FILLED.get(header, ()) and line.value in (NULL, ""):
                yield line.number, f"{line.key}: a value is expected, got '{line.value}'"
            elif line.key == "--config" and line.value not in (NULL, ""):
                yield from ((line.number, found) for found in _about_yml(line.value))
            elif line.key == "gpu_list":
                for value in choices_of(line.value):
                    if not _PROCESSES.fullmatch(value):
                        wanted = "'0', '0,1' or 'HOST,HOST;0,1' is expected"
                        yield line.number, f"gpu_list: {wanted}, got '{value}'"


def _trainers(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """Trainers without a command."""
    for entries in _sections(lines).values():
        given = {line.key for line in entries if line.value not in (NULL, "")}
        for line in entries:
            if line.key != "trainer":
                continue
            for trainer in choices_of(line.value):
                kind = trainer.removesuffix("_train")
                if trainer != NULL and not given & {kind, f"{kind}_train"}:
                    yield line.number, f"trainer: no command '{kind}_train:' for '{trainer}'"


def _values_of(line: Line) -> dict[str, str]:
    """Mode or number -> value; `null` left out."""
    if line.key in _BY_MODE and is_by_mode(line.value):
        return modes_of(line.value, line.key)
    return {str(n): value for n, value in enumerate(choices_of(line.value)) if value != NULL}


def _commands(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """Programs that do not exist, flags that they do not have, files that are not there."""
    for line in lines:
        if line.kind != "entry" or line.key not in _COMMANDS or line.value in (NULL, ""):
            continue
        try:
            commands = list(_values_of(line).values()) if line.key in _BY_MODE else [line.value]
            for command in commands:
                yield from ((line.number, found) for found in _about_command(command))
        except UsageError as error:
            yield line.number, str(error)


def _about_command(command: str) -> Iterator[str]:
    program = program_of(command)
    if not program:
        yield "a command is expected"
        return
    if program[0] != "-m" and not Path(program[0]).is_file():
        yield f"'{program[0]}' does not exist here; run from the project's folder"
        return
    flags = flags_of(*program)
    if flags is None:
        yield f"'python {' '.join(program)} --help' fails: there is no such command"
        return
    yield from _about_flags(split_command(command)[len(program) :], flags, program)


def _about_flags(
    words: Sequence[str], flags: dict[str, tuple[str, ...]], program: tuple[str, ...]
) -> Iterator[str]:
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if not word.startswith("--"):
            continue
        name, equals, value = word.partition("=")
        yield from _about_flag(name, value if equals else following, flags, program)


def _about_flag(
    name: str, value: str, flags: dict[str, tuple[str, ...]], program: tuple[str, ...]
) -> Iterator[str]:
    if name not in flags:
        yield f"'{' '.join(program)}' has no flag '{name}'{nearest_name(name, flags)}"
    elif flags[name] and value not in flags[name]:
        yield f"{name}: {' or '.join(flags[name])} is expected, got '{value}'"
    elif name == "--config" and value.endswith((".yml", ".yaml")):
        yield from _about_yml(value)


def _about_yml(path: str) -> Iterator[str]:
    try:
        load_config(path)
    except UsageError as error:
        yield str(error)


def _flag_lines(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """Lines such as `--cpu_threads:1|2`, which become flags of a command of the file."""
    for header, entries in _sections(lines).items():
        programs = [_program_at(lines, key) for key in _TAKERS.get(header, ())]
        offered = [flags_of(*program) or {} for program in programs if program]
        if not any(offered):
            continue  # reported with the command
        flags = {name: choices for found in offered for name, choices in found.items()}
        shown = " or ".join(f"'{' '.join(program)}'" for program in programs)
        for line in entries:
            is_flag = line.key.startswith("--") and line.key not in _NO_FLAGS
            if not is_flag or line.value == NULL:
                continue
            if line.key not in flags:
                hint = nearest_name(line.key, flags)
                yield line.number, f"{shown} has no flag '{line.key}'{hint}"
            elif flags[line.key]:
                for value in set(choices_of(line.value)) - {NULL, "", *flags[line.key]}:
                    wanted = " or ".join(flags[line.key])
                    yield line.number, f"{line.key}: {wanted} is expected, got '{value}'"


def _program_at(lines: Sequence[Line], key: str) -> tuple[str, ...]:
    """The program of the command at a key; empty where there is none, or it is wrong."""
    for line in lines:
        if line.kind == "entry" and ALIASES.get(line.key, line.key) == key:
            try:
                return program_of(next(iter(_values_of(line).values()), ""))
            except UsageError:
                return ()  # reported with the command
    return ()


def _to_static(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """The flags that turn a training into one in static graph."""
    program = _program_at(lines, "norm_train")
    flags = flags_of(*program) if program else None
    for line in lines:
        if line.kind == "entry" and line.key == "to_static_train" and flags is not None:
            try:
                yield from (
                    (line.number, found)
                    for found in _about_flags(split_command(line.value), flags, program)
                )
            except UsageError as error:
                yield line.number, str(error)


def _sections(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Section -> its entries."""
    sections: dict[str, list[Line]] = {}
    entries: list[Line] = []
    for line in lines:
        if line.kind == "header":
            entries = sections.setdefault(line.key, [])
        elif line.kind == "entry":
            entries.append(line)
    return sections


def _alternatives(lines: Sequence[Line]) -> Iterator[tuple[int, str]]:
    """Lists that must be as long as each other."""
    entries = {line.key: line for line in reversed(lines) if line.kind == "entry"}
    for first, second in (("gpu_list", "--device"), ("infer_model", "infer_export")):
        one, other = entries.get(first), entries.get(second)
        if one and other and len(choices_of(one.value)) != len(choices_of(other.value)):
            message = f"{second}: one value for each of {first}:{one.value} is expected"
            yield other.number, message
