"""Options declared once: fields of a dataclass that flags, yml sections and tables are read from.

    @dataclass(frozen=True)
    class RunOptions:
        batch_size: int = option(1, "images per run", parse=positive_int)

`add_options` makes `--batch_size` of it, `read_options` the object, `from_section` reads the same
key of a yml, and `options_table` writes the row of a page.
"""

import argparse
import dataclasses
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.flags import boolean

Options = TypeVar("Options")
_HELP, _FLAG = "help", "flag"


def option(
    default: Any,
    text: str,
    *,
    parse: Callable[[str], Any] | None = None,
    unit: str = "",
    names: Sequence[str] = (),
    **flag: Any,
) -> Any:
    """A dataclass field with a default, a help text and what its flag needs.

    Args:
        default: its value where nothing is given; `dataclasses.MISSING` makes it required.
        text: help for the command line and the tables.
        parse: text to value, raising `ArgumentTypeError`; by default the field's type.
        unit: of the value, such as "ms"; appended to the help.
        names: further names of the flag, such as `("--weights",)`.
        **flag: passed to `add_argument`: `metavar`, `nargs`, `choices`, `action`.
    """
    if parse is not None:
        flag["type"] = parse
    metadata = {_HELP: f"{text} ({unit})" if unit else text, _FLAG: flag, "names": tuple(names)}
    if isinstance(default, list | dict | set):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def switch(text: str, default: bool | None = False) -> Any:
    """A field whose flag is given alone (`--do_eval`) or with a value (`--do_eval=True`)."""
    return option(default, text, parse=boolean, nargs="?", const=True, metavar="True|False")


def add_options(
    parser: argparse._ActionsContainer,
    options: type,
    skip: Collection[str] = (),
    **defaults: Any,
) -> None:
    """Add one flag per field of `options` that `option` declared.

    Args:
        parser: or a group of it.
        options: the dataclass.
        skip: fields that get no flag here.
        **defaults: other defaults for this command than the dataclass has.
    """
    kinds = get_type_hints(options)
    for field in dataclasses.fields(options):
        if _FLAG not in field.metadata or field.name in skip:
            continue
        settings = _flag_settings(kinds[field.name]) | field.metadata[_FLAG]
        default = defaults.get(field.name, _default_of(field))
        if default is dataclasses.MISSING:
            settings["required"] = True
        else:
            settings["default"] = default
        names = (f"--{field.name}", *field.metadata["names"])
        parser.add_argument(*names, help=field.metadata[_HELP], **settings)


def read_options(options: type[Options], arguments: argparse.Namespace, **given: Any) -> Options:
    """The dataclass, filled from parsed flags; fields without a flag come from `given`."""
    names = [field.name for field in dataclasses.fields(options)]  # type: ignore[arg-type]
    read = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    return options(**(read | given))


def from_section(options: type[Options], section: Mapping[str, Any], where: str) -> Options:
    """The dataclass, filled from a section of a yml.

    Args:
        options: every field is a key; those without a default are required.
        section: of the yml.
        where: names the section in messages.

    Raises:
        UsageError: an unknown key (the nearest is named), a missing one, or a value of another
            type.
    """
    kinds = get_type_hints(options)
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    for key, value in section.items():
        if key not in fields:
            raise UsageError(f"{where}: unknown key '{key}'{nearest_name(str(key), fields)}")
        if not _is_of(value, kinds[key]):
            raise UsageError(f"{where}.{key}: {_words(kinds[key])} is expected, got {value!r}")
    for name, field in fields.items():
        if name not in section and _default_of(field) is dataclasses.MISSING:
            raise UsageError(f"{where}: the key '{name}' is missing")
    try:
        return options(**section)
    except ValueError as error:  # of a `__post_init__` that checks ranges
        raise UsageError(f"{where}: {error}") from None


def options_table(options: type) -> list[str]:
    """Markdown rows `| name | default | help |`, one per declared option, for the pages."""
    rows = ["| option | default | what |", "|---|---|---|"]
    for field in dataclasses.fields(options):
        if _HELP in field.metadata:
            default = _default_of(field)
            shown = "" if default in (dataclasses.MISSING, None) else f"`{default}`"
            rows.append(f"| `{field.name}` | {shown} | {field.metadata[_HELP]} |")
    return rows


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _flag_settings(kind: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) in (list, tuple, Sequence):
        return {"nargs": "+", **_flag_settings(get_args(kind)[0])}
    if kind is bool:
        return {"type": boolean}
    return {"type": kind} if kind in (int, float, Path) else {}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (Union, types.UnionType):
        return any(_is_of(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    origin = get_origin(kind) or kind
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is Path:
        return isinstance(value, str | Path)
    return origin is Any or isinstance(value, origin)


def _words(kind: Any) -> str:
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    words |= {list: "a list", tuple: "a list", dict: "a section", Path: "a path"}
    return words.get(get_origin(kind) or kind, str(kind))
