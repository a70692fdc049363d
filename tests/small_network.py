"""A small network with calibrated random weights, and the pictures it is compared on."""

from pathlib import Path

import cv2
import numpy as np

SIZES_HW = ((64, 96), (64, 96), (75, 110))
CONFIG = """
model:
  type: BiSeNetV1
  backbone: {type: ResNet18}
val_dataset:
  type: ListDataset
  dataset_root: data
  mode: val
  val_path: val.list
  num_classes: 7
  transforms:
    - type: Normalize
"""


def write_data(folder: Path) -> None:
    """Three noisy pictures with labels, one of an odd size, and their list."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for number, (height, width) in enumerate(SIZES_HW):
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        label = generator.integers(0, 7, (height, width), dtype=np.uint8)
        label[:4] = 255
        cv2.imwrite(str(folder / f"{number}.png"), image)
        cv2.imwrite(str(folder / f"{number}_label.png"), label)
        lines.append(f"{number}.png {number}_label.png\n")
    (folder / "val.list").write_text("".join(lines))


def write_checkpoint(config, path: Path) -> None:
    """Random weights, normalised by the pictures, so that the classes compete."""
    import paddle

    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights
    from paddleseg_ext.data.build import build_dataset
    from paddleseg_ext.models.build import build_model

    paddle.seed(0)
    model = build_model(config, 7)
    image = build_dataset(config, "val_dataset")[0]["img"]
    model.train()
    for _ in range(20):
        model(paddle.to_tensor(np.stack([image, image[:, ::-1].copy()])))
    save_weights(model, path, CheckpointManifest(iteration=0))
