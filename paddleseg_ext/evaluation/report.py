"""One HTML page about an evaluation: classes, what they are confused with, objects, images."""

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.evaluation.class_faults import PICTURED as CLASSES_PICTURED
from paddleseg_ext.evaluation.evaluator import Evaluation
from paddleseg_ext.evaluation.findings import Findings
from paddleseg_ext.images.palette import shown_share

HISTOGRAM_BINS = 20
LISTED_IMAGES = 20  # of highest loss

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

<h2>What each class is confused with</h2>
<p>Of the pixels labelled as the class, the share that is predicted as another one; of the pixels
predicted as it, the share that is labelled as another one.</p>
<div class="scroll"><table>
<tr><th>class</th><th>IoU</th><th class="text">missed, predicted as</th>
<th class="text">invented, labelled as</th></tr>
{% for row in confused %}
<tr><td>{{ row.name }}</td><td>{{ row.iou }}</td><td class="text">{{ row.missed }}</td>
<td class="text">{{ row.invented }}</td></tr>
{% endfor %}
</table></div>
{% for picture in class_pictures %}
<p><b>{{ picture.name }}</b> is worst in {{ picture.image }}: {{ picture.wrong }} wrong pixels, IoU
{{ picture.iou }}</p>
{{ picture_row(picture.parts) }}
{% endfor %}
{% macro share_table(table) %}
<div class="scroll"><table>
<tr><th>class</th>{% for name in table.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}
<tr><td>{{ row.name }}</td>{% for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endmacro %}
{% if objects %}
<h2>Objects</h2>
<p>Share of the labelled pixels that are right, by the size of the object that they belong to, and
by their distance from its outline in pixels; of {{ objects.images }} images with instance ids.</p>
{% for table in objects.tables %}{{ share_table(table) }}{% endfor %}
{% endif %}
{% if depth %}
<h2>Distance from the camera</h2>
<p>Share of the labelled pixels that are right, of {{ depth.images }} images with depth.</p>
{{ share_table(depth.table) }}
{% endif %}

<h2>Images</h2>
{{ histogram }}
{% if losses %}
<p>Highest loss (mean cross entropy of the labelled pixels):</p>
<div class="scroll"><table><tr><th>image</th><th>loss</th><th>mIoU</th></tr>
{% for row in losses %}
<tr><td>{{ row.name }}</td><td>{{ row.loss }}</td><td>{{ row.iou }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% for heading, pictures in shelves %}
<h2>{{ heading }}</h2>
{% for picture in pictures %}
<p>{{ picture.title }}</p>
{{ picture_row(picture.parts) }}
{{ legend(picture.legend) }}
{% endfor %}
{% endfor %}
"""


def report_html(
    title: str, evaluation: Evaluation, result: dict[str, Any], findings: Findings
) -> str:
    """The page.

    Args:
        title: of the page.
        evaluation: its scores.
        result: the figures of `Extras.figures`.
        findings: pictures, and what its own figures are of.
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
        confused=_confused(evaluation, result),
        class_pictures=_class_pictures(evaluation, findings),
        objects=_objects(result.get("objects")),
        depth=_depth(result.get("depth")),
        losses=_losses(evaluation, result.get("images_by_loss") or []),
        shelves=findings.shelf.shelves(),
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


def _confused(evaluation: Evaluation, result: dict[str, Any]) -> list[dict[str, str]]:
    """One row per class that occurs, the lowest IoU first."""
    table, iou = evaluation.class_table, evaluation.scores.class_iou

    def listed(entries: list[dict[str, Any]]) -> str:
        return ", ".join(f"{each['name']} {shown_share(each['share'])}" for each in entries)

    rows = [
        (
            float(iou[table.class_names.index(row["name"])]),
            {
                "name": row["name"],
                "missed": listed(row["missed_as"]),
                "invented": listed(row["invented_on"]),
            },
        )
        for row in result.get("confusions", [])
    ]
    return [row | {"iou": _four(value)} for value, row in sorted(rows, key=lambda r: r[0])]


def _class_pictures(evaluation: Evaluation, findings: Findings) -> list[dict[str, Any]]:
    """The worst image of each class, the class of lowest IoU first."""
    iou, names = evaluation.scores.class_iou, evaluation.class_table.class_names
    images = sorted(findings.classes.images(), key=lambda item: float(iou[item[0]]))
    return [
        {
            "name": names[number],
            "image": image.name,
            "wrong": f"{image.wrong:,}",
            "iou": _four(image.iou),
            "parts": image.parts,
        }
        for number, image in images[:CLASSES_PICTURED]
    ]


def _objects(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Two tables of shares with their counts, by size and by distance."""
    if not found:
        return None

    sizes, distances = [], []
    for name, row in found["classes"].items():
        objects = int(np.sum(row["objects"]))
        detected = f"{int(np.sum(row['found'])):,} of {objects:,}"
        by_size = _share_cells(row, "size_recall", "objects", " objects")
        sizes.append({"name": name, "cells": [*by_size, detected]})
        by_distance = _share_cells(row, "distance_recall", "distance_pixels", " px")
        distances.append({"name": name, "cells": by_distance})
    tables = [
        {"columns": [*found["sizes"], "half of it found"], "rows": sizes},
        {"columns": found["distances"], "rows": distances},
    ]
    return {"images": found["num_images"], "tables": tables}


def _depth(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """A table of shares with their counts."""
    if not found:
        return None
    rows = [
        {"name": name, "cells": _share_cells(row, "recall", "pixels", " px")}
        for name, row in found["classes"].items()
    ]
    return {"images": found["num_images"], "table": {"columns": found["ranges"], "rows": rows}}


def _share_cells(row: dict[str, Any], share: str, count: str, unit: str) -> list[str]:
    return [
        "none" if value is None else f"{value:.1%} ({number:,}{unit})"
        for value, number in zip(row[share], row[count], strict=True)
    ]


def _losses(evaluation: Evaluation, ranked: list[dict[str, Any]]) -> list[dict[str, str]]:
    iou = {image.name: float(image.mean_iou()) for image in evaluation.images}
    return [
        {"name": row["name"], "loss": f"{row['loss']:.4f}", "iou": _four(iou[row["name"]])}
        for row in ranked[:LISTED_IMAGES]
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
