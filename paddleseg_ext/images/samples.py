"""Samples: images with their labels, paired by name or read from lists."""

import os
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from paddleseg_ext.common.errors import DataError, UsageError, require_none
from paddleseg_ext.common.files import require_file, write_text
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.header import opened_header

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Sample:
    """One image and, where there is one, its label.

    Attributes:
        name: relative, without suffix, unique in its data set; names the files written for the
            image.
    """

    image: Path
    label: Path | None
    name: str


def unique_names(images: Sequence[Path]) -> list[str]:
    """One relative name per image, unique also on disks that ignore case and Unicode forms."""
    if not images:
        return []
    absolute = [Path(os.path.abspath(image)) for image in images]  # noqa: PTH100 (links stay)
    root = Path(os.path.commonpath([image.parent for image in absolute]))
    relative = [image.relative_to(root) for image in absolute]
    names = [path.with_suffix("").as_posix() for path in relative]
    shared = {name for name, count in Counter(map(folded_name, names)).items() if count > 1}
    # a.jpg beside a.png: the suffix stays in the name.
    names = [
        path.as_posix() if folded_name(name) in shared else name
        for name, path in zip(names, relative, strict=True)
    ]
    return _numbered(names)


def _numbered(names: Sequence[str]) -> list[str]:
    """The names; a repeated one gets the next number with which no other has its name."""
    taken = set(map(folded_name, names))
    last_number: Counter[str] = Counter()
    result = []
    for name in names:
        folded = folded_name(name)
        last_number[folded] += 1
        numbered = name
        if last_number[folded] > 1:
            while folded_name(numbered := f"{name}_{last_number[folded]}") in taken:
                last_number[folded] += 1
            taken.add(folded_name(numbered))
        result.append(numbered)
    return result


def folded_name(name: str) -> str:
    """A form that is equal for names that some disks take for one."""
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True)
class Pairs(Generic[Key]):
    """Images and labels by a key that both names contain.

    Attributes:
        found: (key, image, label) per image, in the images' order; None where it has no label.
        lonely_labels: labels without an image, sorted.
    """

    found: list[tuple[Key, Path, Path | None]]
    lonely_labels: list[Path]

    def problems(self, wanted: str = "label", required: bool = True) -> list[str]:
        """One line per file without its partner, sorted.

        Args:
            wanted: what messages call the missing label.
            required: whether an image without a label is a problem.
        """
        lonely = [f"{file}: no image" for file in self.lonely_labels]
        if required:
            lonely += [f"{image}: no {wanted}" for _, image, label in self.found if label is None]
        return sorted(lonely)


def pair_by_key(images: Mapping[Key, Path], labels: Mapping[Key, Path]) -> Pairs[Key]:
    """Pair images and labels with equal keys."""
    found = [(key, image, labels.get(key)) for key, image in images.items()]
    return Pairs(found, sorted(labels[key] for key in labels.keys() - images.keys()))


def pair_by_stem(images: Path, labels: Path, split: str) -> tuple[list[Sample], list[str]]:
    """Pair the images and PNG labels of two folders by their names without suffix.

    Returns:
        The samples, named `split/STEM`, and one line per file without its partner.
    """
    found: dict[str, Path] = {}
    doubled = []
    # "[!.]": hidden files are what killed writers, or macOS on foreign disks, leave.
    for file in sorted(images.glob("[!.]*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            first = found.setdefault(file.stem, file)
            if first != file:
                doubled.append(f"{file}: its label is that of {first.name}")
    pairs = pair_by_key(found, {file.stem: file for file in labels.glob("[!.]*.png")})
    samples = [Sample(image, label, f"{split}/{stem}") for stem, image, label in pairs.found]
    return samples, sorted(doubled + pairs.problems())


def _split_line(line: str, separator: str | None) -> list[str]:
    if separator is None:
        separator = next((mark for mark in "\t," if mark in line), None)
    return [field.strip() for field in line.split(separator) if field.strip()]


def _resolve(name: str, roots: Iterable[Path]) -> Path:
    """`name` in the first of `roots` that has it; in the first where none has."""
    candidates = [root / name for root in roots]
    return next((path for path in candidates if path.exists()), candidates[0])


def read_sample_list(
    path: str | Path, root: str | Path | None = None, separator: str | None = None
) -> list[Sample]:
    """Read a list with one line `image label`, or `image`, per sample.

    Args:
        path: the list.
        root: the folder of relative names; None takes the list's folder or the working directory,
            whichever has the file.
        separator: None takes a tab or comma where the line has one, else white space.

    Raises:
        MissingData: the list does not exist.
        UsageError: it has no lines, or lines with more than two names; all these are listed.
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
    title = f"image list '{path}' (where names hold spaces or commas, a tab follows each):"
    require_none(wrong, title)
    if not pairs:
        raise UsageError(f"image list '{path}' names no image")
    names = unique_names([image for image, _ in pairs])
    return [Sample(image, label, name) for (image, label), name in zip(pairs, names, strict=True)]


def collect_samples(path: str | Path) -> list[Sample]:
    """The samples of an image, of a folder with its subfolders, or of a list.

    Raises:
        UsageError: it does not exist, or holds no image.
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
        # A damaged file is reported where it is read, as one of a folder is.
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
        root: names are written relative to it; None takes the list's folder.
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
    """`path` relative to `base`, with links resolved where `..` would lead elsewhere."""
    name = os.path.relpath(path, base)
    if (base / name).exists():
        return name
    return os.path.relpath(path.parent.resolve() / path.name, base.resolve())
