"""Several processes on this machine, started as a user starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import PROJECT
from tiny_training import TinyNet

from paddleseg_ext.checkpoints.manifest import CheckpointManifest, read_manifest
from paddleseg_ext.checkpoints.store import read_arrays, save_weights
from paddleseg_ext.images.labels import generic_table

from .test_training import write_config

HERE = Path(__file__).parent
SECONDS = 300


def launch(processes: int, folder: Path, script: Path, *arguments: object) -> str:
    """Run `script` in `processes` processes, or alone; what the first one printed."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
        command += ["--log_dir", str(folder / "log")]
    done = subprocess.run(
        [*command, str(script), *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    logs = [path.read_text() for path in sorted(folder.glob("log/workerlog.*"))]
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
    return done.stdout


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_what_each_process_finds(processes: int, tmp_path: Path) -> None:
    """Synchronised batch norm, the reduced cross entropy, shared statistics, compared runs."""
    launch(processes, tmp_path, HERE / "run_in_processes.py")
    for rank in range(processes):
        assert "all checks passed" in (tmp_path / "log" / f"workerlog.{rank}").read_text()


def five_iterations(processes: int, data: Path, folder: Path, script: Path) -> Path:
    """Train on four samples an iteration in all; the run's folder."""
    folder.mkdir()
    losses = {"types": [{"type": "CrossEntropyLoss"}], "coef": [1, 1, 1]}
    config = write_config(data, folder / "a.yml", loss=losses, batch_size=4 // processes)
    arguments = ["--config", config, "--device", "cpu", "--save_dir", folder / "run", "--do_eval"]
    arguments += ["--iters", 5, "--save_interval", 5, "--log_iters", 1]
    launch(processes, folder, script, *arguments)
    return folder / "run"


@pytest.fixture(scope="module")
def alone(uneven_cityscapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "one"
    return five_iterations(1, uneven_cityscapes, folder, HERE / "train_in_double.py")


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_the_weights_of_one(
    processes: int, uneven_cityscapes: Path, alone: Path, tmp_path: Path
) -> None:
    """Weights and running statistics of BiSeNetV1, and the scores of its evaluation.

    In double precision the order of the sums moves them by less than 1e-10 of each tensor's
    largest entry (measured: 2e-11). Single precision would hide a wrong term: rounding puts some
    pixels on the other side of a ReLU, and their gradients jump.
    """
    run = five_iterations(
        processes, uneven_cityscapes, tmp_path / "run", HERE / "train_in_double.py"
    )
    expected = read_arrays(alone / "iter_5/model.pdparams")
    arrays = read_arrays(run / "iter_5/model.pdparams")
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float64
        scale = np.abs(expected[name]).max() or 1.0
        np.testing.assert_allclose(
            array / scale, expected[name] / scale, rtol=0, atol=1e-9, err_msg=name
        )
    scores = [read_manifest(folder / "best_model/model.pdparams").scores for folder in (alone, run)]
    assert scores[0] == scores[1]
    assert scores[0]["num_images"] == 5
    losses = [
        [entry["loss"] for entry in json.loads((folder / "history.json").read_text())["train"]]
        for folder in (alone, run)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


def test_accumulated_batches_of_two_processes_are_one_batch(tmp_path: Path) -> None:
    """Gradients are exchanged once an iteration; the samples are those of one big batch.

    The same with a teacher, of whose term each process has its part.
    """
    weights, teacher = [], tmp_path / "teacher.pdparams"
    manifest = {"config": {"model": {"type": "TinyNet"}}, "classes": generic_table(3).to_dict()}
    save_weights(TinyNet(3), teacher, CheckpointManifest(**manifest))
    for processes, batch_size, accumulate in ((1, 12, 1), (2, 2, 3)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        script = HERE / "accumulate_in_processes.py"
        launch(processes, folder, script, folder, batch_size, accumulate, teacher)
        weights.append(read_arrays(folder / "run/iter_4/model.pdparams"))
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, rtol=0, atol=1e-6, err_msg=name)


def start(data: Path, folder: Path, *flags: object, nodes: int = 1) -> list[subprocess.Popen]:
    """A run of 12 iterations on two processes, one launcher a node; ends where it had got to."""
    config = write_config(data, folder / "a.yml", batch_size=2)
    script = [PROJECT / "train.py", "--config", config, "--device", "cpu"]
    script += ["--save_dir", folder / "run", "--iters", 12, "--save_interval", 3, "--log_iters", 1]
    script += ["--resume_model", "auto", *flags]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = []
    for node in range(nodes):
        command = [sys.executable, "-m", "paddle.distributed.launch"]
        command += ["--nproc_per_node", 2 // nodes, "--log_dir", folder / f"log{node}"]
        if nodes > 1:
            command += ["--nnodes", nodes, "--master", master, "--rank", node]
        processes.append(
            subprocess.Popen(
                [str(part) for part in [*command, *script]],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
    return processes


def children(process: subprocess.Popen) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(child) for child in path.read_text().split()]


def wait_for_checkpoint(run: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not list(run.glob("iter_*")):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def stop_all(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            for child in children(process):
                os.kill(child, signal.SIGKILL)
            process.kill()


@pytest.fixture(scope="module")
def uninterrupted(
    uneven_cityscapes: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (launcher,) = start(uneven_cityscapes, folder)
    assert launcher.wait(SECONDS) == 0
    return read_arrays(folder / "run/iter_12/model.pdparams")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "nodes"),
    [(signal.SIGKILL, 1), (signal.SIGSTOP, 1), (signal.SIGKILL, 2)],
    ids=["killed", "stands_still", "killed_on_another_node"],
)
def test_a_lost_process_ends_the_job_which_goes_on_by_the_same_command(
    how: signal.Signals,
    nodes: int,
    uneven_cityscapes: Path,
    uninterrupted: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    launchers = start(uneven_cityscapes, tmp_path, nodes=nodes)
    try:
        wait_for_checkpoint(tmp_path / "run")
        os.kill(children(launchers[-1])[-1], how)  # the last process, and not the one that writes
        lost = time.monotonic()
        for launcher in launchers:
            assert launcher.wait(60 - (time.monotonic() - lost)) != 0
    finally:
        stop_all(launchers)
    logs = "".join(path.read_text() for path in tmp_path.glob("log*/workerlog.*"))
    assert "iter: 12/12" not in logs

    launchers = start(uneven_cityscapes, tmp_path, nodes=nodes)
    assert [launcher.wait(SECONDS) for launcher in launchers] == [0] * nodes
    logs = "".join(path.read_text() for path in tmp_path.glob("log*/workerlog.*"))
    assert "resumed from" in logs
    arrays = read_arrays(tmp_path / "run/iter_12/model.pdparams")
    for name, array in uninterrupted.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
