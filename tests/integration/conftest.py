"""A small network that nobody trained, its data, its checkpoint and its bundles."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

NUM_CLASSES = 5
SIZES_HW = [(64, 96), (48, 80), (64, 96)]


def load_script(name: str) -> ModuleType:
    return importlib.import_module(f"paddleseg_ext.commands.{name}")


class Deployment:
    """A data set, a yml, a checkpoint and its bundles."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.list = self._make_data()
        self.config = self._write_yml("plain", [{"type": "Normalize"}])
        resize = {"type": "Resize", "target_size": [64, 32]}
        self.resizing_config = self._write_yml("resizing", [resize, {"type": "Normalize"}])
        self.weights = self._make_checkpoint()

    def _make_data(self) -> Path:
        rng = np.random.default_rng(0)
        lines = []
        for i, (height, width) in enumerate(SIZES_HW):
            city = self.folder / "data" / f"city{i}"
            city.mkdir(parents=True)
            coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            label = rng.integers(0, NUM_CLASSES, (height, width), dtype=np.uint8)
            label[:4] = 255
            cv2.imwrite(str(city / "frame.png"), image)  # one name in every folder
            cv2.imwrite(str(city / "frame_label.png"), label)
            lines.append(f"city{i}/frame.png city{i}/frame_label.png\n")
        path = self.folder / "data" / "infer.list"
        path.write_text("".join(lines))
        return path

    def _write_yml(self, name: str, transforms: list[dict]) -> Path:
        content = {
            "val_dataset": {
                "type": "ListDataset",
                "dataset_root": str(self.list.parent),
                "num_classes": NUM_CLASSES,
                "mode": "val",
                "val_path": self.list.name,
                "transforms": transforms,
            },
            "model": {"type": "BiSeNetV1", "backbone": {"type": "ResNet18"}},
        }
        path = self.folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(content))
        return path

    def _make_checkpoint(self) -> Path:
        import paddle

        from paddleseg_ext.checkpoints.manifest import CheckpointManifest
        from paddleseg_ext.checkpoints.store import save_weights
        from paddleseg_ext.config import load_config
        from paddleseg_ext.models.build import build_model

        paddle.seed(7)
        model = build_model(load_config(self.config), NUM_CLASSES)
        path = self.folder / "model.pdparams"
        save_weights(model, path, CheckpointManifest(iteration=3))
        return path

    def export(self, config: Path, output_op: str = "none", **more: Any) -> Path:
        from paddleseg_ext.config import load_config
        from paddleseg_ext.export.exporter import export
        from paddleseg_ext.export.options import ExportOptions

        loaded = load_config(config)
        name = "_".join(["bundle", config.stem, output_op, *more])
        more.setdefault("onnx", False)  # for speed
        options = ExportOptions(self.folder / name, output_op=output_op, **more)
        return export(loaded, str(self.weights), options)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("deployment"))


@pytest.fixture(scope="session")
def bundle(deployment: Deployment) -> Path:
    return deployment.export(deployment.config)


@pytest.fixture(scope="session")
def onnx_bundle(deployment: Deployment) -> Path:
    """With `model.onnx` and `model.mnn`, taking bytes."""
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("MNN")
    return deployment.export(deployment.config, onnx=True, mnn=True, fold_normalize=True)
