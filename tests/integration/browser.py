"""Chromium, for tests of the pages that this project writes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

COUNT_IMAGES = """<script>addEventListener("load", () => {
  const images = [...document.images];
  const loaded = images.filter(image => image.complete && image.naturalWidth > 0);
  document.title = `loaded ${loaded.length} of ${images.length}`;
});</script>"""


def find_browser() -> str:
    """The program; skips the test where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium")
    return browser


def count_images(page: str, folder: Path) -> tuple[int, int]:
    """How many images a browser shows of a page, and how many there are."""
    counting = folder / "counting.html"
    counting.write_text(page.replace("</body>", COUNT_IMAGES + "</body>"))
    command = [find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'profile'}", counting.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>loaded (\d+) of (\d+)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    return int(found[1]), int(found[2])
