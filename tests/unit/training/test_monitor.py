"""Curves in VisualDL and TensorBoard of a run that was interrupted."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_training import ScriptedScores, tiny_config, train_tiny

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.trackers import open_tracker

visualdl = pytest.importorskip("visualdl")


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves by tag, as VisualDL's page has them: from the last log by name."""
    log = max((run / "vdl").glob("*vdlrecords*.log"), key=lambda path: path.name)
    reader = visualdl.LogReader(file_path=str(log))
    return {
        tag: [(p.id, round(p.value, 4)) for p in reader.get_data("scalar", tag)]
        for tag in reader.get_tags()["scalar"]
    }


def test_a_run_resumed_twice_shows_every_iteration_once(tmp_path: Path) -> None:
    """Also those that were done twice, after a kill between two checkpoints."""
    names = ["scale_0.5", "scale_0.75"]
    scores = {"scale_0.5": [0.1, 0.2, 0.3], "scale_0.75": [0.4, 0.5, 0.6]}
    config = tiny_config(tmp_path, iters=6, keep_best=names)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train_tiny(config, whole, validate=ScriptedScores(**scores), use_vdl=True)
    train_tiny(config, run, validate=ScriptedScores(**scores), use_vdl=True)
    for last in (2, 4):
        rest = {name: values[last // 2 :] for name, values in scores.items()}
        again = {"use_vdl": True, "resume_model": str(run / f"iter_{last}")}
        train_tiny(config, run, validate=ScriptedScores(**rest), **again)
    assert [i for i, _ in shown(run)["Train/batch_cost"]] == [1, 2, 3, 4, 5, 6]
    expected, found = shown(whole), shown(run)
    assert expected.keys() == found.keys()
    for tag in expected.keys() - {"Train/batch_cost"}:
        assert found[tag] == expected[tag], tag


def test_losses_come_from_the_history_where_the_log_is_cut(tmp_path: Path, capsys) -> None:
    run, config = tmp_path / "run", tiny_config(tmp_path)
    train_tiny(config, run, use_vdl=True)
    (log,) = (run / "vdl").iterdir()
    log.write_bytes(log.read_bytes()[:-7])
    train_tiny(config, run, use_vdl=True, resume_model=str(run / "iter_2"))
    assert [i for i, _ in shown(run)["Train/loss"]] == [1, 2, 3, 4]
    assert "cannot be read" in capsys.readouterr().out


def test_a_new_run_shows_nothing_of_the_earlier_one(tmp_path: Path) -> None:
    train_tiny(tiny_config(tmp_path), tmp_path / "run", use_vdl=True)
    train_tiny(tiny_config(tmp_path, iters=2), tmp_path / "run", use_vdl=True)
    assert [i for i, _ in shown(tmp_path / "run")["Train/loss"]] == [1, 2]


def in_tensorboard(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves by tag, by TensorBoard's own reader, which must find them sound."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulators.EventAccumulator(str(run / "tensorboard"))
    reader.Reload()
    return {
        tag: [(e.step, round(e.value, 4)) for e in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def test_tensorboard_reads_the_curves_of_a_resumed_run(tmp_path: Path) -> None:
    """Each iteration once, with the same values as in VisualDL."""
    pytest.importorskip("tensorboardX")
    run, config = tmp_path / "run", tiny_config(tmp_path, iters=6)
    logs = {"log_with": ("vdl", "tensorboard")}
    train_tiny(config, run, validate=ScriptedScores(0.1, 0.2, 0.3), **logs)
    again = ScriptedScores(0.4, 0.5)
    train_tiny(config, run, validate=again, resume_model=str(run / "iter_2"), **logs)
    expected, found = shown(run), in_tensorboard(run)
    assert expected.keys() == found.keys()
    assert {"Train/loss_head_0", "Train/loss_head_1", "Train/lr", "Train/l2_loss"} <= found.keys()
    assert found["Evaluate/mIoU"] == [(2, 0.1), (4, 0.4), (6, 0.5)]
    for tag in expected.keys() - {"Train/batch_cost"}:
        assert found[tag] == expected[tag], tag


def test_tensorboard_shows_nothing_of_an_earlier_run_in_the_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    train_tiny(tiny_config(tmp_path), tmp_path / "run", log_with=["tensorboard"])
    train_tiny(tiny_config(tmp_path, iters=2), tmp_path / "run", log_with=["tensorboard"])
    assert [i for i, _ in in_tensorboard(tmp_path / "run")["Train/loss"]] == [1, 2]


def test_tensorboard_reads_the_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, :2] = (255, 0, 0)
    tracker = open_tracker("tensorboard", tmp_path)
    tracker.picture("Evaluate/a", picture, 3)
    tracker.close()
    reader = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    (event,) = reader.Images("Evaluate/a")
    decoded = cv2.imdecode(
        np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB
    )
    assert event.step == 3 and np.array_equal(decoded, picture)


def test_a_missing_tensorboardx_is_named_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"paddleseg_ext\[tensorboard\]"):
        train_tiny(tiny_config(tmp_path), tmp_path / "run", log_with=["tensorboard"])
