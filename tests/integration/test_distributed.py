"""Several processes on this machine, started as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import PROJECT

from paddleseg_ext.checkpoints.store import read_arrays, read_manifest

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
    scores = [
        read_manifest(folder / "best_model/model.pdparams")["scores"] for folder in (alone, run)
    ]
    assert scores[0] == scores[1]
    assert scores[0]["num_images"] == 5
    losses = [
        [entry["loss"] for entry in json.loads((folder / "history.json").read_text())["train"]]
        for folder in (alone, run)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


def test_accumulated_batches_of_two_processes_are_one_batch(tmp_path: Path) -> None:
    """Gradients are exchanged once an iteration; the samples are those of one big batch."""
    weights = []
    for processes, batch_size, accumulate in ((1, 12, 1), (2, 2, 3)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        script = HERE / "accumulate_in_processes.py"
        launch(processes, folder, script, folder, batch_size, accumulate)
        weights.append(read_arrays(folder / "run/iter_4/model.pdparams"))
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, rtol=0, atol=1e-6, err_msg=name)
