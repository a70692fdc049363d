"""All problems are found, at once, and `data check` says so."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.datasets import Cityscapes, ListDataset
from paddleseg_ext.data.validate import check_samples, require_sound_sets
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import write_sample_list


def _damage(root: Path) -> list[Path]:
    """Damage five of six training pairs, each in another way; the damaged files."""
    samples = Cityscapes(str(root)).samples
    labels = [sample.label for sample in samples if sample.label is not None]
    content = samples[0].image.read_bytes()
    samples[0].image.write_bytes(content[: len(content) // 2])
    labels[1].write_bytes(b"")
    cv2.imwrite(str(labels[2]), np.full((64, 96), 77, np.uint8))
    cv2.imwrite(str(labels[3]), np.zeros((32, 96), np.uint8))
    cv2.imwrite(str(labels[4]), np.full((64, 96, 3), (1, 2, 3), np.uint8))
    return [samples[0].image, *labels[1:5]]


def test_sound_data_has_no_problems(tiny_cityscapes_shared: Path) -> None:
    dataset = Cityscapes(str(tiny_cityscapes_shared))
    assert check_samples(dataset.samples, dataset.class_table) == []


def test_every_damaged_file_has_its_line(tiny_cityscapes: Path) -> None:
    dataset = Cityscapes(str(tiny_cityscapes))
    damaged = _damage(tiny_cityscapes)
    problems = check_samples(dataset.samples, dataset.class_table)
    assert [line.split(": ")[0] for line in problems] == [str(path) for path in damaged]


def test_the_commands_do_without_paddle(tiny_cityscapes_shared: Path) -> None:
    """Paddle takes seconds to import, and data is looked after on machines without it."""
    code = (
        "import sys; from paddleseg_ext.commands import data as cli; "
        f"cli.main(['check', '--dataset_root', {str(tiny_cityscapes_shared)!r}]); "
        "sys.exit(any(name.startswith('paddle.') for name in sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["check", "--num_classes", "3"], "that of --list"),
        (["check", "--opts", "iters=3"], "keys of --config"),
        (["index", "--save_dir", "lists", "--opts", "iters=3"], "keys of --config"),
    ],
)
def test_flags_that_would_do_nothing(
    flags: list[str], message: str, tiny_cityscapes_shared: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        cli.main([*flags, "--dataset_root", str(tiny_cityscapes_shared)])


def test_no_flag_is_guessed(
    tiny_cityscapes_shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["check", "--dataset", str(tiny_cityscapes_shared)])
    assert "--config --dataset_root --list is required" in capsys.readouterr().err


def test_the_command_lists_them(tiny_cityscapes: Path, tmp_path: Path) -> None:
    dataset = Cityscapes(str(tiny_cityscapes))
    listed = tmp_path / "some.list"
    write_sample_list(dataset.samples, listed)
    assert cli.main(["check", "--dataset_root", str(tiny_cityscapes)]) is None
    assert cli.main(["check", "--list", str(listed)]) is None
    damaged = _damage(tiny_cityscapes)
    for source in (["--dataset_root", str(tiny_cityscapes)], ["--list", str(listed)]):
        with pytest.raises(UsageError, match="5 files") as caught:
            cli.main(["check", *source])
        assert all(path.name in str(caught.value) for path in damaged)


def _set(folder: Path, name: str, *stored: list[int]) -> ListDataset:
    """A data set of one-row labels with the classes sky, road and car."""
    lines = []
    for number, values in enumerate(stored):
        image, label = f"image_{name}{number}.png", f"{name}{number}.png"
        cv2.imwrite(str(folder / image), np.zeros((1, len(values), 3), np.uint8))
        cv2.imwrite(str(folder / label), np.array([values], np.uint8))
        lines.append(f"{image} {label}\n")
    (folder / f"{name}.txt").write_text("".join(lines))
    names = ["sky", "road", "car"]
    dataset = ListDataset(str(folder), 3, [], "train", f"{name}.txt", class_names=names)
    dataset.transform_specs = []  # type: ignore[attr-defined]
    return dataset


def test_what_the_labels_hold_is_said_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = _set(tmp_path, "t", [0, 1], [0, 255]), _set(tmp_path, "v", [2, 1])
    require_sound_sets({"train_dataset": train, "val_dataset": val})
    lines = [line.partition("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "train_dataset: 1 of 3 classes never occur in its 2 labels: car; 25.0% of the pixels are "
        "ignored",
        "val_dataset: 1 of 3 classes never occur in its label: sky; 0.0% of the pixels are ignored",
        "val_dataset has classes that are never trained: car",
    ]


@pytest.mark.parametrize("stored", [[255, 255], [0, 255]])
def test_labels_that_cannot_be_meant_are_refused(stored: list[int], tmp_path: Path) -> None:
    good, bad = _set(tmp_path, "g", [0, 1]), _set(tmp_path, "b", stored)
    for sets in ({"train_dataset": bad}, {"train_dataset": good, "val_dataset": bad}):
        with pytest.raises(UsageError, match=f"^{list(sets)[-1]}: (no labelled|only 'sky')"):
            require_sound_sets(sets)
    with pytest.raises(UsageError, match=r"b\.txt: (no labelled|only 'class_0')"):
        cli.main(["check", "--list", str(tmp_path / "b.txt"), "--num_classes", "3"])


def test_mirrored_classes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = _set(tmp_path, "t", [0, 1, 2])
    dataset.class_table = generic_table(3, ["face", "l_ear", "r_ear"])
    dataset.transform_specs = [{"type": "RandomHorizontalFlip"}]  # type: ignore[attr-defined]
    require_sound_sets({"train_dataset": dataset})
    assert "mirrored samples exchange l_ear and r_ear" in capsys.readouterr().out
