"""Options declared once: dataclass fields that flags, yml sections and tables are made from.

    @dataclass(frozen=True)
    class RunOptions:
        batch_size: int = option(1, "images per run", at_least=1)

`add_options` adds the flag `--batch_size`, `read_options` makes the object from parsed flags,
`from_section` makes it from the same key of a yml or JSON file, and `options_table` writes the
rows of a page. A field that `option` did not declare has no flag.
"""

import argparse
import dataclasses
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from paddleseg_ext.common.errors import UsageError, cut, nearest_name, shown
from paddleseg_ext.common.flags import (
    NUMBERS,
    boolean,
    is_within,
    limited,
    make_parser,
    number_parser,
)

Options = TypeVar("Options")
_HELP, _FLAG, _NAMES, _BOUNDS = "help", "flag", "names", "bounds"
_NEEDS = "needs"
_Bounds = Mapping[str, float]  # bound by the words of `flags.LIMITS`
_WORDS = NUMBERS | {bool: "true or false", str: "a word", Path: "a path"}
_WORDS |= {list: "a list", tuple: "a list", Sequence: "a list"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "words", Path: "paths"}
_WORDS |= {dict: "a section", Mapping: "a section"}


def option(
    default: Any,
    text: str,
    *,
    parse: Callable[[str], Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
    needs: str = "",
    **flag: Any,
) -> Any:
    """A dataclass field with a default, a help text and the settings of its flag.

    Args:
        default: the value where nothing is given; `dataclasses.MISSING` makes it required.
        text: help for the command line and the tables.
        parse: text to value, raising `ArgumentTypeError`; by default the field's type decides.
        at_least: smallest allowed number.
        above: bound that the number must exceed.
        below: bound that the number must not reach.
        unit: of the value, such as "ms"; appended to the help.
        needs: the mode outside of which the option does nothing, as flags ("--benchmark True");
            `refuse_idle` looks at it.
        **flag: passed to `add_argument`: `metavar`, `nargs`, `choices`, `action`; and `names`,
            further names of the flag, such as `("--weights",)`.
    """
    if parse is not None:
        flag["type"] = parse
    bounds = {"at least": at_least, "above": above, "below": below}
    metadata = {
        _HELP: f"{text} ({unit})" if unit else text,
        _FLAG: flag,
        _NAMES: tuple(flag.pop("names", ())),
        _NEEDS: needs,
        _BOUNDS: {words: bound for words, bound in bounds.items() if bound is not None},
    }
    if isinstance(default, list | dict | set):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def switch(
    text: str, default: bool | None = False, names: Sequence[str] = (), needs: str = ""
) -> Any:
    """A field whose flag is given alone (`--do_eval`) or with a value (`--do_eval=True`)."""
    return option(
        default,
        text,
        parse=boolean,
        needs=needs,
        nargs="?",
        const=True,
        metavar="True|False",
        names=names,
    )


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
        **defaults: defaults of this command where they differ from the dataclass's.
    """
    kinds = get_type_hints(options)
    for field in _declared(options):
        if field.name in skip:
            continue
        settings = _flag_settings(kinds[field.name], field) | field.metadata[_FLAG]
        default = defaults.get(field.name, _default_of(field))
        if default is dataclasses.MISSING:
            settings["required"] = True
        else:
            settings["default"] = default
        names = (f"--{field.name}", *field.metadata[_NAMES])
        parser.add_argument(*names, help=field.metadata[_HELP], **settings)


def read_options(options: type[Options], arguments: argparse.Namespace, **given: Any) -> Options:
    """The dataclass, filled from parsed flags; `given` fills and replaces fields."""
    names = [field.name for field in dataclasses.fields(options)]  # type: ignore[arg-type]
    read = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    return options(**(read | given))


def refuse_idle(options: Any, modes: Mapping[str, bool]) -> None:
    """Refuse an option that was given and does nothing, since its mode is off.

    Args:
        options: a dataclass of declared options; those equal to their default were not given.
        modes: the text of `needs` -> whether that mode is on.

    Raises:
        UsageError: naming the flag and the mode.
    """
    for field in _declared(type(options)):
        needs = field.metadata[_NEEDS]
        given = getattr(options, field.name) != _default_of(field)
        if needs and given and not modes[needs]:
            raise UsageError(f"--{field.name} does nothing without {needs}")


def parse_options(
    options: type[Options], description: str, argv: Sequence[str] | None = None
) -> Options:
    """The dataclass, filled from the command line of a script that has no other flags."""
    parser = make_parser(description)
    add_options(parser, options)
    return read_options(options, parser.parse_args(argv))


def from_section(
    options: type[Options], section: Mapping[str, Any], where: str, **given: Any
) -> Options:
    """The dataclass, filled from a section of a yml or a JSON object.

    Args:
        options: every field that is not `given` is a key; those without a default are required.
        section: the keys and their values.
        where: the section's name in messages.
        **given: fields that are no keys.

    Raises:
        UsageError: an unknown key (the nearest is named), a missing one, or a value of another
            type or outside its range.
    """
    if not isinstance(section, Mapping):
        raise UsageError(f"{where}: a section is expected, got {shown(section)}")
    kinds = get_type_hints(options)
    fields = {
        field.name: field
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
        if field.name not in given
    }
    values = {}
    for key, value in section.items():
        if key not in fields:
            named = cut(str(key))
            raise UsageError(f"{where}: unknown key '{named}'{nearest_name(named, fields)}")
        values[key] = _checked(value, fields[key], kinds[key], where)
    for name, field in fields.items():
        if name not in section and _default_of(field) is dataclasses.MISSING:
            raise UsageError(f"{where}: '{name}' is missing")
    try:
        return options(**values, **given)
    except ValueError as error:  # of a `__post_init__` that compares fields
        raise UsageError(f"{where}: {error}") from None


class CheckedOptions:
    """Base of options that Python code makes, too: values are checked as those of a section are.

    A text becomes the path that a field holds, a list the tuple.

    Raises:
        UsageError: a value of another type or outside its range.
    """

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for field in _declared(type(self)):
            value = getattr(self, field.name)
            checked = _checked(value, field, kinds[field.name], type(self).__name__)
            object.__setattr__(self, field.name, checked)  # the dataclasses are frozen


def options_table(options: type) -> list[str]:
    """Lines of a Markdown table, one row per declared option."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for field in _declared(options):
        default = _default_of(field)
        shown = "" if default in (dataclasses.MISSING, None) else f"`{default}`"
        rows.append(f"| `{field.name}` | {shown} | {field.metadata[_HELP]} |")
    return rows


def check_kind(where: str, name: str, value: Any, kind: Any) -> None:
    """Refuse a value of a file that is not of an annotation's type.

    Args:
        where: the section, which the message begins with.
        name: of the value.
        value: of a file.
        kind: the annotation.

    Raises:
        UsageError: it is of another type.
    """
    if not _is_of(value, kind, {}):
        raise UsageError(f"{where}: '{name}' must be {_expected(kind, {})}, got {shown(value)}")


def _checked(value: Any, field: dataclasses.Field, kind: Any, where: str) -> Any:
    """The value, converted to what the field holds.

    Raises:
        UsageError: it is of another type or outside its range.
    """
    bounds = field.metadata.get(_BOUNDS, {})
    if not _is_of(value, kind, bounds):
        expected = _expected(kind, bounds)
        raise UsageError(f"{where}: '{field.name}' must be {expected}, got {shown(value)}")
    choices = field.metadata.get(_FLAG, {}).get("choices")
    for each in value if isinstance(value, list | tuple) else (value,):
        if choices and each is not None and each not in choices:
            known = ", ".join(map(str, choices))
            raise UsageError(f"{where}: '{field.name}' must be one of {known}, got {shown(each)}")
    return _converted(value, kind)


def _declared(options: type) -> Iterator[dataclasses.Field]:
    return (field for field in dataclasses.fields(options) if _HELP in field.metadata)


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _flag_settings(kind: Any, field: dataclasses.Field) -> dict[str, Any]:
    """`type`, `choices` and `nargs` of a flag whose field is of this type."""
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) in (list, tuple, Sequence):
        return {"nargs": "+", **_flag_settings(get_args(kind)[0], field)}
    if kind is bool:
        switch = {"nargs": "?", "const": True} if field.default is False else {}
        return {"type": boolean, "metavar": "True|False"} | switch
    if kind in (int, float):
        return {"type": number_parser(kind, field.metadata[_BOUNDS])}
    return {"type": Path} if kind is Path else {}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind


def _is_of(value: Any, kind: Any, bounds: _Bounds) -> bool:
    """Whether a value of a file is of a field's type and in its range."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_is_of(value, each, bounds) for each in inner)
    if origin is Literal:
        return value in inner
    if origin in (int, float):
        numbers = int if origin is int else int | float
        is_number = isinstance(value, numbers) and not isinstance(value, bool)
        return is_number and is_within(value, bounds)
    if origin in (list, tuple, Sequence):
        element = inner[0] if inner else Any
        is_list = isinstance(value, list | tuple)
        if not is_list or (_is_pair(kind) and len(value) != len(inner)):
            return False
        return all(_is_of(v, element, bounds) for v in value)
    if origin in (str, Path):
        return isinstance(value, str | Path)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and _items_are_of(value, inner)
    return origin is Any or isinstance(value, origin)


def _is_pair(kind: Any) -> bool:
    """Whether a type fixes the number of its elements, all of one type, as `tuple[int, int]`."""
    inner = get_args(kind)
    return get_origin(kind) is tuple and Ellipsis not in inner and len(set(inner)) == 1


def _items_are_of(section: Mapping[Any, Any], inner: tuple[Any, ...]) -> bool:
    """Whether keys and values are of a mapping's types; any value is of `Any`."""
    if not inner or inner[1] is Any:
        return True
    return all(_is_of(k, inner[0], {}) and _is_of(v, inner[1], {}) for k, v in section.items())


def _converted(value: Any, kind: Any) -> Any:
    """A text as the path, a path as the text, and a list as the tuple, that a field holds."""
    kind = _without_none(kind)
    origin = get_origin(kind) or kind
    if value is not None and (origin in (Path, tuple) or isinstance(value, Path)):
        return origin(value)
    return value


def _expected(kind: Any, bounds: _Bounds) -> str:
    """`a whole number of at least 1`: what a message says was expected."""
    kind = _without_none(kind)
    inner = get_args(kind)
    if get_origin(kind) in (list, tuple, Sequence) and inner[0] in _SEVERAL:
        count = f"{len(inner)} " if _is_pair(kind) else ""
        return limited(f"a list of {count}{_SEVERAL[inner[0]]}", bounds)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    return limited(_WORDS.get(get_origin(kind) or kind, str(kind)), bounds)
