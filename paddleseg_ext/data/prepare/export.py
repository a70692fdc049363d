"""The content of an annotation tool's export, in one form for all tools."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from paddleseg_ext.common.errors import DataError, shortened
from paddleseg_ext.data.prepare.shapes import Shape
from paddleseg_ext.images.functional import IMAGE_SUFFIXES
from paddleseg_ext.images.reading import read_file

# The names of parts in published and exported data -> ours.
SPLITS = {
    **dict.fromkeys(("train", "training", "train2017", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "val2017"), "val"),
    **dict.fromkeys(("test", "testing", "test2017"), "test"),
}


@dataclass(frozen=True)
class Picture:
    """An image with its annotation.

    Attributes:
        image: the file; with `content` its name alone.
        shapes: in the order of the tool; none of them means an image without any object.
        where: the annotation's place, for messages.
        split: "train", "val" or "test"; "" where the tool has none.
        size_wh: of the image as the tool saw it; None where it does not say.
        label: reads the classes, `(H, W)` uint8, where the export has them as an image; picklable.
        content: decodes the image's bytes, where the export has no file of it; picklable.
    """

    image: Path
    shapes: tuple[Shape, ...]
    where: str
    split: str = ""
    size_wh: tuple[int, int] | None = None
    label: Callable[[], np.ndarray] | None = None
    content: Callable[[], bytes] | None = None


@dataclass
class Export:
    """The content of an export.

    Attributes:
        pictures: those whose image and annotation are there.
        upright: whether the tool shows pictures turned by their orientation tag, so that
            coordinates belong to the turned picture.
        classes: names in the tool's own order; None sorts those that were found.
        palette: `(C, 3)`, of the classes, where the tool has one.
        dense: every pixel has a class, or is ignored: no background is added.
        left_out: what is not converted, by kind ("points and lines").
        problems: annotations that cannot be read, one line each.
    """

    upright: bool
    pictures: list[Picture] = field(default_factory=list)
    classes: list[str] | None = None
    palette: np.ndarray | None = None
    dense: bool = False
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self, where: str) -> Iterator[None]:
        """Add to `problems` why one annotation cannot be read; the others are read all the same.

        Args:
            where: the annotation, for the message.
        """
        try:
            with checked_form(where):
                yield
        except DataError as error:
            self.problems.append(str(error))


class ImageFiles:
    """The image files below a folder, found by the names that annotations have for them."""

    def __init__(self, root: Path):
        self.root = root
        self.used: set[Path] = set()
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file():
                self._by_name[path.name].append(path)

    def find(self, name: str, near: Path | None = None) -> Path | None:
        """The file whose path shares the longest end with `name`; None where there is none.

        Args:
            name: as in an annotation: a path of any machine, or a URL.
            near: a folder that is preferred among equals.

        Raises:
            DataError: several files fit equally.
        """
        parts = PurePosixPath(unquote(name.split("?")[0]).replace("\\", "/")).parts
        found = self._by_name.get(parts[-1], []) if parts else []
        if not found:
            return None
        ranks = [(_common_end(path.parts, parts), near in path.parents) for path in found]
        best = [path for path, rank in zip(found, ranks, strict=True) if rank == max(ranks)]
        if len(best) > 1:
            raise DataError(f"{name}: several images fit: {shortened([str(p) for p in best])}")
        self.used.add(best[0])
        return best[0]

    def all(self) -> list[Path]:
        """All image files, sorted."""
        return sorted(path for paths in self._by_name.values() for path in paths)

    def unused(self) -> list[str]:
        """The images that no annotation named."""
        return [str(path.relative_to(self.root)) for path in self.all() if path not in self.used]


def _common_end(path: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for one, two in zip(reversed(path), reversed(other), strict=False):
        if one != two:
            break
        count += 1
    return count


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read, is no regular file, or is no JSON.
    """
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON can be read: {error}") from None


@contextmanager
def checked_form(where: str) -> Iterator[None]:
    """Turns what values of another kind than expected raise into a message that names the place.

    Raises:
        DataError: `where`, and what was wrong.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise DataError(f"{where}: not of the form that is expected: {kind}: {error}") from None


def entry(values: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`values[key]`, of an annotation file.

    Raises:
        DataError: it is missing or of another kind.
    """
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise DataError(f"{where}: '{key}' is missing or of another kind than expected: {found!r}")
    return found


def split_of(name: str) -> str:
    """Our name of a part of a data set; "" where it is none."""
    return SPLITS.get(name.lower(), "")
