"""A sheet of augmented samples as the network sees them, each image beside its label."""

import random
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.flags import natural_int, positive_int
from paddleseg_ext.common.options import option
from paddleseg_ext.images.palette import legend, legend_entries

COLUMNS = 2
CELL_WIDTH = 360
GAP = 4


@dataclass(frozen=True)
class SheetOptions:
    """The samples of a sheet. Where the data set has fewer, they are repeated, augmented anew."""

    count: int = option(12, "samples", parse=positive_int)
    seed: int = option(0, "other samples", parse=natural_int)


def contact_sheet(dataset: Any, options: SheetOptions) -> np.ndarray:
    """Returns (H, W, 3) uint8 RGB: samples after the transforms, beside their labels.

    Below them is a legend: names, colours and shares of the classes of these samples.

    Args:
        dataset: from `data.build.build_dataset`.
        options: which samples are drawn.
    """
    order = np.random.default_rng(options.seed).permutation(len(dataset))
    cells, pixels = [], np.zeros(256, np.int64)
    for place in range(options.count):
        seed = options.seed * 100_003 + place
        random.seed(seed)
        np.random.seed(seed % 2**32)
        item = dataset[int(order[place % len(order)])]
        cells.append(_cell(item, dataset))
        if "label" in item:
            pixels += np.bincount(item["label"].astype(np.uint8).ravel(), minlength=256)
    height = max(cell.shape[0] for cell in cells)
    width = max(cell.shape[1] for cell in cells)
    rows = -(-options.count // COLUMNS)
    sheet = np.full((rows * (height + GAP), COLUMNS * (width + GAP), 3), 255, np.uint8)
    for place, cell in enumerate(cells):
        top, left = place // COLUMNS * (height + GAP), place % COLUMNS * (width + GAP)
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    table = dataset.class_table
    entries = legend_entries(pixels[: table.num_classes], table.class_names, table.palette)
    if not entries:
        return sheet
    return np.vstack([sheet, legend(entries, table.class_names, sheet.shape[1])])


def _cell(item: dict[str, np.ndarray], dataset: Any) -> np.ndarray:
    sides = [to_picture(item["img"], dataset.transform_specs)]
    if "label" in item:
        sides.append(dataset.class_table.paint(item["label"].astype(np.uint8)))
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
    """(H, W, 3) uint8 of a network's input (C, H, W) float32, with Normalize undone."""
    picture = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    for spec in transform_specs:
        if str(spec.get("type", "")).removeprefix("paddleseg.") == "Normalize":
            mean = np.asarray(spec.get("mean", [0.5]), np.float32)
            std = np.asarray(spec.get("std", [0.5]), np.float32)
            picture = (picture * std + mean) * 255
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
