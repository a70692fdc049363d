"""Resuming: every file of a checkpoint is checked before anything is moved, and nothing is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from tiny_training import ScriptedScores, TinySamples, tiny_config, train_tiny

from paddleseg_ext.checkpoints.manifest import manifest_path, read_manifest
from paddleseg_ext.checkpoints.store import read_arrays
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.training.state import STATE, WEIGHTS, TrainState

RAW, OPTIMIZER = "model_raw.pdparams", "model.pdopt"
AUTO = {"resume_model": "auto"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 iterations with averaged weights: iter_2, iter_4, and the yml it was made by."""
    folder = tmp_path_factory.mktemp("finished")
    train_tiny(tiny_config(folder, ema={"decay": 0.5}), folder / "run")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


def go_on(tmp_path: Path, run: Path, iters: int = 6, **options: Any) -> TrainState:
    config = tiny_config(tmp_path, ema={"decay": 0.5}, iters=iters)
    return train_tiny(config, run, **(AUTO | options))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def take_from_iter_2(path: Path) -> None:
    shutil.copy(path.parent.parent / "iter_2" / path.name, path)


def one_digit_changed(path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace('"num_samples": 12', '"num_samples": 13'))


DAMAGES: list[tuple[str, Callable[[Path], Any]]] = [
    *[(name, cut) for name in (WEIGHTS, RAW, OPTIMIZER, STATE, f"{WEIGHTS}.json")],
    *[(name, Path.unlink) for name in (WEIGHTS, RAW, OPTIMIZER, STATE)],
    *[(name, take_from_iter_2) for name in (WEIGHTS, RAW, OPTIMIZER, STATE, f"{WEIGHTS}.json")],
    *[(name, lambda path: path.write_bytes(b"")) for name in (WEIGHTS, OPTIMIZER, STATE)],
    (STATE, one_digit_changed),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_auto_goes_on_from_the_newest_whole_checkpoint(
    run: Path, tmp_path: Path, capsys, name: str, damage: Callable[[Path], Any]
) -> None:
    damage(run / "iter_4" / name)
    left = {path.name: path.read_bytes() for path in (run / "iter_4").iterdir()}
    with pytest.raises(UsageError, match=r"iter_4|model\.pdparams|train_state"):
        go_on(tmp_path, run, resume_model=str(run / "iter_4"))
    assert go_on(tmp_path, run).iteration == 6
    said = capsys.readouterr().out
    assert "--resume_model auto: " in said and name.removesuffix(".json") in said
    assert f"continues from {run / 'iter_2'}, the newest whole one" in said
    kept = run / "previous_runs/1/iter_4"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == left


def test_a_fallback_ends_in_the_weights_of_a_run_that_was_never_interrupted(
    run: Path, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, ema={"decay": 0.5}, iters=4)
    whole = (run / "iter_4" / WEIGHTS).read_bytes()
    shutil.rmtree(run / "iter_4")
    (run / "iter_4").mkdir()  # an empty one
    train_tiny(config, run, **AUTO)
    assert (run / "iter_4" / WEIGHTS).read_bytes() == whole


def test_without_a_whole_checkpoint_every_damage_is_named_and_nothing_moves(
    run: Path, tmp_path: Path
) -> None:
    cut(run / "iter_4" / OPTIMIZER)
    (run / "iter_2" / STATE).write_text("[]")
    before = sorted(run.rglob("*"))
    with pytest.raises(UsageError, match=r"(?s)no checkpoint is whole.*model\.pdopt.*iter_2"):
        go_on(tmp_path, run)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iteration": -5}, "'iteration' must be a whole number of at least 0, got -5"),
        ({"iteration": "4"}, "'iteration' must be"),
        ({"iteration": True}, "'iteration' must be"),
        ({"iteration": 4.0}, "'iteration' must be"),
        ({"iteration": 40}, "of iteration 40, the folder of 4"),
        ({"iteration": float("nan")}, "the number NaN, which is not finite"),
        ({"seed": "0"}, "'seed' must be"),
        ({"seed": None}, "'seed' must be"),
        ({"batch_size": 0}, "'batch_size' must be"),
        ({"threads": 0}, "'threads' must be"),
        ({"best_mean_iou": float("nan")}, "not finite"),
        ({"best_mean_iou": 1.5}, "'best_mean_iou' must be"),
        ({"best_mean_iou": "0.5"}, "'best_mean_iou' must be"),
        ({"best_by_protocol": {"ss": float("inf")}}, "not finite"),
        ({"best_by_protocol": {"ss": "0.5"}}, "best_by_protocol"),
        ({"stale_evaluations": -1}, "'stale_evaluations' must be"),
        ({"evaluated": "yes"}, "'evaluated' must be true or false"),
        ({"loss_scaling": {"scale": [float("nan")]}}, "not finite"),
        ({"loss_scaling": {"scale": "x"}}, "not a training state"),
        ({"files": {"../iter_2/model.pdopt": "0"}}, "names of files beside it"),
        ({"files": {OPTIMIZER: 5}}, "'files' must be"),
        ({"itration": 4}, "did you mean 'iteration'"),
    ],
)
def test_a_value_that_no_run_leaves_is_refused_before_anything_moves(
    run: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    state = run / "iter_4" / STATE
    content = json.loads(state.read_text()) | changes
    del content["sha256"]  # as an older version wrote it
    state.write_text(json.dumps(content))
    before = sorted(run.rglob("*"))
    with pytest.raises(UsageError, match=words) as caught:
        go_on(tmp_path, run, resume_model=str(run / "iter_4"))
    assert "\n" not in str(caught.value)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("key", ["iteration", "seed"])
def test_a_state_without_a_value(run: Path, tmp_path: Path, key: str) -> None:
    state = run / "iter_4" / STATE
    content = json.loads(state.read_text())
    del content[key]
    state.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"train_state\.json: "):
        go_on(tmp_path, run, resume_model=str(run / "iter_4"))


def test_a_state_of_an_older_version_still_resumes_to_the_bit(run: Path, tmp_path: Path) -> None:
    whole = go_on(tmp_path, Path(shutil.copytree(run, tmp_path / "whole")))
    for folder in run.glob("iter_*"):
        content = json.loads((folder / STATE).read_text())
        del content["sha256"], content["files"]
        (folder / STATE).write_text(json.dumps(content))
    assert go_on(tmp_path, run) == whole
    for name in (WEIGHTS, RAW, OPTIMIZER):
        one, other = run / "iter_6" / name, tmp_path / "whole/iter_6" / name
        assert one.read_bytes() == other.read_bytes()


def test_without_a_manifest_the_sums_still_count(run: Path, tmp_path: Path) -> None:
    manifest_path(run / "iter_4" / WEIGHTS).unlink()
    go_on(tmp_path, Path(shutil.copytree(run, tmp_path / "good")))
    take_from_iter_2(run / "iter_4" / OPTIMIZER)
    with pytest.raises(UsageError, match=r"model\.pdopt: its sha256 is not"):
        go_on(tmp_path, run, resume_model=str(run / "iter_4"))


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"lr_scheduler": {"learning_rate": 0.2}}, {}, "lr_scheduler.learning_rate was 0.1, is 0"),
        (
            {"lr_scheduler": {"learning_rate": 0.1, "power": 2}},
            {},
            "lr_scheduler.power was not given, is 2",
        ),
        ({"loss": {"types": [{"type": "CrossEntropyLoss"}], "coef": [1, 1]}}, {}, "loss.coef.1"),
        (
            {"train_dataset": {"type": "TinySamples", "transforms": [{"type": "A"}]}},
            {},
            "ms.0.type",
        ),
        ({"optimizer": {"type": "sgd"}}, {}, "weight_decay was 0.0001, is not given"),
    ],
)
def test_what_differs_from_the_run_that_is_resumed_is_named(
    tmp_path: Path, capsys, changes: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    train_tiny(tiny_config(tmp_path), tmp_path / "run")
    shutil.rmtree(tmp_path / "run/iter_4")
    same = Path(shutil.copytree(tmp_path / "run", tmp_path / "same"))
    train_tiny(tiny_config(tmp_path), same, **AUTO)
    assert "WARNING" not in capsys.readouterr().out
    train_tiny(tiny_config(tmp_path, **changes), tmp_path / "run", **AUTO)
    said = capsys.readouterr().out
    assert words in said and "not be that of an uninterrupted run" in said


def test_a_run_resumed_behind_its_best_keeps_it(tmp_path: Path, capsys) -> None:
    """`auto` falls back behind the best evaluation: it stays until it is reached."""
    run, every = tmp_path / "run", {"save_interval": 1}
    train_tiny(tiny_config(tmp_path), run, validate=ScriptedScores(0.1, 0.2, 0.9, 0.3), **every)
    best, whole = read_arrays(run / "best_model" / WEIGHTS), (run / "iter_4" / STATE).read_bytes()
    for name in ("iter_3", "iter_4"):
        cut(run / name / WEIGHTS)
    again = tiny_config(tmp_path, iters=3)
    longer = {**every, **AUTO}
    train_tiny(again, Path(shutil.copytree(run, tmp_path / "short")),
               validate=ScriptedScores(0.5), **longer)  # fmt: skip
    short = tmp_path / "short/best_model" / WEIGHTS
    assert read_manifest(short).iteration == 3
    assert read_manifest(short).scores == {"scores": {"mean_iou": 0.9}}
    for name, array in read_arrays(short).items():
        np.testing.assert_array_equal(array, best[name])
    assert "best_model stays that of iter 3 (mIoU 0.9000)" in capsys.readouterr().out
    # Done again as it was, it ends in the same state.
    train_tiny(tiny_config(tmp_path), run, validate=ScriptedScores(0.9, 0.3), **longer)
    assert (run / "iter_4" / STATE).read_bytes() == whole
    assert read_manifest(run / "best_model" / WEIGHTS).iteration == 3


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_best_weights_that_are_lost_are_replaced_by_the_next(
    tmp_path: Path, capsys, damage: Callable[[Path], Any]
) -> None:
    """Without them, a score below the lost one would leave no best weights at all."""
    run, every = tmp_path / "run", {"save_interval": 1}
    train_tiny(tiny_config(tmp_path, iters=2), run, validate=ScriptedScores(0.8, 0.1), **every)
    damage(run / "best_model" / WEIGHTS)
    capsys.readouterr()
    config = tiny_config(tmp_path, iters=4)
    state = train_tiny(config, run, validate=ScriptedScores(0.3, 0.2), **every, **AUTO)
    assert "the next evaluation decides about best_model anew" in capsys.readouterr().out
    assert (state.best_mean_iou, state.best_iteration) == (0.3, 3)
    assert read_manifest(run / "best_model" / WEIGHTS).iteration == 3


def test_the_best_of_another_yml_is_set_aside_and_the_next_takes_its_place(tmp_path: Path) -> None:
    run, every = tmp_path / "run", {"save_interval": 1}
    train_tiny(tiny_config(tmp_path), run, validate=ScriptedScores(0.5, 0.2, 0.9, 0.3), **every)
    slower = tiny_config(tmp_path, lr_scheduler={"learning_rate": 0.01})
    resume = {"resume_model": str(run / "iter_2")}
    train_tiny(slower, run, validate=ScriptedScores(0.3, 0.4), **every, **resume)
    assert read_manifest(run / "best_model" / WEIGHTS).scores == {"scores": {"mean_iou": 0.4}}
    aside = run / "previous_runs/1/best_model" / WEIGHTS
    assert read_manifest(aside).scores == {"scores": {"mean_iou": 0.9}}


def test_damaged_checkpoints_never_begin_a_new_run(tmp_path: Path) -> None:
    """`auto` with nothing whole is no first start, which `pretrained` or `--finetune` begin."""
    train_tiny(tiny_config(tmp_path, iters=1), tmp_path / "run")
    cut(tmp_path / "run/iter_1" / WEIGHTS)
    start = str(tmp_path / "start.pdparams")
    paddle.save({}, start)
    with pytest.raises(UsageError, match="no checkpoint is whole"):
        train_tiny(tiny_config(tmp_path), tmp_path / "run", TinySamples(), finetune=start, **AUTO)
