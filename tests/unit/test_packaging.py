"""Extras and pins agree, and every extra that the code names exists."""

import ast
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paddleseg_ext.common.packages import INSTALL_PADDLESEG
from paddleseg_ext.inference.engines.table import ENGINES

PROJECT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = PYPROJECT["optional-dependencies"]
# Environments of their own.
OTHER_SETS = ("numpy1.txt", "paddle26.txt")
# The oldest and the newest Python that pyproject.toml allows.
PYTHONS = ("3.11", "3.13")


def pins_of(path: Path, python: str = PYTHONS[0]) -> list[tuple[str, str]]:
    """Name and version of each pin in a file and those that it includes."""
    found = []
    for line in path.read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += pins_of(path.parent / line[3:], python)
        elif line:
            pinned = Requirement(line)
            if pinned.marker and not pinned.marker.evaluate({"python_version": python}):
                continue
            (only,) = pinned.specifier
            assert only.operator == "==", line
            found.append((canonicalize_name(pinned.name), only.version))
    return found


def pins(python: str) -> dict[str, str]:
    """The pinned version of each package; no two files differ in one."""
    files = [PROJECT / "requirements.txt", *(PROJECT / "requirements").glob("*.txt")]
    found: dict[str, str] = {}
    for path in files:
        if path.name not in OTHER_SETS:
            for name, version in pins_of(path, python):
                assert found.setdefault(name, version) == version, (path.name, name)
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


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_every_pin_is_in_the_range(extra: str, python: str) -> None:
    known = pins(python)
    for requirement in ranges(EXTRAS[extra] if extra else PYPROJECT["dependencies"]):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in known, f"{name} of [{extra}] is pinned nowhere"
        assert requirement.specifier.contains(known[name]), (requirement, known[name])


def test_the_pinned_requirements_are_what_cpu_asks_for() -> None:
    wanted = ranges([*PYPROJECT["dependencies"], *EXTRAS["cpu"]])
    pinned = dict(pins_of(PROJECT / "requirements.txt"))
    assert set(pinned) == {canonicalize_name(requirement.name) for requirement in wanted}


def test_the_extra_onnx_has_what_quantisation_needs() -> None:
    """ONNX Runtime names it in an extra of its own."""
    asked = map(Requirement, metadata.requires("onnxruntime") or [])
    needed = {r.name for r in asked if r.marker and r.marker.evaluate({"extra": "quantization"})}
    names = {canonicalize_name(requirement.name) for requirement in ranges(EXTRAS["onnx"])}
    assert set(map(canonicalize_name, needed)) <= names


def test_paddleseg_is_no_extra() -> None:
    """Its pins would be taken for ours: OpenCV up to 4.6, and with it NumPy 1."""
    asked = {
        r.name for lines in (PYPROJECT["dependencies"], *EXTRAS.values()) for r in ranges(lines)
    }
    assert "paddleseg" not in asked
    (pin,) = pins_of(PROJECT / "requirements" / "paddleseg.txt")
    assert f"pip install --no-deps {'=='.join(pin)}" == INSTALL_PADDLESEG
    makefile = (PROJECT / "Makefile").read_text()
    assert "--no-deps -r requirements/paddleseg.txt" in makefile


@pytest.mark.parametrize("python", PYTHONS)
def test_the_small_serving_environment_has_the_same_versions(python: str) -> None:
    """Label maps of the service are those of `infer`."""
    serving = dict(pins_of(PROJECT / "requirements" / "serve.txt", python))
    everything = dict(pins_of(PROJECT / "requirements.txt", python))
    assert {"numpy", "opencv-python-headless", "paddlepaddle", "pillow"} <= set(serving)
    assert {n: v for n, v in serving.items() if n in everything}.items() <= everything.items()


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
