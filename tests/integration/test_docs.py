"""Commands of the pages: bash blocks are run, console blocks name real flags."""

import re
import shlex
from pathlib import Path

import pytest
from commands import PROJECT, call

PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "test_tipc/**/*.md",
        "configs/**/*.md",
        "deploy/**/*.md",
    )
    for page in PROJECT.glob(pattern)
)
# The Chinese pages have the English ones' commands (tests/unit/test_chinese_pages.py).
RUN = [page for page in PAGES if "zh" not in page.parts and page.name != "README_zh.md"]


def blocks(page: Path, language: str) -> list[list[str]]:
    """The commands of each block of a language, continued lines joined."""
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    joined = [block.replace("\\\n", " ") for block in found]
    return [[line for line in block.splitlines() if line.strip()] for block in joined]


def words(command: str) -> list[str]:
    """The command without what only starts it."""
    parts = shlex.split(command, comments=True)
    if "paddle.distributed.launch" in parts and "train.py" in parts:
        return ["python", *parts[parts.index("train.py") :]]
    if "paddle.distributed.launch" in parts:
        return ["paddleseg-ext", *parts[parts.index("paddleseg-ext)") + 1 :]]
    return parts


def script_of(parts: list[str]) -> tuple[str, list[str]] | None:
    """For `call`: script or module, and its arguments; None for a program that is not ours."""
    if parts[0] == "paddleseg-ext":
        return "paddleseg_ext", parts[1:]
    if parts[:2] == ["python", "-m"]:
        return parts[2], parts[3:]
    return (parts[1], parts[2:]) if parts[0] == "python" else None


@pytest.mark.parametrize("page", RUN, ids=lambda p: str(p.relative_to(PROJECT)))
def test_bash_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    for command in (c for block in blocks(page, "bash") for c in block):
        parts = words(command)
        if parts[0] == "make":
            assert re.search(rf"^{parts[1]}:", (PROJECT / "Makefile").read_text(), re.MULTILINE)
            continue
        ours = script_of(parts)
        assert ours, command
        finished = call(ours[0], *ours[1])
        assert finished.status == 0, f"{command}\n{finished.out[-2000:]}\n{finished.err[-2000:]}"


@pytest.mark.parametrize("page", RUN, ids=lambda p: str(p.relative_to(PROJECT)))
def test_console_blocks_name_real_commands_and_flags(page: Path) -> None:
    for command in (c for block in blocks(page, "console") for c in block):
        parts = words(command)
        if parts[0] == "bash":
            assert (PROJECT / parts[1]).is_file(), command
        ours = script_of(parts)
        if not ours:
            continue
        script, arguments = ours
        verb = arguments[: 2 if arguments[:1] == ["data"] else 1]
        verb = verb if script == "paddleseg_ext" else []
        helped = call(script, *verb, "--help")
        assert helped.status == 0, command
        for flag in (p.partition("=")[0] for p in parts if p.startswith("--")):
            assert re.search(rf"{flag}\b", helped.out), f"{flag} of: {command}"


INLINE = re.compile(r"`(paddleseg-ext [^`]+)`")


def test_features_name_real_commands_flags_and_files() -> None:
    text = (PROJECT / "docs/features.md").read_text()
    for command in sorted(set(re.findall(r"`(paddleseg-ext [^`]+)`", text))):
        verb, *rest = command.split()[1:]
        if verb in ("data", "tipc", "config"):
            finished = call("paddleseg_ext", verb, rest.pop(0), "--help")
        else:
            finished = call("paddleseg_ext", verb, "--help")
        assert finished.status == 0, command
        for word in (word for word in rest if word not in ("True", "False")):
            assert re.search(rf"(?<![\w-]){word}\b", finished.out), f"{word} of: {command}"
    for path in re.findall(r"`((?:configs|test_tipc)/[^`]*)`", text):
        assert (PROJECT / path).exists(), path
