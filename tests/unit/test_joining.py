"""Version, citation, changelog and templates agree."""

import re
from pathlib import Path

import pytest
import yaml

from paddleseg_ext.common.version import __version__

PROJECT = Path(__file__).resolve().parents[2]
CHANGELOG = (PROJECT / "CHANGELOG.md").read_text()
# https://keepachangelog.com/en/1.1.0/
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
TEMPLATES = sorted((PROJECT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def releases() -> list[tuple[str, str]]:
    """Title and text of each release, the newest first."""
    parts = re.split(r"^## (.*)\n", CHANGELOG, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_version_is_the_same_everywhere() -> None:
    titles = [title for title, _ in releases()]
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert titles[0] == "Unreleased"
    version, date = titles[1].split(" - ")
    assert version == __version__ == citation["version"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date) and date == str(citation["date-released"])
    assert 'dynamic = ["version"]' in (PROJECT / "pyproject.toml").read_text()


def test_the_citation_has_what_its_schema_requires() -> None:
    """Source: https://github.com/citation-file-format/citation-file-format, schema 1.2.0."""
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    assert citation["license"] == "Apache-2.0" and citation["type"] in ("software", "dataset")
    known = {"family-names", "given-names", "name", "affiliation", "orcid", "email", "website"}
    for work in (citation, *citation["references"]):
        assert work["title"] and work["type"] and work["authors"]
        assert all(author and set(author) <= known for author in work["authors"])


@pytest.mark.parametrize(("title", "text"), releases(), ids=lambda value: str(value)[:12].strip())
def test_a_release_has_each_section_once_and_no_line_twice(title: str, text: str) -> None:
    found = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert found == [section for section in SECTIONS if section in found], title
    lines = [line for line in text.splitlines() if len(line) > 12]
    assert len(lines) == len(set(lines)), [line for line in lines if lines.count(line) > 1]
    assert not re.search(r"^(?![-#]|  |$|First release)", text, re.MULTILINE), "not a list"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_issue_templates_ask_for_the_environment(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    assert all(field["attributes"]["label"] for field in form["body"])
    assert "paddleseg-ext doctor --environment" in path.read_text()


def test_the_pull_request_template_asks_for_the_environment() -> None:
    text = (PROJECT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text()
    assert TEMPLATES and "paddleseg-ext doctor --environment" in text
