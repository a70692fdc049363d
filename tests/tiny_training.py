"""A network, data and a run of the trainer that take milliseconds."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import yaml
from paddle import Tensor, nn

from paddleseg_ext.config import Config, load_config
from paddleseg_ext.distributed.world import joined_world
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.registry import MODELS
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.plan import make_plan
from paddleseg_ext.training.state import TrainState
from paddleseg_ext.training.trainer import run_training

NUM_CLASSES = 3


class TinyNet(nn.Layer):
    """One hidden layer, a main and an auxiliary head."""

    def __init__(self, num_classes: int, norm: bool = True, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Conv2D(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2D(6) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2D(6, num_classes, 1)
        self.aux = nn.Conv2D(6, num_classes, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.dropout(nn.functional.relu(self.norm(self.body(images))))
        return [self.head(features), self.aux(features)] if self.training else [self.head(features)]


class TinySamples:
    """Random images whose classes can be learnt, with random brightness."""

    ignore_index = 255

    def __init__(
        self, count: int = 12, num_classes: int = NUM_CLASSES, bad: dict[int, float] | None = None
    ):
        """`bad` gives single samples rows of this value and its opposite."""
        self.num_classes = num_classes
        self.class_table = generic_table(num_classes)
        self.samples = [SimpleNamespace(name=f"image_{i}") for i in range(count)]
        self._bad = bad or {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(index)
        label = generator.integers(0, self.num_classes, (1, 8, 8))
        image = generator.normal(size=(3, 8, 8)) + label + np.random.random()
        if index in self._bad:
            image[:, ::2], image[:, 1::2] = self._bad[index], -self._bad[index]
        return {"img": image, "label": label}


def tiny_config(folder: Path, **changes: Any) -> Config:
    """A yml of `TinyNet`, with some of its keys changed."""
    if "TinyNet" not in MODELS.names:
        MODELS.register("tiny_training:TinyNet")
    content = {
        "batch_size": 2,
        "iters": 4,
        "train_dataset": {"type": "TinySamples"},
        "val_dataset": {"type": "TinySamples"},
        "model": {"type": "TinyNet"},
        "loss": {"types": [{"type": "CrossEntropyLoss"}], "coef": [1, 0.4]},
        "optimizer": {"type": "sgd", "weight_decay": 1e-4},
        "lr_scheduler": {"learning_rate": 0.1},
    }
    path = folder / "tiny.yml"
    path.write_text(yaml.safe_dump(content | changes))
    return load_config(path)


def train_tiny(
    config: Config, save_dir: Path, dataset: Any = None, validate: Any = None, **options: Any
) -> TrainState:
    """Run the trainer. `precision` is not checked: on a CPU it could not be used."""
    precision = options.pop("precision", "fp32")
    described = {"save_interval": 2, "log_iters": 1, "keep_checkpoint_max": 9} | options
    do_eval = validate is not None
    given = TrainOptions(save_dir=save_dir, device="cpu", do_eval=do_eval, **described)
    plan = replace(make_plan(config, given), precision=precision)
    with joined_world("cpu") as world:
        return run_training(plan, dataset or TinySamples(), validate, world)[0]


class ScriptedScores:
    """Gives the scores it was told, one after the other for each protocol, and notes its calls."""

    def __init__(self, *scores: float, **by_protocol: list[float]):
        self._scores = {None: list(scores)} | {k: list(v) for k, v in by_protocol.items()}
        self.weights: list[dict[str, np.ndarray]] = []

    def __call__(self, model: nn.Layer, *rest: Any) -> Any:
        self.weights.append({k: v.numpy().copy() for k, v in model.state_dict().items()})
        protocol = next((r for r in rest if isinstance(r, str)), None)
        value = self._scores[protocol].pop(0)
        scores = SimpleNamespace(mean_iou=value, accuracy=value)
        return SimpleNamespace(scores=scores, to_json=lambda: {"scores": {"mean_iou": value}})


def tiny_data(folder: Path, count: int = 4) -> dict[str, Any]:
    """Sections of a yml for `count` pictures of 8 x 8 with `NUM_CLASSES` classes, written there."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for number in range(count):
        label = generator.integers(0, NUM_CLASSES, (8, 8), dtype=np.uint8)
        image = np.repeat(label[..., None] * 60, 3, axis=2)
        image += generator.integers(0, 40, image.shape, dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        cv2.imwrite(str(folder / f"{number}_label.png"), label)
        lines.append(f"{number}.png {number}_label.png\n")
    (folder / "all.list").write_text("".join(lines))
    common = {"type": "ListDataset", "dataset_root": str(folder), "num_classes": NUM_CLASSES}
    transforms = [{"type": "Normalize"}]
    return {
        f"{part}_dataset": common
        | {"mode": part, f"{part}_path": "all.list", "transforms": transforms}
        for part in ("train", "val")
    }
