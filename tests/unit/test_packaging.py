"""Extras and pins agree, and every extra that the code names exists."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paddleseg_ext.inference.engines.table import ENGINES

PROJECT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = PYPROJECT["optional-dependencies"]
# Whose versions are those of another Paddle.
OTHER_PADDLES = ("gpu.txt", "paddle26.txt")


def pins_of(path: Path) -> list[tuple[str, str]]:
    """Name and version of each pin in a file and those that it includes."""
    found = []
    for line in path.read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += pins_of(path.parent / line[3:])
        elif line:
            pinned = Requirement(line)
            (only,) = pinned.specifier
            assert only.operator == "==", line
            found.append((canonicalize_name(pinned.name), only.version))
    return found


def pins() -> dict[str, set[str]]:
    """Every pinned version of each package."""
    files = [PROJECT / "requirements.txt", *(PROJECT / "requirements").glob("*.txt")]
    found: dict[str, set[str]] = {}
    for path in files:
        if path.name not in OTHER_PADDLES:
            for name, version in pins_of(path):
                found.setdefault(name, set()).add(version)
    return found


def ranges(lines: list[str]) -> list[Requirement]:
    """The requirements of an extra, those of the extras that it includes among them."""
    found = []
    for requirement in map(Requirement, lines):
        if requirement.name == PYPROJECT["name"]:
            for extra in requirement.extras:
                found += ranges(EXTRAS[extra])
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_every_pin_is_in_the_range(extra: str) -> None:
    known = pins()
    for requirement in ranges(EXTRAS[extra] if extra else PYPROJECT["dependencies"]):
        name = canonicalize_name(requirement.name)
        assert name in known, f"{name} of [{extra}] is pinned nowhere"
        versions = known[name]
        if extra == "paddleseg" or extra == "cpu":  # what serving pins is for another environment
            versions = {v for n, v in pins_of(PROJECT / "requirements.txt") if n == name}
        assert versions, f"{name} of [{extra}] is not in requirements.txt"
        assert all(requirement.specifier.contains(v) for v in versions), (requirement, versions)


def test_the_pinned_requirements_are_what_cpu_asks_for() -> None:
    wanted = ranges([*PYPROJECT["dependencies"], *EXTRAS["cpu"]])
    pinned = dict(pins_of(PROJECT / "requirements.txt"))
    assert set(pinned) == {canonicalize_name(requirement.name) for requirement in wanted}


def test_the_base_has_no_paddle() -> None:
    names = {Requirement(line).name for line in PYPROJECT["dependencies"]}
    assert not names & {"paddlepaddle", "paddleseg", "visualdl"}


def test_extras_that_messages_name_exist() -> None:
    named = {entry.extra: "the table of engines" for entry in ENGINES.values()}
    for root in ("paddleseg_ext", "deploy", "benchmarks"):
        for path in (PROJECT / root).rglob("*.py"):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    place = {"optional_imports": 1, "how_to_install": 0}.get(node.func.id)
                    if place is not None and isinstance(node.args[place], ast.Constant):
                        named[node.args[place].value] = path
            named |= dict.fromkeys(re.findall(r"paddleseg_ext\[([a-z0-9_,]+)\]", text), path)
    used = {each for extras in named for each in extras.split(",")}
    assert {"onnx", "onnxruntime", "openvino", "serve", "ray", "triton", "fast"} <= used
    assert used <= set(EXTRAS), used - set(EXTRAS)


def test_only_the_pinned_requirements_lie_at_the_top() -> None:
    assert [path.name for path in PROJECT.glob("requirements*.txt")] == ["requirements.txt"]
