"""The page in a headless browser, as a person uses it: with a mouse, with keys, on a phone."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.outputs import blend

from .browser import find_browser
from .conftest import Deployment, load_script
from .serving import Server, serving

playwright_api = pytest.importorskip("playwright.sync_api")
WAIT_MS = 60_000
SAME_NETWORK = ["--cpu_threads", "1", "--enable_mkldnn", "True"]
PHONE = {"width": 360, "height": 740}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    with serving(bundle, "--backend", "paddle_onednn") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The opened page; nothing may be said on the console, least of all by the content policy."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto(server.url)
    yield page
    context.close()
    # A refusal is said on the console by the browser itself.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def wait_for(page: Any, text: str) -> None:
    playwright_api.expect(page.locator("#status")).to_contain_text(text, timeout=WAIT_MS)


def downloaded(page: Any, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def test_an_upload_shows_what_infer_writes(
    page: Any, bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    image_file = deployment.list.parent / "city1" / "frame.png"
    arguments = ["--config", str(bundle), "--image_path", str(image_file), "--device", "cpu"]
    load_script("infer").main([*arguments, *SAME_NETWORK, "--save_dir", str(tmp_path)])
    page.set_input_files("#file", image_file)
    wait_for(page, "Done: frame.png, 80 x 48 pixels")

    labels = downloaded(page, "Download label map")
    assert labels == (tmp_path / "label_maps" / "frame.png").read_bytes()

    label_map = np.asarray(Image.open(io.BytesIO(labels)))
    shown = np.asarray(Image.open(io.BytesIO(downloaded(page, "Download overlay"))).convert("RGB"))
    manifest = read_bundle(bundle).manifest
    assert manifest is not None
    expected = blend(read_image(image_file), label_map, manifest.class_table)
    assert np.abs(shown.astype(int) - expected).max() <= 1  # rounding
    overlay = read_image(tmp_path / "overlays" / "frame.jpg")
    assert np.abs(shown.astype(int) - overlay).mean() < 6  # infer.py's is a JPEG

    ids, counts = np.unique(label_map, return_counts=True)
    rows = page.locator("#legend tr").all_inner_texts()
    assert len(rows) == len(ids)
    assert f"{100 * counts.max() / label_map.size:.1f}%" in rows[0]
    steps = page.locator("#timings tr").all_inner_texts()
    assert [step.split("\t")[0] for step in steps[:2]] == ["decode", "preprocess"]

    box = page.locator("#photo").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 20.5 / 80, box["y"] + box["height"] * 10.5 / 48)
    name = manifest.class_table.class_names[label_map[10, 20]]
    assert page.locator("#hover").inner_text() == f"{name} (20, 10)"


def test_sliders_and_legend_change_the_picture(page: Any, deployment: Deployment) -> None:
    page.set_input_files("#file", deployment.list.parent / "city0" / "frame.png")
    wait_for(page, "Done")
    opacity = page.get_by_label("Opacity")
    opacity.focus()
    opacity.press("Home")
    image = np.asarray(Image.open(io.BytesIO(downloaded(page, "Download overlay"))).convert("RGB"))
    np.testing.assert_array_equal(image, read_image(deployment.list.parent / "city0" / "frame.png"))
    assert page.locator("#colors").evaluate("canvas => canvas.style.opacity") == "0"
    split = page.get_by_label("Before / after")
    split.focus()
    split.press("End")
    style = page.locator("#colors").evaluate("canvas => canvas.style.clipPath")
    assert "100%" in style and page.locator("#divider").is_visible()
    painted = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
      .data.filter((value, at) => at % 4 === 3 && value).length"""
    before = page.locator("#colors").evaluate(painted)
    page.locator("#legend input").first.press("Space")
    after = page.locator("#colors").evaluate(painted)
    assert before == 64 * 96 and after < before


@pytest.mark.slow
def test_with_keys_alone(page: Any) -> None:
    """Tab to a sample, take it, walk over the result."""
    sample = page.get_by_role("button", name="Sample street 2")
    for _ in range(8):
        page.keyboard.press("Tab")
        if sample.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    wait_for(page, "Done: 1.png, 384 x 192 pixels")
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#hover").inner_text()
    page.keyboard.press("ArrowDown")
    assert "(200, 96)" in first and "(200, 104)" in page.locator("#hover").inner_text()


@pytest.mark.slow
def test_a_pasted_and_a_dropped_image(page: Any) -> None:
    for event, carrier in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(
            """async ([kind, carrier]) => {
              const blob = await (await fetch("/samples/0.png")).blob();
              const data = new DataTransfer();
              data.items.add(new File([blob], `${kind}.png`, { type: "image/png" }));
              const event = new Event(kind, { bubbles: true, cancelable: true });
              event[carrier] = data;
              document.body.dispatchEvent(event);
            }""",
            [event, carrier],
        )
        wait_for(page, f"Done: {event}.png")


def test_a_refusal_is_said(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    with page.expect_response("**/v1/segment*") as response:
        page.set_input_files("#file", tmp_path / "notes.png")
    assert response.value.status == 415
    wait_for(page, "an image file is expected (PNG, JPEG, WEBP, BMP)")
    assert page.locator("#view").is_hidden()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(scheme: str, browser: Any, server: Server) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(server.url)
    page.get_by_role("button", name="Sample street 1").click()
    wait_for(page, "Done")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in colour[4:-1].split(",")) / 3
    assert lightness > 200 if scheme == "light" else lightness < 60
    context.close()


@pytest.mark.slow
def test_every_control_has_a_name(page: Any) -> None:
    page.get_by_role("button", name="Sample street 1").click()
    wait_for(page, "Done")
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, [tabindex]")].filter((element) =>
          !element.ariaLabel && !element.labels?.length && !element.innerText?.trim()
          && !element.querySelector("img[alt]")).map((element) => element.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1 and page.locator("html").get_attribute("lang") == "en"


def test_confidence_in_place_of_the_classes(
    page: Any, bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    image_file = deployment.list.parent / "city1" / "frame.png"
    arguments = ["--config", str(bundle), "--image_path", str(image_file), "--device", "cpu"]
    flags = ["--save_confidence", "--save_dir", str(tmp_path)]
    load_script("infer").main([*arguments, *SAME_NETWORK, *flags])
    expected = np.asarray(Image.open(tmp_path / "confidence/frame.png"))
    page.set_input_files("#file", image_file)
    wait_for(page, "Done: frame.png, 80 x 48 pixels")
    classes = page.locator("#colors").evaluate("canvas => canvas.toDataURL()")
    page.get_by_label("Confidence instead of classes").check()
    wait_for(page, f"Confidence: {(expected < 127.5).mean():.1%} of the pixels are below 0.5.")
    painted = """canvas => Array.from(canvas.getContext("2d")
      .getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 0))"""
    shown = page.locator("#colors").evaluate(painted)
    assert shown == expected.ravel().tolist()
    assert page.locator("#colors").evaluate("canvas => canvas.toDataURL()") != classes
    page.locator("#stage").press("ArrowRight")
    assert ", confidence 0." in page.locator("#hover").inner_text()
    page.get_by_label("Confidence instead of classes").uncheck()
    assert page.locator("#colors").evaluate("canvas => canvas.toDataURL()") == classes
