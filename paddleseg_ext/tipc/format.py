"""The txt files of TIPC: which lines each kind has, and how their values are spelled.

The format is PaddleSeg's: sections under `===name===` headers, `key:value` lines, `a|b` for
alternatives, `mode=value|mode=value` for what depends on the mode, `null` for a flag that is left
out, `##` between blocks. PaddleSeg addresses a file by line number; here it is read by key, so a
blank line shifts nothing, and a value may hold `:`. What is not understood is an error before
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
        required: whether the section itself must be there.
    """

    lines: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    required: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The lines without separators."""
        return tuple(line for line in self.lines if line != SEPARATOR)


def _form(lines: str, optional: str = "", required: bool = True) -> SectionForm:
    return SectionForm(tuple(lines.split()), frozenset([NULL, *optional.split()]), required)


# The first section of a file tells its kind.
FILE_FORMS: dict[str, dict[str, SectionForm]] = {
    "train_params": {
        "train_params": _form(
            "model_name python gpu_list --device --precision --iters --save_dir --batch_size "
            "--model_path train_model_name train_infer_img_dir null ## "
            "trainer norm_train pact_train fpgm_train distill_train null null ##",
            optional="train_infer_img_dir norm_train pact_train fpgm_train distill_train",
        ),
        "eval_params": _form("eval null ##"),
        "export_params": _form(
            "--save_dir --model_path norm_export quant_export fpgm_export distill_export "
            "export1 export2",
            optional="quant_export fpgm_export distill_export export1 export2",
        ),
        "infer_params": _form(
            "infer_model infer_export infer_quant inference --device --enable_mkldnn "
            "--cpu_threads --batch_size --use_trt --precision --config --image_path "
            "--save_log_path --benchmark --save_dir --model_name",
            optional="--save_log_path --model_name",
        ),
        "infer_benchmark_params": _form("random_infer_input", required=False),
        "to_static_train_benchmark_params": _form("to_static_train", required=False),
        "train_benchmark_params": _form(
            "batch_size fp_items epoch --profile flags", optional="flags", required=False
        ),
    },
    "paddle2onnx_params": {
        "paddle2onnx_params": _form(
            "model_name python 2onnx --config --model_path --save_dir inference --backend "
            "--cpu_threads --batch_size --image_path"
        ),
    },
    "ptq_params": {
        "ptq_params": _form(
            "model_name python ## --model_dir ## --config --calibration_images --data --budgets ## "
            "trainer PTQ ##"
        ),
        "infer_params": _form(
            "inference --device --backend --batch_size --config --image_path --benchmark"
        ),
    },
    "serving_params": {
        "serving_params": _form(
            "model_name python --config --dirname web_service --backend pipline --image_path"
        ),
    },
}
# `trainer:amp` brings its command in the place of norm_train, as PaddleSeg's AMP configs do.
ALIASES = {"amp_train": "norm_train"}


@dataclass(frozen=True)
class Line:
    """One line that says something.

    Attributes:
        number: in the file, from 1.
        kind: `header`, `separator`, `entry`, or `other` (not understood).
        key: the section's name, `##`, the key, or the text that is not understood.
        value: of an entry.
    """

    number: int
    kind: str
    key: str
    value: str = ""


def read_lines(path: Path) -> list[Line]:
    """The lines of a txt, blank ones left out.

    Raises:
        UsageError: no such file, or it is not a text.
    """
    require_file(path, "TIPC config")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: a text in UTF-8 is expected") from None
    lines = []
    for number, raw in enumerate(text.splitlines(), start=1):
        stripped = raw.strip()
        if stripped:
            lines.append(_read_line(number, stripped))
    return lines


def _read_line(number: int, text: str) -> Line:
    if header := _HEADER.match(text):
        return Line(number, "header", header.group(1))
    if _SEPARATOR.match(text):
        return Line(number, "separator", SEPARATOR)
    key, colon, value = text.partition(":")
    if not colon:
        return Line(number, "other", text)
    return Line(number, "entry", key.strip(), value.strip())


def kind_of(lines: list[Line], path: Path) -> str:
    """The kind of a file: the name of its first section.

    Raises:
        UsageError: it opens with something else; the known ones are named.
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
    """Parse and check a txt.

    Returns:
        Its kind (the name of the first section), and section -> key -> value.

    Raises:
        UsageError: naming file and line: a line without `:`, an unknown section or key (the
            nearest is named), a key that stands twice, or a missing section or key.
    """
    lines = read_lines(path)
    kind = kind_of(lines, path)
    forms = FILE_FORMS[kind]
    sections: dict[str, dict[str, str]] = {}
    for line in lines:
        where = f"{path}, line {line.number}"
        if line.kind == "header":
            _open_section(sections, forms, line.key, where)
        elif line.kind == "other":
            raise UsageError(f"{where}: 'key:value' is expected, got '{line.key}'")
        elif line.kind == "entry":
            name = next(reversed(sections))
            _add_entry(sections[name], forms[name], name, line, where)
    for name, form in forms.items():
        if name not in sections:
            if form.required:
                raise UsageError(f"{path}: the section '==={name}===' is missing")
            continue
        missing = [key for key in form.keys if key not in {*sections[name], *form.optional}]
        if missing:
            raise UsageError(f"{path}: '{missing[0]}' is missing in '==={name}==='")
    return kind, sections


def _open_section(
    sections: dict[str, dict[str, str]], forms: Mapping[str, SectionForm], name: str, where: str
) -> None:
    if name not in forms:
        raise UsageError(f"{where}: unknown section '{name}'{nearest_name(name, forms)}")
    if name in sections:
        raise UsageError(f"{where}: the section '{name}' stands twice")
    sections[name] = {}


def _add_entry(
    section: dict[str, str], form: SectionForm, name: str, line: Line, where: str
) -> None:
    key = line.key
    if ALIASES.get(key, key) not in form.keys:
        hint = nearest_name(key, form.keys)
        raise UsageError(f"{where}: unknown key '{key}' in '==={name}==='{hint}")
    if key == NULL:
        if line.value not in (NULL, ""):
            raise UsageError(f"{where}: 'null:{line.value}' does nothing; give the key a name")
        return
    if key in section:
        raise UsageError(f"{where}: '{key}' stands twice in '==={name}==='")
    section[key] = line.value


def is_by_mode(value: str) -> bool:
    """Whether a value is spelled `mode=value|mode=value`: `name=` before any space or `|`.

    A command, which may hold `=` further on, is not.
    """
    return re.match(r"^\s*\w+\s*=", value) is not None


def modes_of(value: str, key: str) -> dict[str, str]:
    """Mode -> value.

    Raises:
        UsageError: a part without a mode, an unknown mode (the nearest is named), or one that
            stands twice.
    """
    choices: dict[str, str] = {}
    for part in value.split("|"):
        name, separator, choice = part.partition("=")
        name = name.strip()
        if not separator or name not in MODES:
            hint = nearest_name(name, MODES)
            raise UsageError(f"{key}: 'mode=value|...' is expected, got '{part}'{hint}")
        if name in choices:
            raise UsageError(f"{key}: mode '{name}' stands twice")
        choices[name] = choice.strip()
    return choices


def by_mode(value: str, mode: str, key: str) -> str:
    """The part of `mode=value|mode=value` for a mode; a plain value is for every mode.

    Raises:
        UsageError: an unknown mode is named, or this one is not. (Dropping the flag in silence
            would train as long as the yml says.)
    """
    if not is_by_mode(value):
        return value
    choices = modes_of(value, key)
    if mode not in choices:
        raise UsageError(f"{key}: no value for mode '{mode}', only for {', '.join(choices)}")
    return choices[mode]


def choices_of(value: str) -> list[str]:
    """`a|b` as a list."""
    return [part.strip() for part in value.split("|")]


def flag(key: str, value: str) -> list[str]:
    """`--key=value` as one argument, or nothing where the value is `null` or empty."""
    return [] if value in (NULL, "") else [f"{key}={value}"]


def option_of(command: str, name: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE` in a command line.

    Raises:
        UsageError: it is not there.
    """
    words = split_command(command)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name and following:
            return following
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    raise UsageError(f"'{command}': {name} is expected in it")


def split_command(command: str) -> list[str]:
    """The words of a command line.

    Raises:
        UsageError: a quotation is left open.
    """
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(f"'{command}': {error}") from None
