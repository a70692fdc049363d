"""Yml as data: nothing in it is ever executed, an error is one line, and its cost is bounded.

Aliases (`*a`) let a kilobyte stand for gigabytes, and so do merges of merges. So a document is
measured before its values are made: its size, the number and depth of its values, and the letters
that it has with every alias written out. No configuration comes near these bounds.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from paddleseg_ext.common.errors import UsageError, cut
from paddleseg_ext.common.file_kinds import kind_of
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.text import bad_letter, not_utf8

MOST_BYTES = 1 << 20
MOST_VALUES = 50_000
MOST_LETTERS = 2 << 20  # with aliases written out
DEEPEST = 50
LONGEST_NUMBER = 100  # digits; YAML's sexagesimal numbers take quadratic time
# Dates stay texts, and binary data, sets and ordered maps are refused: JSON has none of them.
_PLAIN = ("null", "bool", "int", "float", "seq", "map", "str")
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Reads plain values, `1e-4` as a number; notes repeated keys, refuses what is too large."""

    yaml_constructors: ClassVar = {
        tag: function
        for tag, function in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in _PLAIN
    }
    yaml_implicit_resolvers: ClassVar = {
        letter: [entry for entry in entries if entry[0] != f"{_TAG}timestamp"]
        for letter, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = 0
        self._num_values = 0
        self._letters: dict[int, int] = {}  # per node, with aliases written out
        self.repeated: dict[str, bool] = {}  # line and key -> whether the values are equal

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        mark, is_alias = event.start_mark, isinstance(event, yaml.AliasEvent)
        self._depth += 1
        self._num_values += 1
        if self._depth > DEEPEST:
            raise _error(f"nested deeper than {DEEPEST} levels", mark)
        if self._num_values > MOST_VALUES:
            raise _error(f"more than {MOST_VALUES} values", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._letters:
            raise _error("an alias inside the value that it refers to", mark)
        if node is not None and not is_alias:
            self._letters[id(node)] = self._weigh(node)
            if self._letters[id(node)] > MOST_LETTERS:
                raise _error(f"more than {MOST_LETTERS} letters, its aliases written out", mark)
        return node

    def _weigh(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            if letter := bad_letter(node.value, among="\n\t"):
                raise _error(f"the letter {letter}, which no text holds", node.start_mark)
            is_number = node.tag in (f"{_TAG}int", f"{_TAG}float")
            if is_number and len(node.value) > LONGEST_NUMBER:
                raise _error(f"a number of {len(node.value)} letters", node.start_mark)
            return 1 + len(node.value)
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        return 1 + sum(self._letters[id(part)] for part in parts)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, tuple[int, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key, line = (
                str(self.construct_object(key_node, deep=True)),
                key_node.start_mark.line + 1,
            )
            if key in first:
                first_line, first_node = first[key]
                place = (
                    f"line {line}: the key '{cut(key)}' appears twice (first in line {first_line})"
                )
                self.repeated[place] = _same(first_node, value_node)
            first[key] = first.get(key, (line, value_node))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that the loader would read as numbers."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        f"{_TAG}float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def _same(one: yaml.Node, other: yaml.Node) -> bool:
    """Whether two nodes have the same content."""
    if one is other:
        return True
    if one.tag != other.tag or isinstance(one.value, str) or isinstance(other.value, str):
        return (one.tag, one.value) == (other.tag, other.value)
    parts, others = (
        [part for pair in node.value for part in pair]
        if isinstance(node, yaml.MappingNode)
        else node.value
        for node in (one, other)
    )
    return len(parts) == len(others) and all(map(_same, parts, others))


def _error(problem: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def dump_yaml(content: Any) -> str:
    """Plain values as yml, which `parse_yaml` reads back."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_yaml(text: str, source: str, repeated: list[str] | None = None) -> Any:
    """The content of a yml text; a key that is repeated with the same value is warned of.

    Args:
        text: the yml.
        source: where it comes from; opens the message.
        repeated: gets a line per key that is repeated with another value, of which the last
            counts; None: such a key is refused.

    Raises:
        UsageError: with the line at fault.
    """
    try:
        loader = _Loader(text)
        content = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{source}{line}: {cut(str(error.problem))}") from None
    # Of a tag before a value that it does not fit PyYAML's constructors raise anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{source}: not a yml file: {cut(reason)}") from None
    for place, is_equal in loader.repeated.items():
        if is_equal:
            warn(f"{source}, {place}, with the same value")
        elif repeated is None:
            raise UsageError(f"{source}, {place}")
        else:
            repeated.append(f"{source}, {place}")
    return content


def read_sections(path: Path, expected: str, repeated: list[str] | None = None) -> dict[str, Any]:
    """A yml file whose top level is a mapping.

    Args:
        path: the file.
        expected: names the expected content in the message.
        repeated: see `parse_yaml`.

    Raises:
        UsageError: it cannot be read, is no yml, or holds something else; for a known kind of file
            the message names the kind.
    """
    try:
        if kind := kind_of(path):
            raise UsageError(f"{path}: {expected} is expected, this is {kind}")
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path}: {expected} is expected, of at most {MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {not_utf8(error)}") from None
    raw = parse_yaml(text, str(path), repeated)
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: {expected} is expected")
    return raw
