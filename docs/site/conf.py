"""Sphinx builds one site of all pages, in both languages, and the API reference: `make docs`.

The pages are those that GitHub shows, at the places they have. autoapi reads the docstrings without
importing the package, so neither Paddle nor an engine has to be installed.
"""

import re
import sys
from pathlib import Path

from sphinx import search
from sphinx.application import Sphinx

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))
from paddleseg_ext.common.version import __version__  # noqa: E402

project = "paddleseg_ext"
author = "the authors of paddleseg_ext"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]
include_patterns = [
    "*.md",
    "docs/**.md",
    "configs/**.md",
    "deploy/**.md",
    "examples/**.md",
    "test_tipc/**.md",
    "api/**",
]
exclude_patterns = [".*", "output", "build", "test_tipc/output", "test_tipc/data"]
root_doc = "README"
nitpicky = False

myst_heading_anchors = 4  # as GitHub makes them
myst_linkify = False

# What a page's group is called, and its pages; README.md gets them as hidden tables of contents.
NAVIGATION = {
    "Use": (
        "docs/tutorial docs/data docs/own_data docs/training docs/runs docs/distributed "
        "docs/configs docs/paddleseg docs/python docs/evaluation docs/deployment "
        "docs/quantization docs/gpu docs/cpp docs/web docs/edge docs/parity docs/trust "
        "test_tipc/README docs/performance docs/serving deploy/README docs/scale examples/*"
    ),
    "Networks and results": "docs/networks docs/adding_a_model configs/*/README docs/results/*",
    "Project": (
        "docs/features docs/platform docs/design CONTRIBUTING SECURITY CHANGELOG test_tipc/docs/*"
    ),
    "中文": "README_zh docs/zh/* docs/zh/results/*",
    "Reference": "api/paddleseg_ext/index",
}

if tags.has("pages"):  # noqa: F821 (Sphinx defines it); `-t pages` leaves the reference out
    extensions.remove("autoapi.extension")
    del NAVIGATION["Reference"]

autoapi_dirs = [str(PROJECT / "paddleseg_ext")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_own_page_level = "module"
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
napoleon_use_ivar = True  # a field is documented once, by autoapi
suppress_warnings = ["autoapi.python_import_resolution"]  # A, B = "a", "b" is not followed

html_theme = "furo"
html_title = f"paddleseg_ext {release}"
html_show_sourcelink = False
html_copy_source = False
templates_path = ["templates"]
html_additional_pages = {"index": "start.html"}


class BothLanguages(search.languages["en"]):
    """English, and Chinese by every two to four characters: its words stand without spaces."""

    def split(self, text: str) -> list[str]:
        """Words of `text`; one of up to four characters is found in any sentence."""
        return super().split(text) + [
            run[start : start + length]
            for run in re.findall(r"[\u4e00-\u9fff]{2,}", text)
            for length in (2, 3, 4)
            for start in range(len(run) - length + 1)
        ]


search.languages["en"] = BothLanguages


def add_navigation(app: Sphinx, name: str, content: list[str]) -> None:
    """Appends the tables of contents to the first page, which GitHub shows without."""
    if name == root_doc:
        for caption, pages in NAVIGATION.items():
            listed = "\n".join(pages.split())
            content[0] += (
                f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{listed}\n```\n"
            )


def write_restructured(
    app: Sphinx, kind: str, name: str, thing: None, options: None, lines: list[str]
) -> None:
    """Replaces a docstring by itself in Sphinx's words: see `restructured`."""
    lines[:] = restructured("\n".join(lines)).splitlines()


def restructured(docstring: str) -> str:
    """The docstring with `code` and indented examples in Sphinx's marks, and the rest as text."""
    # An example is indented below an empty line, and ends where the text goes on.
    parts = re.split(r"((?:\A|(?<=\n\n))(?: {2,}\S.*\n|\n(?= ))+)", docstring + "\n")
    parts[1::2] = [f"::\n\n{example}\n" for example in parts[1::2]]
    parts[::2] = [MARKS.sub(_escaped, text) for text in parts[::2]]
    return "".join(parts)


MARKS = re.compile(r"`([^`]+)`(?=(\w?))|[*|\\]|_(?!\w)")


def _escaped(mark: re.Match) -> str:
    if not mark[1]:
        return "\\" + mark[0]
    return f"``{mark[1]}``" + ("\\ " if mark[2] else "")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", write_restructured, priority=1)  # before napoleon
