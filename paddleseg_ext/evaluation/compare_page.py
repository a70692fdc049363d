"""Two runs side by side as a page: what the second gained and lost, per class, with pictures.

Both runs were scored by `val --report`, which keeps label maps beside `val.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.json_files import MOST_LISTED_BYTES, read_json
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import check_kind
from paddleseg_ext.common.progress import track
from paddleseg_ext.images import functional
from paddleseg_ext.images.labels import ClassTable, decode_label
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.inference.outputs import LABEL_MAPS

PICTURED = 6  # images each that gained and lost most
PICTURE_WIDTH = 360
GAINED_COLOR, LOST_COLOR, SAME_COLOR, VOID_COLOR = (
    (40, 160, 60),
    (215, 40, 40),
    (235, 235, 235),
    (0, 0, 0),
)

TEMPLATE = """
<h1>{{ title }}</h1>
<p>First: {{ first }}</p>
<p>Second: {{ second }}</p>
<p>{{ verdict }}</p>
<p>A pixel is gained where only the second run is right, and lost where only the first is.</p>
<h2>Classes</h2>
<div class="scroll"><table>
<tr><th>class</th><th>first IoU</th><th>second IoU</th><th>difference</th><th>gained</th>
<th>lost</th><th>net</th></tr>
{% for row in rows %}
<tr><td>{{ row[0] }}</td>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% for heading, pictures in shelves %}
<h2>{{ heading }}</h2>
{% for picture in pictures %}
<p>{{ picture.title }}</p>
{{ picture_row(picture.parts) }}
{% endfor %}
{% endfor %}
"""


@dataclass(frozen=True)
class ScoredRun:
    """The files of one run by `val --report`, as read.

    Attributes:
        folder: of `val.json`; label maps are below it.
        table: the classes.
        samples: name -> image and label file.
        hits: name -> pixels that were right when it was scored.
    """

    folder: Path
    table: ClassTable
    samples: dict[str, tuple[Path, Path]]
    hits: dict[str, int]

    def label_map(self, name: str) -> NDArray[np.uint8]:
        """The predicted classes of an image.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_label(self.folder / LABEL_MAPS / f"{name}.png")


def read_run(path: str | Path) -> ScoredRun:
    """The pictures of a `val.json`.

    Raises:
        UsageError: it was not made by `val --report`, or that part of it is damaged.
    """
    content = read_json(path, MOST_LISTED_BYTES)
    pictured = content.get("pictured")
    if not isinstance(pictured, dict):
        raise UsageError(
            f"--compare ... --report: '{path}' names no label maps: score that run with "
            "val --report DIR --save_dir DIR, which keeps them"
        )
    where = f"{path}: pictured"
    table = ClassTable.from_dict(pictured.get("classes"), f"{where}.classes")
    samples = pictured.get("samples")
    check_kind(where, "samples", samples, dict[str, list[str]])
    pairs = {}
    for name, files in dict(samples or {}).items():
        if len(files) != 2 or ".." in Path(name).parts or Path(name).is_absolute():
            raise UsageError(f"{where}.samples: an image and a label per name are expected")
        pairs[name] = (Path(files[0]), Path(files[1]))
    scored = content["evaluation"]["images"]  # checked by `compare.read_evaluation`
    hits = {image["name"]: sum(image["intersection"]) for image in scored}
    return ScoredRun(Path(path).parent, table, pairs, hits)


@dataclass(frozen=True)
class Changed:
    """One image of both runs.

    Attributes:
        gained: (C,) pixels by class of the label.
        lost: the same.
        as_scored: whether each run's label map is the one that its `val.json` counts.
    """

    name: str
    gained: NDArray[np.int64]
    lost: NDArray[np.int64]
    as_scored: tuple[bool, ...]

    @property
    def net(self) -> int:
        """Gained less lost."""
        return int(self.gained.sum() - self.lost.sum())

    @property
    def title(self) -> str:
        """Name and figures."""
        gained, lost = int(self.gained.sum()), int(self.lost.sum())
        return f"{self.name}: {gained:,} pixels gained, {lost:,} lost"


def changes(first: ScoredRun, second: ScoredRun) -> list[Changed]:
    """Gained and lost pixels of every image that both runs have.

    Label maps that a run has not scored, since another one wrote them, give a warning.

    Raises:
        UsageError: no image in common.
        DataError: a label or a label map cannot be read, or they differ in size.
    """
    names = [name for name in first.samples if name in second.samples]
    if not names:
        raise UsageError("--compare ... --report: the two runs have no image in common")
    found = [_changed(name, first, second) for name in track(names, "compare", total=len(names))]
    for number, run in enumerate((first, second)):
        others = [each.name for each in found if not each.as_scored[number]]
        if others:
            warn(
                f"{run.folder / LABEL_MAPS}: {len(others)} of {len(names)} are not the label maps "
                f"or labels that val.json counts, the first: {others[0]}; another run wrote there, "
                "or labels were changed: score it again with val --report"
            )
    return found


def _changed(name: str, first: ScoredRun, second: ScoredRun) -> Changed:
    label, maps = _maps(name, first, second)
    right = [found == label for found in maps]
    scored = label != first.table.ignore_index
    count = first.table.num_classes
    gained, lost = (
        np.bincount(label[scored & mask], minlength=count)[:count].astype(np.int64)
        for mask in (right[1] & ~right[0], right[0] & ~right[1])
    )
    pairs = zip((first, second), right, strict=True)
    as_scored = tuple(run.hits.get(name) == np.count_nonzero(scored & mask) for run, mask in pairs)
    return Changed(name, gained, lost, as_scored)


def _maps(
    name: str, first: ScoredRun, second: ScoredRun
) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """The label and both runs' label maps, of one size."""
    label = decode_label(first.samples[name][1], first.table)
    maps = [run.label_map(name) for run in (first, second)]
    height, width = maps[0].shape
    if maps[1].shape != maps[0].shape:
        raise DataError(f"{name}: the two runs' label maps differ in size")
    if label.shape != maps[0].shape:  # a protocol that scores at a fraction of the size
        label = functional.resize_label(label, (width, height))
    return label, maps


def comparison_html(
    title: str, result: dict[str, Any], first: ScoredRun, second: ScoredRun, lines: list[str]
) -> str:
    """The page.

    Args:
        title: of the page.
        result: of `compare.compare`.
        first: the run that is compared with.
        second: the other one.
        lines: of `compare.comparison_lines`; the last is the verdict.

    Raises:
        UsageError: the runs differ in their classes, or have no image in common.
        DataError: a file cannot be read.
    """
    if first.table.class_names != second.table.class_names:
        raise UsageError("--compare ... --report: the runs differ in their classes")
    found = changes(first, second)
    ranked = sorted(found, key=lambda each: each.net)
    lost = [each for each in ranked if each.net < 0][:PICTURED]
    gained = [each for each in reversed(ranked) if each.net > 0][:PICTURED]
    shelves = [("Most lost", lost), ("Most gained", gained)]
    return html.page(
        title,
        TEMPLATE,
        first=str(result["files"][0]),
        second=str(result["files"][1]),
        verdict=lines[-1],
        rows=_rows(result, found),
        shelves=[
            (heading, [_picture(each, first, second) for each in pictures])
            for heading, pictures in shelves
            if pictures
        ],
    )


def _rows(result: dict[str, Any], found: list[Changed]) -> list[list[str]]:
    gained = np.sum([each.gained for each in found], axis=0)
    lost = np.sum([each.lost for each in found], axis=0)
    rows = []
    for number, row in enumerate(result["classes"]):
        shown = [
            "absent" if row[key] is None else f"{row[key]:{sign}.4f}"
            for key, sign in (("first", ""), ("second", ""), ("difference", "+"))
        ]
        more, less = int(gained[number]), int(lost[number])
        rows.append([row["name"], *shown, f"{more:,}", f"{less:,}", f"{more - less:+,}"])
    return rows


def _picture(changed: Changed, first: ScoredRun, second: ScoredRun) -> dict[str, Any]:
    label, maps = _maps(changed.name, first, second)
    right = [found == label for found in maps]
    picture = np.full((*label.shape, 3), SAME_COLOR, np.uint8)
    picture[right[1] & ~right[0]] = GAINED_COLOR
    picture[right[0] & ~right[1]] = LOST_COLOR
    picture[label == first.table.ignore_index] = VOID_COLOR
    image = read_image(first.samples[changed.name][0])
    height, width = label.shape
    if image.shape[:2] != label.shape:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    parts = {
        "image": image,
        "label": first.table.paint(label),
        "first": first.table.paint(maps[0]),
        "second": first.table.paint(maps[1]),
        "green: gained, red: lost": picture,
    }
    uris = [(name, html.picture_uri(part, PICTURE_WIDTH)) for name, part in parts.items()]
    return {"title": changed.title, "parts": uris}
