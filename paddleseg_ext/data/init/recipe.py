"""Network, sizes, class weights and a schedule that fit a data set.

The network, its losses and its normalisation are those of a shipped configuration; the optimizer
is that of the runs on CamVid in docs/results/camvid.md. Sizes and lengths follow from the data.
"""

import math
from dataclasses import dataclass

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.shipped_configs import find_config
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.data.survey import Survey

NETWORKS = {
    "bisenetv1": "bisenetv1_camvid_256x192_3k",
    "bisenetv2": "bisenetv2_camvid_256x192_400",
    "dabnet": "dabnet_r18_camvid_256x192_400",
    "stdc1": "stdc1_seg_camvid_256x192_400",
    "stdc2": "stdc2_seg_camvid_256x192_400",
    "ddrnet23": "ddrnet23_cityscapes_1024x1024_120k",
    "pp_liteseg": "pp_liteseg_stdc1_cityscapes_1024x512_160k",
}
CROP_PIXELS, CROP_STEP, SMALLEST_CROP = 1024 * 512, 32, 64
BATCH_PIXELS, MOST_BATCH = 4 * 1024 * 512, 16
LONGEST_SIDE = 2048  # larger images are read at this size
EPOCHS, FEWEST_ITERS, MOST_ITERS = 100, 1000, 80000
MOST_WARMUP, WARMUP_PARTS = 1000, 20  # the warm-up is a twentieth of the run
RARE = 0.01  # share of the labelled pixels below which a class is rare
WEIGHT_OFFSET = 1.02  # ENet, section 5.2


@dataclass(frozen=True)
class Recipe:
    """The values of the yml that depend on the data set.

    Attributes:
        crop_wh: of training samples.
        long_side: images are shrunk to it; None as they are.
        fixed_wh: the size that all images are shrunk to, where all have one size.
        batch_size: samples per batch.
        iters: of the training.
        warmup_iters: fewer than `iters`.
        weights: one factor per class; None where no class is rare.
    """

    crop_wh: tuple[int, int]
    long_side: int | None
    fixed_wh: tuple[int, int] | None
    batch_size: int
    iters: int
    warmup_iters: int
    weights: list[float] | None


def network_of(name: str) -> Config:
    """The shipped configuration whose network is meant.

    Args:
        name: a key of `NETWORKS`, or the name or path of a configuration.

    Raises:
        UsageError: neither; the nearest name is in the message.
    """
    config = load_config(find_config(NETWORKS.get(name, name)))
    for section in ("model", "loss"):
        if section not in config.raw:
            raise UsageError(f"--network: {config.path} has no '{section}:'")
    return config


def recipe_for(train: Survey, iters: int | None) -> Recipe:
    """Sizes, lengths and class weights that fit the training images.

    Args:
        train: of the images that are trained on.
        iters: of the training; by default 100 epochs, within bounds.
    """
    sizes = [tuple(map(int, size.split("x"))) for size in train.sizes.elements()]
    longest = max(map(max, sizes))
    shrink = min(1.0, LONGEST_SIDE / longest)
    fixed = len(train.sizes) == 1 and shrink < 1
    width, height = (float(np.median(side)) * shrink for side in zip(*sizes, strict=True))
    # The crop has the images' shape, at most `CROP_PIXELS`, in steps that every network divides.
    scale = min(1.0, math.sqrt(CROP_PIXELS / (width * height)))
    crop_wh = (_stepped(width * scale), _stepped(height * scale))
    batch = BATCH_PIXELS // (crop_wh[0] * crop_wh[1])
    batch = max(1, min(batch, MOST_BATCH, train.images))
    if iters is None:
        wanted = EPOCHS * math.ceil(train.images / batch)
        iters = min(max(wanted, FEWEST_ITERS), MOST_ITERS)
    return Recipe(
        crop_wh=crop_wh,
        long_side=LONGEST_SIDE if shrink < 1 else None,
        fixed_wh=(round(sizes[0][0] * shrink), round(sizes[0][1] * shrink)) if fixed else None,
        batch_size=batch,
        iters=iters,
        warmup_iters=min(MOST_WARMUP, iters // WARMUP_PARTS),
        weights=class_weights(train.class_pixels),
    )


def _stepped(side: float) -> int:
    return max(SMALLEST_CROP, int(side) // CROP_STEP * CROP_STEP)


def class_weights(pixels: np.ndarray) -> list[float] | None:
    """A factor per class, 1 on the average pixel; None where no class that occurs is rare.

    Args:
        pixels: `(C,)` labelled pixels per class; a class that does not occur gets 1.

    Source: ENet (arXiv:1606.02147) section 5.2: 1 / ln(1.02 + share).
    """
    shares = pixels / max(1, int(pixels.sum()))
    present = shares > 0
    if not (shares[present] < RARE).any():
        return None
    factors = 1 / np.log(WEIGHT_OFFSET + shares)
    factors /= (factors * shares).sum()
    return [round(float(f), 3) if p else 1.0 for f, p in zip(factors, present, strict=True)]
