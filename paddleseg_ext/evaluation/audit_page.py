"""The page of an audit: pictures of the regions whose labels are most suspicious, and of copies."""

from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.evaluation.audit import Audit, Audited
from paddleseg_ext.evaluation.suspects import Region, Suspect
from paddleseg_ext.images.labels import ClassTable, decode_label
from paddleseg_ext.inference.predictor import Predictor

PICTURE_WIDTH = 360
LEAST_CROP = 96  # pixels of the image
OUTLINE = (255, 235, 0)
MOST_TWINS = 200

_BODY = """
<h1>{{ title }}</h1>
<p>Regions in which the network is sure of one class and the label says another, the most suspicious
first. The network may be the one that is wrong: look, and mend what is. All regions are in
<code>regions.csv</code>, the images by their worst region in <code>images.csv</code>.</p>
{% if twins %}
<h2>Images that show the same</h2>
<div class="scroll"><table>
<tr><th>image</th><th class="text">other image</th><th class="text">what</th><th>differs</th></tr>
{% for twin in twins %}
<tr><td>{{ twin.first }}</td><td class="text">{{ twin.second }}</td>
<td class="text">{{ 'leak' if twin.is_leak else 'copy' }}{{ ', mirrored' if twin.is_mirrored }}</td>
<td>{{ '%.0f'|format(100 * twin.difference) }}%</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% for part in parts %}
<h2>{{ part.name }}: {{ part.regions }} regions in {{ part.images }} images</h2>
{% for row in part.rows %}
<p>{{ loop.index }}. <code>{{ row.name }}</code> at {{ row.place }}, score {{ row.score }}:
the label says <b>{{ row.labelled }}</b>, the network <b>{{ row.predicted }}</b>
({{ row.sure }})</p>
{{ picture_row(row.pictures) }}
{{ legend(row.legend) }}
{% endfor %}
{% endfor %}
"""


def audit_page(result: Audit, predictor: Predictor, pictured: int) -> str:
    """The page.

    Args:
        predictor: predicts the pictured images once more.
        pictured: regions per part.
    """
    return html.page(
        "Label audit",
        _BODY,
        twins=result.twins[:MOST_TWINS],
        parts=[
            {
                "name": audited.part.name,
                "regions": len(audited.suspects),
                "images": len(audited.part.samples),
                "rows": _rows(audited, predictor, audited.suspects[:pictured]),
            }
            for audited in result.parts
        ],
    )


def _rows(audited: Audited, predictor: Predictor, worst: list[Suspect]) -> list[dict[str, Any]]:
    part, table = audited.part, audited.part.class_table
    by_image: dict[int, list[int]] = defaultdict(list)
    for place, suspect in enumerate(worst):
        by_image[suspect.region.image].append(place)
    rows: dict[int, dict[str, Any]] = {}
    samples = [part.samples[image] for image in by_image]
    for places, prediction in zip(by_image.values(), predictor.stream(samples), strict=True):
        segmentation, label_file = prediction.segmentation, prediction.sample.label
        if segmentation is None or label_file is None:
            continue
        label = decode_label(label_file, table)
        for place in places:
            region = worst[place].region
            maps = (segmentation.image, label, segmentation.label_map)
            rows[place] = {
                "name": prediction.sample.name,
                "place": "{}, {}".format(*region.box[:2]),
                "score": f"{worst[place].score:.2f}",
                "labelled": table.class_names[region.labelled],
                "predicted": table.class_names[region.predicted],
                "sure": f"{region.p_predicted:.0%}",
                **_pictures(region, maps, table),
            }
    return [rows[place] for place in sorted(rows)]


def _pictures(
    region: Region, maps: tuple[NDArray[np.uint8], ...], table: ClassTable
) -> dict[str, Any]:
    """Image, label and prediction around a region, which is outlined in all three."""
    _, label, predicted = maps
    differs = (predicted == region.predicted) & (label != predicted)
    _, numbers = cv2.connectedComponents(
        (differs & (label != table.ignore_index)).astype(np.uint8), connectivity=8
    )
    own = numbers == numbers[region.middle[::-1]]
    image, label, predicted, mask = (_around(region, each) for each in (*maps, own))
    scale = max(1, round(PICTURE_WIDTH / image.shape[1]))
    outlines, _ = cv2.findContours(
        _enlarged(mask.astype(np.uint8), scale), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    pictures = []
    sides = {"image": image, "label": table.paint(label), "network": table.paint(predicted)}
    for caption, side in sides.items():
        shown = np.ascontiguousarray(_enlarged(side, scale))
        cv2.drawContours(shown, outlines, -1, OUTLINE, 2)
        pictures.append((caption, html.picture_uri(shown, 2 * PICTURE_WIDTH)))
    both = np.concatenate([label.ravel(), predicted.ravel()])
    return {"pictures": pictures, "legend": table.legend(both)}


def _around(region: Region, array: NDArray) -> NDArray:
    """The array's pixels around a region, twice as far as it reaches."""
    x, y, width, height = region.box
    side = max(LEAST_CROP, 2 * max(width, height))
    left, top = x + width // 2 - side // 2, y + height // 2 - side // 2
    return array[max(0, top) : top + side, max(0, left) : left + side]


def _enlarged(array: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    return array.repeat(scale, axis=0).repeat(scale, axis=1)
