"""A network of PaddleSeg's with one input channel, through our commands."""

from pathlib import Path

import cv2
import numpy as np
import yaml
from commands import call

from paddleseg_ext.images.reading import read_label
from paddleseg_ext.inference.predictor import Predictor

YML = """
batch_size: 2
iters: 2
train_dataset: &data {{type: Dataset, dataset_root: {root}, mode: train, num_classes: 2,
  img_channels: 1, train_path: {root}/data.txt, val_path: {root}/data.txt,
  transforms: [{{type: RandomHorizontalFlip}}, {{type: Resize, target_size: [64, 64]}},
               {{type: Normalize}}]}}
val_dataset: {{<<: *data, mode: val, transforms: [{{type: Normalize}}]}}
optimizer: {{type: SGD}}
lr_scheduler: {{type: PolynomialDecay, learning_rate: 0.01}}
loss: {{types: [{{type: CrossEntropyLoss}}], coef: [1, 1, 1]}}
model: {{type: PPLiteSeg, backbone: {{type: STDC1, in_channels: 1}}}}
"""


def write_grey_data(root: Path) -> None:
    """Two grey images and their labels, and a colour image."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        label = np.zeros((64, 96), np.uint8)
        label[20:40, 30:60] = 1
        cv2.imwrite(str(root / f"{name}_l.png"), label)
        image = label * 100 + rng.integers(0, 90, label.shape)
        cv2.imwrite(str(root / f"{name}.png"), image.astype(np.uint8))
    colours = rng.integers(0, 256, (64, 96, 3))
    cv2.imwrite(str(root / "colours.png"), colours.astype(np.uint8))
    (root / "data.txt").write_text("a.png a_l.png\nb.png b_l.png\n")


def test_grey_images_are_trained_scored_exported_and_inferred(tmp_path: Path) -> None:
    write_grey_data(tmp_path / "data")
    yml, bundle = tmp_path / "grey.yml", tmp_path / "bundle"
    yml.write_text(YML.format(root=tmp_path / "data"))
    common = ("--config", yml)
    trained = call(
        "train.py", *common, "--device", "cpu", "--do_eval", "--save_dir", tmp_path / "train"
    )
    assert trained.status == 0, trained.err
    weights = tmp_path / "train/best_model/model.pdparams"
    scored = call(
        "val.py", *common, "--device", "cpu", "--model_path", weights, "--save_dir", tmp_path / "v"
    )
    assert scored.status == 0 and "#Images: 2" in scored.out, scored.err
    exported = call(
        "export_model.py", "--model_path", weights, "--save_dir", bundle,
        "--fold_normalize", True, "--upsample", "host",
    )  # fmt: skip
    assert exported.status == 0, exported.err
    deploy = yaml.safe_load((bundle / "deploy.yaml").read_text())["Deploy"]
    assert deploy["input_shape"][1] == 1
    inferred = call(
        "infer.py", "--config", bundle / "deploy.yaml", "--device", "cpu", "--save_dir",
        tmp_path / "infer", "--image_path", tmp_path / "data/colours.png",
    )  # fmt: skip
    assert inferred.status == 0, inferred.err
    image = cv2.imread(str(tmp_path / "data/colours.png"))
    by_hand = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2RGB)
    map_file = next((tmp_path / "infer/label_maps").rglob("*.png"))
    with Predictor.open(weights) as predictor:
        expected = predictor(by_hand).label_map
    assert (read_label(map_file) != expected).mean() < 0.01
    refused = call(
        "export_model.py", *common, "--model_path", weights, "--save_dir", tmp_path / "no",
        "--opts", "val_dataset.transforms.0.mean=[0.1,0.2,0.3]",
    )  # fmt: skip
    assert refused.status == 2 and "one mean and one std" in refused.err
