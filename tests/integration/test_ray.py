"""Batch inference on Ray, small: every image once, whatever dies."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from .conftest import Deployment, load_script
from .serving import PROJECT

ray = pytest.importorskip("ray")
parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "deploy.ray.batch"]
LIMIT_S = 400


def run(bundle: Path, images: Path, save_dir: Path, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments(bundle, images, save_dir, *flags),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def arguments(bundle: Path, images: Path, save_dir: Path, *flags: str) -> list[str]:
    command = [*COMMAND, "--config", str(bundle), "--images", str(images)]
    return [*command, "--save_dir", str(save_dir), *flags]


def rows_of(save_dir: Path) -> list[dict]:
    parts = sorted((save_dir / "manifest").glob("*.parquet"))
    return [row for part in parts for row in parquet.read_table(part).to_pylist()]


def make_images(folder: Path, count: int) -> Path:
    random = np.random.default_rng(3)
    folder.mkdir()
    for i in range(count):
        image = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i:03d}.png"), image)
    return folder


def test_rows_outputs_and_a_rerun(bundle: Path, deployment: Deployment, tmp_path: Path) -> None:
    data, save_dir = deployment.list.parent, tmp_path / "out"
    listed = tmp_path / "images.list"
    broken = tmp_path / "broken.png"
    broken.write_bytes((data / "city0" / "frame.png").read_bytes()[:99])
    good = [data / f"city{i}" / "frame.png" for i in range(3)]
    listed.write_text("".join(f"{path}\n" for path in [*good, broken, good[0]]))
    done = run(bundle, listed, save_dir, "--part_size", "2")
    assert done.returncode == 1, done.stderr[-3000:]
    assert "1 images have an error" in done.stderr
    rows = {Path(row["input"].removeprefix("file://")): row for row in rows_of(save_dir)}
    assert len(rows_of(save_dir)) == 4 and set(rows) == {*good, broken}
    assert rows[broken]["status"] == "error" and "truncated" in rows[broken]["error"]

    infer = ["--config", str(bundle), "--image_path", str(deployment.list), "--device", "cpu"]
    infer += ["--backend", "paddle", "--cpu_threads", "1", "--save_dir", str(tmp_path / "infer")]
    load_script("infer").main(infer)
    for i, path in enumerate(good):
        content = Path(rows[path]["output"]).read_bytes()
        assert content == (tmp_path / f"infer/label_maps/city{i}/frame.png").read_bytes()
        assert hashlib.sha256(content).hexdigest() == rows[path]["sha256"]

    before = {path: path.stat().st_mtime_ns for path in save_dir.rglob("*.p*")}
    again = run(bundle, listed, save_dir)
    assert "0 images to do, 4 have a row" in again.stdout and again.returncode == 1
    assert {path: path.stat().st_mtime_ns for path in save_dir.rglob("*.p*")} == before

    broken.write_bytes(good[0].read_bytes())  # somebody mends it
    mended = run(bundle, listed, save_dir, "--retry_errors", "True")
    assert mended.returncode == 0, mended.stderr[-3000:]
    assert sorted(row["status"] for row in rows_of(save_dir)) == ["done"] * 4


def test_bad_images_are_rows_and_results_no_inputs(bundle: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 2)
    content = (images / "000.png").read_bytes()
    (images / os.fsdecode(b"caf\xe9.png")).write_bytes(content)
    (images / f"{'n' * 250}.png").write_bytes(content)
    Image.new("1", (12_000, 12_000)).save(images / "bomb.png")
    save_dir = images / "out"
    for to_do in (5, 0):  # the second run sees the label maps of the first
        done = run(bundle, images, save_dir)
        assert f"{to_do} images to do, {5 - to_do} have a row" in done.stdout
        assert done.returncode == 1 and "2 images have an error" in done.stderr
        rows = {row["input"].rpartition("/")[2]: row for row in rows_of(save_dir)}
        assert len(rows_of(save_dir)) == len(rows) == 5
        assert "rename it" in rows[r"caf\udce9.png"]["error"]
        assert "12000x12000 are more pixels" in rows["bomb.png"]["error"]
        assert sum(row["status"] == "done" for row in rows.values()) == 3
    before = sorted(save_dir.rglob("*"))
    refused = run(bundle, images, save_dir, "--backend", "paddle_onednn")
    assert_one_line(refused, r"another backend \(paddle there, paddle_onednn now\); take another")
    assert sorted(save_dir.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--cpu_threads", "999"], "a worker wants 999 CPUs and 0 GPUs of one node"),
        (["--worker_gpus", "99"], "a worker wants 1 CPUs and 99 GPUs of one node"),
        (["--precision", "int8"], "--precision int8: on a CPU"),
        (["--address", "auto"], "--address auto: "),
        (["--save_dir", "foo://x"], "--save_dir: 'foo://x': "),
    ],
)
def test_what_cannot_run_is_one_line(
    flags: list[str], expected: str, bundle: Path, tmp_path: Path
) -> None:
    refused = run(bundle, make_images(tmp_path / "images", 1), tmp_path / "out", *flags)
    assert_one_line(refused, expected)
    assert rows_of(tmp_path / "out") == []


def assert_one_line(refused: subprocess.CompletedProcess, expected: str) -> None:
    said = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert refused.returncode == 2, refused.stderr[-3000:]
    assert len(said) == 1 and re.search(expected, said[0]), refused.stderr[-3000:]
    assert "Traceback" not in refused.stderr


def test_a_killed_worker_costs_and_doubles_nothing(bundle: Path, tmp_path: Path) -> None:
    images, save_dir = make_images(tmp_path / "images", 120), tmp_path / "out"
    process = subprocess.Popen(
        arguments(bundle, images, save_dir, "--workers", "2", "--part_size", "5"),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + LIMIT_S
    while len(list(save_dir.rglob("label_maps/**/*.png"))) < 8:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    os.kill(worker_below(process.pid), signal.SIGKILL)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said[-3000:]
    rows = rows_of(save_dir)
    assert len(rows) == 120 == len({row["input"] for row in rows})
    assert all(row["status"] == "done" for row in rows)
    assert len(list(save_dir.rglob("label_maps/**/*.png"))) == 120
    assert list(save_dir.rglob("*.writing")) == []


def worker_below(root: int) -> int:
    """The process of a predictor, among the descendants of a process."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            names[int(entry.name)] = (entry / "cmdline").read_text()
            parents[int(entry.name)] = int(fields[1])
        except (OSError, ValueError):
            continue
    for pid, name in names.items():
        ancestor = pid
        while ancestor in parents and ancestor != root:
            ancestor = parents[ancestor]
        if ancestor == root and "ray::" in name and "MapBatches" in name:
            return pid
    raise AssertionError(sorted(name for name in names.values() if "ray::" in name))


RAY_SERVE = """
import sys

import httpx
import ray
from ray import serve

from deploy.ray.serve_app import Arguments, build

config, image, key_file, port = sys.argv[1:]
key = {"Authorization": "Bearer " + open(key_file).read().strip()}
ray.init(num_cpus=3, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
given = dict(config=config, backend="paddle", replicas="2", api_key_file=key_file)
serve.run(build(Arguments(**given)))
url = f"http://127.0.0.1:{port}"
content = open(image, "rb").read()
labels = f"{url}/v1/segment?output=labels"
answer = httpx.post(labels, content=content, headers=key, timeout=120)
refusal = httpx.post(f"{url}/v1/segment", content=b"?", headers=key, timeout=120)
stranger = httpx.post(labels, content=content, timeout=120)
print("answered", answer.status_code, answer.content.hex())
print("refused", refusal.status_code)
print("stranger", stranger.status_code)
serve.shutdown()
"""


def test_the_service_on_ray_serve(bundle: Path, deployment: Deployment, tmp_path: Path) -> None:
    image = deployment.list.parent / "city0" / "frame.png"
    infer = ["--config", str(bundle), "--image_path", str(image), "--device", "cpu"]
    infer += ["--backend", "paddle", "--cpu_threads", "1", "--save_dir", str(tmp_path)]
    load_script("infer").main(infer)
    key_file = tmp_path / "key.txt"
    key_file.write_text("0123456789abcdef\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", RAY_SERVE, str(bundle), str(image), str(key_file), str(port)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = (tmp_path / "label_maps" / "frame.png").read_bytes()
    assert f"answered 200 {expected.hex()}\n" in done.stdout
    assert "refused 415\n" in done.stdout
    assert "stranger 401\n" in done.stdout
