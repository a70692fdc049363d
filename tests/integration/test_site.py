"""The site of `make docs`: built without a warning, whole and searchable without network."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from commands import PROJECT

from .browser import find_browser

pytest.importorskip("sphinx")
pytest.importorskip("autoapi")
# What a browser loads by itself: addresses of these attributes, of style sheets, of scripts.
LOADED = re.compile(
    r"<(?:img|script|iframe|source|video|audio|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//"
    r"|\b(?:url|fetch|import)\([\"']?(?:https?:)?//|@import [\"'](?:https?:)?//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the Makefile builds it, with a Paddle that cannot be imported."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("paddle", "paddleseg", "cv2"):
        (folder / "broken").mkdir(exist_ok=True)
        (folder / "broken" / f"{name}.py").write_text("raise SystemExit('imported')\n")
    build(folder, PYTHONPATH=str(folder / "broken"))
    return folder / "html"


def build(folder: Path, *flags: str, **environment: str) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    command += ["-c", "docs/site", "-d", str(folder / "cache"), *flags]
    command += [".", str(folder / "html")]
    given = {**os.environ, **environment}
    built = subprocess.run(command, cwd=PROJECT, env=given, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]


def test_the_pages_are_read_without_a_warning(tmp_path: Path) -> None:
    """Each is in the table of contents, its links lead to pages, its code is of its language."""
    build(tmp_path, "-t", "pages", "-b", "dummy")


def test_the_makefile_builds_it_so() -> None:
    makefile = (PROJECT / "Makefile").read_text().replace("\\\n\t\t", "")
    assert "-m sphinx --quiet --fail-on-warning --keep-going" in makefile
    assert "-c docs/site" in makefile and ". output/site" in makefile


@pytest.mark.slow
def test_both_languages_and_the_reference_are_there(site: Path) -> None:
    for page in PROJECT.glob("docs/**/*.md"):
        assert (site / page.relative_to(PROJECT).with_suffix(".html")).is_file(), page
    assert "README_zh.html" in (site / "index.html").read_text()
    predictor = (site / "api/paddleseg_ext/inference/predictor/index.html").read_text()
    assert 'id="paddleseg_ext.inference.predictor.Predictor.stream"' in predictor


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert LOADED.search('<script src="https://cdn.example/x.js">')
    for path in site.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            found = LOADED.search(path.read_text())
            assert not found, f"{path.relative_to(site)}: {found[0]}"


@pytest.mark.slow
def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    ids = {path: set(re.findall(r"\bid=\"([^\"]+)\"", text)) for path, text in pages.items()}
    for page, text in pages.items():
        for link in set(re.findall(r"\b(?:href|src)=\"([^\"]+)\"", text)):
            if re.match(r"[a-z]+:|#$", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (page.parent / file.partition("?")[0]).resolve() if file else page
            assert target.exists(), f"{page.relative_to(site)}: {link}"
            assert not anchor or target not in ids or anchor in ids[target], (
                f"{page.relative_to(site)}: {link}"
            )


@pytest.fixture
def search(site: Path) -> Iterator[Any]:
    """Returns the addresses that a search finds, in a browser without network, from the disk."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(offline=True)
        page = context.new_page()

        def found(words: str) -> list[str]:
            page.goto((site / "search.html").as_uri() + f"?q={words}")
            api.expect(page.locator("#search-results h2 ~ p")).to_contain_text(
                re.compile("found|did not match"), timeout=60_000
            )
            links = page.locator("#search-results ul.search li > a").all()
            return [link.get_attribute("href") or "" for link in links]

        yield found
        browser.close()


@pytest.mark.slow
def test_search_finds_both_languages_and_the_reference(search: Any) -> None:
    assert any("docs/trust.html" in link for link in search("calibrate temperature"))
    # A word by itself in one page, within a sentence in the other.
    for page in ("docs/zh/runs.html", "docs/zh/training.html"):
        assert any(page in link for link in search("学习率")), page
    assert any("RuntimeSpec" in link for link in search("RuntimeSpec"))
    assert search("nowherewordthatis") == []
