"""Conversion of published data sets: the work list, processes, resuming, atomic writing.

A converter is a module with `find(source) -> list[Item]` and `label_of(item) -> (H, W) uint8`, and
with `image_of(item)` where the image changes, too. Every file is written whole or not at all, and
existing files are kept, so that an interrupted run continues where it stopped.
"""

import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from paddleseg_ext.common.errors import (
    CheckFailed,
    DataError,
    UsageError,
    nearest_name,
    require_none,
)
from paddleseg_ext.common.files import TEMPORARY_PREFIX, atomic_path, require_writable
from paddleseg_ext.common.log import log
from paddleseg_ext.common.processes import end_with_parent
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.labels import INVALID
from paddleseg_ext.images.samples import pair_by_key

Work = TypeVar("Work")
Result = TypeVar("Result")

CONVERTERS = {
    name: f"paddleseg_ext.data.prepare.{name}"
    for name in (
        "ade20k",
        "camvid",
        "celeba_mask_hq",
        "cityscapes",
        "coco_stuff10k",
        "coco_stuff164k",
    )
}


@dataclass(frozen=True)
class Item:
    """One image to convert.

    Attributes:
        image: the publisher's image.
        annotation: the publisher's annotation, in the form that the converter reads.
        image_target: relative to the new root.
        label_target: a PNG, relative to the new root.
    """

    image: Path
    annotation: Path
    image_target: str
    label_target: str


def prepared(image: Path, annotation: Path, split: str, name: str = "") -> Item:
    """An item of the layout that `data.published.PreparedDataset` reads.

    Args:
        name: of the new image; by default as the publisher's.
    """
    target = f"images/{split}/{name or image.name}"
    return Item(image, annotation, target, f"labels/{split}/{image.stem}.png")


def convert(name: str, source: str | Path, target: str | Path, processes: int) -> int:
    """Convert a data set.

    Args:
        name: a key of `CONVERTERS`.
        source: the publisher's folder; it is only read.
        target: the new root.
        processes: number of processes.

    Returns:
        The number of images converted by this run.

    Raises:
        UsageError: no such converter, or `source` does not have the publisher's layout.
        CheckFailed: some files could not be converted; all of them are listed, the others are
            done.
    """
    if name not in CONVERTERS:
        raise UsageError(f"unknown data set '{name}'{nearest_name(name, CONVERTERS)}")
    source, target = Path(source), require_writable(target, "--to")
    if not source.is_dir():
        raise UsageError(f"--from: '{source}' is not a folder")
    items = importlib.import_module(CONVERTERS[name]).find(source)
    waiting = [item for item in items if not is_done(item, target)]
    if len(waiting) < len(items):
        log(f"{len(items) - len(waiting)} of {len(items)} images are converted already")
    done = in_processes(partial(convert_one, name, target), waiting, processes, f"prepare {name}")
    failures = [line for line in done if line]
    title = f"{len(failures)} of {len(items)} images could not be converted:"
    require_none(failures, title, CheckFailed)
    log(f"{name}: {len(items)} images are in {target}")
    return len(waiting)


def is_done(item: Item, target: Path) -> bool:
    """Whether an earlier run wrote both files."""
    return (target / item.image_target).is_file() and (target / item.label_target).is_file()


def in_processes(
    function: Callable[[Work], Result], work: Sequence[Work], processes: int, title: str
) -> Iterator[Result]:
    """The function's results in the order of the work, while a line shows the progress.

    Args:
        function: picklable.
        work: picklable.
        processes: their number; with 1, this process does the work.
        title: of the line.
    """
    if processes == 1:
        yield from map(function, track(work, title))
        return
    # Spawned: a fork would copy the caller's threads.
    spawned, initargs = get_context("spawn"), (os.getpid(),)
    with ProcessPoolExecutor(processes, spawned, end_with_parent, initargs) as pool:
        yield from track(pool.map(function, work, chunksize=4), title, total=len(work))


def convert_one(name: str, target: Path, item: Item) -> str:
    """Convert one image; returns the problem, or ""."""
    converter: Any = importlib.import_module(CONVERTERS[name])
    try:
        label = converter.label_of(item)
        if hasattr(converter, "image_of"):
            write_png(target / item.image_target, converter.image_of(item))
        else:
            take_file(item.image, target / item.image_target)
        write_png(target / item.label_target, label)
    except DataError as error:
        return str(error)
    return ""


def take_file(source: Path, target: Path) -> None:
    """Link `source` to `target`, or copy it where the disk allows no link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(TEMPORARY_PREFIX + target.name)
    try:
        temporary.unlink(missing_ok=True)
        os.link(source.resolve(), temporary)
        temporary.replace(target)
    except OSError:
        try:
            with atomic_path(target) as copy:
                shutil.copyfile(source, copy)
        except OSError as error:
            raise DataError(f"{source}: cannot be copied to {target}: {error.strerror}") from None
    finally:
        # Renaming a link onto a link of the same file leaves both.
        temporary.unlink(missing_ok=True)


def require_layout(source: Path, expected: Iterable[str], example: str) -> None:
    """Raise `UsageError` where one of `expected` is not below `source`."""
    missing = [name for name in expected if not (source / name).exists()]
    if missing:
        raise UsageError(
            f"--from: '{source}' has no {', '.join(missing)}; expected the publisher's layout: "
            f"{example}"
        )


def pair(source: Path, folders: Mapping[str, str]) -> list[Item]:
    """Items of `images/FOLDER/*.jpg` and `annotations/FOLDER/*.png` with equal stems.

    Args:
        source: the publisher's folder.
        folders: split -> FOLDER.

    Raises:
        UsageError: files without their partner, all of them listed.
    """
    items = []
    for split, folder in folders.items():
        images = {file.stem: file for file in (source / "images" / folder).glob("*.jpg")}
        # Copies that mmseg has converted contain *_labelTrainIds.png, too.
        annotations = {
            file.stem: file
            for file in (source / "annotations" / folder).glob("*.png")
            if not file.stem.endswith("_labelTrainIds")
        }
        pairs = pair_by_key(dict(sorted(images.items())), annotations)
        lonely = pairs.problems("annotation")
        require_none(lonely, f"{split}: {len(lonely)} files without their partner:")
        items += [
            prepared(image, annotation, split)
            for _, image, annotation in pairs.found
            if annotation is not None
        ]
    return items


def through_lookup(path: Path, raw: np.ndarray, lookup: np.ndarray) -> np.ndarray:
    """Classes of a label `raw` (H, W) uint8 by a lookup, as `images.labels.lookup_table` makes it.

    Raises:
        DataError: `raw` has a value that the lookup marks as invalid.
    """
    label = cv2.LUT(np.ascontiguousarray(raw), lookup)
    wrong = np.unique(raw[label == INVALID])
    if wrong.size:
        raise DataError(f"{path}: value {wrong[0]} is no class of this data set")
    return label
