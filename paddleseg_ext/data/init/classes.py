"""Finds the classes of labels: a tool's table, or the values and colours that they hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError, shortened
from paddleseg_ext.common.log import log
from paddleseg_ext.data.parts import classes_of_file
from paddleseg_ext.data.validate import each_sample
from paddleseg_ext.images.class_section import apply_classes, read_class_section
from paddleseg_ext.images.labels import IGNORE_INDEX, MAX_CLASSES, ClassTable, generic_table
from paddleseg_ext.images.reading import read_label, read_label_colours
from paddleseg_ext.images.samples import Sample

# Files that tools leave in a data set's folder.
TABLES = ("classes.yml", "labelmap.txt", "_classes.csv", "class_dict.csv")
MOST_COLOURS = 64  # more are no classes: JPEG, or smoothed edges
OBJECT = "object"
BACKGROUND = "background"


@dataclass
class LabelClasses:
    """The classes of a data set's labels.

    Attributes:
        section: the keys of `classes:` for the yml.
        table: the same, applied.
        source: where they are from, in words.
        named: whether the names mean something; else they are numbers.
    """

    section: dict[str, Any]
    table: ClassTable
    source: str
    named: bool = True


@dataclass
class _Seen:
    values: set[int] = field(default_factory=set)
    colours: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def classes_of_labels(
    root: Path, samples: Sequence[Sample], given: Path | None, names: list[str] | None
) -> LabelClasses:
    """The classes: of a file, of a tool's table in the folder, or of what the labels hold.

    Args:
        root: where tables are looked for.
        samples: every label is read unless there is a table.
        given: a yml with `classes:`, or a tool's table.
        names: of the classes, in their order.

    Raises:
        UsageError: the labels cannot be read, or the names are not as many as the classes.
    """
    path = given or next((root / name for name in TABLES if (root / name).is_file()), None)
    if path is not None:
        if names is not None:
            raise UsageError(f"--names: the names are in {path}; leave one of them out")
        return _of_file(path)
    seen = _look(samples)
    if seen.problems:
        listed = "\n  ".join(seen.problems)
        raise UsageError(f"data init: {len(seen.problems)} labels cannot be used:\n  {listed}")
    section = _of_colours(seen, names) if seen.colours else _of_values(seen, names)
    where = "colours" if seen.colours else "values"
    if len(section["names"]) > MAX_CLASSES:
        raise UsageError(
            f"data init: the labels hold {len(section['names'])} {where}, more than the "
            f"{MAX_CLASSES} classes of a label: are they images, or saved with loss? --labels and "
            "--label_suffix say which files are labels"
        )
    base = generic_table(len(section["names"]))
    table = apply_classes(read_class_section(section, root, "--names"), base, "--names")
    return LabelClasses(section, table, f"the labels' {where}", names is not None)


def _of_file(path: Path) -> LabelClasses:
    table = classes_of_file(path)
    section: dict[str, Any] = {"names": list(table.class_names), "palette": table.palette.tolist()}
    read = read_class_section(
        path if path.suffix in (".yml", ".yaml", ".json") else {"mapping": str(path)},
        Path(),
        "--classes",
    )
    if read.mapping is not None:
        mapping = read.mapping if isinstance(read.mapping, dict) else {}
        section["mapping"] = {_key(key): target for key, target in mapping.items()}
    if read.ignored != IGNORE_INDEX:
        section["ignored"] = read.ignored
    if read.unknown is not None:
        section["unknown"] = read.unknown
    if table.left_right:
        section["pairs"] = [[table.class_names[i] for i in pair] for pair in table.left_right]
    if read.table is not None:
        section = {"names": list(table.class_names), "palette": table.palette.tolist()}
    return LabelClasses(section, table, str(path))


def _key(key: Any) -> Any:
    return ",".join(map(str, key)) if isinstance(key, tuple) else key


def _look(samples: Sequence[Sample]) -> _Seen:
    """Read every label: its values, or where it is a colour image its colours."""
    seen = _Seen()
    for found in each_sample(_values_of, samples, "labels"):
        if isinstance(found, str):
            seen.problems.append(found)
        elif found.dtype == np.uint8:
            seen.values |= set(found.tolist())
        else:
            seen.colours |= set(found[: MOST_COLOURS + 1].tolist())
    if seen.colours and seen.values:  # an all-black colour mask is read as value 0
        seen.colours |= {value << 16 | value << 8 | value for value in seen.values}
    return seen


def _values_of(sample: Sample) -> np.ndarray | str:
    """The values of a label, uint8, or its colours, uint32; the problem if it has neither."""
    assert sample.label is not None
    try:
        try:
            return np.unique(read_label(sample.label))
        except DataError as problem:
            try:
                image = read_label_colours(sample.label).astype(np.uint32)
            except DataError:
                raise problem from None
        return np.unique(image[:, :, 0] << 16 | image[:, :, 1] << 8 | image[:, :, 2])
    except DataError as error:
        return str(error)


def _of_values(seen: _Seen, names: list[str] | None) -> dict[str, Any]:
    """The section for the values of labels; 255 is ignored where there are two classes without."""
    values = sorted(seen.values)
    if values == [IGNORE_INDEX]:
        raise UsageError(
            f"data init: the labels hold the value {IGNORE_INDEX} only, which is ignored: "
            "--classes names a yml whose `classes:` says which values are classes"
        )
    others = [value for value in values if value != IGNORE_INDEX]
    count = None if names is None else len(names)
    if IGNORE_INDEX in values and (len(values) == 2 or count == len(values)):
        others = values  # masks of 0 and 255
    if count is not None and len(others) < count and max(others, default=0) < count:
        others = list(range(count))  # classes that do not occur
    log(f"the labels hold the values {shortened(list(map(str, values)))}")
    binary = len(others) == 2 and others[0] == 0 and names is None
    own = [BACKGROUND, OBJECT] if binary else [f"class_{value}" for value in others]
    chosen = _chosen(own, names, "values")
    if others == list(range(len(others))):
        return {"names": chosen}
    return {"names": chosen, "mapping": dict(zip(others, chosen, strict=True))}


def _of_colours(seen: _Seen, names: list[str] | None) -> dict[str, Any]:
    colours = sorted(seen.colours)
    if len(colours) > MOST_COLOURS:
        raise UsageError(
            f"data init: the labels hold more than {MOST_COLOURS} colours: saved with a loss, or "
            "smoothed at the edges? --classes names a table of those that are meant"
        )
    keys = [f"{c >> 16},{c >> 8 & 255},{c & 255}" for c in colours]
    chosen = _chosen([f"class_{i}" for i in range(len(keys))], names, "colours")
    log(f"the labels hold {len(keys)} colours: {' '.join(keys)}")
    return {"names": chosen, "mapping": dict(zip(keys, chosen, strict=True))}


def _chosen(own: list[str], names: list[str] | None, what: str) -> list[str]:
    if names is None:
        return own
    if len(names) != len(own):
        raise UsageError(f"--names: the labels hold {len(own)} {what}, got {len(names)} names")
    return names
