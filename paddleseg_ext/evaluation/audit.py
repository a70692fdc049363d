"""The label doctor: suspicious labels, copies and leaks of a data set, as tables and a page.

    audit(load_config("my.yml"), "model.pdparams", AuditOptions(save_dir=Path("output/audit")))

writes regions.csv, images.csv, duplicates.csv and audit.html.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, require_writable, write_text
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.common.progress import track
from paddleseg_ext.config import Config
from paddleseg_ext.data.near_duplicates import Twin, find_twins
from paddleseg_ext.data.parts import Part, parts_of_config
from paddleseg_ext.evaluation.eager import eager_predictor
from paddleseg_ext.evaluation.evaluator import MOST_OUTPUT_BYTES, require_image_size
from paddleseg_ext.evaluation.suspects import Look, Suspect, look_at, rank
from paddleseg_ext.images.labels import decode_label
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.pipeline import Prediction, StreamOptions
from paddleseg_ext.inference.postprocess import softmax
from paddleseg_ext.inference.predictor import Predictor

FILE_COLUMNS = ("rank", "score", "part", "image", "label")
REGION_COLUMNS = (
    *(*FILE_COLUMNS, "x", "y", "width", "height", "middle_x", "middle_y", "pixels"),
    *("label_says", "network_says", "p_label", "p_network"),
)
IMAGE_COLUMNS = (*FILE_COLUMNS, "regions", "pixels")


@dataclass(frozen=True)
class AuditOptions(CheckedOptions):
    """How a data set is audited."""

    save_dir: Path = option(Path("output/audit"), "for the tables and the page", metavar="DIR")
    pictured: int = option(60, "regions with pictures on the page, the worst", at_least=0)
    batch_size: int = option(1, "images per run", at_least=1)
    num_workers: int | None = option(
        None, "threads beside the network's (default: one per core; 0: none)", at_least=0
    )


@dataclass(frozen=True)
class Audited:
    """A part of the data set and what was found in it.

    Attributes:
        suspects: the regions, the most suspicious first.
        problems: one line per sample that could not be looked at.
    """

    part: Part
    suspects: list[Suspect]
    problems: list[str]


@dataclass(frozen=True)
class Audit:
    """The findings of all parts.

    Attributes:
        twins: images that show the same, leaks first.
        parts: empty without weights.
        problems: one line per file that cannot be used, of all parts.
    """

    twins: list[Twin]
    parts: list[Audited]
    problems: list[str]


def audit(
    config: Config,
    weights: str | Path | None,
    options: AuditOptions = AuditOptions(),
    device: str | None = None,
) -> Audit:
    """Look for wrong labels and copies in `train_dataset` and `val_dataset`, and write the files.

    Args:
        config: that names the data.
        weights: a `.pdparams` of its network; None looks for copies only.
        options: where and how much is written.
        device: `cpu` or `gpu`; None takes a GPU where the installed Paddle has one.

    Raises:
        UsageError: the data, the checkpoint or the folder cannot be used.
    """
    if weights is not None:
        require_file(weights, "--weights")
    save_dir = require_writable(options.save_dir, "--save_dir")
    parts = parts_of_config(config)
    if not parts:
        raise UsageError(f"{config.path}: train_dataset or val_dataset is expected")
    twins, problems = find_twins(parts)
    audited: list[Audited] = []
    predictor = None
    if weights is not None:
        predictor = _predictor(config, weights, parts, resolve_device(device))
        audited = [_audit_part(predictor, part, options) for part in parts]
        problems += [line for each in audited for line in each.problems if line not in problems]
    result = Audit(twins, audited, problems)
    _write(result, save_dir)
    if predictor is not None:
        from paddleseg_ext.evaluation.audit_page import audit_page

        write_text(save_dir / "audit.html", audit_page(result, predictor, options.pictured))
    return result


def _predictor(
    config: Config, weights: str | Path, parts: Sequence[Part], device: str
) -> Predictor:
    tables = [part.class_table for part in parts]
    if any(table.class_names != tables[0].class_names for table in tables):
        raise UsageError(f"{config.path}: train_dataset and val_dataset have different classes")
    if not any(sample.label for part in parts for sample in part.samples):
        raise UsageError(f"{config.path}: no image has a label to audit")
    fix_thread_count()
    return eager_predictor(config, weights, device, tables[0])


def _audit_part(predictor: Predictor, part: Part, options: AuditOptions) -> Audited:
    labelled = [sample for sample in part.samples if sample.label is not None]
    places = {sample.name: place for place, sample in enumerate(labelled)}

    def look(prediction: Prediction) -> Look:
        return look_at(
            places[prediction.sample.name],
            probabilities_of(predictor, prediction),
            label_of(prediction, part),
            part.class_table,
        )

    stream = StreamOptions(
        options.batch_size,
        options.num_workers,
        keep_output=True,
        finish=look,
        most_output_bytes=MOST_OUTPUT_BYTES,
    )
    looks, problems = [], []
    predictions = predictor.stream(labelled, stream)
    for prediction in track(predictions, f"audit {part.name}", total=len(labelled)):
        if prediction.error is not None:
            problems.append(prediction.error)
        else:
            looks.append(prediction.finished)
    return Audited(replace(part, samples=labelled), rank(looks), problems)


def probabilities_of(predictor: Predictor, prediction: Prediction) -> NDArray[np.float32]:
    """(C, H, W) float32 of a prediction with its output, at the image's size."""
    assert prediction.output is not None and prediction.geometry is not None
    logits = predictor.postprocess.full_logits(prediction.output, prediction.geometry)
    return softmax(logits[None], overwrite=True)[0]


def label_of(prediction: Prediction, part: Part) -> NDArray[np.uint8]:
    """(H, W) uint8 classes of a prediction's label.

    Raises:
        DataError: it cannot be used, or is of another size than the image.
    """
    sample, label_map = prediction.sample, prediction.label_map
    assert sample.label is not None and label_map is not None
    label = decode_label(sample.label, part.class_table)
    require_image_size(sample, label.shape, label_map.shape)
    return label


def _write(result: Audit, save_dir: Path) -> None:
    twins = [vars(twin) for twin in result.twins]
    write_table(save_dir / "duplicates.csv", twins, [field.name for field in fields(Twin)])
    if not result.parts:
        return
    regions = [row for audited in result.parts for row in _region_rows(audited)]
    regions.sort(key=lambda row: -row["score"])
    write_table(save_dir / "regions.csv", _numbered(regions), REGION_COLUMNS)
    images = [row for audited in result.parts for row in _image_rows(audited)]
    images.sort(key=lambda row: -row["score"])
    write_table(save_dir / "images.csv", _numbered(images), IMAGE_COLUMNS)


def _region_rows(audited: Audited) -> Iterable[dict[str, Any]]:
    names = audited.part.class_table.class_names
    for suspect in audited.suspects:
        region = suspect.region
        sample = audited.part.samples[region.image]
        yield {
            "score": suspect.score,
            **_files(audited.part, sample),
            **dict(zip(("x", "y", "width", "height"), region.box, strict=True)),
            **dict(zip(("middle_x", "middle_y"), region.middle, strict=True)),
            "pixels": region.pixels,
            "label_says": names[region.labelled],
            "network_says": names[region.predicted],
            "p_label": region.p_labelled,
            "p_network": region.p_predicted,
        }


def _image_rows(audited: Audited) -> Iterable[dict[str, Any]]:
    """Images by their most suspicious region; those without one have the score 0."""
    found: dict[int, list[Suspect]] = {index: [] for index in range(len(audited.part.samples))}
    for suspect in audited.suspects:
        found[suspect.region.image].append(suspect)
    for index, suspects in found.items():
        yield {
            "score": suspects[0].score if suspects else 0.0,
            **_files(audited.part, audited.part.samples[index]),
            "regions": len(suspects),
            "pixels": sum(suspect.region.pixels for suspect in suspects),
        }


def _files(part: Part, sample: Sample) -> dict[str, str]:
    return {"part": part.name, "image": str(sample.image), "label": str(sample.label)}


def _numbered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"rank": number, **row} for number, row in enumerate(rows, start=1)]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV with a first line of the columns, numbers with 4 decimals."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    write_text(path, text.getvalue())


def audit_lines(result: Audit, most: int = 10) -> list[str]:
    """The findings as lines of text, the worst of each kind."""
    leaks = [twin for twin in result.twins if twin.is_leak]
    lines = [
        f"copies: {len(leaks)} pairs between the parts (leaks), "
        f"{len(result.twins) - len(leaks)} within one"
    ]
    for twin in result.twins[:most]:
        how = "mirrored" if twin.is_mirrored else "the same"
        lines.append(f"  {twin.first} = {twin.second} ({how}, {twin.difference:.0%} differs)")
    for audited in result.parts:
        names = audited.part.class_table.class_names
        lines.append(
            f"{audited.part.name}: {len(audited.suspects)} regions in "
            f"{len(audited.part.samples)} images where network and label differ; the worst:"
        )
        for suspect in audited.suspects[:most]:
            region = suspect.region
            x, y, width, height = region.box
            lines.append(
                f"  {suspect.score:6.2f}  {audited.part.samples[region.image].name} at {x},{y} "
                f"({width}x{height}): label {names[region.labelled]}, network "
                f"{names[region.predicted]} ({region.p_predicted:.0%})"
            )
    return lines
