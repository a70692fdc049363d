"""The record of a run: what is in it, that each start is added, that damage is one line."""

import json
from pathlib import Path

import pytest
from tiny_training import tiny_config, tiny_data

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.digest import digest_of
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.run_record import read_record
from paddleseg_ext.training.train import train


def options(folder: Path, **given: object) -> TrainOptions:
    return TrainOptions(save_dir=folder, save_interval=2, device="cpu", **given)


def test_a_run_and_its_resume_are_recorded(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, iters=2, **tiny_data(tmp_path / "data"))
    run = tmp_path / "run"
    first = train(config, options(run, seed=7, do_eval=True))
    longer = tiny_config(tmp_path, iters=4, pretrained=str(first.weights), **_sections(config))
    train(longer, options(run, seed=7, do_eval=True, resume_model="auto"))
    one, two = read_record(run)
    assert (one.iteration, two.iteration, one.seed) == (0, 2, 7)
    assert "pytest" in one.command and one.directory == str(Path.cwd())
    assert {"paddlepaddle", "numpy", "Python", "paddleseg_ext source"} <= one.versions.keys()
    assert one.machine["threads"] >= 1 and one.machine["device"] == "cpu"
    assert one.data["train_dataset"]["samples"] == 4
    assert two.weights == {str(first.weights): sha256_of(first.weights)}
    assert load_config(run / "config.yml").raw == longer.raw
    differences = one.differences(two)
    assert "config.iters was 2, is 4" in differences
    assert not [line for line in differences if line.startswith(("versions", "data", "machine"))]


def _sections(config) -> dict:
    return {name: config.raw[name] for name in ("train_dataset", "val_dataset")}


def test_a_new_run_sets_the_record_aside_with_the_rest(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, iters=2, **tiny_data(tmp_path / "data"))
    run = tmp_path / "run"
    train(config, options(run, seed=1))
    train(config, options(run, seed=2))
    assert [start.seed for start in read_record(run)] == [2]
    assert [start.seed for start in read_record(run / "previous_runs" / "1")] == [1]


def test_the_digest_sees_every_file_and_the_order(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, **tiny_data(tmp_path / "data"))
    listed = tmp_path / "data" / "all.list"

    def digest() -> str:
        return digest_of(build_dataset(config, "train_dataset"), "train_dataset")

    found = [digest(), digest()]
    assert found[0] == found[1]
    label = tmp_path / "data" / "3_label.png"
    label.write_bytes(label.read_bytes() + b"\0")
    found.append(digest())
    listed.write_text("".join(reversed(listed.read_text().splitlines(keepends=True))))
    found.append(digest())
    assert len(set(found)) == 3


@pytest.mark.parametrize("text", ["{", "[]", '{"starts": []}', '{"starts": [{"command": 3}]}'])
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"run\.json"):
        read_record(tmp_path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    start = {"command": "", "directory": "", "time": "", "iteration": 0, "config": {}}
    start |= {"options": {}, "num_classes": 2, "sed": 3}
    (tmp_path / "run.json").write_text(json.dumps({"starts": [start]}))
    with pytest.raises(UsageError, match="unknown key 'sed'"):
        read_record(tmp_path)
