"""Checks of images and labels before anything runs; all problems are found at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from paddleseg_ext.common.errors import DataError, require_none
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.datasets import read_pair
from paddleseg_ext.data.packed import PackedDataset
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.samples import Sample

Finding = TypeVar("Finding")


def each_sample(
    look: Callable[[Sample], Finding], samples: Sequence[Sample], name: str
) -> Iterator[Finding]:
    """Yields `look` of each sample in order, from threads on all cores, with a progress line."""
    # OpenCV decodes without the interpreter's lock.
    with ThreadPoolExecutor(available_cores()) as pool:
        yield from track(pool.map(look, samples), f"check {name}", total=len(samples))


def check_samples(samples: Sequence[Sample], table: ClassTable, name: str = "data") -> list[str]:
    """Read every image and label once.

    Args:
        samples: a label may be missing only where `Sample.label` is None.
        table: the classes that labels may hold.
        name: of the data set, for the progress line.

    Returns:
        One line, opening with the file's name, per file that is missing, unreadable or empty, per
        label of another size than its image, and per label with a value that is neither a class
        nor ignored.
    """

    def problem(sample: Sample) -> str:
        try:
            read_pair(sample, table)
        except DataError as error:
            return str(error)
        return ""

    return [line for line in each_sample(problem, samples, name) if line]


def require_sound(dataset: Any, name: str) -> None:
    """Raise `UsageError` with all problems that keep a data set from being trained on.

    Args:
        dataset: from `data.build.build_dataset`; a packed one is compared with its checksums.
        name: of its section, for messages.
    """
    if isinstance(dataset, PackedDataset):
        dataset.verify(name)
        return
    problems = check_samples(dataset.samples, dataset.class_table, name)
    require_none(problems, f"{name}: {len(problems)} files cannot be used:")
