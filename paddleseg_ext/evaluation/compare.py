"""Two evaluations side by side: classes, images, and whether the difference is beyond luck."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.json_files import MOST_LISTED_BYTES, read_json
from paddleseg_ext.scoring.bootstrap import CONFIDENCE, Interval, bootstrap_difference
from paddleseg_ext.scoring.confusion import ClassPixels
from paddleseg_ext.scoring.metrics import plain

LISTED_IMAGES = 10  # with the largest differences


def read_evaluation(path: str | Path) -> dict[str, Any]:
    """The `evaluation` of a JSON file that val.py, predict.py or infer.py wrote.

    Raises:
        UsageError: it is something else.
    """
    file = require_file(path, "--compare")
    try:
        content = read_json(file, MOST_LISTED_BYTES)
    except (OSError, ValueError) as error:
        raise UsageError(f"--compare: '{path}' is no JSON file that can be read: {error}") from None
    try:
        evaluation = content["evaluation"]
        ClassPixels.of_images(evaluation["images"])
        if not evaluation.keys() >= {"class_names", "absent", "protocol"}:
            raise KeyError
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"--compare: '{path}' holds no scored run; a val.json, predict.json or inference.json "
            "is expected"
        ) from None
    return evaluation


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
    scored = [{image["name"]: image for image in run["images"]} for run in (first, second)]
    names = [name for name in scored[0] if name in scored[1]]
    if not names:
        raise UsageError("--compare: the two runs have no image in common")
    areas = [ClassPixels.of_images(images[name] for name in names) for images in scored]
    interval = bootstrap_difference(areas[0], areas[1], first["absent"], resamples)
    class_iou = [area.total().iou() for area in areas]
    image_iou = [area.mean_iou() for area in areas]
    return {
        "protocols": [first["protocol"], second["protocol"]],
        "absent": first["absent"],
        "num_images": len(names),
        "only_in_first": len(scored[0]) - len(names),
        "only_in_second": len(scored[1]) - len(names),
        "mean_iou_difference": interval.to_dict(),
        "beyond_chance": beyond_chance(interval),
        "classes": _rows(first["class_names"], *class_iou),
        "images": _rows(names, *image_iou),
    }


def beyond_chance(interval: Interval) -> bool:
    """Whether 0 lies outside the interval of the difference; without an interval it does not."""
    return interval.low > 0.0 or interval.high < 0.0


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
    found = f"mIoU second - first: {difference['value']:+.4f}"
    if difference["low"] is None:
        return [*lines, f"{found}; one image has no interval"]
    verdict = "beyond chance" if result["beyond_chance"] else "within chance"
    lines.append(
        f"{found}, {CONFIDENCE:.0%} interval over "
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


def _rows(
    names: Sequence[str], first: NDArray[np.float64], second: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Per name, both values and their difference; None where there is no value."""
    columns = {"first": first, "second": second, "difference": second - first}
    return [
        {"name": name} | {key: plain(values[i]) for key, values in columns.items()}
        for i, name in enumerate(names)
    ]
