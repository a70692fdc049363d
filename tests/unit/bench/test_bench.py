"""The benchmark's arithmetic, its marks, what it refuses, and its processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paddleseg_ext.bench import run as run_module
from paddleseg_ext.bench import worker as worker_module
from paddleseg_ext.bench.picture import place_labels
from paddleseg_ext.bench.report import PICTURE, Row, advice_lines, table_lines, write_results
from paddleseg_ext.bench.run import (
    BenchOptions,
    list_candidates,
    possible_runtimes,
    take_turns,
)
from paddleseg_ext.bench.worker import Bench, Candidate, Turn, Worker
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.evaluation.turns import PARTS
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine, RunTimes
from paddleseg_ext.inference.engines.table import EngineEntry
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.inference.verified import Verified

COUNTS = np.array([[30, 10], [0, 40]], np.int64)
COST = {"parameters": 2_000_000, "multiply_adds": 4_000_000_000, "input_shape": [1, 3, 100, 100]}


ONEDNN = RuntimeSpec("paddle_onednn")
PASSED, FAILED = Verified("identical", True), Verified("failed", False)


def bundle(folder: Path, verified: dict | None = None) -> Bundle:
    manifest = Manifest("Net", generic_table(2), verified=verified or {}, cost=COST)
    return Bundle(folder / "deploy.yaml", folder / "model.json", None, [], None, "none", manifest)


def row(folder: Path, verified: dict | None = None, name: str = "one") -> Row:
    """Three turns of 10, 20 and 30 ms in each part, on a quarter of the recorded area."""
    turns = [Turn(dict.fromkeys(PARTS, ms / 1000), (50, 50), COUNTS) for ms in (10, 20, 30)]
    candidate = Candidate(folder / name / "deploy.yaml", ONEDNN, name)
    speeds: dict[int, list[float]] = {1: [5.0, 7.0], 4: []}
    told = RuntimeReport("paddle_inference")
    return Row(candidate, bundle(folder, verified), told, turns, [0.2, 0.3], speeds, (40, 50))


def test_a_rows_figures(tmp_path: Path) -> None:
    result = row(tmp_path).to_json(peak_gflops=400.0)
    assert result["network_ms"]["p50"] == pytest.approx(60)  # copy in, run, copy out
    assert result["labels_ms"]["p50"] == pytest.approx(80)  # and postprocess
    assert (result["new_size_ms"], result["new_sizes"]) == (pytest.approx(250), 2)
    assert result["images_per_second_of"] == "50x40"
    assert result["image_ms"]["p50"] == pytest.approx(140)
    assert result["parts_ms"]["decode"] == pytest.approx(20)
    assert result["images_per_second"] == {"1": 6.0, "4": None}
    assert result["multiply_adds"] == pytest.approx(1e9)  # a quarter of 4 G
    assert result["gflops"] == pytest.approx(100)  # 2 G operations in 20 ms
    assert result["share_of_peak"] == pytest.approx(0.25)
    assert result["mean_iou"] == pytest.approx((30 / 40 + 40 / 50) / 2)


def test_the_work_is_that_of_each_runs_own_size(tmp_path: Path) -> None:
    """Two sizes at one speed: not the mean area over the median time."""
    small, large = dict.fromkeys(PARTS, 0.01), dict.fromkeys(PARTS, 0.16)
    turns = [Turn(small, (50, 50)), Turn(small, (50, 50)), Turn(large, (200, 200))]
    result = replace(row(tmp_path), turns=turns).to_json(peak_gflops=400.0)
    assert result["gflops"] == pytest.approx(200)
    assert result["multiply_adds"] == pytest.approx(6e9)


@pytest.mark.parametrize(
    ("verified", "mark"),
    [
        ({}, "not checked"),
        ({"paddle_onednn": PASSED}, "passed"),
        ({"paddle_onednn": FAILED}, "FAILED !!"),
        ({"openvino": FAILED}, "not checked"),
        ({"paddle_onednn": replace(PASSED, cpu="of another machine")}, "not checked"),
        ({"paddle_onednn": replace(PASSED, version="1.8")}, "not checked"),
    ],
)
def test_a_failed_parity_is_marked(tmp_path: Path, verified: dict, mark: str) -> None:
    lines = table_lines([row(tmp_path, verified).to_json(100.0)])
    assert lines[1].endswith(f"  {mark}")
    assert "  80.0 " in lines[1] and "  250.0 " in lines[1] and "  50x40 " in lines[1]


def test_what_a_cpu_answered_says_nothing_of_a_gpu(tmp_path: Path) -> None:
    passed = row(tmp_path, {"paddle_onednn": PASSED})
    assert passed.parity == "passed"
    on_gpu = replace(
        passed, candidate=replace(passed.candidate, spec=replace(ONEDNN, device="gpu"))
    )
    assert on_gpu.parity == "not checked"


def test_files(tmp_path: Path) -> None:
    rows = [row(tmp_path, {"paddle_onednn": FAILED}), row(tmp_path, name="two")]
    results = [r.to_json(400.0) for r in rows]
    files = write_results(tmp_path / "out", {"cpu": "x"}, results)
    assert [file.name for file in files] == ["bench.csv", "bench.json", PICTURE]
    with open(files[0], newline="") as opened:
        table = list(csv.DictReader(opened))
    assert [line["parity"] for line in table] == ["FAILED", "not checked"]
    assert float(table[0]["network_ms_p50"]) == pytest.approx(60)
    assert float(table[0]["new_size_ms"]) == pytest.approx(250)
    assert json.loads(files[1].read_text())["results"][1]["name"] == "two paddle_onednn"
    unlabelled = replace(rows[0], turns=[replace(t, counts=None) for t in rows[0].turns])
    files = write_results(tmp_path / "none", {}, [unlabelled.to_json(400.0)])
    assert PICTURE not in [file.name for file in files]


class TimingEngine(Engine):
    """Reports what the attributes say."""

    device, synchronised = "cpu", True
    new_size_s = 0.5  # of the first run of a size

    def __init__(self) -> None:
        self.sizes: set[tuple[int, ...]] = set()

    def describe(self) -> RuntimeReport:
        kernels = {"conv": 1} if self.device == "cpu" else {}
        return RuntimeReport("paddle_inference", device=self.device, cpu_threads=1, kernels=kernels)

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.run_timed(batch)[0]

    def run_timed(self, batch: np.ndarray) -> tuple[np.ndarray, RunTimes]:
        scores = np.stack([batch.mean(axis=1), np.full_like(batch[:, 0], 100)], axis=1)
        run_s = 0.001 if batch.shape[2:] in self.sizes else self.new_size_s
        self.sizes.add(batch.shape[2:])
        return scores, RunTimes(0.0, run_s, synchronised=self.synchronised)


def open_fake(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str,
    synchronised: bool,
    of: Bundle | None = None,
) -> Bench:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 24, 3), np.uint8))
    engine = TimingEngine()
    engine.device, engine.synchronised = device, synchronised
    monkeypatch.setattr("paddleseg_ext.inference.predictor.open_engine", lambda *_: engine)
    monkeypatch.setattr(worker_module, "read_bundle", lambda _: of or bundle(tmp_path))
    candidate = Candidate(tmp_path / "deploy.yaml", replace(ONEDNN, device=device))
    return Bench(candidate, [Sample(tmp_path / "a.png", None, "a")])


def test_a_gpu_that_was_not_waited_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = open_fake(monkeypatch, tmp_path, "gpu", synchronised=False)
    for measure in (partial(bench.turn, 0), partial(bench.throughput, 1)):
        with pytest.raises(CheckFailed, match="without a synchronise"):
            measure()
    waited = open_fake(monkeypatch, tmp_path, "gpu", synchronised=True)
    assert waited.turn(0).seconds["run"] == 0.001


def test_a_turn_tells_every_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = open_fake(monkeypatch, tmp_path, "cpu", synchronised=True)
    turn = bench.turn(5)
    assert tuple(turn.seconds) == PARTS and turn.input_hw == (16, 24)
    assert all(turn.seconds[part] > 0 for part in ("decode", "preprocess", "postprocess", "encode"))
    speed = bench.throughput(2)
    assert speed is not None and speed > 0
    assert bench.peak_memory_mb() > 10


def test_the_first_run_of_each_size_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import cv2

    bench = open_fake(monkeypatch, tmp_path, "cpu", synchronised=True)
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((16, 32, 3), np.uint8))
    bench._samples += [Sample(tmp_path / f"{name}.png", None, name) for name in "ab"]
    turns = [bench.turn(index) for index in range(6)]
    assert [turn.new_size_s for turn in turns] == [0.5, None, 0.5, None, None, None]
    assert {turn.seconds["run"] for turn in turns} == {0.001}
    assert bench.throughput_hw() == (16, 24)


def test_the_speed_counts_the_label_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = open_fake(monkeypatch, tmp_path, "cpu", synchronised=True)
    monkeypatch.setattr(bench.predictor.postprocess, "label_map", lambda *_: time.sleep(0.01))
    speed = bench.throughput(2)
    assert speed is not None and speed <= 100


def test_a_film_without_consistency_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import cv2

    film = tmp_path / "one.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    writer.write(np.zeros((32, 48, 3), np.uint8))
    writer.release()
    bench = open_fake(monkeypatch, tmp_path, "cpu", synchronised=True)
    worker = SimpleNamespace(call=lambda method, *given: getattr(bench, method)(*given))
    assert run_module.consistency(worker, "a onnxruntime", film, 50) is None
    assert f"--video {film}: no temporal consistency: there is no pair" in capsys.readouterr().out


def test_a_bundle_without_manifest_is_encoded_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = replace(bundle(tmp_path), manifest=None)
    bench = open_fake(monkeypatch, tmp_path, "cpu", synchronised=True, of=bare)
    assert bench.turn(0).seconds["encode"] > 2e-5


def test_ctrl_c_is_the_parents_to_handle() -> None:
    """A terminal sends it to the children, too, also while they begin."""
    from fractions import Fraction

    worker = Worker(partial(Fraction, 6, 4))
    try:
        for _ in range(2):
            os.kill(worker._process.pid or 0, signal.SIGINT)
            assert worker.call("limit_denominator", 10) == Fraction(3, 2)
        worker._connection.send(("limit_denominator", (10,)))
    finally:
        worker.close()  # an answer that nobody takes
    assert worker._process.exitcode == 0


INTERRUPTED = """
import contextlib, os, signal, threading
from fractions import Fraction
from functools import partial
from paddleseg_ext.bench.worker import Worker
threading.Timer(0.1, os.killpg, (0, signal.SIGINT)).start()  # while the child is being started
with contextlib.suppress(KeyboardInterrupt):
    Worker(partial(Fraction, 6, 4)).close()
"""


@pytest.mark.parametrize("action", [signal.SIG_DFL, signal.SIG_IGN])
def test_ctrl_c_prints_nothing_of_the_children(action: signal.Handlers) -> None:
    """Also where it is ignored, as in a shell's background."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, action),
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_answers_and_passes_on_what_went_wrong() -> None:
    from fractions import Fraction  # any class that the other process can import

    worker = Worker(partial(Fraction, 6, 4))
    try:
        assert worker.call("limit_denominator", 10) == Fraction(3, 2)
    finally:
        worker.close()
    assert not worker._process.is_alive()
    with pytest.raises(UsageError, match="does not exist"):
        Worker(partial(Bench, Candidate(Path("nowhere/deploy.yaml"), RuntimeSpec("paddle")), []))


def test_candidates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_module, "read_bundle", lambda path: bundle(path.parent))
    options = BenchOptions(["paddle", "openvino_int8"], streams=[1, 2], cpu_affinity=[False, True])
    configs = [Path("a/deploy.yaml"), Path("b/deploy.yaml")]
    names = [c.name for c in list_candidates(configs, options)]
    expected = ["paddle", "openvino_int8", "openvino_int8 pinned"]
    expected += ["openvino_int8 x2", "openvino_int8 x2 pinned"]
    assert names == [f"{folder} {stage}" for folder in "ab" for stage in expected]
    assert [c.name for c in list_candidates(configs[:1], options)] == expected
    with pytest.raises(UsageError, match="two are alike"):
        list(list_candidates([configs[0], Path("c/a/deploy.yaml")], options))


def test_by_default_every_runtime_that_can_run_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bundle without an ONNX graph, and one with an INT8 graph beside it."""
    monkeypatch.setattr(EngineEntry, "is_installed", True)
    monkeypatch.setattr(RuntimeSpec, "check", lambda _: None)
    plain = bundle(tmp_path)
    assert set(possible_runtimes(plain)) == {"paddle", "paddle_onednn", "paddle_onednn_bf16"}
    assert plain.manifest is not None
    graphs = {"onnx": {"file": "model.onnx"}, "onnx_int8": {"file": "model_int8.onnx"}}
    more = replace(plain, manifest=replace(plain.manifest, graphs=graphs))
    found = set(possible_runtimes(more))
    assert {"onnxruntime", "onnxruntime_int8", "openvino_bf16", "openvino_int8"} <= found
    assert not any(name.startswith(("mnn", "ncnn")) for name in found)


def test_turns_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    class Fake:
        def __init__(self, name: str):
            self.name = name

        def call(self, method: str, *arguments: int) -> object:
            calls.append((self.name, method, *arguments))
            if method == "turn":
                return Turn(
                    dict.fromkeys(PARTS, 0.01), (50, 50), None, 0.3 if arguments[0] < 0 else None
                )
            if method == "throughput_hw":
                return 50, 60
            return 50.0

    monkeypatch.setattr("paddleseg_ext.bench.run.SETTLE_SECONDS", 0)  # of the peak
    rows = {name: replace(row(tmp_path, name=name), turns=[], throughputs={}) for name in "ab"}
    options = BenchOptions(rounds=3, warm_up=1, batch_sizes=[4])
    peak = take_turns({n: Fake(n) for n in "ab"}, Fake("gemm"), rows, options)  # type: ignore[arg-type]
    turns = [(call[0], call[2]) for call in calls if call[1] == "turn"]
    assert turns == [(name, index) for index in (-1, 0, 1, 2) for name in "ab"]
    assert peak == 50.0
    assert rows["a"].new_sizes_s == [0.2, 0.3, 0.3]  # of the round that warms up, too
    assert rows["a"].throughput_hw == (50, 60)
    assert len(rows["a"].turns) == 3 and rows["b"].throughputs == {4: [50.0] * 3}


@pytest.mark.parametrize("before", [None, "Haswell"])
def test_the_peak_is_that_of_the_processor(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenBLAS is told of AVX-512 in the process that multiplies, and nowhere else."""
    name = worker_module.CORE_TYPE
    if before is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, before)
    seen: list[str | None] = []
    monkeypatch.setattr(worker_module, "Worker", lambda _: seen.append(os.environ.get(name)))
    for has_avx512 in (True, False):
        monkeypatch.setattr(worker_module, "has_avx512", lambda found=has_avx512: found)
        worker_module.start_gemm()
        assert os.environ.get(name) == before
    assert seen == ["SkylakeX", before]


def test_no_label_of_the_picture_covers_another(tmp_path: Path) -> None:
    """Nine candidates in one place, as engines that are as fast and give the same map."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.text import Text

    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    points = [(20 + 0.01 * i, 60.0) for i in range(9)] + [(50.0, 59.0), (50.0, 59.0)]
    axes.scatter(*zip(*points, strict=True))
    axes.margins(0.25)
    texts = [f"bundle openvino_int8 x{i}" for i in range(11)]
    labels = place_labels(figure, axes, points, texts)
    for dpi in (100, 140):  # where they are does not depend on the file's resolution
        figure.set_dpi(dpi)
        figure.canvas.draw()
        boxes = [Text.get_window_extent(label) for label in labels]
        assert not [(i, k) for i in range(11) for k in range(i) if boxes[i].overlaps(boxes[k])]
        at = axes.transData.transform(points)
        left_or_right = [
            min(abs(b.x0 - x), abs(b.x1 - x)) for b, (x, _) in zip(boxes, at, strict=True)
        ]
        assert max(left_or_right) < 12 * dpi / 100
        assert max(abs(boxes[9].y0 - at[9][1]), abs(boxes[0].y0 - at[0][1])) < 12 * dpi / 100
    pyplot.close(figure)


def test_one_line_per_network_says_what_to_take(tmp_path: Path) -> None:
    verified = {"paddle_onednn": replace(PASSED, num_different=2, num_pixels=1000, ratio=1.0)}
    one, two = row(tmp_path, verified), row(tmp_path / "other", name="two")
    lines = advice_lines([one, two], {})
    assert lines[0].endswith(": take one paddle_onednn, 0.2% of the pixels differ")
    assert "take none" in lines[1]
    assert advice_lines([one], {}) == ["take one paddle_onednn, 0.2% of the pixels differ"]
