"""The Chinese pages have the English ones' headings, commands, code words, figures and links."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ZH = PROJECT / "docs" / "zh"
CHINESE = {
    PROJECT / "README_zh.md": PROJECT / "README.md",
    **{path: ZH.parent / path.relative_to(ZH) for path in ZH.rglob("*.md")},
    ZH / "tipc.md": PROJECT / "test_tipc" / "README.md",
}
SWITCH = re.compile(r"^.*简体中文.*$\n?", re.MULTILINE)  # the line that leads to the other language


@dataclass
class Section:
    """A section without its sentences."""

    title: str
    level: int
    blocks: list[str] = field(default_factory=list)
    text: str = ""

    def codes(self) -> set[str]:
        return {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.text)}

    def numbers(self) -> set[str]:
        """Those above 9 or with a fraction; smaller ones may be words."""
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", self.text)
        prose = re.sub(r"(\d+) 万", lambda found: f"{int(found[1]) / 100:g} million", prose)
        found = re.findall(r"(?<![A-Za-z\d.])\d[\d.,]*(?:e-?\d+)?", prose)
        return {number.rstrip(".,") for number in found if len(number.rstrip(".,")) > 1}

    def table_rows(self) -> int:
        return len(re.findall(r"^\|", self.text, re.MULTILINE))

    def links(self, page: Path) -> set[str]:
        found = set()
        for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", self.text):
            if target.startswith("http") or not target:
                found.add(target)
            else:
                path = (page.parent / target).resolve()
                found.add(str(CHINESE.get(path, path).relative_to(PROJECT)))
        return found


def sections(page: Path) -> list[Section]:
    """The sections of a page, code blocks taken out of their text."""
    found = [Section("(before the title)", 0)]
    parts = re.split(r"^(```.*?^```)$", SWITCH.sub("", page.read_text()), flags=re.M | re.S)
    for part in parts:
        if part.startswith("```"):
            found[-1].blocks.append(part)
            continue
        before, *headed = re.split(r"^(#+) (.*)$", part, flags=re.MULTILINE)
        found[-1].text += before
        for level, title, text in zip(headed[::3], headed[1::3], headed[2::3], strict=True):
            found.append(Section(title, len(level), [], text))
    return found


@pytest.mark.parametrize("page", CHINESE, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_chinese_page_has_what_the_english_one_has(page: Path) -> None:
    original = CHINESE[page]
    ours, theirs = sections(page), sections(original)
    assert [s.level for s in ours] == [s.level for s in theirs], (
        f"headings: {[s.title for s in ours]} of {page.name}, "
        f"{[s.title for s in theirs]} of {original.relative_to(PROJECT)}"
    )
    for mine, other in zip(ours, theirs, strict=True):
        where = f"section '{other.title}' of {original.relative_to(PROJECT)}, here '{mine.title}'"
        for number, (block, expected) in enumerate(zip(mine.blocks, other.blocks, strict=False)):
            assert block == expected, f"{where}: code block {number + 1} differs"
        assert len(mine.blocks) == len(other.blocks), f"{where}: number of code blocks"
        for what in ("codes", "numbers"):
            got, wanted = getattr(mine, what)(), getattr(other, what)()
            assert got == wanted, f"{where}: {what} only here {got - wanted}, there {wanted - got}"
        assert mine.table_rows() == other.table_rows(), f"{where}: rows of tables"
        got, wanted = mine.links(page), other.links(original)
        assert got == wanted, f"{where}: links only here {got - wanted}, there {wanted - got}"


@pytest.mark.parametrize("page", CHINESE, ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_language_leads_to_the_other(page: Path) -> None:
    for here, there in ((page, CHINESE[page]), (CHINESE[page], page)):
        line = next(line for line in here.read_text().splitlines()[:8] if "简体中文" in line)
        (target,) = re.findall(r"\]\(([^)]*)\)", line)
        assert (here.parent / target).resolve() == there, here
