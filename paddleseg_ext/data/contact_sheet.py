"""Augmented samples as the network sees them, image beside label, on one sheet."""

import random
from typing import Any

import cv2
import numpy as np

COLUMNS = 2
CELL_WIDTH = 360
GAP = 4


def contact_sheet(dataset: Any, count: int, seed: int) -> np.ndarray:
    """Pass `count` samples through the data set's transforms and lay them out.

    Args:
        dataset: one of `data.build.build_dataset`.
        count: samples; where there are fewer, they come again, augmented anew.
        seed: of the augmentation and the choice.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    order = np.random.default_rng(seed).permutation(len(dataset))
    cells = []
    for place in range(count):
        random.seed(seed * 100_003 + place)
        np.random.seed((seed * 100_003 + place) % 2**32)
        item = dataset[int(order[place % len(order)])]
        cells.append(_cell(item, dataset))
    height = max(cell.shape[0] for cell in cells)
    width = max(cell.shape[1] for cell in cells)
    rows = -(-count // COLUMNS)
    sheet = np.full((rows * (height + GAP), COLUMNS * (width + GAP), 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        top, left = place // COLUMNS * (height + GAP), place % COLUMNS * (width + GAP)
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def _cell(item: dict[str, np.ndarray], dataset: Any) -> np.ndarray:
    sides = [to_picture(item["img"], dataset.transform_specs)]
    if "label" in item:
        sides.append(dataset.class_table.full_palette[item["label"].astype(np.uint8)])
    scale = CELL_WIDTH / sides[0].shape[1]
    size_wh = (CELL_WIDTH, max(1, round(sides[0].shape[0] * scale)))
    ways = (cv2.INTER_AREA, cv2.INTER_NEAREST)
    return np.hstack(
        [
            cv2.resize(side, size_wh, interpolation=way)
            for side, way in zip(sides, ways, strict=False)
        ]
    )


def to_picture(image: np.ndarray, transform_specs: list[dict[str, Any]]) -> np.ndarray:
    """A network's input (3, H, W) float32 back as (H, W, 3) uint8, its Normalize undone."""
    picture = image.transpose(1, 2, 0)
    for spec in transform_specs:
        if str(spec.get("type", "")).removeprefix("paddleseg.") == "Normalize":
            mean = np.asarray(spec.get("mean", [0.5]), np.float32)
            std = np.asarray(spec.get("std", [0.5]), np.float32)
            picture = (picture * std + mean) * 255
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
