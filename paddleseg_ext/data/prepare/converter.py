"""What all converters share: the work list, processes, resuming, atomic writing.

A converter is a module with `find(source) -> list[Item]` and `label_of(item) -> (H, W) uint8`;
optionally `image_of(item)`, where the image has to change too. Every file is written whole or not
at all, and what is there already is kept, so an interrupted run goes on where it was.
"""

import importlib
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError, nearest_name
from paddleseg_ext.common.files import TEMPORARY_PREFIX, atomic_path, require_writable
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.datasets import listed_problems
from paddleseg_ext.images.functional import write_png

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
        annotation: the publisher's annotation; what it is, the converter knows.
        image_target: relative to the new root.
        label_target: likewise, a PNG.
    """

    image: Path
    annotation: Path
    image_target: str
    label_target: str


def prepared(image: Path, annotation: Path, split: str) -> Item:
    """An item of the layout that `data.published.PreparedDataset` reads."""
    return Item(
        image, annotation, f"images/{split}/{image.name}", f"labels/{split}/{image.stem}.png"
    )


def convert(name: str, source: str | Path, target: str | Path, processes: int) -> int:
    """Convert a data set.

    Args:
        name: a key of `CONVERTERS`.
        source: the publisher's folder; it is only read.
        target: the new root.
        processes: how many work at once.

    Returns:
        How many images were converted now; those of an earlier run are not counted.

    Raises:
        UsageError: no such converter, `source` is not the publisher's layout.
        CheckFailed: some files could not be converted; all are listed, the others are done.
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
    failures = [line for line in _run(name, waiting, target, processes) if line]
    if failures:
        title = f"{len(failures)} of {len(items)} images could not be converted:"
        raise CheckFailed(listed_problems(title, failures))
    log(f"{name}: {len(items)} images are in {target}")
    return len(waiting)


def is_done(item: Item, target: Path) -> bool:
    """Whether an earlier run wrote both files."""
    return (target / item.image_target).is_file() and (target / item.label_target).is_file()


def _run(name: str, items: list[Item], target: Path, processes: int) -> Iterable[str]:
    work = partial(convert_one, name, target)
    if processes == 1:
        yield from map(work, track(items, f"prepare {name}"))
        return
    # Started afresh: a fork would copy whatever threads the caller has.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from track(pool.map(work, items, chunksize=4), f"prepare {name}", total=len(items))


def convert_one(name: str, target: Path, item: Item) -> str:
    """Convert one image; the problem, or "" where there was none."""
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
    """Link `source` to `target`, or copy it where a link cannot be; `source` stays as it is."""
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


def pair(images: Iterable[Path], annotations: Iterable[Path], split: str) -> list[Item]:
    """Items of images and annotations with equal stems.

    Raises:
        UsageError: files without their partner, all of them listed.
    """
    found = {file.stem: file for file in images}
    annotated = {file.stem: file for file in annotations}
    lonely = [f"{found[stem]}: no annotation" for stem in found.keys() - annotated.keys()]
    lonely += [f"{annotated[stem]}: no image" for stem in annotated.keys() - found.keys()]
    if lonely:
        title = f"{split}: {len(lonely)} files without their partner:"
        raise UsageError(listed_problems(title, sorted(lonely)))
    return [prepared(found[stem], annotated[stem], split) for stem in sorted(found)]


def through_lookup(path: Path, raw: np.ndarray, lookup: np.ndarray) -> np.ndarray:
    """`raw` (H, W) uint8 through a lookup in which 254 marks values that mean nothing.

    Raises:
        DataError: such a value occurs.
    """
    label = cv2.LUT(np.ascontiguousarray(raw), lookup)
    wrong = np.unique(raw[label == 254])
    if wrong.size:
        raise DataError(f"{path}: value {wrong[0]} is no class of this data set")
    return label
