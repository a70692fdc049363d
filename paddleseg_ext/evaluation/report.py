"""One HTML page about an evaluation: classes, confusion, best and worst images, histogram."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.evaluation.evaluator import Evaluation, ImageCounts
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.palette import shown_share
from paddleseg_ext.inference.pipeline import Prediction

PICTURED = 4  # worst and best images each
PICTURE_WIDTH = 480
RIGHT_COLOR, WRONG_COLOR, VOID_COLOR = (225, 235, 225), (215, 40, 40), (0, 0, 0)
HISTOGRAM_BINS = 20

TEMPLATE = """
<h1>{{ title }}</h1>
<p>{{ how }}</p>
<div class="tiles">
{% for name, value in tiles %}
  <div class="tile"><b>{{ value }}</b>{{ name }}</div>
{% endfor %}
</div>

<h2>Classes</h2>
<div class="scroll"><table>
<tr><th>class</th>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}
<tr{% if row.absent %} class="absent"{% endif %}>
<td><span class="swatch" style="background:rgb({{ row.color|join(',') }})"></span>
{{ row.name }}</td>{% for value in row.cells %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% if categories %}
<h2>Categories</h2>
<div class="scroll"><table><tr>{% for name, _ in categories %}<th>{{ name }}</th>{% endfor %}</tr>
<tr>{% for _, value in categories %}<td>{{ value }}</td>{% endfor %}</tr></table></div>
{% endif %}

<h2>Confusion</h2>
<p>Each row is the label, each column the prediction; a row sums to 1.</p>
{{ confusion }}

<h2>Images</h2>
{{ histogram }}
{% for heading, pictures in shelves %}
<h2>{{ heading }}</h2>
{% for picture in pictures %}
<p>{{ picture.name }}: mIoU {{ '%.4f'|format(picture.mean_iou) }}</p>
{{ picture_row(picture.parts) }}
{{ legend(picture.legend) }}
{% endfor %}
{% endfor %}
"""


@dataclass(frozen=True)
class PicturedImage:
    """Small pictures of one image: itself, its label, its prediction, where they differ.

    Attributes:
        legend: of the label, see `ClassTable.legend`.
    """

    name: str
    mean_iou: float
    parts: tuple[tuple[str, str], ...]
    legend: list[tuple[str, tuple[int, ...], float]]


class PictureShelf:
    """Keeps the pictures of the worst and of the best images, and no others."""

    def __init__(self, table: ClassTable):
        self._table = table
        self._worst: list[PicturedImage] = []
        self._best: list[PicturedImage] = []

    def add(self, prediction: Prediction, label: NDArray[np.uint8], counts: ImageCounts) -> None:
        """Look at one scored image."""
        value = float(counts.mean_iou())
        if np.isnan(value):
            return
        is_bad = len(self._worst) < PICTURED or value < self._worst[-1].mean_iou
        is_good = len(self._best) < PICTURED or value > self._best[-1].mean_iou
        if not (is_bad or is_good):
            return
        parts, legend = self._parts(prediction, label), self._table.legend(label)
        self._keep([PicturedImage(prediction.sample.name, value, parts, legend)])

    def merge(self, other: "PictureShelf") -> None:
        """Take over the pictures of another process."""
        seen = {picture.name: picture for picture in [*other._worst, *other._best]}
        self._keep(list(seen.values()))

    def _keep(self, pictures: list[PicturedImage]) -> None:
        self._worst = sorted([*self._worst, *pictures], key=lambda p: p.mean_iou)[:PICTURED]
        self._best = sorted([*self._best, *pictures], key=lambda p: -p.mean_iou)[:PICTURED]

    def shelves(self) -> list[tuple[str, list[PicturedImage]]]:
        """Headings and pictures, the worst first; an image is on one shelf only."""
        worst = {picture.name for picture in self._worst}
        best = [picture for picture in self._best if picture.name not in worst]
        return [("Worst images", self._worst), ("Best images", best)]

    def _parts(
        self, prediction: Prediction, label: NDArray[np.uint8]
    ) -> tuple[tuple[str, str], ...]:
        segmentation = prediction.segmentation
        assert segmentation is not None
        errors = np.array([RIGHT_COLOR, WRONG_COLOR, VOID_COLOR], np.uint8)[
            np.where(label == self._table.ignore_index, 2, segmentation.label_map != label)
        ]
        parts = {
            "image": segmentation.image,
            "label": self._table.paint(label),
            "prediction": self._table.paint(segmentation.label_map),
            "errors": errors,
        }
        return tuple((name, html.picture_uri(part, PICTURE_WIDTH)) for name, part in parts.items())


def report_html(
    title: str, evaluation: Evaluation, result: dict[str, Any], shelf: PictureShelf
) -> str:
    """The page.

    Args:
        result: the figures of `Extras.figures`.
    """
    scores = evaluation.scores
    tiles = [
        ("mIoU", f"{scores.mean_iou:.4f}"),
        ("pixel accuracy", f"{scores.accuracy:.4f}"),
        ("kappa", f"{scores.kappa:.4f}"),
        ("macro F1 (Dice)", f"{scores.mean_dice:.4f}"),
        ("frequency-weighted IoU", f"{scores.frequency_weighted_iou:.4f}"),
        ("images", str(len(evaluation.images))),
    ]
    interval = result.get("bootstrap")
    if interval and interval["low"] is not None:
        tiles.insert(1, ("95 % interval", f"{interval['low']:.4f} to {interval['high']:.4f}"))
    columns = {
        "IoU": scores.class_iou,
        "precision": scores.class_precision,
        "recall": scores.class_recall,
        "F1": scores.class_f1,
    }
    for name in ("F1", "IoU"):
        key = f"boundary_{name.lower()}"
        if values := (result.get(key) or {}).get(f"class_{key}"):
            columns[f"boundary {name}"] = np.array(values, np.float64)
    return html.page(
        title,
        TEMPLATE,
        how=evaluation.how(),
        tiles=tiles,
        columns=[*columns, "label pixels", "share"],
        rows=_rows(evaluation, list(columns.values())),
        categories=_categories(result),
        confusion=confusion_picture(evaluation),
        histogram=histogram_picture(evaluation),
        shelves=[shelf for shelf in shelf.shelves() if shelf[1]],
    )


def _rows(evaluation: Evaluation, columns: list[NDArray[np.float64]]) -> list[dict[str, Any]]:
    table = evaluation.class_table
    pixels = evaluation.counts.sum(axis=1)
    total = max(1, int(pixels.sum()))
    return [
        {
            "name": name,
            "color": [int(value) for value in table.palette[i]],
            "absent": bool(np.isnan(evaluation.scores.class_iou[i])),
            "cells": [
                *(_four(column[i]) for column in columns),
                f"{pixels[i]:,}",
                shown_share(int(pixels[i]) / total),
            ],
        }
        for i, name in enumerate(table.class_names)
    ]


def _categories(result: dict[str, Any]) -> list[tuple[str, str]]:
    categories = result.get("categories") or {}
    return [(n, _four(v)) for n, v in categories.get("category_iou", {}).items()]


def _four(value: float | None) -> str:
    return "absent" if value is None or np.isnan(value) else f"{value:.4f}"


def confusion_picture(evaluation: Evaluation) -> Markup:
    """The confusion matrix as inline SVG, rows scaled to 1."""
    counts = evaluation.counts.astype(float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = evaluation.class_table.class_names
    side = max(4.0, 0.34 * len(names))

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        # Cells are drawn as shapes: a picture inside the SVG would be a file of its own.
        axes.pcolormesh(shares, cmap="viridis", vmin=0, vmax=1)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")

    return html.svg((side + 2, side + 1.5), draw, font_size=9)


def histogram_picture(evaluation: Evaluation) -> Markup:
    """How the images' own mIoU is spread, as inline SVG."""
    values = np.array([image.mean_iou() for image in evaluation.images])

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.hist(values[~np.isnan(values)], bins=HISTOGRAM_BINS, range=(0, 1), color="#3b6ea5")
        axes.set_xlabel("mIoU of an image, over the classes that occur in it")
        axes.set_ylabel("images")

    return html.svg((8, 2.8), draw, font_size=9)
