"""`data audit` as a command: a network that reads classes off colours, and labels with faults."""

import csv
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from commands import call

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.checkpoints.store import save_weights
from paddleseg_ext.registry import MODELS

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))
CONFIG = """
train_dataset: {type: ListDataset, dataset_root: ., train_path: train.list, mode: train,
  num_classes: 3, class_names: [sky, road, car], transforms: [{type: Normalize}]}
val_dataset: {type: ListDataset, dataset_root: ., val_path: val.list, mode: val,
  num_classes: 3, class_names: [sky, road, car], transforms: [{type: Normalize}]}
model: {type: ColourNet}
"""


class ColourNet(paddle.nn.Layer):
    """Its channels are its classes."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.scale = paddle.nn.Conv2D(3, num_classes, 1, bias_attr=False)
        self.scale.weight.set_value(4 * paddle.eye(3).reshape([3, 3, 1, 1]))

    def forward(self, images: paddle.Tensor, upsample: bool = True) -> list[paddle.Tensor]:
        return [self.scale(images)]


def write_scene(folder: Path, name: str, seed: int, wrong: bool = False) -> None:
    """Sky, road and two cars in places of their own; `wrong` calls one car road."""
    random = np.random.default_rng(seed)
    classes = np.zeros((64, 96), np.uint8)
    classes[random.integers(20, 44) :] = 1
    label = classes.copy()
    for number in range(2):
        x, y = 48 * number + random.integers(2, 30), random.integers(4, 48)
        classes[y : y + 12, x : x + 14] = 2
        if not (wrong and number):
            label[y : y + 12, x : x + 14] = 2
    image = np.array(COLOURS, np.uint8)[classes]
    blurred = cv2.GaussianBlur(image, (5, 5), 0)
    cv2.imwrite(str(folder / f"{name}.png"), blurred[:, :, ::-1])
    cv2.imwrite(str(folder / f"{name}_label.png"), label)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS._targets, "ColourNet", f"{__name__}:ColourNet")  # until its end
    for number in range(6):
        write_scene(tmp_path, f"t{number}", number, wrong=number == 4)
    write_scene(tmp_path, "v0", 20)
    mirrored = cv2.imread(str(tmp_path / "t2.png"))[:, ::-1]
    cv2.imwrite(str(tmp_path / "v1.png"), mirrored)
    label = cv2.imread(str(tmp_path / "t2_label.png"), cv2.IMREAD_UNCHANGED)[:, ::-1]
    cv2.imwrite(str(tmp_path / "v1_label.png"), label)
    for split, count in (("train", 6), ("val", 2)):
        lines = [f"{split[0]}{i}.png {split[0]}{i}_label.png\n" for i in range(count)]
        (tmp_path / f"{split}.list").write_text("".join(lines))
    (tmp_path / "c.yml").write_text(CONFIG)
    save_weights(ColourNet(3), tmp_path / "model.pdparams", CheckpointManifest(iteration=0))
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_the_wrong_label_and_the_leak_come_first(data: Path) -> None:
    arguments = ("--config", data / "c.yml", "--save_dir", data / "out", "--device", "cpu")
    weights = ("--weights", data / "model.pdparams", "--pictured", 3)
    done = call("paddleseg_ext", "data", "audit", *arguments, *weights)
    assert done.status == 0, done.err
    first = table(data / "out/regions.csv")[0]
    assert first["rank"] == "1" and first["image"].endswith("t4.png")
    assert first["label_says"] in ("sky", "road") and first["network_says"] == "car"
    assert 120 < int(first["pixels"]) <= 12 * 14 + 60
    images = table(data / "out/images.csv")
    assert len(images) == 8 and images[0]["image"].endswith("t4.png")
    assert float(images[0]["score"]) > 2 * float(images[1]["score"])
    (twin,) = table(data / "out/duplicates.csv")
    assert twin["is_leak"] == twin["is_mirrored"] == "True"
    assert {twin["first"], twin["second"]} == {"train_dataset: t2", "val_dataset: v1"}
    page = (data / "out/audit.html").read_text()
    assert "leak, mirrored" in page and page.count('alt="network"') <= 6
    assert "label road, network car" in done.out or "label sky, network car" in done.out
    assert "1 pairs between the parts (leaks)" in done.out


def test_without_weights_only_copies_are_looked_for(data: Path) -> None:
    (data / "t0.png").write_bytes(b"no image")
    done = call(
        "paddleseg_ext", "data", "audit", "--config", data / "c.yml", "--save_dir", data / "o"
    )
    assert done.status == 1 and "t0.png" in done.out  # it is named, the others are done
    assert [path.name for path in (data / "o").iterdir()] == ["duplicates.csv"]
    assert len(table(data / "o/duplicates.csv")) == 1
    (data / "v1.png").write_bytes((data / "v0.png").read_bytes())
    call("paddleseg_ext", "data", "audit", "--config", data / "c.yml", "--save_dir", data / "p")
    assert (data / "p/duplicates.csv").read_text().startswith("first,second,is_leak,")


def test_wrong_use_is_one_line(data: Path) -> None:
    base = ("paddleseg_ext", "data", "audit", "--config", data / "c.yml")
    for extra, expected in (
        (("--weights", data / "no.pdparams"), "no.pdparams"),
        (("--weights", data / "v0.png"), "v0.png"),
        (("--save_dir", data / "c.yml"), "--save_dir"),
        (("--pictured", "-1"), "at least 0"),
    ):
        done = call(*base, "--device", "cpu", *extra)
        assert done.status == 2 and expected in done.err, (extra, done.err)
        assert "Traceback" not in done.err
    assert not [path for path in data.rglob("output/**/*") if path.is_file()]
