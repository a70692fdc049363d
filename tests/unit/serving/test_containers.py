"""What the container files rely on exists; building one needs Docker and a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
FILES = sorted((PROJECT / "deploy" / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_container_file(file: Path) -> None:
    text = file.read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (PROJECT / source).exists()
        assert f"!{source}" in (PROJECT / ".dockerignore").read_text().splitlines()
    assert re.search(r"^USER (?!root)\S+", text, re.MULTILINE)
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
