"""Two evaluations side by side: classes, images, and whether the difference is beyond luck."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.scoring.bootstrap import (
    CONFIDENCE,
    ImageAreas,
    Interval,
    bootstrap_difference,
)

LISTED_IMAGES = 10  # with the largest differences


def read_evaluation(path: str | Path) -> dict[str, Any]:
    """The `evaluation` of a JSON file that val.py, predict.py or infer.py wrote.

    Raises:
        UsageError: it is something else.
    """
    try:
        content = json.loads(require_file(path, "--compare").read_text(encoding="utf-8"))
        evaluation = content["evaluation"]
        areas_of(evaluation)
        if not evaluation.keys() >= {"class_names", "absent", "protocol"}:
            raise KeyError
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"--compare: '{path}' holds no scored run; a val.json, predict.json or inference.json "
            "is expected"
        ) from None
    return evaluation


def areas_of(evaluation: dict[str, Any]) -> ImageAreas:
    """The images' counts of an evaluation as read from JSON."""
    images = evaluation["images"]
    keys = ("intersection", "prediction_pixels", "label_pixels")
    return ImageAreas(*(np.array([image[key] for image in images], np.int64) for key in keys))


def compare(first: dict[str, Any], second: dict[str, Any], resamples: int) -> dict[str, Any]:
    """Second minus first, over the images that both scored.

    Raises:
        UsageError: other classes, another rule for absent ones, or no image in common.
    """
    for key in ("class_names", "absent"):
        if first[key] != second[key]:
            raise UsageError(
                f"--compare: the runs differ in {key}: {first[key]} and {second[key]}; "
                "their figures say nothing about each other"
            )
    rows = [{image["name"]: i for i, image in enumerate(run["images"])} for run in (first, second)]
    names = [name for name in rows[0] if name in rows[1]]
    if not names:
        raise UsageError("--compare: the two runs have no image in common")
    areas = [
        _select(areas_of(run), [row[name] for name in names])
        for run, row in zip((first, second), rows, strict=True)
    ]
    interval = bootstrap_difference(areas[0], areas[1], first["absent"], resamples)
    class_iou = [_class_iou(area) for area in areas]
    image_iou = [_image_iou(area) for area in areas]
    return {
        "protocols": [first["protocol"], second["protocol"]],
        "absent": first["absent"],
        "num_images": len(names),
        "only_in_first": len(rows[0]) - len(names),
        "only_in_second": len(rows[1]) - len(names),
        "mean_iou_difference": interval.to_dict(),
        "beyond_chance": beyond_chance(interval),
        "classes": [
            {"name": name, "first": _plain(a), "second": _plain(b), "difference": _plain(b - a)}
            for name, a, b in zip(first["class_names"], *class_iou, strict=True)
        ],
        "images": [
            {"name": name, "first": _plain(a), "second": _plain(b), "difference": _plain(b - a)}
            for name, a, b in zip(names, *image_iou, strict=True)
        ],
    }


def beyond_chance(interval: Interval) -> bool:
    """Whether 0 lies outside the interval of the difference; one image has no interval."""
    return interval.num_images > 1 and (interval.low > 0.0 or interval.high < 0.0)


def comparison_lines(result: dict[str, Any]) -> list[str]:
    """The comparison as text: per class, the images that moved most, the verdict."""
    difference = result["mean_iou_difference"]
    lines = [f"{'class':<24}{'first':>9}{'second':>9}{'difference':>12}"]
    lines += [_line(row, 24) for row in result["classes"]]
    moved = [row for row in result["images"] if row["difference"]]
    moved.sort(key=lambda row: -abs(row["difference"]))
    lines.append(f"images whose mIoU moved: {len(moved)} of {result['num_images']}")
    lines += [_line(row, 60) for row in moved[:LISTED_IMAGES]]
    if result["protocols"][0] != result["protocols"][1]:
        lines.append(f"the protocols differ: {result['protocols'][0]} | {result['protocols'][1]}")
    if difference["value"] is None:
        return [*lines, "mIoU second - first: nothing was scored"]
    verdict = "beyond chance" if result["beyond_chance"] else "within chance"
    lines.append(
        f"mIoU second - first: {difference['value']:+.4f}, {CONFIDENCE:.0%} interval over "
        f"{difference['num_images']} images {difference['low']:+.4f} to "
        f"{difference['high']:+.4f}: {verdict}"
    )
    return lines


def _line(row: dict[str, Any], width: int) -> str:
    cells = [
        "absent" if row[key] is None else f"{row[key]:{sign}.4f}"
        for key, sign in (("first", ""), ("second", ""), ("difference", "+"))
    ]
    return f"{row['name']:<{width}}{cells[0]:>9}{cells[1]:>9}{cells[2]:>12}"


def _select(areas: ImageAreas, rows: Sequence[int]) -> ImageAreas:
    return ImageAreas(
        areas.intersection[rows], areas.prediction_pixels[rows], areas.label_pixels[rows]
    )


def _iou(areas: ImageAreas, axis: int | None) -> np.ndarray:
    """IoU of sums over `axis`, or of every cell; nan where there is nothing."""
    hits, predicted, labelled = (
        array if axis is None else array.sum(axis=axis)
        for array in (areas.intersection, areas.prediction_pixels, areas.label_pixels)
    )
    union = predicted + labelled - hits
    return np.where(union == 0, np.nan, hits / np.maximum(union, 1))


def _class_iou(areas: ImageAreas) -> np.ndarray:
    return _iou(areas, axis=0)


def _image_iou(areas: ImageAreas) -> np.ndarray:
    """(num_images,): mean over the classes that occur in the image."""
    iou = _iou(areas, axis=None)
    present = ~np.isnan(iou)
    mean = np.where(present, iou, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return np.where(present.any(axis=1), mean, np.nan)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
