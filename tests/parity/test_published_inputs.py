"""Right weights must not meet wrong pixels: what a bundle feeds its network, system by system.

The formulas are those of the original data loaders, written out here in the originals' order and
precision; the pixels go through a file, so that the channel order is part of the comparison.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.config import load_config
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.bundle import read_bundle, write_deploy_yaml
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.preprocess import Preprocess

pytestmark = pytest.mark.parity
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def to_tensor_normalize(mean: tuple, std: tuple) -> Callable[[np.ndarray], np.ndarray]:
    """ToTensor and Normalize: CoinCheung, face parsing, STDC-Seg; TorchSeg's numbers too."""

    def formula(rgb: np.ndarray) -> np.ndarray:
        image = rgb.astype(np.float32) / np.float32(255)
        return (image - np.float32(mean)) / np.float32(std)

    return formula


def mmseg(rgb: np.ndarray) -> np.ndarray:
    """The imnormalize of mmcv: the file's BGR turned, means and deviations in grey levels."""
    mean, std = np.float64([123.675, 116.28, 103.53]), np.float64([58.395, 57.12, 57.375])
    return (rgb.astype(np.float64) - mean) * (1 / std)


def paddleseg(rgb: np.ndarray) -> np.ndarray:
    """PaddleSeg's and TF2's: pixels to [-1, 1]."""
    return rgb.astype(np.float32) / np.float32(127.5) - 1


COINCHEUNG = to_tensor_normalize((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115))
COINCHEUNG_COCO = to_tensor_normalize(
    (0.46962251, 0.4464104, 0.40718787), (0.27469736, 0.27012361, 0.28515933)
)
COINCHEUNG_ADE = to_tensor_normalize(
    (0.49343230, 0.46819794, 0.43106043), (0.25680755, 0.25506608, 0.27422913)
)
IMAGENET = to_tensor_normalize(IMAGENET_MEAN, IMAGENET_STD)
FORMULAS = {
    "bisenetv1_torchseg": IMAGENET,
    "bisenetv1_coincheung_2019": IMAGENET,
    "bisenetv1_coincheung": COINCHEUNG,
    "bisenetv1_coincheung_ade20k": COINCHEUNG_ADE,
    "bisenetv1_coincheung_coco_stuff164k": COINCHEUNG_COCO,
    "bisenetv1_face_parsing": IMAGENET,
    "bisenetv1_mmseg": mmseg,
    "bisenetv1_paddleseg": paddleseg,
    "bisenetv2_coincheung": COINCHEUNG,
    "bisenetv2_coincheung_ade20k": COINCHEUNG_ADE,
    "bisenetv2_coincheung_coco_stuff164k": COINCHEUNG_COCO,
    "bisenetv2_mmseg": mmseg,
    "bisenetv2_paddleseg": paddleseg,
    "bisenetv2_tf2": paddleseg,
    "stdc": IMAGENET,
    "stdc1_seg_paddleseg": paddleseg,
    "stdc2_seg_paddleseg": paddleseg,
    "dabnet": mmseg,
}
OUR_OWN = "camvid_256x192"  # recipes that were not published
FILES = sorted(
    p
    for p in CONFIGS.glob("*/*.yml")
    if p.stem.startswith(tuple(FORMULAS)) and OUR_OWN not in p.stem
)


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_bundle_input_is_the_published(path: Path, tmp_path: Path) -> None:
    longest = max((name for name in FORMULAS if path.stem.startswith(name)), key=len)
    transforms = load_config(path).val_dataset["transforms"]
    # At the size that a recipe resizes to, resizing changes nothing.
    sizes = [
        t.get("target_size") or 2 * [t["short_size"]] for t in transforms if "Resize" in t["type"]
    ]
    width, height = sizes[0] if sizes else (512, 512)
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), rgb[:, :, ::-1])

    for name in ("model.json", "model.pdiparams"):
        (tmp_path / name).write_bytes(b"x")
    manifest = Manifest(path.stem, generic_table(19))
    write_deploy_yaml(tmp_path, transforms, [-1, 3, -1, -1], "none", manifest)
    preprocess = Preprocess(read_bundle(tmp_path).transforms)

    tensor, _ = preprocess(read_image(tmp_path / "image.png"))
    expected = FORMULAS[longest](rgb).transpose(2, 0, 1)
    np.testing.assert_allclose(tensor, expected, rtol=0, atol=2e-6)
