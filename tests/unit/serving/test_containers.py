"""What the container files rely on exists; building one needs Docker and a network."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).resolve().parents[3]
FILES = sorted((PROJECT / "deploy" / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_container_file(file: Path) -> None:
    text = file.read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (PROJECT / source).exists()
        assert f"!{source}" in (PROJECT / ".dockerignore").read_text().splitlines()
    flags = re.findall(r'"(--[a-z_]+)"', text)
    flags += re.findall(r"--[a-z]+_[a-z_]+", "\n".join(re.findall(r"^#.*", text, re.MULTILINE)))
    assert "--api_key_file" in flags
    helped = subprocess.run(
        [sys.executable, "-m", "paddleseg_ext", "serve", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert helped.returncode == 0
    assert {"--config", "--host"} <= set(flags)
    assert all(re.search(rf"{flag}\b", helped.stdout) for flag in flags)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_python_and_packages_are_the_projects(file: Path) -> None:
    text = file.read_text().replace("\\\n", " ")
    allowed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    bases = re.findall(r"^FROM python:(\S+?)-slim(?: AS packages)?$", text, re.MULTILINE)
    assert len(bases) == text.count("FROM python:") == 2 and len(set(bases)) == 1
    assert SpecifierSet(allowed).contains(f"{bases[0]}.0")
    # pip installs what the files of requirements pin, and nothing beside it.
    (installs,) = re.findall(r"pip install ([^&\n]+)", text)
    options = r"--no-cache-dir|--disable-pip-version-check|(?:-i|--extra-index-url) https://\S+"
    named = re.sub(options, "", installs).split()
    assert set(named[::2]) == {"-r"}
    copied = {Path(name).name for name in re.findall(r"requirements/\w+\.txt|serve\.txt", text)}
    copied |= {f"{extra}.txt" for extra in re.findall(r"ARG EXTRA=(\S+)", text)}
    assert {Path(name).name for name in named[1::2]} - {"$EXTRA.txt"} <= copied
    for name in copied:
        lines = (PROJECT / "requirements" / name).read_text().splitlines()
        assert all("==" in line for line in lines if line and line[0] not in "#-"), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_runs_as_a_user_by_number(file: Path) -> None:
    """Kubernetes' runAsNonRoot takes no name; nothing runs as root after it."""
    last_stage = file.read_text().rpartition("\nFROM ")[2]
    before, _, after = last_stage.partition("\nUSER ")
    user = after.splitlines()[0]
    assert user.isdecimal() and int(user) > 0
    assert f"useradd --uid {user} " in before
    assert not re.search(r"^(RUN|COPY|ADD|USER) ", after, re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_container_linter_is_content(file: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.is_file():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
