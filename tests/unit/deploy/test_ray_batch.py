"""A worker of the batch on Ray, and its flags; without Ray."""

import io
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deploy.ray import batch, images, machine
from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError
from paddleseg_ext.common.options import parse_options
from paddleseg_ext.images.header import FORMATS
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

pytest.importorskip("fsspec")
REQUIRED = ["--config", "deploy.yaml", "--images", "images", "--save_dir", "out"]


def options_of(argv: list[str]) -> batch.BatchOptions:
    return parse_options(batch.BatchOptions, "", argv)


MEGAPIXEL = 1_000_000


class FlatNetwork(Engine):
    """Class 1 everywhere, unless it is told to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def run(self, tensor: np.ndarray) -> np.ndarray:
        if self.error:
            raise self.error
        scores = np.zeros((1, 2, *tensor.shape[2:]), np.float32)
        scores[:, 1] = 1
        return scores

    def describe(self) -> RuntimeReport:
        return RuntimeReport("flat")


@pytest.fixture
def network() -> FlatNetwork:
    return FlatNetwork()


@pytest.fixture
def asked(network: FlatNetwork, monkeypatch: pytest.MonkeyPatch) -> list[RuntimeSpec]:
    """The runtimes that were opened."""
    calls: list[RuntimeSpec] = []

    def open_engine(_: Bundle, spec: RuntimeSpec) -> FlatNetwork:
        calls.append(spec)
        return network

    monkeypatch.setattr("paddleseg_ext.inference.predictor.open_engine", open_engine)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    return calls


def bundle_with(transforms: list[dict]) -> Bundle:
    return Bundle(
        deploy_file=Path("deploy.yaml"),
        model_file=Path("model.json"),
        params_file=Path("model.pdiparams"),
        transforms=transforms,
        input_shape=None,
        output_op="none",
        manifest=Manifest("Flat", generic_table(2)),
    )


def segmenter(
    monkeypatch: pytest.MonkeyPatch, out: Path, *flags: str, transforms: list[dict] | None = None
) -> batch.Segmenter:
    monkeypatch.setattr(batch, "read_bundle", lambda _: bundle_with(transforms or []))
    arguments = options_of([*REQUIRED, "--save_dir", str(out), *flags])
    return batch.Segmenter(batch.worker_settings(arguments))


def row_of(worker: batch.Segmenter, path: Path | str) -> dict:
    rows = worker({"input": [str(path)]})
    return {column: values[0] for column, values in rows.items()}


def write_image(path: Path, height: int = 20, width: int = 30) -> Path:
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def test_a_result_whose_place_is_taken_is_that_images_row(
    network: FlatNetwork, asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = segmenter(monkeypatch, tmp_path / "out")
    path = write_image(tmp_path / "a.png")
    (tmp_path / "out" / batch.output_name(str(path))).mkdir(parents=True)
    row = row_of(worker, path)
    assert row["status"] == "error" and "a folder is where" in row["error"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("\n  the runtime says no\nat great length"), "RuntimeError: the runtime"),
        (MemoryError(), "MemoryError"),
        (cv2.error("inside OpenCV"), "error: inside OpenCV"),
        (KeyError("a store's client"), "KeyError: "),
        (ValueError(os.fsdecode(b"\xe9")), r"ValueError: \udce9"),
    ],
)
def test_whatever_an_image_brings_about_is_its_row(
    error: Exception,
    expected: str,
    network: FlatNetwork,
    asked: list[RuntimeSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = segmenter(monkeypatch, tmp_path / "out")
    path = write_image(tmp_path / "a.png")
    network.error = error
    row = row_of(worker, path)
    assert row["status"] == "error" and row["output"] == ""
    assert row["error"].startswith(expected) and row["error"].encode() and "\n" not in row["error"]
    network.error = None
    row = row_of(worker, path)
    assert row["status"] == "done"
    with Image.open(row["output"]) as label_map:
        assert label_map.size == (30, 20) and label_map.getextrema() == (1, 1)


@pytest.mark.parametrize("name", ["gone.png", "a::b.png", "foo://x.png", "empty.png"])
def test_inputs_that_cannot_be_read(
    name: str, asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.png").touch()
    path = name if "//" in name else str(tmp_path / name)
    row = row_of(segmenter(monkeypatch, tmp_path / "out"), path)
    assert row["status"] == "error" and row["error"]


def test_a_result_that_cannot_be_written_ends_the_run(
    asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_bytes(b"a file is in the way")
    with pytest.raises(OSError):
        row_of(segmenter(monkeypatch, tmp_path / "out"), write_image(tmp_path / "a.png"))


def bomb(path: Path, side: int = 12_000) -> Path:
    Image.new("1", (side, side)).save(path)
    return path


def test_too_many_pixels_are_never_decoded(
    asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = segmenter(monkeypatch, tmp_path / "out")
    decoded = []
    monkeypatch.setattr(batch, "decode_image", lambda *given: decoded.append(given))
    row = row_of(worker, bomb(tmp_path / "bomb.png"))
    assert row["status"] == "error" and not decoded
    assert "12000x12000 are more pixels than --max_megapixels 25" in row["error"]


def test_the_limit_is_a_flag(
    asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.png", 100, 100)
    for limit, status in [("0.0099", "error"), ("0.01", "done"), ("0", "done")]:
        worker = segmenter(monkeypatch, tmp_path / "out", "--max_megapixels", limit)
        assert row_of(worker, path)["status"] == status
    enlarging = [{"type": "Resize", "target_size": [200, 100]}]
    worker = segmenter(
        monkeypatch, tmp_path / "out", "--max_megapixels", "0.01", transforms=enlarging
    )
    row = row_of(worker, path)
    assert row["status"] == "error" and "after the bundle's transforms" in row["error"]


def test_headers_of_every_kind() -> None:
    picture = Image.new("RGB", (40, 30))
    for kind in (*FORMATS, "MPO"):  # a JPEG with a second picture behind it
        content = io.BytesIO()
        picture.save(content, kind)
        images.require_few_pixels(content.getvalue(), kind, 1200)
        with pytest.raises(DataError, match=f"{kind}: 40x30 are more pixels"):
            images.require_few_pixels(content.getvalue(), kind, 1199)
    with pytest.raises(DataError, match="an image file is expected"):
        images.require_few_pixels(b"?", "a", 1)
    images.require_few_pixels(b"?", "a", 0)


def test_the_limit_may_exceed_pillows(tmp_path: Path) -> None:
    content = bomb(tmp_path / "a.png", 14_000).read_bytes()  # 196 megapixels; Pillow's end at 179
    before = Image.MAX_IMAGE_PIXELS
    images.require_few_pixels(content, "a", 200 * MEGAPIXEL)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_flags_reach_the_backend(
    asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter(monkeypatch, tmp_path)
    flags = ["--backend", "openvino", "--precision", "int8", "--cpu_threads", "2"]
    segmenter(monkeypatch, tmp_path, *flags)
    segmenter(monkeypatch, tmp_path, "--worker_gpus", "0.5", "--precision", "fp16")
    segmenter(monkeypatch, tmp_path, "--backend", "openvino_int8")
    assert asked == [
        RuntimeSpec("paddle", threads=1),
        RuntimeSpec("openvino", "int8", threads=2),
        RuntimeSpec("paddle", "fp16", "gpu", threads=1),
        RuntimeSpec("openvino", "int8", threads=1),
    ]


def test_num_classes_of_a_graph_that_ends_in_argmax(
    asked: list[RuntimeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = replace(bundle_with([]), output_op="argmax", manifest=None)
    monkeypatch.setattr(batch, "read_bundle", lambda _: silent)
    arguments = options_of([*REQUIRED, "--num_classes", "7"])
    assert batch.Segmenter(batch.worker_settings(arguments))._predictor.class_table.num_classes == 7
    with pytest.raises(UsageError, match="give --num_classes"):
        batch.Segmenter(batch.worker_settings(options_of(REQUIRED)))


def test_a_gpu_must_be_asked_of_ray() -> None:
    with pytest.raises(UsageError, match="--worker_gpus 1"):
        batch.worker_settings(options_of([*REQUIRED, "--device", "gpu"]))


def test_a_precision_that_paddle_lacks_is_found_before_ray_starts() -> None:
    with pytest.raises(UsageError, match="--precision int8: on a CPU"):
        batch.worker_settings(options_of([*REQUIRED, "--precision", "int8"]))


@pytest.mark.parametrize("flags", [["--worker_gpus", "1.5"], ["--max_megapixels", "-1"]])
def test_numbers_that_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options_of([*REQUIRED, *flags])
    assert caught.value.code == 2


def test_names_that_are_not_utf8_are_rows() -> None:
    rows = list(batch.rows_of_unnameable(["good.png", os.fsdecode(b"caf\xe9.png")]))
    assert [row["input"] for row in rows] == [r"caf\udce9.png"]
    assert rows[0]["status"] == "error" and "not UTF-8" in rows[0]["error"]


NODES = [{"CPU": 2.0, "memory": 1e9}, {"CPU": 8.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("cpus", "gpus"), [(9, 0), (1, 2), (1, 1.0001), (9, 1)], ids=["cpus", "gpus", "share", "both"]
)
def test_workers_that_fit_no_node(
    cpus: float, gpus: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        machine.require_room_for(NODES, 1, cpus, gpus, may_grow=False)
    said = str(caught.value)
    assert f"a worker wants {cpus:g} CPUs and {gpus:g} GPUs" in said and "\n" not in said
    assert "2 CPUs and 0 GPUs, 8 CPUs and 1 GPUs" in said and "--autoscaling True" in said
    machine.require_room_for(NODES, 1, cpus, gpus, may_grow=True)
    assert "0 of 1 workers fit now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cpus", "gpus", "fit"), [(1, 0, 10), (3, 0, 2), (1, 1, 1), (0.5, 0.1, 10), (1, 0.5, 2)]
)
def test_how_many_fit(
    cpus: float, gpus: float, fit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.require_room_for(NODES, fit, cpus, gpus, may_grow=False)
    assert capsys.readouterr().out == ""
    machine.require_room_for(NODES, fit + 1, cpus, gpus, may_grow=False)
    assert f"{fit} of {fit + 1} workers fit now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "warned"),
    [("4.5.5", True), ("4.8.0", True), ("4.8.1", False), ("4.14.0", False), ("5.0.0-dev", False)],
)
def test_an_old_opencv_is_named(
    version: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cv2, "__version__", version)
    machine.warn_of_old_opencv()
    said = capsys.readouterr().out
    assert (f"OpenCV {version}" in said and "requirements.txt" in said) == warned
    assert bool(said) == warned


def test_what_ended_a_run_is_one_line() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1\n'
    wrong_use = batch._explained(
        Exception(f"The actor died\n{trace}paddleseg_ext.common.errors.UsageError: mend this")
    )
    assert isinstance(wrong_use, UsageError) and str(wrong_use) == "mend this"
    lost = batch._explained(Exception(f"ray::Map()\n{trace}OSError: [Errno 28] No space left"))
    assert isinstance(lost, CheckFailed) and "Ray gave up: OSError: [Errno 28]" in str(lost)
    assert "Ray gave up: died" in str(batch._explained(Exception("died\n\tactor_id: 1")))
    assert "Ray gave up: Exception" in str(batch._explained(Exception()))
