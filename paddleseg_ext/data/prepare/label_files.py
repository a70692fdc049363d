"""Helpers of the forms whose labels are files of classes already: pairs become pictures."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.common.text import not_utf8
from paddleseg_ext.data.prepare.export import Export, Picture
from paddleseg_ext.images.class_section import apply_classes, read_class_section
from paddleseg_ext.images.labels import ClassTable, decode_label, generic_table
from paddleseg_ext.images.reading import read_header

Pair = tuple[Path, Path | None, str]  # image, label, split


def export_of_labels(
    source: Path,
    pairs: Iterable[Pair],
    table: ClassTable,
    upright: bool = False,
    read: Callable[[Path], np.ndarray] | None = None,
) -> Export:
    """The pairs as pictures; images without a label are left out, and counted.

    Args:
        source: of the export; names in the summary are relative to it.
        pairs: image, label and split.
        table: the classes, by which labels that are images are decoded.
        upright: see `Export`.
        read: reads the classes of a label that is no image; picklable.
    """
    export = Export(upright, classes=list(table.class_names), palette=table.palette, dense=True)
    for image, label, split in pairs:
        if label is None or not label.is_file():
            what = "images without an annotation, not converted"
            inside = image.is_relative_to(source)
            export.left_out[what].append(str(image.relative_to(source) if inside else image))
        elif not image.is_file():
            export.left_out["annotations without their image"].append(label.name)
        else:
            try:
                size_wh = read_header(label).size_wh if read is None else None
            except DataError as error:
                export.problems.append(str(error))
                continue
            decode = partial(decode_label, label, table) if read is None else partial(read, label)
            export.pictures.append(Picture(image, (), str(label), split, size_wh, label=decode))
    return export


def mapped_table(
    names: list[str], mapping: dict, ignored: list[int], palette: list | dict | None = None
) -> ClassTable:
    """The class table of a form's own names and mapping."""
    section = {"names": names, "mapping": mapping, "ignored": ignored, "palette": palette}
    return apply_classes(read_class_section(section, Path(), "form"), generic_table(1), "form")


def folders_of(source: Path, pattern: str, layout: str) -> list[Path]:
    """The folders that match, sorted.

    Raises:
        UsageError: there is none; `layout` is in the message.
    """
    found = sorted(path for path in source.glob(pattern) if path.is_dir())
    if not found:
        raise UsageError(f"--from: '{source}' has no {pattern}; expected: {layout}")
    return found


def images_of(folder: Path) -> list[Path]:
    """The files of a folder but hidden ones, sorted."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_file())


def names_in(path: Path) -> list[str]:
    """The first word of each line of a list; none where the list does not exist.

    Raises:
        DataError: it is no text.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: no list can be read: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {not_utf8(error)}") from None
    return [line.split()[0] for line in lines if line.strip()]


def matlab_array(path: Path, *names: str) -> np.ndarray:
    """The matrix `(H, W)` of a MATLAB file at a variable and the fields below it.

    Raises:
        DataError: it cannot be read, or there is no matrix of whole numbers.
        UsageError: SciPy is not installed.
    """
    with optional_imports("data prepare", "prepare"):
        from scipy.io import loadmat  # slow to import
    try:
        found: Any = loadmat(path, variable_names=names[:1])[names[0]]
        for field in names[1:]:
            found = found[field].flat[0]  # a structure is an array of one
        array = np.asarray(found)
    except Exception as error:  # scipy raises many kinds for a damaged file
        where = ".".join(names)
        raise DataError(f"{path}: no matrix '{where}' can be read: {error!r}") from None
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise DataError(f"{path}: '{'.'.join(names)}' is no matrix of whole numbers")
    return array
