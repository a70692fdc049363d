"""The record of a run against what is here; the printed command trains the same."""

import shlex
from pathlib import Path

import pytest
from commands import call
from tiny_training import tiny_config, tiny_data

from paddleseg_ext.checkpoints.store import read_arrays
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.train import train


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 2 iterations in tmp_path/run, its data in tmp_path/data."""
    config = tiny_config(tmp_path, iters=2, **tiny_data(tmp_path / "data"))
    options = TrainOptions(
        save_dir=tmp_path / "run", save_interval=2, do_eval=True, seed=3, device="cpu"
    )
    train(config, options)
    return tmp_path / "run"


def test_the_printed_command_gives_the_same_weights(run: Path) -> None:
    found = call("paddleseg_ext", "reproduce", run)
    assert found.status == 0, found.err
    assert "nothing of it differs here" in found.out and "seed 3" in found.out
    lines = found.out.splitlines()
    program, *words = shlex.split(lines[lines.index("to repeat it:") + 1])
    assert program == "paddleseg-ext"
    assert call("paddleseg_ext", *words).status == 0
    files = [folder / "iter_2" / "model.pdparams" for folder in (run, Path(f"{run}_again"))]
    first, again = ({k: v.tobytes() for k, v in read_arrays(f).items()} for f in files)
    assert first == again


def test_what_differs_here_is_named(run: Path) -> None:
    label = run.parent / "data" / "0_label.png"
    label.write_bytes(label.read_bytes() + b"\0")
    record = run / "run.json"
    record.write_text(record.read_text().replace('"numpy": "', '"numpy": "0.'))
    yml = run / "config.yml"
    yml.write_text(yml.read_text().replace("learning_rate: 0.1", "learning_rate: 0.2"))
    found = call("paddleseg_ext", "reproduce", run)
    assert found.status == 1
    for line in ("versions.numpy was 0.", "data.train_dataset.sha256 was", "data.val_dataset"):
        assert line in found.err, line
    assert "config.lr_scheduler.learning_rate was 0.1, is 0.2" in found.err
    assert len(found.error_lines) == 1


def test_absent_data_is_a_difference(run: Path) -> None:
    (run.parent / "data").rename(run.parent / "elsewhere")
    found = call("paddleseg_ext", "reproduce", run)
    assert found.status == 1 and "not there: train_dataset" in found.err


def test_a_folder_without_a_record_is_one_line(tmp_path: Path) -> None:
    found = call("paddleseg_ext", "reproduce", tmp_path)
    assert found.status == 2
    assert found.error_lines == [
        f"error: record of a run: '{tmp_path / 'run.json'}' does not exist"
    ]


def test_a_run_with_a_teacher_is_repeated_and_another_teacher_is_named(
    run: Path, tmp_path: Path
) -> None:
    teacher = run / "iter_2" / "model.pdparams"
    sections = tiny_data(tmp_path / "more")
    config = tiny_config(tmp_path, iters=2, distillation={"teacher": str(teacher)}, **sections)
    taught = tmp_path / "taught"
    train(config, TrainOptions(save_dir=taught, save_interval=2, seed=4, device="cpu"))
    found = call("paddleseg_ext", "reproduce", taught)
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    _, *words = shlex.split(lines[lines.index("to repeat it:") + 1])
    assert call("paddleseg_ext", *words).status == 0
    files = [folder / "iter_2" / "model.pdparams" for folder in (taught, Path(f"{taught}_again"))]
    assert files[0].read_bytes() == files[1].read_bytes() != teacher.read_bytes()
    teacher.write_bytes(teacher.read_bytes() + b"x")
    changed = call("paddleseg_ext", "reproduce", taught)
    assert changed.status == 1 and f"weights.{teacher} was" in changed.err
