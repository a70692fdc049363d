"""Samples: images with their labels, paired by name or read from lists."""

import os
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from paddleseg_ext.common.errors import DataError, MissingData, UsageError, require_none
from paddleseg_ext.common.files import require_file, write_bytes
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import option
from paddleseg_ext.images.folders import files_below, warn_of_left_out
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.lists import (
    encoding_problem,
    joined_line,
    list_lines,
    split_line,
    windows_hint,
)
from paddleseg_ext.images.reading import read_header

# In which labels are saved without a loss.
LABEL_SUFFIXES = (".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")

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


def pair_by_stem(
    images: Path, labels: Path, split: str, label_ending: str = ""
) -> tuple[list[Sample], list[str]]:
    """Pair the images and labels of two folders, and of those below, by name without suffix.

    Other files are left out with a warning, hidden ones without.

    Args:
        images: the folder of the images.
        labels: the folder of the labels; may be that of the images where there is an ending.
        split: the samples are named `split/NAME`.
        label_ending: what labels have behind their image's name, such as `_mask`.

    Returns:
        The samples, and one line per file without its partner or with two.
    """
    is_one = images.resolve() == labels.resolve()
    files, left = files_below(images, IMAGE_SUFFIXES, hidden=False, without=labels)
    warn_of_left_out(images, left, IMAGE_SUFFIXES)
    if is_one:
        files = [file for file in files if not file.stem.endswith(label_ending)]
    found, problems = _by_key(files, images, "", "its label is that of")
    files, left = files_below(labels, LABEL_SUFFIXES, hidden=False, without=images)
    masks = [file for file in files if file.stem.endswith(label_ending)]
    if not is_one:
        warn_of_left_out(labels, left, LABEL_SUFFIXES)
        other = [file for file in files if not file.stem.endswith(label_ending)]
        problems += [f"{file}: its name does not end in {label_ending}" for file in other]
    known, doubled = _by_key(masks, labels, label_ending, "a second label of one image, beside")
    pairs = pair_by_key(found, known)
    problems += [*doubled, *pairs.problems()]
    samples = [Sample(image, label, f"{split}/{key}") for key, image, label in pairs.found]
    return samples, sorted(problems)


@dataclass(frozen=True)
class FilePlaces:
    """Where images and labels are, and what is behind their common name: the keys of `files:`."""

    images: str = option(".", "folder of the images")
    labels: str = option(".", "folder of the labels")
    image_suffix: str = option("", "behind the name, such as .jpg or _leftImg8bit.png; '': any")
    label_suffix: str = option(".png", "behind the name, such as _mask.png")


def samples_by_name(
    root: Path, places: FilePlaces, listed: str | Path | None = None, required: bool = True
) -> list[Sample]:
    """Images and labels of two folders by the name that both begin with, in the names' order.

    Args:
        root: the folders of `places` are relative to it.
        places: folders and suffixes.
        listed: a text with one name per line, without suffix; None takes all images.
        required: whether each image needs a label.

    Raises:
        UsageError: no image, or files without their partner; all of these are listed.
    """
    images, labels = root / places.images, root / places.labels
    suffixes = (places.image_suffix,) if places.image_suffix else IMAGE_SUFFIXES
    found: dict[str, Path] = {}
    for file in files_below(images, IMAGE_SUFFIXES, hidden=False)[0]:
        name = file.relative_to(images).as_posix()
        is_label = images == labels and name.endswith(places.label_suffix)
        ending = next((s for s in suffixes if name.lower().endswith(s.lower())), None)
        if ending is not None and not (is_label and len(places.label_suffix) > len(ending)):
            found[name[: -len(ending)]] = file
    names = list(found) if listed is None else _names_of(listed)
    samples, lonely = [], []
    for name in names:
        image, label = found.get(name), labels / f"{name}{places.label_suffix}"
        if image is None:
            lonely.append(f"{images / name}{places.image_suffix}: no image")
        elif label.is_file():
            samples.append(Sample(image, label, name))
        elif required:
            lonely.append(f"{image}: no label {label}")
        else:
            samples.append(Sample(image, None, name))
    require_none(lonely, f"{len(lonely)} files without their partner:", MissingData)
    if not samples:
        raise MissingData(f"no image NAME{places.image_suffix} in '{images}'")
    return samples


def _names_of(path: str | Path) -> list[str]:
    """The names in a list, one per line."""
    where = f"image list '{path}'"
    lines = list_lines(require_file(path, "image list").read_bytes(), where)
    names = [name for line in lines if (name := line.strip(" \t"))]
    wrong = [name for name in names if len(split_line(name, None)) > 1]
    require_none(wrong, f"{where}: with `files:` a line is one name, without suffix:")
    return names


def _by_key(
    files: Sequence[Path], root: Path, ending: str, again: str
) -> tuple[dict[str, Path], list[str]]:
    """Files by path below `root` without ending and suffix, and a line per further one of a key."""
    found: dict[str, Path] = {}
    doubled = []
    for file in files:
        key = file.relative_to(root).with_suffix("").as_posix().removesuffix(ending)
        first = found.setdefault(key, file)
        if first != file:
            doubled.append(f"{file}: {again} {first.name}")
    return found, doubled


def _is_there(path: Path) -> bool:
    """Whether a path exists; a name that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _resolve(name: str, roots: Sequence[Path]) -> Path:
    """`name` in the first of `roots` that has it; in the first where none has.

    Where only the name with `/` in place of backslashes is there, that one is taken.
    """
    for spelt in (name, name.replace("\\", "/")):
        for root in roots:
            if _is_there(root / spelt):
                return root / spelt
    return roots[0] / name


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
        UsageError: it has no lines, lines with more than two names (all these are listed), NUL
            bytes, another encoding, or paths of Windows that are not here.
    """
    path = require_file(path, "image list")
    roots = [Path(root)] if root is not None else [path.parent, Path()]
    where = f"image list '{path}'"
    pairs: list[tuple[Path, Path | None]] = []
    wrong, missing = [], []
    for number, line in enumerate(list_lines(path.read_bytes(), where), 1):
        fields = split_line(line, separator)
        if len(fields) > 2:
            wrong.append(f"line {number}: expected 'image label', got {len(fields)} names: {line}")
        elif fields:
            files = [_resolve(field, roots) for field in fields]
            lost = [name for name, file in zip(fields, files, strict=True) if not _is_there(file)]
            missing += lost
            if lost and (problem := encoding_problem(line)):
                raise UsageError(
                    f"{where}, line {number}: {problem}, and no file has the name; save the list "
                    f"as UTF-8. An image has one of the suffixes {', '.join(IMAGE_SUFFIXES)}"
                )
            pairs.append((files[0], files[1] if len(files) == 2 else None))
    if hint := windows_hint(missing):
        if all(not _is_there(image) for image, _ in pairs):
            raise UsageError(f"{where}: {hint}")
        warn(f"{where}: {hint}")
    title = f"image list '{path}' (where names hold spaces or commas, a tab follows each):"
    require_none(wrong, title)
    if not pairs:
        raise UsageError(f"image list '{path}' names no image")
    images = [image for image, _ in pairs]
    if again := [image for image, count in Counter(images).items() if count > 1]:
        warn(
            f"{where}: {len(images) - len(set(images))} lines name an image once more, such as "
            f"{again[0]}: it counts as often as it is named"
        )
    names = unique_names(images)
    return [Sample(image, label, name) for (image, label), name in zip(pairs, names, strict=True)]


def evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` samples, from the first of the list to its last; all where there are fewer."""
    if len(samples) <= count:
        return list(samples)
    step = (len(samples) - 1) / max(1, count - 1)
    return [samples[round(i * step)] for i in range(count)]


def collect_samples(path: str | Path) -> list[Sample]:
    """The samples of an image, of a folder with its subfolders, or of a list.

    Raises:
        UsageError: it does not exist, or holds no image.
    """
    path = Path(path)
    if path.is_dir():
        images, left = files_below(path, IMAGE_SUFFIXES)
        if not images:
            raise UsageError(
                f"folder '{path}' holds no image; suffixes known: {', '.join(IMAGE_SUFFIXES)}"
            )
        warn_of_left_out(path, left, IMAGE_SUFFIXES)
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
        with suppress(DataError):  # reported when read
            width, height = read_header(path).size_wh
            sizes_hw.append((height, width))
    return sizes_hw


def write_sample_list(
    samples: Iterable[Sample], path: str | Path, root: str | Path | None = None
) -> None:
    """Write the lines of `sample_list`, as UTF-8.

    Raises:
        UsageError: a name that a list cannot hold.
    """
    write_bytes(path, sample_list(samples, path, root))


def sample_list(
    samples: Iterable[Sample], path: str | Path, root: str | Path | None = None
) -> bytes:
    """`image label` lines in UTF-8, the form that `read_sample_list` and PaddleSeg read.

    Names with white space or commas are separated by a tab.

    Args:
        path: of the list.
        root: names are relative to it; None takes the list's folder.

    Raises:
        UsageError: a name that a list cannot hold.
    """
    base = Path(path).parent if root is None else Path(root)
    lines = []
    for sample in samples:
        names = [_relative(sample.image, base)]
        if sample.label is not None:
            names.append(_relative(sample.label, base))
        lines.append(joined_line(names, str(path)))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _relative(path: Path, base: Path) -> str:
    """`path` relative to `base`, with links resolved where `..` would lead elsewhere."""
    name = os.path.relpath(path, base)
    if (base / name).exists():
        return name
    return os.path.relpath(path.parent.resolve() / path.name, base.resolve())
