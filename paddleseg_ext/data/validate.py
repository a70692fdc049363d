"""Whether images and labels can be used, found out before anything runs, all problems at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.progress import track
from paddleseg_ext.data.datasets import check_same_size, listed_problems
from paddleseg_ext.data.packed import PackedDataset
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.images.labels import ClassTable, decode_label
from paddleseg_ext.images.samples import Sample


def check_samples(samples: Sequence[Sample], table: ClassTable, name: str = "data") -> list[str]:
    """Read every image and label once.

    Args:
        samples: what is checked; a label may be missing only where `Sample.label` is None.
        table: the classes that labels may hold.
        name: of the data set, for the progress line.

    Returns:
        A line for every file that is missing, unreadable or empty, whose label has another size,
        or whose label holds a value that is neither a class nor ignored. It opens with the file.
    """
    # OpenCV decodes without the interpreter's lock, so threads use all cores.
    with ThreadPoolExecutor(available_cores()) as pool:
        findings = pool.map(lambda sample: _problem(sample, table), samples)
        return [line for line in track(findings, f"check {name}", total=len(samples)) if line]


def require_usable(samples: Sequence[Sample], table: ClassTable, name: str) -> None:
    """Raise `UsageError` with all that `check_samples` finds."""
    problems = check_samples(samples, table, name)
    if problems:
        raise UsageError(
            listed_problems(f"{name}: {len(problems)} files cannot be used:", problems)
        )


def require_sound(dataset: Any, name: str) -> None:
    """Raise `UsageError` with all that keeps a data set from being trained on.

    Args:
        dataset: one of `data.build.build_dataset`; a packed one is compared with its checksums.
    """
    if isinstance(dataset, PackedDataset):
        dataset.verify(name)
    else:
        require_usable(dataset.samples, dataset.class_table, name)


def _problem(sample: Sample, table: ClassTable) -> str:
    try:
        image = read_image(sample.image)
        if sample.label is not None:
            check_same_size(sample, image, decode_label(sample.label, table))
    except DataError as error:
        return str(error)
    return ""
