"""Options declared once: the same field as a flag, as a yml key and as a row of a table."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.options import (
    CheckedOptions,
    add_options,
    from_section,
    option,
    options_table,
    parse_options,
    read_options,
)


@dataclass(frozen=True)
class Example:
    """One option of each kind."""

    path: Path = option(dataclasses.MISSING, "where to read", names=("--source",))
    count: int = option(3, "how many", at_least=1)
    share: float = option(0.5, "part of it", above=0, below=1)
    limit_ms: float | None = option(None, "longest wait", unit="ms")
    mode: Literal["fast", "exact"] = option("fast", "how")
    loud: bool = option(False, "print more")
    sound: bool = option(True, "check")
    sizes: tuple[int, ...] = option((2, 4), "of the parts")
    names: list[str] = option([], "of the parts")
    table: dict[str, Any] = option({}, "anything")
    runtime: str = option("auto", "parsed", parse=lambda text: text.upper())
    inner: int = 7


def parse(*words: str, skip: tuple[str, ...] = (), **defaults: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Example, ("table", *skip), **defaults)
    return parser.parse_args(list(words))


def test_flags_are_read_by_their_types() -> None:
    words = "--source a/b --count 2 --share .25 --limit_ms 5 --mode exact --loud --sound no"
    arguments = parse(*words.split(), "--sizes", "1", "8", "--runtime", "paddle")
    options = read_options(Example, arguments, inner=9)
    assert options == Example(
        Path("a/b"), 2, 0.25, 5.0, "exact", True, False, [1, 8], [], {}, "PADDLE", 9
    )


def test_defaults_of_the_dataclass_and_of_a_command() -> None:
    options = read_options(Example, parse("--path", "x", count=8), inner=1, mode="exact")
    assert options == Example(Path("x"), count=8, mode="exact", runtime="AUTO", inner=1)
    assert not hasattr(parse("--path", "x", skip=("count",)), "count")
    assert Example(Path("x")).names is not Example(Path("x")).names
    assert parse("--path", "x", "--loud=no").loud is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count 0", "expected a whole number of at least 1, got '0'"),
        ("--count two", "expected a whole number of at least 1, got 'two'"),
        ("--share 1", "expected a number above 0 and below 1, got '1'"),
        ("--share nan", "expected a number above 0 and below 1, got 'nan'"),
        ("--mode slow", "invalid choice"),
        ("--loud perhaps", "expected True or False"),
    ],
)
def test_wrong_flags_say_what_is_expected(words: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=message):
        parse("--path", "x", *words.split())


def test_a_flag_without_a_default_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, argparse.ArgumentError)) as ended:  # 3.12 exits, 3.13 raises
        parse()
    assert "required: --path" in capsys.readouterr().err + str(ended.value)


def test_a_script_without_other_flags_is_read_in_one_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @dataclass(frozen=True)
    class Measurement:
        rounds: int = option(3, "how many", at_least=1)

    assert parse_options(Measurement, "", ["--rounds", "2"]) == Measurement(2)
    with pytest.raises(SystemExit):
        parse_options(Measurement, "A measurement.", ["--help"])
    assert "A measurement." in capsys.readouterr().out


def test_a_section_is_read_by_the_same_fields() -> None:
    section = {"path": "a/b", "count": 2, "limit_ms": None, "sizes": [1], "names": ["n"]}
    options = from_section(Example, section, "yml", inner=9)
    assert options == Example(Path("a/b"), 2, sizes=(1,), names=["n"], inner=9)
    assert from_section(Example, {"path": "x", "limit_ms": 3, "share": 0.1}, "yml").limit_ms == 3


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"cuont": 1}, "yml: unknown key 'cuont' (did you mean 'count'?)"),
        ({"inner": 1}, "yml: unknown key 'inner'"),
        ({5: 1}, "yml: unknown key '5'"),
        ({}, "yml: 'path' is missing"),
        ({"path": 3}, "yml: 'path' must be a path, got 3"),
        ({"count": 0}, "yml: 'count' must be a whole number of at least 1, got 0"),
        ({"count": True}, "yml: 'count' must be a whole number of at least 1, got True"),
        ({"count": 2.0}, "yml: 'count' must be a whole number of at least 1, got 2.0"),
        ({"share": 1}, "yml: 'share' must be a number above 0 and below 1, got 1"),
        ({"share": float("inf")}, "must be a number above 0 and below 1, got inf"),
        ({"share": float("nan")}, "must be a number above 0 and below 1, got nan"),
        ({"share": 10**400}, "must be a number above 0 and below 1"),
        ({"limit_ms": "5"}, "yml: 'limit_ms' must be a number, got '5'"),
        ({"mode": ["fast"]}, "yml: 'mode' must be one of fast, exact, got ['fast']"),
        ({"loud": "false"}, "yml: 'loud' must be true or false, got 'false'"),
        ({"sizes": 4}, "yml: 'sizes' must be a list of whole numbers, got 4"),
        ({"names": ["a", 5]}, "yml: 'names' must be a list of words, got ['a', 5]"),
        ({"table": []}, "yml: 'table' must be a section, got []"),
        ({"runtime": 1}, "yml: 'runtime' must be a word, got 1"),
    ],
)
def test_wrong_sections_are_one_clear_line(section: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_section(Example, section, "yml", **({} if "inner" not in section else {"inner": 0}))
    assert message in str(caught.value)


def test_fields_that_contradict_each_other_name_the_section() -> None:
    @dataclass(frozen=True)
    class Pair:
        low: int = option(0, "first")
        high: int = option(1, "last")

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("'low' is above 'high'")

    with pytest.raises(UsageError, match="yml: 'low' is above 'high'"):
        from_section(Pair, {"low": 2}, "yml")


def test_a_table_has_a_row_per_declared_option() -> None:
    rows = options_table(Example)
    assert rows[:2] == ["| option | default | meaning |", "|---|---|---|"]
    assert "| `path` |  | where to read |" in rows
    assert "| `count` | `3` | how many |" in rows
    assert "| `limit_ms` |  | longest wait (ms) |" in rows
    assert not any("inner" in row for row in rows)


@dataclass(frozen=True)
class Asked(CheckedOptions):
    """Options that Python code makes."""

    save_dir: Path = option(Path("output"), "where to write")
    source: str | None = option(None, "where to read")
    size: tuple[int, ...] = option((2, 4), "of the parts")
    count: int = option(3, "how many", at_least=1)
    mode: Literal["fast", "exact"] = option("fast", "how")
    engines: list[str] = option(["a"], "that run", choices=["a", "b"])
    inner: Any = 7


def test_python_gives_texts_and_lists() -> None:
    asked = Asked(save_dir="a/b", source=Path("c"), size=[1], inner="a/b")  # type: ignore[arg-type]
    assert asked == Asked(Path("a/b"), "c", (1,), inner="a/b")
    assert isinstance(asked.save_dir, Path) and isinstance(asked.source, str)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "Asked: 'count' must be a whole number of at least 1, got 0"),
        ({"save_dir": 5}, "Asked: 'save_dir' must be a path, got 5"),
        ({"mode": "slow"}, "Asked: 'mode' must be one of fast, exact, got 'slow'"),
        ({"engines": ["a", "c"]}, "Asked: 'engines' must be one of a, b, got 'c'"),
        ({"engines": "a"}, "Asked: 'engines' must be a list of words, got 'a'"),
    ],
)
def test_python_is_told_what_is_expected(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Asked(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "size", [("a", 3), (3,), (1, 2, 3), (True, 3), (2.5, 3), 3, None, "ab", []]
)
def test_a_list_of_fixed_length_says_how_many_of_what(size: Any) -> None:
    """The message says what is wrong with the elements, too, and of what kind they should be."""

    @dataclasses.dataclass(frozen=True)
    class Sized(CheckedOptions):
        size: tuple[int, int] = option((4, 2), "width and height", at_least=1)

    with pytest.raises(
        UsageError, match=r"Sized: 'size' must be a list of 2 whole numbers of at le"
    ):
        Sized(size)
    assert Sized([3, 1]).size == (3, 1)
    with pytest.raises(UsageError, match="a list of 2 whole numbers"):
        Sized((0, 5))
