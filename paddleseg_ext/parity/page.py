"""The HTML page of a comparison: verdicts, first divergence, engines' reports, pictures."""

from collections.abc import Sequence
from typing import Any

from paddleseg_ext.common import html
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.parity.words import (
    BUDGETS,
    GRADES,
    SOURCES,
    answer_in_words,
    run_in_words,
    stage_in_words,
)
from paddleseg_ext.scoring.verdict import FAILED, NOT_COMPARED

TEMPLATE = """
<h1>{{ title }}</h1>
<p class="answer {{ results.grade.replace(' ', '-') }}">{{ answer }}</p>
<p>{{ why }}.</p>
<p>Compared with: {{ reference }}
{% if results.reference.scores %}
 (mIoU {{ '%.4f'|format(results.reference.scores.mean_iou or 0) }})
{% endif %}</p>
{% if first and first.is_failure %}
<p><b>First to differ:</b> {{ first.run }}
{% if first.place %}, at the {{ first.place }}{% endif %}:
{{ first.image }} {{ first.text }}
{% if first.layer %}<br><b>{{ first.layer.title|capitalize }}:</b> {{ first.layer.text }}{% endif %}
{% if first.cause %}
<br><b>Looks like: {{ first.cause }}</b>
{% endif %}</p>
{% endif %}
{% for note in notes %}
<p><b>Note:</b> {{ note }}.</p>
{% endfor %}

<h2>Runs</h2>
<div class="scroll"><table>
<tr><th>run</th><th>verdict</th><th>precision</th><th>pixels that differ</th>
<th>decided, of all</th><th>largest margin</th><th>mIoU</th><th>mean IoU change</th>
<th>most changed class</th>
<th class="text">what was found</th></tr>
{% for run in rows %}
<tr><td>{{ run.name }}</td>
<td><span class="badge {{ run.grade or '' }}">{{ run.verdict }}</span></td>
{% for cell in run.cells %}<td>{{ cell }}</td>{% endfor %}
<td class="text">{{ run.summary }}</td></tr>
{% endfor %}
</table></div>
<p>Three verdicts pass. Identical: every pixel of every label map is equal. Near-tie: the pixels
that differ are ones where the reference was undecided between the two classes (logits closer than
{{ results.near_tie_margin }} of the largest). Within budget: decided pixels differ, and no more
than the budget of that precision allows. Anything else fails.</p>

<h2>Budgets</h2>
<div class="scroll"><table>
<tr><th>precision</th>{% for key in budget_words.values() %}<th>{{ key }}</th>{% endfor %}</tr>
{% for name, budget in results.budgets.items() %}
<tr><td>{{ name }}</td>{% for key in budget_words %}<td>{{ budget[key] }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>

<h2>What ran</h2>
<p>As the engine reports it, not as it was asked for; on a GPU the precision is the one that was
asked for.</p>
<div class="scroll"><table>
<tr><th>run</th><th class="text">runtime</th><th>precision</th><th>threads</th>
<th class="text">kernels by precision</th><th>INT8 kernels</th><th>device</th>
<th>TensorRT engines</th><th>fullest batch</th></tr>
{% for row in activity %}
<tr><td>{{ row.name }}</td><td class="text">{{ row.runtime }}</td>
{% for cell in row.cells[:2] %}<td>{{ cell }}</td>{% endfor %}
<td class="text">{{ row.cells[2] }}</td>
{% for cell in row.cells[3:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>

{% if results.negative_controls %}
<h2>Negative controls</h2>
<p>Faults that the comparison was shown and must notice.</p>
<div class="scroll"><table>
<tr><th>fault</th><th>run by</th><th>noticed</th><th class="text">taken for</th>
<th class="text">what was found</th></tr>
{% for control in results.negative_controls %}
<tr><td>{{ control.name }}</td><td>{{ in_words(control.stage) }}</td>
<td>{{ {True: 'yes', False: 'NO', None: 'shows nothing'}[control.caught] }}</td>
<td class="text">{{ control.cause }}</td><td class="text">{{ control.summary }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Images that differ most</h2>
{% if not gallery %}
<p>None: no pixel differs in any run that was made here.</p>
{% endif %}
{% for run, pictures in gallery %}
{% for picture in pictures %}
<p>{{ run }}: <code>{{ picture.name }}</code>, {{ picture.num_different }} pixels,
{{ picture.num_decided }} of them decided</p>
{{ picture_row(picture.parts) }}
{% endfor %}
{% endfor %}

<h2>Compared</h2>
<table>
{% for name, value in results.source.items() %}
<tr><td>{{ source_words.get(name, name) }}</td><td class="text"><code>{{ value }}</code></td></tr>
{% endfor %}
</table>
"""

# Runs whose pictures are alike (thread counts, batch sizes) are shown once, and no more than this.
MOST_PICTURED_RUNS = 6


def page(results: dict[str, Any], outcomes: Sequence[Outcome], notes: Sequence[str]) -> str:
    """The HTML page.

    Args:
        results: of `report.results`.
        outcomes: the same runs, with their pictures.
        notes: warnings to read before the verdicts.
    """
    reference = {"name": results["reference"]["stage"], **results["reference"]}
    answer, why = answer_in_words(results)
    first = results["first_divergence"]
    if first is not None:
        is_failure = results["grade"] == FAILED
        first = first | {"run": run_in_words(first["run"]), "is_failure": is_failure}
    return html.page(
        "Is the deployed network the one that was scored?",
        TEMPLATE,
        results=results,
        notes=notes,
        answer=answer,
        why=why,
        reference=stage_in_words(results["reference"]["stage"]),
        first=first,
        in_words=stage_in_words,
        rows=[_row(run) for run in results["runs"]],
        budget_words=BUDGETS,
        source_words=SOURCES,
        activity=[_activity(run) for run in [reference, *results["runs"]]],
        gallery=_gallery(outcomes),
    )


def _row(run: dict[str, Any]) -> dict[str, Any]:
    difference, has_maps = run.get("difference") or {}, bool(run.get("num_pixels"))
    margins = [flip["margin"] for flip in run.get("pixels", [])]
    change = difference.get("class_iou")
    return {
        "name": run_in_words(run["name"]),
        "grade": run["grade"],
        "verdict": GRADES[run["grade"] or NOT_COMPARED],
        "summary": run["summary"],
        "cells": [
            run["precision"],
            f"{run['different_pixels']:,}" if has_maps else "",
            f"{difference['different_pixels']:.3%}" if has_maps and run["worst_images"] else "",
            f"{max(margins):.1e}" if margins else "",
            _number((run["scores"] or {}).get("mean_iou"), ".4f"),
            _number(difference.get("mean_iou"), "+.4f"),
            f"{difference['class_name']} {change:+.4f}" if change else "",
        ],
    }


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _activity(run: dict[str, Any]) -> dict[str, Any]:
    report = run["backend"]
    kinds = report.get("kernel_precisions", {})
    return {
        "name": run_in_words(run["name"]),
        "runtime": f"{report.get('name', '')} {report.get('version', '')}",
        "cells": [
            report.get("precision", ""),
            report.get("cpu_threads") or "",
            ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
            report.get("int8_kernels", ""),
            report.get("device", ""),
            report.get("tensorrt_engines") or "",
            run.get("fullest_batch") or "",
        ],
    }


def _gallery(outcomes: Sequence[Outcome]) -> list[tuple[str, Sequence[Any]]]:
    shown: dict[tuple[str, tuple[int, ...]], tuple[str, Sequence[Any]]] = {}
    for outcome in outcomes:
        if outcome.worst:
            key = outcome.stage, tuple(image.num_different for image in outcome.worst)
            shown.setdefault(key, (run_in_words(outcome.name), outcome.worst))
    return list(shown.values())[:MOST_PICTURED_RUNS]
