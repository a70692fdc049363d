"""VisualDL's curves of a run that was interrupted."""

from pathlib import Path

import pytest
from tiny_training import ScriptedScores, tiny_config, train_tiny

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
