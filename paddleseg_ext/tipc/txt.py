"""The txt files of TIPC: the lines of each kind, and the spelling of their values.

The format is PaddleSeg's: sections under `===name===` headers, `key:value` lines, `a|b` for
alternatives, `mode=value|mode=value` for values that depend on the mode, `null` for a flag that is
left out, `##` between blocks. PaddleSeg addresses a file by line number. Here it is read by key,
so a blank line shifts nothing, and a value may hold `:`. An unknown line is an error before
anything runs.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.files import require_file

TRAIN_MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_train_whole_infer")
MODES = (*TRAIN_MODES, "whole_infer", "klquant_whole_infer", "benchmark_train")

NULL = "null"
UNSET = (NULL, "")
SEPARATOR = "##"
_HEADER = re.compile(r"^=+\s*(\w+)\s*=+$")
_SEPARATOR = re.compile(r"^#+$")

Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class SectionForm:
    """The lines of a section.

    Attributes:
        lines: keys and separators, in the order that PaddleSeg's scripts count on.
        optional: keys that may be missing.
        filled: keys whose value a chain needs.
        commands: keys whose value is a command.
        required: whether the section itself must be present.
    """

    lines: tuple[str, ...]
    optional: frozenset[str]
    filled: frozenset[str]
    commands: frozenset[str]
    required: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The lines without separators."""
        return tuple(line for line in self.lines if line != SEPARATOR)


def _form(text: str, required: bool = True) -> SectionForm:
    """Reads a section's lines: `key?` may be missing, `key!` needs a value, `key$` is a command."""
    words = text.split()
    keys = [word.rstrip("?!$") for word in words]
    optional, filled, commands = (
        frozenset(key for key, word in zip(keys, words, strict=True) if mark in word[len(key) :])
        for mark in "?!$"
    )
    return SectionForm(tuple(keys), optional, filled, commands, required)


# The kind of a file is the name of its first section.
FILE_FORMS: dict[str, dict[str, SectionForm]] = {
    "train_params": {
        "train_params": _form(
            "model_name! python! gpu_list! --device! --precision --iters --save_dir --batch_size "
            "--model_path train_model_name! train_infer_img_dir? null? ## "
            "trainer! norm_train?$ pact_train?$ fpgm_train?$ distill_train?$ null? null? ##"
        ),
        "eval_params": _form("eval$ null? ##"),
        "export_params": _form(
            "--save_dir --model_path norm_export!$ quant_export?$ fpgm_export?$ distill_export?$ "
            "export1?$ export2?$"
        ),
        "infer_params": _form(
            "infer_model infer_export$ infer_quant inference!$ --device! --enable_mkldnn "
            "--cpu_threads --batch_size --use_trt --precision --config --image_path! "
            "--save_log_path? --benchmark --save_dir --model_name?"
        ),
        "infer_benchmark_params": _form("random_infer_input", False),
        "to_static_train_benchmark_params": _form("to_static_train", False),
        "train_benchmark_params": _form("batch_size fp_items epoch --profile flags?", False),
    },
    "paddle2onnx_params": {
        "paddle2onnx_params": _form(
            "model_name! python! 2onnx!$ --config! --model_path --save_dir inference!$ --backend! "
            "--cpu_threads --batch_size --image_path!"
        ),
    },
    "ptq_params": {
        "ptq_params": _form(
            "model_name! python! ## --model_dir! ## --config! --calibration_images --data! "
            "--budgets ## trainer! PTQ$ ##"
        ),
        "infer_params": _form(
            "inference!$ --device! --backend --batch_size --config --image_path! --benchmark"
        ),
    },
    "cpp_infer_params": {
        "cpp_infer_params": _form(
            "model_name! python! --config! --model_dir! --int8_model_dir inference! --precision! "
            "--cpu_threads --batch_size --image_path! --budgets"
        ),
    },
    "edge_infer_params": {
        "edge_infer_params": _form(
            "model_name! python! 2edge!$ --config! --model_path --save_dir inference!$ --stages! "
            "--image_list!"
        ),
    },
    "serving_params": {
        "serving_params": _form(
            "model_name! python! --config! --dirname! web_service!$ --backend! pipline!$ "
            "--image_path!"
        ),
    },
}
# `trainer:amp` has its command in the place of norm_train, as in PaddleSeg's AMP configs.
ALIASES = {"amp_train": "norm_train"}


@dataclass(frozen=True)
class Line:
    """One line that is not blank.

    Attributes:
        number: in the file, from 1.
        kind: `header`, `separator`, `entry`, or `other` (not understood).
        section: the header above, or this one's; empty where there is none.
        key: the section's name, `##`, the key, or the text that is not understood.
        value: of an entry.
    """

    number: int
    kind: str
    section: str
    key: str
    value: str = ""

    @property
    def is_set(self) -> bool:
        """Whether this is an entry with a value."""
        return self.kind == "entry" and self.value not in UNSET


def read_lines(path: Path) -> list[Line]:
    """Returns the lines of a txt without the blank ones.

    Raises:
        UsageError: no such file, or it is not a text.
    """
    require_file(path, "TIPC config")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: a text in UTF-8 is expected") from None
    lines = []
    section = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        stripped = raw.strip()
        if header := _HEADER.match(stripped):
            section = header.group(1)
        if stripped:
            lines.append(Line(number, *_read_line(stripped, section)))
    return lines


def _read_line(text: str, section: str) -> tuple[str, ...]:
    if _HEADER.match(text):
        return "header", section, section
    if _SEPARATOR.match(text):
        return "separator", section, SEPARATOR
    key, colon, value = text.partition(":")
    if not colon:
        return "other", section, text
    return "entry", section, key.strip(), value.strip()


def kind_of(lines: list[Line], path: Path) -> str:
    """Returns the kind of a file: the name of its first section.

    Raises:
        UsageError: the file opens with something else; the known sections are named.
    """
    known = " or ".join(f"'==={name}==='" for name in FILE_FORMS)
    if not lines:
        raise UsageError(f"{path}: {known} is expected first, the file is blank")
    first = lines[0]
    if first.kind != "header":
        raise UsageError(
            f"{path}, line {first.number}: {known} is expected first, got '{first.key}'"
        )
    if first.key not in FILE_FORMS:
        hint = nearest_name(first.key, FILE_FORMS)
        raise UsageError(f"{path}, line {first.number}: unknown section '{first.key}'{hint}")
    return first.key


def read_sections(path: Path) -> tuple[str, Sections]:
    """Reads and checks a txt.

    Returns:
        Its kind (the name of the first section), and section -> key -> value.

    Raises:
        UsageError: with file and line: a line without `:`, an unknown section or key (the nearest
            is named), a key that is given twice, or a missing section or key.
    """
    lines = read_lines(path)
    kind = kind_of(lines, path)
    forms = FILE_FORMS[kind]
    sections: dict[str, dict[str, str]] = {}
    for line in lines:
        if fault := _add_line(sections, forms, line):
            raise UsageError(f"{path}, line {line.number}: {fault}")
    for name, form in forms.items():
        if name not in sections:
            if form.required:
                raise UsageError(f"{path}: the section '==={name}===' is missing")
            continue
        missing = [key for key in form.keys if key not in {*sections[name], *form.optional}]
        if missing:
            raise UsageError(f"{path}: '{missing[0]}' is missing in '==={name}==='")
    return kind, sections


def _add_line(
    sections: dict[str, dict[str, str]], forms: Mapping[str, SectionForm], line: Line
) -> str:
    """Adds a line to its section; returns its fault, empty if it has none."""
    name, key = line.section, line.key
    if line.kind == "header":
        if name not in forms:
            return f"unknown section '{name}'{nearest_name(name, forms)}"
        if name in sections:
            return f"the section '{name}' is given twice"
        sections[name] = {}
    elif line.kind == "other":
        return f"'key:value' is expected, got '{key}'"
    elif line.kind == "entry":
        if ALIASES.get(key, key) not in forms[name].keys:
            return f"unknown key '{key}' in '==={name}==='{nearest_name(key, forms[name].keys)}"
        if key == NULL:
            return about_null(line)
        if key in sections[name]:
            return f"'{key}' is given twice in '==={name}==='"
        sections[name][key] = line.value
    return ""


def about_null(line: Line) -> str:
    """Returns the fault of a line `null:value`; empty where the value is unset, too."""
    return f"'null:{line.value}' does nothing; give the key a name" if line.is_set else ""


def is_by_mode(value: str) -> bool:
    """Whether a value is spelled `mode=value|mode=value`: `name=` before any space or `|`.

    A command, which may hold `=` further on, is not.
    """
    return re.match(r"^\s*\w+\s*=", value) is not None


def modes_of(value: str, key: str) -> dict[str, str]:
    """Returns mode -> value.

    Raises:
        UsageError: a part without a mode, an unknown mode (the nearest is named), or one that
            is given twice.
    """
    choices: dict[str, str] = {}
    for part in value.split("|"):
        name, separator, choice = part.partition("=")
        name = name.strip()
        if not separator or name not in MODES:
            hint = nearest_name(name, MODES)
            raise UsageError(f"{key}: 'mode=value|...' is expected, got '{part}'{hint}")
        if name in choices:
            raise UsageError(f"{key}: mode '{name}' is given twice")
        choices[name] = choice.strip()
    return choices


def by_mode(value: str, mode: str, key: str) -> str:
    """Returns the part of `mode=value|mode=value` for a mode; a plain value is for every mode.

    Raises:
        UsageError: an unknown mode is named, or this one is not. (Without the flag, a training
            would run as long as the yml says.)
    """
    if not is_by_mode(value):
        return value
    choices = modes_of(value, key)
    if mode not in choices:
        raise UsageError(f"{key}: no value for mode '{mode}', only for {', '.join(choices)}")
    return choices[mode]


def choices_of(value: str) -> list[str]:
    """Returns `a|b` as a list."""
    return [part.strip() for part in value.split("|")]


def count_of(value: str) -> int | None:
    """Returns a number of threads or images; None where it is unset.

    Raises:
        UsageError: it is no whole number.
    """
    if value in UNSET:
        return None
    if not value.isdecimal():
        raise UsageError(f"a whole number is expected, got '{value}'")
    return int(value)


def option_of(command: str, name: str) -> str:
    """Returns the value of `--name VALUE` or `--name=VALUE` in a command line.

    Raises:
        UsageError: the flag is missing.
    """
    words = split_command(command)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name and following:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    raise UsageError(f"'{command}': {name} is expected in it")


def split_command(command: str) -> list[str]:
    """Returns the words of a command line.

    Raises:
        UsageError: a quotation is left open.
    """
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(f"'{command}': {error}") from None
