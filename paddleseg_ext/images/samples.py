"""Which image belongs to which label: samples, and the lists they are read from and written to."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.files import require_file, write_text
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.header import opened_header


@dataclass(frozen=True)
class Sample:
    """One image and, where there is one, its label.

    Attributes:
        name: relative, without suffix, unique in its data set; what is written for the image is
            named by it.
    """

    image: Path
    label: Path | None
    name: str


def unique_names(images: Sequence[Path]) -> list[str]:
    """A relative name for every image, unique also where folders hold equal file names."""
    if not images:
        return []
    absolute = [Path(os.path.abspath(image)) for image in images]  # noqa: PTH100 (links stay)
    root = Path(os.path.commonpath([image.parent for image in absolute]))
    relative = [image.relative_to(root) for image in absolute]
    names = [path.with_suffix("").as_posix() for path in relative]
    shared = {name for name, count in Counter(names).items() if count > 1}
    # a.jpg beside a.png: the suffix stays in the name.
    names = [
        path.as_posix() if name in shared else name
        for name, path in zip(names, relative, strict=True)
    ]
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def _split_line(line: str, separator: str | None) -> list[str]:
    if separator is None:
        separator = next((mark for mark in "\t," if mark in line), None)
    return [field.strip() for field in line.split(separator) if field.strip()]


def _resolve(name: str, roots: Iterable[Path]) -> Path:
    """The first of `roots` in which `name` exists, else the first: its absence is found later."""
    candidates = [root / name for root in roots]
    return next((path for path in candidates if path.exists()), candidates[0])


def read_sample_list(
    path: str | Path, root: str | Path | None = None, separator: str | None = None
) -> list[Sample]:
    """Read a list with a line `image label`, or `image`, for every sample.

    Args:
        path: the list.
        root: what relative names are relative to; None: the list's folder, else the working
            directory, whichever has the file.
        separator: None: a tab or comma where the line has one, else white space.

    Raises:
        UsageError: no list, no lines, or a line with more than two names; all such are listed.
    """
    path = require_file(path, "image list")
    roots = [Path(root)] if root is not None else [path.parent, Path()]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(
            f"'{path}' is neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a text list"
        ) from None
    pairs: list[tuple[Path, Path | None]] = []
    wrong = []
    for number, line in enumerate(lines, 1):
        fields = _split_line(line, separator)
        if len(fields) > 2:
            wrong.append(f"line {number}: expected 'image label', got {len(fields)} names: {line}")
        elif fields:
            label = _resolve(fields[1], roots) if len(fields) == 2 else None
            pairs.append((_resolve(fields[0], roots), label))
    if wrong:
        title = f"image list '{path}' (where names hold spaces or commas, a tab follows each):"
        raise UsageError("\n  ".join([title, *wrong]))
    if not pairs:
        raise UsageError(f"image list '{path}' names no image")
    names = unique_names([image for image, _ in pairs])
    return [Sample(image, label, name) for (image, label), name in zip(pairs, names, strict=True)]


def collect_samples(path: str | Path) -> list[Sample]:
    """The samples of an image, of a folder (searched to the bottom), or of a list.

    Raises:
        UsageError: nothing there, or no image in it.
    """
    path = Path(path)
    if path.is_dir():
        images = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )
        if not images:
            raise UsageError(
                f"folder '{path}' holds no image; suffixes known: {', '.join(IMAGE_SUFFIXES)}"
            )
        names = unique_names(images)
        return [Sample(image, None, name) for image, name in zip(images, names, strict=True)]
    if path.suffix.lower() in IMAGE_SUFFIXES:
        # Its content is judged where it is read: one bad image is reported like any other.
        if not path.exists():
            raise UsageError(f"image '{path}' does not exist")
        return [Sample(path, None, path.stem)]
    return read_sample_list(path)


def image_sizes(images: Sequence[Path]) -> list[tuple[int, int]]:
    """(height, width) per image that can be opened, from the headers."""
    sizes_hw = []
    for path in images:
        with suppress(DataError), opened_header(path, str(path)) as header:  # reported when read
            sizes_hw.append((header.height, header.width))
    return sizes_hw


def write_sample_list(
    samples: Iterable[Sample], path: str | Path, root: str | Path | None = None
) -> None:
    """Write `image label` lines, the form that `read_sample_list` and PaddleSeg read.

    Names with white space or commas are separated by a tab.

    Args:
        root: names are written relative to it; None: to the list's folder.
    """
    base = Path(path).parent if root is None else Path(root)
    lines = []
    for sample in samples:
        names = [_relative(sample.image, base)]
        if sample.label is not None:
            names.append(_relative(sample.label, base))
        spaced = any(mark.isspace() or mark == "," for name in names for mark in name)
        lines.append(("\t" if spaced else " ").join(names) + ("\t" if spaced else ""))
    write_text(path, "".join(line + "\n" for line in lines))


def _relative(path: Path, base: Path) -> str:
    """`path` from `base`; through a link, `..` leads to where the link points."""
    name = os.path.relpath(path, base)
    if (base / name).exists():
        return name
    return os.path.relpath(path.parent.resolve() / path.name, base.resolve())
