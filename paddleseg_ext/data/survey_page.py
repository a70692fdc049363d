"""The survey of a data set as one HTML file with pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from paddleseg_ext.common import html
from paddleseg_ext.common.errors import DataError
from paddleseg_ext.data.datasets import read_pair
from paddleseg_ext.data.parts import Part
from paddleseg_ext.data.survey import Survey, common, same_content

PICTURES = 6
PICTURE_WIDTH = 420

_BODY = """
<h1>{{ title }}</h1>
{% if between %}
<h2>The same image in several places</h2>
<ul>{% for group in between %}<li>{{ group | join(", ") }}</li>{% endfor %}</ul>
{% endif %}
{% for part in parts %}
{% set survey = part.survey %}
<h2>{{ survey.part.name }}</h2>
<div class="tiles">
  <div class="tile"><b>{{ survey.images }}</b>images</div>
  <div class="tile"><b>{{ survey.labelled }}</b>with a label</div>
  <div class="tile"><b>{{ survey.problems | length }}</b>cannot be used</div>
  <div class="tile"><b>{{ survey.duplicates | length }}</b>groups of equal images</div>
</div>
{% if survey.problems %}
<ul>{% for line in survey.problems %}<li><code>{{ line }}</code></li>{% endfor %}</ul>
{% endif %}
<p>Sizes:
{% for size, count in part.sizes %}{{ size }} ({{ count }}) {% endfor %}<br>
Modes: {% for mode, count in part.modes %}{{ mode }} ({{ count }}) {% endfor %}<br>
Mean, RGB in 0..1: {{ part.mean }}; standard deviation: {{ part.std }}</p>
<div class="scroll"><table>
<tr><th>class</th><th>share of labelled pixels</th><th>images with it</th></tr>
{% for row in part.classes %}
<tr{% if not row.images %} class="absent"{% endif %}>
<td><span class="swatch" style="background: {{ row.colour }}"></span>{{ row.name }}</td>
<td>{{ "%.4f" | format(row.share) }}</td><td>{{ row.images }}</td></tr>
{% endfor %}
</table></div>
<div class="pictures" style="grid-template-columns: repeat(2, 1fr)">
{% for picture in part.pictures %}
<figure><img src="{{ picture.uri }}" alt="image and label of {{ picture.name }}">
<figcaption>{{ picture.name }}</figcaption></figure>
{% endfor %}
</div>
{% endfor %}
"""


def survey_page(surveys: Sequence[Survey]) -> str:
    """One page of several surveys, each with some of its samples as pictures."""
    return html.page(
        "Data check",
        _BODY,
        parts=[_part(survey) for survey in surveys],
        between=same_content(surveys) if len(surveys) > 1 else [],
    )


def _part(survey: Survey) -> dict[str, Any]:
    table = survey.part.class_table
    classes = [
        {"name": name, "share": share, "images": int(images), "colour": _css(colour)}
        for name, share, images, colour in zip(
            table.class_names,
            survey.class_shares,
            survey.class_images,
            table.palette.tolist(),
            strict=True,
        )
    ]
    return {
        "survey": survey,
        "sizes": common(survey.sizes),
        "modes": common(survey.modes),
        "mean": np.round(survey.mean, 4).tolist(),
        "std": np.round(survey.std, 4).tolist(),
        "classes": classes,
        "pictures": _pictures(survey.part),
    }


def _css(colour: Sequence[int]) -> Markup:
    return Markup("rgb({}, {}, {})").format(*colour)


def _pictures(part: Part) -> list[dict[str, str]]:
    """Evenly chosen samples that can be used, image and label side by side."""
    step = max(1, len(part.samples) // PICTURES)
    pictures = []
    for sample in part.samples[::step][:PICTURES]:
        try:
            image, label = read_pair(sample, part.class_table, part.orientation)
        except DataError:
            continue
        sides = [image] if label is None else [image, part.class_table.paint(label)]
        uri = html.picture_uri(np.hstack(sides), PICTURE_WIDTH * len(sides))
        pictures.append({"name": sample.name, "uri": uri})
    return pictures
