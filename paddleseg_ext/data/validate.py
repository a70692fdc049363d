"""Checks of images and labels before anything runs; all problems are found at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError, require_none
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.datasets import read_pair
from paddleseg_ext.data.packed import PackedDataset
from paddleseg_ext.images.label_counts import LabelCounts, only_in
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.samples import Sample

Finding = TypeVar("Finding")


def each_sample(
    look: Callable[[Sample], Finding], samples: Sequence[Sample], name: str
) -> Iterator[Finding]:
    """Yields `look` of each sample in order, from threads on all cores, with a progress line."""
    # OpenCV decodes without the interpreter's lock.
    with ThreadPoolExecutor(available_cores()) as pool:
        yield from track(pool.map(look, samples), f"check {name}", total=len(samples))


def check_samples(
    samples: Sequence[Sample],
    table: ClassTable,
    name: str = "data",
    counts: LabelCounts | None = None,
    orientation: Orientation = "stored",
) -> list[str]:
    """Read every image and label once.

    Args:
        samples: a label may be missing only where `Sample.label` is None.
        table: the classes that labels may hold.
        name: of the data set, for the progress line.
        counts: gets the labels' pixels per class.
        orientation: whether the orientation tag of images is applied.

    Returns:
        One line, opening with the file's name, per file that is missing, unreadable or empty, per
        label of another size than its image, and per label with a value that is neither a class
        nor ignored.
    """

    def look(sample: Sample) -> str | np.ndarray | None:
        try:
            label = read_pair(sample, table, orientation)[1]
        except DataError as error:
            return str(error)
        return None if label is None else np.bincount(label.ravel(), minlength=256)

    problems = []
    for found in each_sample(look, samples, name):
        if isinstance(found, str):
            problems.append(found)
        elif found is not None and counts is not None:
            counts.add_values(found)
    return problems


def require_sound(dataset: Any, name: str) -> LabelCounts:
    """Refuse a data set that cannot be trained on or scored; returns what its labels hold.

    Args:
        dataset: from `data.build.build_dataset`; a packed one is compared with its checksums, and
            its labels were counted when it was packed.
        name: of its section, for messages.

    Raises:
        UsageError: all files that cannot be used, or labels that cannot be meant.
    """
    if isinstance(dataset, PackedDataset):
        dataset.verify(name)
        counts = dataset.label_counts()
    else:
        counts = LabelCounts(dataset.class_table)
        table, orientation = dataset.class_table, dataset.orientation
        problems = check_samples(dataset.samples, table, name, counts, orientation)
        require_none(problems, f"{name}: {len(problems)} files cannot be used:")
    if fault := counts.fault():
        raise UsageError(f"{name}: {fault}")
    return counts


def require_sound_sets(datasets: Mapping[str, Any]) -> None:
    """`require_sound` for the data sets of a training, and a line per set about its classes.

    Args:
        datasets: by section, `train_dataset` first.
    """
    counts = {name: require_sound(dataset, name) for name, dataset in datasets.items()}
    for name, each in counts.items():
        if each.labels:
            (warn if each.absent else log)(f"{name}: {each.summary()}")
    trained, *others = counts.values()
    for other in others:
        if names := only_in(other, trained):
            warn(f"val_dataset has classes that are never trained: {names}")
    _say_mirrored(datasets["train_dataset"])


def _say_mirrored(dataset: Any) -> None:
    """A line where mirrored samples exchange classes."""
    table = dataset.class_table
    flips = [each for each in dataset.transform_specs if each["type"] == "RandomHorizontalFlip"]
    if table.left_right and flips:
        pairs = [" and ".join(table.class_names[i] for i in pair) for pair in table.left_right]
        log(
            f"train_dataset: mirrored samples exchange {', '.join(pairs)} "
            "(left_right: [] in the data set keeps them)"
        )
