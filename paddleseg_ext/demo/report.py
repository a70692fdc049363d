"""The demo's report: curves, pictures, per-class table and verdict in one HTML file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.common.files import write_text
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.reading import read_label
from paddleseg_ext.images.samples import read_sample_list
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.parity.words import GRADES
from paddleseg_ext.training.history import HISTORY, History

NUM_PICTURES = 4
PICTURE_WIDTH = 560
VOID_COLOR = (0, 0, 0)
WRONG_COLOR = (235, 30, 30)
RUNS = (
    ("#predict", "predict/predict.json"),
    ("#inference, oneDNN off", "infer/inference.json"),
    ("#inference, oneDNN on", "infer_onednn/inference.json"),
)

TEMPLATE = """
<h1>{{ title }}</h1>
<p>BiSeNetV1 trained from scratch on procedural street scenes, exported, deployed, and compared by
integer pixel counts of every class. {{ num_images }} validation images.</p>
<p>Verdict: <span class="badge {{ results.grade }}">{{ words[results.grade] }}</span></p>
<div class="tiles">
{% for name, value in tiles %}
  <div class="tile"><b>{{ value }}</b>{{ name }}</div>
{% endfor %}
</div>

<h2>Is the deployed network the trained one?</h2>
<div class="scroll"><table>
<tr><th>run</th><th>verdict</th><th>pixels that differ</th><th>mIoU</th>
<th class="text">what was found</th></tr>
{% for run in results.runs %}
<tr><td>{{ run.name }}</td>
<td><span class="badge {{ run.grade or '' }}">{{ words[run.grade or 'not compared'] }}</span></td>
<td>{{ run.different_pixels if run.different_pixels is defined else '' }}</td>
<td>{{ '%.4f'|format(run.scores.mean_iou) if run.scores else '' }}</td>
<td class="text">{{ run.summary }}</td></tr>
{% endfor %}
</table></div>
{% if results.reference.warning %}
<p><b>Note:</b> {{ results.reference.warning }}.</p>
{% endif %}
<p>identical: every pixel of every label map is equal. near-tie: the pixels that differ are ones
where the trained network was undecided between the two classes (logits closer than
{{ results.near_tie_margin }} of the largest). Anything else fails.</p>

<p>So that this table means something, the comparison was also shown faults that it must notice:</p>
<table><tr><th>fault</th><th>noticed</th></tr>
{% for control in results.negative_controls %}
<tr><td>{{ control.name }}</td>
<td>{{ {True: 'yes', False: 'NO', None: control.summary}[control.caught] }}</td></tr>
{% endfor %}
</table>

<h2>Training</h2>
{{ curve }}

<h2>Classes</h2>
<div class="scroll"><table>
<tr><th rowspan="2">class</th><th rowspan="2">label pixels</th>
{% for name, _ in runs %}<th colspan="2">{{ name }}</th>{% endfor %}
<th rowspan="2">counts</th></tr>
<tr>{% for _ in runs %}<th>IoU</th><th>Acc</th>{% endfor %}</tr>
{% for row in rows %}
<tr{% if row.absent %} class="absent"{% endif %}>
<td><span class="swatch" style="background:rgb({{ row.color|join(',') }})"></span>
{{ row.name }}</td>
<td>{{ '{:,}'.format(row.pixels) }}</td>
{% for value in row.cells %}<td>{{ value }}</td>{% endfor %}
<td>{{ 'equal' if row.equal else 'differ' }}</td></tr>
{% endfor %}
<tr><th>mean</th><th>{{ '{:,}'.format(total) }}</th>
{% for _, scores in runs %}<th>{{ '%.4f'|format(scores.mean_iou) }}</th>
<th>{{ '%.4f'|format(scores.accuracy) }}</th>{% endfor %}
<th></th></tr>
</table></div>
<p>Acc of a class is the share of its predicted pixels that are right, as PaddleSeg prints it; in
the last row it is the share of all pixels. A class that occurs nowhere is left out of the mean.</p>

<h2>Pictures</h2>
{% for name, pictures in gallery %}
<p><code>{{ name }}</code></p>
{{ picture_row(pictures) }}
{% endfor %}

<h2>What was run</h2>
<table><tr><th>step</th><th>seconds</th><th class="text">command</th></tr>
{% for step in steps %}
<tr><td>{{ step.name }}</td><td>{{ '%.1f'|format(step.seconds) }}</td>
<td class="text"><code>{{ step.command }}</code></td></tr>
{% endfor %}
</table>
<p>PaddlePaddle {{ backend.paddle }}.</p>
"""


@dataclass(frozen=True)
class DemoStep:
    """One command of the demo and its outcome."""

    name: str
    command: str
    status: int
    seconds: float


def write_report(root: Path, steps: Sequence[DemoStep]) -> Path:
    """Write `report.html` into the demo's folder from the results of its steps.

    Returns:
        The report.
    """
    dataset = Cityscapes(str(root / "data"), mode="val")
    results = read_json(root / "parity" / "results.json")
    evaluations = {name: read_json(root / file)["evaluation"] for name, file in RUNS}
    first = evaluations[RUNS[0][0]]
    text = html.page(
        "From training to a proven deployment",
        TEMPLATE,
        results=results,
        words=GRADES,
        num_images=len(dataset.samples),
        tiles=_tiles(first["scores"], steps),
        curve=_curve(History.read(root / "train" / HISTORY)),
        runs=[(name, evaluation["scores"]) for name, evaluation in evaluations.items()],
        rows=_rows(dataset.class_table, list(evaluations.values())),
        total=sum(first["counts"]["label_pixels"]),
        gallery=_gallery(dataset, root),
        steps=steps,
        backend=results["reference"]["backend"],
    )
    path = root / "report.html"
    write_text(path, text)
    return path


def read_json(path: Path) -> Any:
    """The content of a file that a step wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def _tiles(scores: dict[str, Any], steps: Sequence[DemoStep]) -> list[tuple[str, str]]:
    learnt = sum(1 for iou in scores["class_iou"] if iou is not None and iou > 0.2)
    return [
        ("validation mIoU", f"{scores['mean_iou']:.4f}"),
        ("pixel accuracy", f"{scores['accuracy']:.4f}"),
        ("classes above IoU 0.2", str(learnt)),
        ("minutes in all", f"{sum(step.seconds for step in steps) / 60:.1f}"),
    ]


def _curve(history: History) -> Markup:
    train, scores = history.train, history.eval
    mean_ious = [e.mean_iou for e in scores]
    return html.chart(
        html.ChartLine("loss", [e.iter for e in train], [e.loss for e in train], "#b42318"),
        html.ChartLine("validation mIoU", [e.iter for e in scores], mean_ious, "#1a7f37"),
        "iteration",
    )


def _rows(table: ClassTable, evaluations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per class: IoU and Acc of every run, and whether all counts are equal."""
    rows = []
    for index, name in enumerate(table.class_names):
        counts = [
            tuple(values[index] for values in evaluation["counts"].values())
            for evaluation in evaluations
        ]
        shown = [
            evaluation["scores"][key][index]
            for evaluation in evaluations
            for key in ("class_iou", "class_precision")
        ]
        rows.append(
            {
                "name": name,
                "color": table.palette[index].tolist(),
                "pixels": evaluations[0]["counts"]["label_pixels"][index],
                "cells": ["absent" if value is None else f"{value:.4f}" for value in shown],
                "absent": shown[0] is None,
                "equal": len(set(counts)) == 1,
            }
        )
    return rows


def _gallery(dataset: Cityscapes, root: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """Image, label, prediction and errors of a few samples, spread over the data set."""
    count = min(NUM_PICTURES, len(dataset))
    # The names of the predictions come from the list, which has the data set's order.
    listed = read_sample_list(root / "data" / "val.list")
    rows, paint = [], dataset.class_table.paint
    for number in np.linspace(0, len(dataset) - 1, count).astype(int):
        image, label = dataset.read(int(number))
        assert label is not None
        name = f"{listed[number].name}.png"
        predicted = read_label(root / "infer_onednn" / LABEL_MAPS / name)
        pictures = [
            ("image", image),
            ("truth", paint(label)),
            ("prediction", paint(predicted)),
            ("error (red)", _errors(image, label, predicted, dataset.ignore_index)),
        ]
        shown = [(caption, html.picture_uri(pixels, PICTURE_WIDTH)) for caption, pixels in pictures]
        rows.append((dataset.samples[number].name, shown))
    return rows


def _errors(
    image: NDArray[np.uint8],
    label: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    ignore_index: int,
) -> NDArray[np.uint8]:
    """The image in pale grey, wrong pixels red, void black."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2 + 110
    shown = np.repeat(gray[:, :, None], 3, axis=2)
    shown[predicted != label] = WRONG_COLOR
    shown[label == ignore_index] = VOID_COLOR
    return shown
