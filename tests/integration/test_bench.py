"""`paddleseg-ext bench` on small bundles: two backends, one table."""

import json
from pathlib import Path

import cv2
import numpy as np
from commands import call

from .conftest import Deployment


def test_two_backends_in_one_table(
    deployment: Deployment, onnx_bundle: Path, tmp_path: Path
) -> None:
    film = cv2.VideoWriter(
        str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64)
    )
    for shade in (60, 64, 68):
        film.write(np.full((64, 96, 3), shade, np.uint8))
    film.release()
    backends = ["paddle_onednn", "onnxruntime", "onnxruntime_int8"]
    finished = call(
        "paddleseg_ext", "bench", "--config", onnx_bundle, "--data", deployment.list,
        "--backend", *backends, "--rounds", 3, "--warm_up", 0, "--batch_sizes", 1, 2,
        "--cpu_threads", 1, "--save_dir", tmp_path,
        "--video", tmp_path / "film.mp4",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "onnxruntime_int8: left out" in finished.out and "quantize" in finished.out
    written = json.loads((tmp_path / "bench.json").read_text())
    first, second = written["results"]
    assert [first["stage"], second["stage"]] == backends[:2]
    assert first["mean_iou"] == second["mean_iou"]  # three images, each once
    assert "consistency" in finished.out
    for result in written["results"]:
        assert result["consistency"] > 0.9  # nothing moves
        assert set(result["images_per_second"]) == {"1", "2"}
        assert 0 < result["network_ms"]["p50"] <= result["image_ms"]["p50"]
        assert 0 < result["share_of_peak"] < 1
        assert result["parameters"] > 1e6 and result["peak_memory_mb"] > 50
    assert written["machine"]["peak_gflops"] > 0
    assert (tmp_path / "speed_accuracy.png").stat().st_size > 1000
