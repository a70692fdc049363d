"""The survey of a data set as one HTML file with pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from paddleseg_ext.common import html
from paddleseg_ext.common.errors import DataError
from paddleseg_ext.data.survey import Survey, common, same_content
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.images.labels import ClassTable, decode_label
from paddleseg_ext.images.samples import Sample

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
<h2>{{ survey.name }}</h2>
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


def survey_page(parts: Sequence[tuple[Survey, Sequence[Sample]]]) -> str:
    """The page of several surveys, each with some of its samples as pictures."""
    surveys = [survey for survey, _ in parts]
    return html.page(
        "Data check",
        _BODY,
        parts=[_part(survey, samples) for survey, samples in parts],
        between=same_content(surveys) if len(surveys) > 1 else [],
    )


def _part(survey: Survey, samples: Sequence[Sample]) -> dict[str, Any]:
    table = survey.table
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
        "pictures": _pictures(samples, table),
    }


def _css(colour: Sequence[int]) -> Markup:
    return Markup("rgb({}, {}, {})").format(*colour)


def _pictures(samples: Sequence[Sample], table: ClassTable) -> list[dict[str, str]]:
    """Evenly chosen samples, image and label side by side; those that cannot be read are left."""
    step = max(1, len(samples) // PICTURES)
    pictures = []
    for sample in samples[::step][:PICTURES]:
        try:
            image = read_image(sample.image)
            sides = [image]
            if sample.label is not None:
                label = decode_label(sample.label, table)
                if label.shape == image.shape[:2]:
                    sides.append(table.full_palette[label])
        except DataError:
            continue
        uri = html.picture_uri(np.hstack(sides), PICTURE_WIDTH * len(sides))
        pictures.append({"name": sample.name, "uri": uri})
    return pictures
