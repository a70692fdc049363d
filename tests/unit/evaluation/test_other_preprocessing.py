"""Preprocessing that is not the checkpoint's is said in one line that names both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.config import Config, check_config
from paddleseg_ext.evaluation.other_preprocessing import (
    other_size,
    warn_of_other_preprocessing,
    warn_of_other_training,
)

IMAGENET = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"type": "Normalize"}
RESIZE = {"type": "Resize", "target_size": [64, 32]}


def checkpoint(folder: Path, transforms: list[dict] | None, **dataset: Any) -> Path:
    path = folder / "model.pdparams"
    path.write_bytes(b"weights")
    config = {"val_dataset": {"type": "X", **dataset}} if dataset else None
    CheckpointManifest(sha256_of(path), "Net", preprocessing=transforms, config=config).write(path)
    return path


def configured(section: str, transforms: list[dict], **dataset: Any) -> Config:
    return check_config({section: {"type": "X", "transforms": transforms, **dataset}}, "net.yml")


def said(capsys: pytest.CaptureFixture) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if "[WARNING]" in line]


@pytest.mark.parametrize(
    ("trained", "given", "words"),
    [
        ([HALF], [IMAGENET], ["mean=(0.5, 0.5, 0.5)", "mean=(0.485, 0.456, 0.406)"]),
        ([HALF], [{"type": "Normalize", "std": [0.505]}], ["std=(0.5, ", "std=(0.505, "]),
        ([RESIZE, HALF], [HALF], ["Resize(target_wh=(64, 32)", "nothing in its place"]),
        ([HALF], [RESIZE, HALF], ["nothing in its place", "Resize(target_wh=(64, 32)"]),
        ([RESIZE, HALF], [HALF, RESIZE], ["Resize(", "Normalize("]),
        ([], [HALF], ["nothing in its place", "Normalize(mean="]),
    ],
)
def test_both_are_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, trained: list, given: list, words: list
) -> None:
    weights = checkpoint(tmp_path, trained, ignore_index=255)
    warn_of_other_preprocessing(configured("val_dataset", given), weights)
    (line,) = said(capsys)
    assert str(weights) in line and "net.yml" in line
    assert line.index(words[0]) < line.rindex(words[1])


@pytest.mark.parametrize(("key", "value"), [("color_order", "BGR")])
def test_how_pixels_are_read_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture, key: str, value: str
) -> None:
    weights = checkpoint(tmp_path, [HALF], **{key: value})
    warn_of_other_preprocessing(configured("val_dataset", [HALF]), weights)
    assert f"trained with {key} {value}, and net.yml has {key} " in said(capsys)[0]
    warn_of_other_preprocessing(configured("val_dataset", [HALF], **{key: value}), weights)
    assert not said(capsys)


def test_equal_work_and_unknown_preprocessing_are_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spelt = {"type": "paddleseg.Normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5]}
    weights = checkpoint(tmp_path, [HALF])
    warn_of_other_preprocessing(configured("val_dataset", [spelt]), weights)
    weights.with_name("model.pdparams.json").unlink()
    warn_of_other_preprocessing(configured("val_dataset", [IMAGENET]), weights)
    weights = checkpoint(tmp_path, None)
    warn_of_other_preprocessing(configured("val_dataset", [IMAGENET]), weights)
    assert not said(capsys)


def test_a_training_may_change_sizes_and_not_values(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = checkpoint(tmp_path, [RESIZE, IMAGENET])
    crop = {"type": "RandomPaddingCrop", "crop_size": [64, 32]}
    warn_of_other_training(configured("train_dataset", [crop, IMAGENET]), weights)
    assert not said(capsys)
    warn_of_other_training(configured("train_dataset", [crop, HALF]), weights)
    assert "mean=(0.485" in said(capsys)[0]


def test_the_orientation_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """It is a key of the yml itself; a manifest without it means stored pixels."""
    weights = checkpoint(tmp_path, [HALF])
    given = configured("val_dataset", [HALF])
    warn_of_other_preprocessing(replace(given, orientation="upright"), weights)
    assert "orientation stored, and net.yml has orientation upright" in said(capsys)[0]


def test_the_orientation_of_a_training_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(b"weights")
    config = {"val_dataset": {"type": "X"}, "orientation": "upright"}
    CheckpointManifest(sha256_of(path), "Net", preprocessing=[HALF], config=config).write(path)
    for section, warn_of in (
        ("val_dataset", warn_of_other_preprocessing),
        ("train_dataset", warn_of_other_training),
    ):
        given = configured(section, [HALF])
        warn_of(given, path)
        assert "orientation upright, and net.yml has orientation stored" in said(capsys)[0]
        warn_of(replace(given, orientation="upright"), path)
        assert not said(capsys)


@pytest.mark.parametrize(
    ("trained", "given", "differs"),
    [
        ([HALF], [RESIZE, HALF], True),
        ([RESIZE, HALF], [HALF], True),
        ([HALF], [HALF], False),
        ([HALF], [RESIZE, IMAGENET], False),  # not the same images at another size
    ],
)
def test_another_size_alone(tmp_path: Path, trained: list, given: list, differs: bool) -> None:
    weights = checkpoint(tmp_path, trained, ignore_index=255)
    found = other_size(configured("val_dataset", given), weights)
    assert bool(found) is differs
    assert not differs or ("the training had" in found and "Resize(target_wh=(64, 32)" in found)


def test_of_an_unknown_size_nothing_is_said(tmp_path: Path) -> None:
    assert other_size(configured("val_dataset", [RESIZE]), checkpoint(tmp_path, None)) == ""
