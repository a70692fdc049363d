"""The page of `export --web` in headless Chromium, beside `infer`."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import write_json
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.scenes import draw_scene
from paddleseg_ext.inference.bundle import read_bundle, record_calibration
from paddleseg_ext.inference.calibration import Calibration
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.web import runtime_files
from paddleseg_ext.inference.web.folder import write_web
from paddleseg_ext.scoring.verdict import FAILED, judge_image

from .browser import find_browser
from .conftest import Deployment, load_script
from .serving import serving

playwright_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("paddle2onnx")
WAIT_MS = 60_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PHONE = {"width": 360, "height": 740}
MEMORY = 1.05  # after the last image, of that after the first tenth


@pytest.fixture(scope="module")
def archive() -> Path:
    """ONNX Runtime Web; skips where it is neither in the cache nor reachable."""
    try:
        return runtime_files.require_archive("--web")
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle(deployment: Deployment) -> Path:
    return deployment.export(deployment.config, onnx=True).parent


@pytest.fixture(scope="module")
def folder(bundle: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_web(read_bundle(bundle), tmp_path_factory.mktemp("web") / "page").parent


class _Handler(SimpleHTTPRequestHandler):
    isolated = False

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _IsolatedHandler(_Handler):
    isolated = True


def serve_files(folder: Path, handler: type = _Handler) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    server = serve_files(folder)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The opened page, ready; nothing may be said on the console."""
    context = browser.new_context()
    yield from opened(context, address)
    context.close()


def opened(context: Any, address: str) -> Iterator[Any]:
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto(address)
    wait_for(page, "Ready")
    yield page
    assert complaints == []


def wait_for(page: Any, text: str) -> None:
    playwright_api.expect(page.locator("#status")).to_contain_text(text, timeout=WAIT_MS)


def label_map(page: Any, file: Path) -> np.ndarray:
    """The label map that the page makes of a file."""
    page.set_input_files("#file", file)
    playwright_api.expect(page.locator("#status")).to_contain_text(
        f"Done: {file.name}", timeout=4 * WAIT_MS
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="Download label map").click()
    return np.asarray(Image.open(download.value.path()))


def judged(predictor: Predictor, file: Path, got: np.ndarray) -> None:
    """No pixel is another one, but where the network is undecided."""
    prepared = predictor.prepare(file)
    ran = predictor.run(prepared.tensor[None], [prepared.geometry])
    scores = predictor.postprocess.full_logits(ran.outputs[0], ran.geometries[0])
    expected = predictor(file).label_map
    verdict = judge_image(file.name, expected, got, scores)
    assert verdict.grade != FAILED, f"{file.name}: {verdict.reason}"


def write_scenes(folder: Path, count: int) -> list[Path]:
    """Drawn streets of many sizes, as PNG."""
    files = []
    for number in range(count):
        size_wh = (96 + 13 * (number % 5), 64 + 9 * (number % 3))
        file = folder / f"scene{number:02d}.png"
        Image.fromarray(draw_scene(number, size_wh)[0]).save(file)
        files.append(file)
    return files


def test_label_maps_are_those_of_infer_also_without_network(
    page: Any, bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    """After loading nothing is asked for, and nothing is missed."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    with Predictor.open(bundle, "onnxruntime", threads=1) as predictor:
        for file in write_scenes(tmp_path, 20):
            judged(predictor, file, label_map(page, file))
    assert [url for url in asked if not url.startswith(("blob:", "data:"))] == []
    steps = page.locator("#timings tr").all_inner_texts()
    names = ["decode", "preprocess", "network", "postprocess", "in all"]
    assert [step.split("\t")[0] for step in steps] == names
    assert "BiSeNetV1, 5 classes, FP32, WebAssembly" in page.locator("#model").inner_text()


PAINTED = """canvas => Array.from(canvas.getContext("2d")
  .getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 0))"""


def test_confidence_in_place_of_the_classes(
    browser: Any, bundle: Path, archive: Path, tmp_path: Path
) -> None:
    """By the bundle's temperatures, as `infer` writes it; a page without scores says why not."""
    own = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    record_calibration(read_bundle(own), Calibration(2.0, [0.5, 2.0, 1.0, 0.25, 3.0]))
    page_folder = write_web(read_bundle(own), tmp_path / "page").parent
    (file,) = write_scenes(tmp_path, 1)
    with Predictor.open(own, "onnxruntime", threads=1, outputs={"confidence"}) as predictor:
        expected = np.rint(255 * predictor(file).confidence)
    server = serve_files(page_folder)
    address = f"http://127.0.0.1:{server.server_port}/"
    context = browser.new_context()
    for page in opened(context, address):
        label_map(page, file)
        classes = page.locator("#colors").evaluate(PAINTED)
        box = page.get_by_label("Confidence instead of classes")
        box.check()
        wait_for(page, "of the pixels are below 0.5")
        shown = np.array(page.locator("#colors").evaluate(PAINTED)).reshape(expected.shape)
        assert expected.max() - expected.min() > 50
        np.testing.assert_allclose(shown, expected, rtol=0, atol=1)
        page.locator("#stage").press("ArrowRight")
        assert ", confidence 0." in page.locator("#hover").inner_text()
        box.uncheck()
        assert page.locator("#colors").evaluate(PAINTED) == classes
        box.check()
        label_map(page, file)
        assert not box.is_checked()  # of another image it is not known yet
    model = json.loads((page_folder / "model.json").read_text())
    write_json(page_folder / "model.json", model | {"no_confidence": "no scores"})
    for page in opened(context, address):
        label_map(page, file)
        assert page.get_by_label("Confidence instead of classes").is_hidden()
        assert page.get_by_text("Confidence is not offered: no scores.").is_visible()
    context.close()
    server.shutdown()


def test_files_of_other_kinds(page: Any, bundle: Path, tmp_path: Path) -> None:
    """Alpha and 16 bits change nothing; lossless WebP keeps its colours under alpha, too."""
    rng = np.random.default_rng(0)
    rgba = cv2.resize(rng.integers(0, 256, (8, 12, 4), dtype=np.uint8), (96, 64))
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    Image.fromarray(rgba).save(tmp_path / "alpha.webp", lossless=True, exact=True)
    Image.fromarray(rgba[:, :, :3].copy()).save(tmp_path / "plain.bmp")
    cv2.imwrite(str(tmp_path / "deep.png"), rgba[:, :, :3].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgba[:, :, :3].copy()).save(tmp_path / "turned.png", exif=exif)
    with Predictor.open(bundle, "onnxruntime", threads=1) as predictor:
        for file in sorted(tmp_path.iterdir()):
            got = label_map(page, file)
            assert got.shape == read_image(file).shape[:2], file.name
            judged(predictor, file, got)
        jpeg = tmp_path / "photo.jpg"
        Image.fromarray(draw_scene(0, (96, 64))[0]).save(jpeg, quality=95, exif=exif)
        judged(predictor, jpeg, label_map(page, jpeg))


def test_a_wrong_file_is_said(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    page.set_input_files("#file", tmp_path / "notes.png")
    wait_for(page, "an image file is expected (PNG, JPEG, WEBP, BMP)")
    Image.new("RGB", (40, 30)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    page.set_input_files("#file", tmp_path / "cut.png")
    playwright_api.expect(page.locator("#status.bad")).to_be_visible()
    assert page.locator("#view").is_hidden()


def test_a_camera_until_it_is_stopped(page: Any) -> None:
    """Chromium's fake camera."""
    page.get_by_role("button", name="Camera").click()
    wait_for(page, "Done: camera")
    stop = page.get_by_role("button", name="Stop the camera")
    first = page.locator("#photo").evaluate("canvas => canvas.toDataURL()")
    page.wait_for_function(
        "first => document.getElementById('photo').toDataURL() !== first", arg=first
    )
    stop.click()
    playwright_api.expect(page.get_by_role("button", name="Camera")).to_have_attribute(
        "aria-pressed", "false"
    )


@pytest.mark.slow
def test_memory_is_steady_over_100_images(page: Any, browser: Any, tmp_path: Path) -> None:
    session = browser.new_browser_cdp_session()

    def resident() -> int:
        """KiB of all processes of the browser, after its garbage was collected."""
        page.evaluate("window.gc?.()")
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        total = 0
        for process in processes:
            status = Path(f"/proc/{process['id']}/status").read_text()
            total += int(status.split("VmRSS:")[1].split()[0])
        return total

    files = write_scenes(tmp_path, 10)
    sizes = []
    for number in range(100):
        file = files[number % 10]
        page.set_input_files("#file", file)
        wait_for(page, f"Done: {file.name}")
        if number % 10 == 9:
            sizes.append(resident())
    assert sizes[-1] < MEMORY * sizes[1], sizes


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_with_keys(scheme: str, browser: Any, address: str) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)
    for page in opened(context, address):
        page.get_by_role("button", name="Sample street 1").focus()
        page.keyboard.press("Enter")
        wait_for(page, "Done: 0.png, 384 x 192 pixels")
        page.locator("#stage").press("ArrowRight")
        assert "(200, 96)" in page.locator("#hover").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness = sum(int(part) for part in colour[4:-1].split(",")) / 3
        assert lightness > 200 if scheme == "light" else lightness < 60
    context.close()


def test_several_threads_where_the_server_isolates(
    browser: Any, folder: Path, bundle: Path, deployment: Deployment
) -> None:
    server = serve_files(folder, _IsolatedHandler)
    context = browser.new_context()
    file = deployment.list.parent / "city1" / "frame.png"
    for page in opened(context, f"http://127.0.0.1:{server.server_port}/"):
        cores = page.evaluate("navigator.hardwareConcurrency")
        assert page.evaluate("crossOriginIsolated") and cores > 1
        assert f"{min(cores, 8)} threads" in page.locator("#model").inner_text()
        with Predictor.open(bundle, "onnxruntime", threads=1) as predictor:
            judged(predictor, file, label_map(page, file))
    context.close()
    server.shutdown()


@pytest.mark.slow
def test_the_service_offers_it(
    browser: Any, folder: Path, bundle: Path, deployment: Deployment
) -> None:
    """The same page, isolated by the service's headers and under its content policy."""
    with serving(bundle, "--backend", "onnxruntime", "--web", str(folder)) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.get_by_role("link", name="Run it in this browser").click()
        wait_for(page, "Ready")
        assert page.evaluate("crossOriginIsolated")
        file = deployment.list.parent / "city1" / "frame.png"
        with Predictor.open(bundle, "onnxruntime", threads=1) as predictor:
            judged(predictor, file, label_map(page, file))
        context.close()


@pytest.mark.slow
def test_int8_and_webgpu_by_its_switches(
    bundle: Path, deployment: Deployment, archive: Path, tmp_path: Path
) -> None:
    """WebGPU on Chromium's software adapter."""
    page_folder, int8 = tmp_path / "page", tmp_path / "int8"
    flags = ["--config", str(bundle / "deploy.yaml"), "--data", str(deployment.list)]
    flags += ["--sensitivity", "False", "--keep_float", "0", "--save_dir", str(int8)]
    with contextlib.suppress(CheckFailed):  # the weights are random
        load_script("quantize").main([*flags, "--web", str(page_folder)])
    server = serve_files(page_folder)
    file = deployment.list.parent / "city1" / "frame.png"
    software = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    software += ["--use-vulkan=swiftshader", "--enable-features=Vulkan", "--no-sandbox"]
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=software)
        page = browser.new_page()
        page.set_default_timeout(4 * WAIT_MS)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        wait_for(page, "Ready")
        page.get_by_label("Graph").select_option("int8")
        playwright_api.expect(page.locator("#model")).to_contain_text("INT8", timeout=WAIT_MS)
        with Predictor.open(int8, "onnxruntime_int8", threads=1) as predictor:
            assert (label_map(page, file) != predictor(file).label_map).mean() < 0.01
        page.get_by_label("Graph").select_option("fp32")
        if page.get_by_label("Runs on").is_visible():
            page.get_by_label("Runs on").select_option("webgpu")
            playwright_api.expect(page.locator("#model")).to_contain_text("WebGPU", timeout=WAIT_MS)
            with Predictor.open(bundle, "onnxruntime", threads=1) as predictor:
                judged(predictor, file, label_map(page, file))
        browser.close()
    server.shutdown()
