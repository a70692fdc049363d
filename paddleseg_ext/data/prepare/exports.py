"""Conversion of what annotation tools export into images, labels, lists and classes.

A form is a module with `read(source, files) -> Export`. Everything else is the same for all of
them and is here: the order of the classes, rasterising, orientation, splits, writing, resuming and
the summary.

Written pictures are upright: one with an orientation tag is turned and written as PNG without
the tag, and so is its label, so that the two fit however images are read. All others are linked
or copied as they are.
"""

import importlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from paddleseg_ext.common.errors import (
    CheckFailed,
    DataError,
    UsageError,
    check_choice,
    require_none,
    shortened,
)
from paddleseg_ext.common.files import require_writable, write_bytes, write_json, write_text
from paddleseg_ext.common.flags import natural_float
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.data.prepare.converter import in_processes, take_file
from paddleseg_ext.data.prepare.export import (
    Export,
    ImageFiles,
    Picture,
    checked_form,
    read_json,
)
from paddleseg_ext.data.prepare.shapes import area_of
from paddleseg_ext.data.splitting import split_by_name
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.header import FORMATS
from paddleseg_ext.images.labels import IGNORE_INDEX, MAX_CLASSES
from paddleseg_ext.images.orientation import turn_upright
from paddleseg_ext.images.palette import spread_palette
from paddleseg_ext.images.reading import decode_image, header_of
from paddleseg_ext.images.samples import Sample, unique_names, write_sample_list

# The function that reads each form.
_ROOM = "paddleseg_ext.data.prepare"
_TOOLS = ("labelme", "cvat", "coco", "supervisely", "label_studio", "yolo")
_LABELS = {
    "mask_tools": ("eiseg", "paddlelabel", "segments_ai"),
    "pascal": ("voc", "sbd", "pascal_context"),
    "masks": (
        "mapillary",
        "bdd100k",
        "idd",
        "kitti",
        "loveda",
        "drive",
        "stare",
        "chase_db1",
        "hrf",
    ),
}
FORMS = {name: f"{_ROOM}.{name}:read" for name in _TOOLS} | {
    name: f"{_ROOM}.{module}:{name}" for module, names in _LABELS.items() for name in names
}
BACKGROUND = "background"
CLASSES_FILE, RECORD = "classes.yml", "prepared.json"
SPLIT_NAMES = ("train", "val", "test")
# Names that tools have for the pixels without an object.
BACKGROUNDS = ("background", "_background_", "__background__")
IGNORED_NAMES = ("__ignore__", "ignore", "void")


@dataclass(frozen=True)
class AnnotationOptions(CheckedOptions):
    """How an export becomes labels."""

    images: Path | None = option(
        None, "where the images are, if not in the export; found by their names"
    )
    classes: list[str] | None = option(
        None, "names in the order of the classes; others are not drawn", metavar="NAME"
    )
    unlabelled: Literal["background", "ignored"] = option(
        "background", "what pixels without an annotation are: class 0, or 255"
    )
    overlap: Literal["later", "smaller", "ignored"] = option(
        "later", "what counts where shapes overlap: the later one, the smaller one, or 255"
    )
    val_share: float = option(
        0.1, "of an export without splits, chosen by a hash of the names", parse=natural_float
    )


def convert_export(
    form: str,
    source: str | Path,
    target: str | Path,
    options: AnnotationOptions,
    processes: int = 1,
) -> int:
    """Convert an export to `images/`, `labels/`, lists per split and `classes.yml`.

    Args:
        form: a key of `FORMS`.
        source: the export's folder, or its file; it is only read.
        target: the new root.
        processes: number of processes.

    Returns:
        The number of images converted by this run.

    Raises:
        UsageError: no such form, nothing of it in `source`, or the target holds other classes.
        CheckFailed: some annotations cannot be converted; all are listed, the others are done.
    """
    check_choice("data prepare", form, FORMS, "form")
    source, target = Path(source), require_writable(target, "--to")
    if not source.exists():
        raise UsageError(f"--from: '{source}' does not exist")
    files = ImageFiles(options.images or (source if source.is_dir() else source.parent))
    module, _, function = FORMS[form].partition(":")
    with checked_form(f"--from: '{source}'"):
        export: Export = getattr(importlib.import_module(module), function)(source, files)
    _leave_out_repeated(export)
    if not export.pictures and not export.problems:
        raise UsageError(f"--from: no annotated image of form '{form}' in '{source}'")
    names = class_names(export, options)
    _keep_record(target, form, names, options)
    work = _work(export, options)
    waiting = [each for each in work if not each.is_done(target)]
    if len(waiting) < len(work):
        log(f"{len(work) - len(waiting)} of {len(work)} images are converted already")
    convert_one = partial(_convert_one, target, export.upright, names, options)
    done = list(in_processes(convert_one, waiting, processes, f"prepare {form}"))
    counts = sum((each for each in done if isinstance(each, Counter)), Counter[str]())
    problems = export.problems + [each for each in done if isinstance(each, str)]
    _write_classes(target, names, export.palette)
    log("\n  ".join(_summary(form, target, export, counts) + _write_lists(target, work)))
    require_none(problems, f"{len(problems)} annotations could not be converted:", CheckFailed)
    return len(waiting)


def _leave_out_repeated(export: Export) -> None:
    """Take images with several annotations out: each would call the other's objects background."""
    first: dict[Path, Picture] = {}
    repeated: set[Path] = set()
    for picture in export.pictures:
        if picture.content is None and first.setdefault(picture.image, picture) is not picture:
            repeated.add(picture.image)
            export.problems.append(
                f"{picture.where}: its image '{picture.image}' is annotated again, the first time "
                f"in {first[picture.image].where}; keep one"
            )
    if repeated:
        export.pictures = [
            each for each in export.pictures if each.content or each.image not in repeated
        ]


def class_names(export: Export, options: AnnotationOptions) -> list[str]:
    """The classes, background first where unlabelled pixels are one.

    Raises:
        UsageError: there are none, or more than a label can hold.
    """
    found = {shape.label for picture in export.pictures for shape in picture.shapes}
    own = export.classes if export.classes is not None else sorted(found)
    if export.dense and _of_labels(options) != _of_labels(AnnotationOptions()):
        raise UsageError(
            "--classes, --unlabelled, --overlap: of forms with shapes; these are labels already: "
            "merge, drop or ignore classes with `mapping:` in a yml's `classes:`"
        )
    names = [n for n in options.classes or own if n not in IGNORED_NAMES]
    behind = next((name for name in names if name.lower() in BACKGROUNDS), BACKGROUND)
    if not export.dense and options.unlabelled == "background":
        names = [behind, *(name for name in names if name != behind)]
    if not 1 <= len(names) <= MAX_CLASSES:
        raise UsageError(f"--from: 1 to {MAX_CLASSES} classes are expected, got {len(names)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--classes: a name is there twice: {shortened(names)}")
    return names


def _of_labels(options: AnnotationOptions) -> tuple:
    return options.classes, options.unlabelled, options.overlap


def _keep_record(target: Path, form: str, names: list[str], options: AnnotationOptions) -> None:
    """Refuse to mix labels of other classes, rules or origin with those that are in the target."""
    record = {"form": form, "classes": names}
    record |= {"unlabelled": options.unlabelled, "overlap": options.overlap}
    path = target / RECORD
    has_labels = any((target / "labels").rglob("*.png"))
    before = read_json(path) if path.exists() else "not by data prepare"
    if has_labels and before != record:
        raise UsageError(
            f"--to: '{target}' holds labels that were made otherwise ({before}, now {record}); "
            "name a new folder"
        )
    write_json(path, record)


@dataclass(frozen=True)
class _Work:
    """A picture, the name of its files, and its split."""

    picture: Picture
    name: str
    split: str

    def image_in(self, target: Path, turned: bool) -> Path:
        suffix = ".png" if turned else self.picture.image.suffix
        return target / "images" / f"{self.name}{suffix}"

    def label_in(self, target: Path) -> Path:
        return target / "labels" / f"{self.name}.png"

    def written_image(self, target: Path) -> Path | None:
        """The image that an earlier run wrote."""
        paths = (self.image_in(target, turned) for turned in (False, True))
        return next((path for path in paths if path.is_file()), None)

    def is_done(self, target: Path) -> bool:
        return self.label_in(target).is_file() and self.written_image(target) is not None


def _work(export: Export, options: AnnotationOptions) -> list[_Work]:
    """The pictures with names and splits; without a split, a hash of the name decides."""
    names = unique_names([picture.image for picture in export.pictures])
    splits = [picture.split or "train" for picture in export.pictures]
    if "val" not in splits:
        free = [name for name, split in zip(names, splits, strict=True) if split == "train"]
        chosen = split_by_name(free, options.val_share)
        splits = ["val" if n in chosen else s for n, s in zip(names, splits, strict=True)]
    return [_Work(*each) for each in zip(export.pictures, names, splits, strict=True)]


def _convert_one(
    target: Path, upright: bool, names: list[str], options: AnnotationOptions, work: _Work
) -> Counter[str] | str:
    """Write image and label; returns what there was, or the problem."""
    picture = work.picture
    try:
        content = _content(picture)
        _, header = header_of(content, str(picture.image), FORMATS)
        orientation, stored_wh = header.orientation, header.size_wh
        size_wh, on_turned = _canvas(picture, stored_wh, orientation, upright)
        with checked_form(picture.where):
            label, counts = draw(picture, size_wh, names, options)
        if orientation > 1:
            label = label if on_turned else turn_upright(label, orientation)
            image = decode_image(content, str(picture.image), "upright")
            write_png(work.image_in(target, True), image)
            counts["pictures turned by their orientation tag, and written as PNG"] += 1
        elif picture.content is not None:
            write_bytes(work.image_in(target, False), content)
        else:
            take_file(picture.image, work.image_in(target, False))
        write_png(work.label_in(target), label)
    except DataError as error:
        named = str(error).startswith(picture.where)
        return str(error) if named else f"{picture.where}: {error}"
    return counts


def _content(picture: Picture) -> bytes:
    if picture.content is not None:
        return picture.content()
    try:
        return picture.image.read_bytes()
    except OSError as error:
        raise DataError(f"{picture.image}: cannot be read: {error.strerror}") from None


def _canvas(
    picture: Picture, stored_wh: tuple[int, int], orientation: int, upright: bool
) -> tuple[tuple[int, int], bool]:
    """The size that coordinates belong to, and whether it is the turned picture's.

    A size in the annotation decides where it fits one of the two only; else the tool's rule does.

    Raises:
        DataError: the size in the annotation is neither.
    """
    turned_wh = stored_wh[::-1] if orientation >= 5 else stored_wh
    wanted = picture.size_wh or (turned_wh if upright else stored_wh)
    if wanted not in (stored_wh, turned_wh):
        raise DataError(
            f"{wanted[0]}x{wanted[1]} pixels, but its image '{picture.image}' has "
            f"{stored_wh[0]}x{stored_wh[1]}"
        )
    on_turned = upright if stored_wh == turned_wh else wanted == turned_wh
    return wanted, on_turned


def draw(
    picture: Picture, size_wh: tuple[int, int], names: list[str], options: AnnotationOptions
) -> tuple[np.ndarray, Counter[str]]:
    """The label of a picture, `(H, W)` uint8, and counts for the summary.

    Raises:
        DataError: a shape or label cannot be used.
    """
    counts: Counter[str] = Counter()
    if picture.label is not None:
        label = picture.label()
        counts["labels"] += 1
        if label.shape != size_wh[::-1]:
            found = f"{label.shape[1]}x{label.shape[0]}"
            raise DataError(f"{found} pixels, but its image has {size_wh[0]}x{size_wh[1]}")
        return label, counts
    unlabelled = 0 if options.unlabelled == "background" else IGNORE_INDEX
    label = np.full(size_wh[::-1], unlabelled, np.uint8)
    drawn = np.zeros(label.shape, bool)
    counts["images without an object"] += not picture.shapes
    areas = []
    for shape in sorted(picture.shapes, key=lambda each: each.order):
        if shape.label in names or shape.label in IGNORED_NAMES:
            areas.append((shape, area_of(shape, size_wh)))
        else:
            counts[f"shapes of class '{shape.label}', which is not in --classes: not drawn"] += 1
    if options.overlap == "smaller":
        areas.sort(key=lambda each: -int(each[1].sum()))
    for shape, area in areas:
        number = names.index(shape.label) if shape.label in names else IGNORE_INDEX
        clash = area & drawn & (label != number)
        counts[f"overlaps of classes, in pixels ({options.overlap})"] += int(clash.sum())
        label[area] = number
        if options.overlap == "ignored":
            label[clash] = IGNORE_INDEX
        drawn |= area
        counts["shapes"] += 1
        counts["shapes of several outlines"] += len(shape.polygons) > 1
        counts["holes"] += len(shape.holes)
        counts["shapes without a pixel"] += not area.any()
    return label, counts


def _write_classes(target: Path, names: list[str], palette: np.ndarray | None) -> None:
    colours = spread_palette(len(names)) if palette is None else palette
    section = {"names": names, "palette": colours.tolist(), "ignored": IGNORE_INDEX}
    text = yaml.safe_dump({"classes": section}, allow_unicode=True, sort_keys=False, width=99)
    write_text(target / CLASSES_FILE, text)


def _write_lists(target: Path, work: list[_Work]) -> list[str]:
    """Write a list per split of what is done; returns lines for the summary."""
    lines = []
    for split in SPLIT_NAMES:
        samples = []
        for each in work:
            image, label = each.written_image(target), each.label_in(target)
            if each.split == split and image is not None and label.is_file():
                samples.append(Sample(image, label, each.name))
        if samples:
            write_sample_list(samples, target / f"{split}.list")
            lines.append(f"{len(samples)} samples in {target / split}.list")
    return lines


def _summary(form: str, target: Path, export: Export, counts: Counter[str]) -> list[str]:
    lines = [f"{form}: {len(export.pictures)} annotated images, written to {target}"]
    lines += [f"{count} {what}" for what, count in counts.items() if count]
    for what, names in export.left_out.items():
        if names:
            lines.append(f"{len(names)} {what}: {shortened(names)}")
    return lines
