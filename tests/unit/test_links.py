"""Every link of every page leads to a file that exists, and to a heading that it has."""

import re
from collections import Counter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for pattern in (
        "*.md",
        ".github/**/*.md",
        "docs/**/*.md",
        "test_tipc/*.md",
        "test_tipc/docs/*.md",
        "configs/**/*.md",
        "deploy/**/*.md",
        "examples/**/*.md",
        "benchmarks/**/*.md",
        "tests/**/*.md",
    )
    for page in PROJECT.glob(pattern)
)


def prose(page: Path) -> str:
    """The page without its blocks of code and its `code`."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


def links(page: Path) -> list[str]:
    """Targets within the repository: `FILE`, `FILE#HEADING` or `#HEADING`."""
    text = prose(page)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", text)
    found += re.findall(r"^ *\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    found += re.findall(r"(?:href|src)=[\"']([^\"']+)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.*?) *#*$", text, re.MULTILINE)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title).lower() for title in titles]
    anchors = [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles]
    seen: Counter[str] = Counter()
    for number, anchor in enumerate(anchors):
        if seen[anchor]:
            anchors[number] = f"{anchor}-{seen[anchor]}"
        seen[anchor] += 1
    return set(anchors)


def dead_links(page: Path) -> list[str]:
    """Those that lead out of the project, to no file, or to no heading."""
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if PROJECT not in target.parents or not target.exists():
            dead.append(f"{link}: no such file")
        elif anchor and (target.suffix != ".md" or anchor not in headings(target)):
            dead.append(f"{link}: no such heading")
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not dead_links(page)


def test_dead_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PROJECT", tmp_path)
    (tmp_path / "there.md").write_text("# Über `a`, [b](x)\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#über-a-b) [a](there.md#twice-1) [a](https://x) `[a](code.md)`\n"
        "```\n[a](block.md)\n```\n"
        "[a](gone.md) [a](there.md#twice-2) [a](#gone) [`x`](../out.md) [ref]\n\n[ref]: gone2.md\n"
        '<img src="gone.png">\n'
    )
    assert [link.partition(":")[0] for link in dead_links(page)] == [
        "gone.md",
        "there.md#twice-2",
        "#gone",
        "../out.md",
        "gone2.md",
        "gone.png",
    ]
