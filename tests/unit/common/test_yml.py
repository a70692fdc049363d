"""Whatever a yml file holds, what is wrong with it is one line that names the file."""

from pathlib import Path

import pytest
import yaml

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.yml import MOST_BYTES, dump_yaml, parse_yaml, read_sections
from tests.limits import under_limits


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: [", r"x\.yml, line 2: "),
        (b"a: caf\xe9\n", r"x\.yml: a text in UTF-8 .* another encoding \(byte 7, 0xe9\); save it"),
        ("a: b".encode("utf-16"), r"x\.yml: a text in UTF-8 is expected, this is UTF-16"),
        (b"a: \x00", r"x\.yml: not a yml file: .*#x0000"),
        (b"a: !!int ''", r"x\.yml: not a yml file: "),  # PyYAML itself raises IndexError
        (b"a: !!bool x", r"x\.yml: not a yml file: "),
        (b"a: !!set {b}", r"x\.yml, line 1: could not determine"),  # no JSON holds it
        (b"a: 1\nb: 2\na: 3", r"x\.yml, line 3: the key 'a' appears twice \(first in line 1\)"),
        (b"a: {b: 1, b: 2}", r"x\.yml, line 1: the key 'b' appears twice"),
        (b'a: "\\ud800"', r"x\.yml, line 1: the letter \\ud800, which no text holds"),
        (b'a: "\\e[2J"', r"x\.yml, line 1: the letter \\x1b"),
        (b"\x80\x02}.", r"x\.yml: a list of names is expected, this is a checkpoint"),
        (b"PK\x03\x04", r"this is a zip file, such as a PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1", "run git lfs pull"),
        (b"<!DOCTYPE html>", "download it again"),
        (b"- a", r"x\.yml: a list of names is expected"),
        (b"", r"x\.yml: a list of names is expected"),
        (b"a: !!python/object/apply:os.getcwd []", r"x\.yml, line 1: could not determine"),
    ],
)
def test_wrong_files_are_one_clear_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_sections(path, "a list of names")
    assert "\n" not in str(caught.value)


def test_a_key_that_is_repeated_with_the_same_value_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert parse_yaml("a: &x [1, {b: 2}]\nc: 3\na: *x\na: [1, {b: 2}]", "x.yml")["a"] == [
        1,
        {"b": 2},
    ]
    said = capsys.readouterr().out
    assert "x.yml, line 3: the key 'a' appears twice (first in line 1), with the same value" in said
    for other in ("[1, {b: 3}]", "[1, {b: '2'}]", "[1]", "1", "{1: {b: 2}}"):
        with pytest.raises(UsageError, match="line 2: the key 'a' appears twice"):
            parse_yaml(f"a: [1, {{b: 2}}]\na: {other}", "x.yml")


def test_a_file_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.yml: cannot be read: .*No such file"):
        read_sections(tmp_path / "x.yml", "a section")


def chain(of: str, first: str, join: str) -> str:
    """Ten levels, each ten times the one before."""
    lines = [f"{of}0: &{of}0 {first}"]
    lines += [
        f"{of}{i}: &{of}{i} " + join.format(",".join([f"*{of}{i - 1}"] * 10)) for i in range(1, 10)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (chain("b", "[a, a]", "[{}]"), "letters, its aliases written out"),
        (chain("m", "{k: v}", "{{<<: [{}]}}"), "letters, its aliases written out"),
        ("x: &x " + "a" * 500_000 + "\ny: [*x, *x, *x, *x, *x]", "letters, its aliases"),
        ("a: &a [*a]", "an alias inside the value that it refers to"),
        ("a: &a {b: [*a]}", "an alias inside the value that it refers to"),
        ("[" * 50_000, "nested deeper than 50 levels"),
        ("- " * 50_000, "nested deeper than 50 levels"),
        ("[" + "a," * 500_000 + "]", "more than 50000 values"),
        ("a: 1" + ":1" * 400_000, "a number of 800001 letters"),  # quadratic in PyYAML
        ("a: 0x" + "f" * 100_000, "a number of 100002 letters"),
    ],
)
def test_no_text_costs_more_than_its_size_allows(text: str, words: str) -> None:
    """The bounds of docs/design.md: 10 seconds and 300 MiB, for whatever a megabyte holds."""
    result = under_limits(
        "from paddleseg_ext.common.yml import parse_yaml\nparse_yaml(sys.stdin.read(), 'x')",
        text.encode(),
        seconds=10,
        mebibytes=300,
    )
    assert words in result and len(result) < 300


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(UsageError, match="of at most 1048576 bytes"):
        read_sections(path, "a section")


def test_aliases_merges_and_numbers_as_people_write_them() -> None:
    text = "a: &a {x: 1e-4, y: 2020-01-02}\nb: {<<: *a, x: 3}\nc: [*a, *a]"
    read = parse_yaml(text, "x")
    assert read["b"] == {"x": 3, "y": "2020-01-02"}
    assert read["c"] == [{"x": 0.0001, "y": "2020-01-02"}] * 2


def test_what_is_written_is_read_back() -> None:
    content = {"class_names": ["1e3", "2020-01-02", "no", "5", "straße"], "n": [1e-7, None, True]}
    assert parse_yaml(dump_yaml(content), "x") == content
    assert yaml.safe_load(dump_yaml(content)) == content
