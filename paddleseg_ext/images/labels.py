"""Class tables: names and colours of label values, and the lookup from raw values to classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError, check_choice, shown
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.common.text import check_name, check_names
from paddleseg_ext.images.class_names import left_right_pairs
from paddleseg_ext.images.label_colours import INVALID, classes_of_colours
from paddleseg_ext.images.palette import legend_entries, paint, spread_palette
from paddleseg_ext.images.reading import read_label

IGNORE_INDEX = 255
LABEL_IDS_SUFFIX = "_labelIds.png"
MAX_CLASSES = 254
UNKNOWN_NAME = "unknown"
UNKNOWN_COLOUR = (255, 0, 255)  # magenta: of no published palette


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes of a data set.

    Attributes:
        name: of the data set ("cityscapes").
        class_names: by class number.
        palette: `(C, 3)` uint8 RGB.
        ignore_index: the label value that is neither scored nor part of the loss.
        label_lookup: `(256,)` uint8, from a raw label value to its class, to `ignore_index`, or
            to 254 where the raw value has no meaning; None where labels hold classes already.
        lookup_suffix: end of the names of label files that hold raw values; "" for all files.
        left_right: pairs of classes that a mirrored image exchanges ("l_eye" and "r_eye").
        class_lookup: `(256,)` uint8, from a class after `label_lookup` to that of this table: a
            data set's own classes, merged or dropped.
        label_colours: `(K, 4)` uint8, red, green, blue and class, of labels that are colour images.
        other_colours: the class of all other colours, 255 to ignore, or 254 to refuse them.
        unknown: the value of pixels that belong to none of the classes, in predicted label maps;
            None where there is no such value. It is drawn in a colour of its own.
    """

    name: str
    class_names: tuple[str, ...]
    palette: np.ndarray
    ignore_index: int = IGNORE_INDEX
    label_lookup: np.ndarray | None = None
    lookup_suffix: str = LABEL_IDS_SUFFIX
    left_right: tuple[tuple[int, int], ...] = ()
    class_lookup: np.ndarray | None = None
    label_colours: np.ndarray | None = None
    other_colours: int = INVALID
    unknown: int | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, without the ignored value."""
        return len(self.class_names)

    @property
    def full_palette(self) -> np.ndarray:
        """(256, 3) uint8 RGB, one colour per label value, black where the value is no class."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.palette)] = self.palette
        if self.unknown is not None:
            palette[self.unknown] = UNKNOWN_COLOUR
        return palette

    def paint(self, label: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of a label or label map, (H, W) integers: for people.

        Ignored pixels are hatched in two greys, so that no class looks like them.
        """
        return paint(label, self.full_palette, self.ignore_index)

    def legend(self, label: np.ndarray) -> list[tuple[str, tuple[int, ...], float]]:
        """Name, colour and share per class of a label, see `palette.legend_entries`."""
        pixels = np.bincount(np.ravel(label), minlength=256)
        values = [*range(self.num_classes), *([] if self.unknown is None else [self.unknown])]
        names = (*self.class_names, UNKNOWN_NAME)
        return legend_entries(pixels[values], names[: len(values)], self.full_palette[values])

    def lookup_for(self, label_path: str | Path) -> np.ndarray | None:
        """The lookup for the values of a label file; None where they are classes already."""
        lookup = self.label_lookup
        if lookup is not None and not str(label_path).endswith(self.lookup_suffix):
            lookup = None
        if self.class_lookup is None:
            return lookup
        return self.class_lookup if lookup is None else self.class_lookup[lookup]

    def with_unknown(self) -> "ClassTable":
        """The table with a value of unknown pixels: its own, else the highest that is free.

        Raises:
            UsageError: every value is a class or ignored.
        """
        if self.unknown is not None:
            return self
        free = (v for v in range(254, self.num_classes - 1, -1) if v != self.ignore_index)
        value = next(free, None)
        if value is None:
            raise UsageError(
                f"{self.name}: a value for unknown pixels is expected beside {self.num_classes} "
                f"classes and the ignored {self.ignore_index}, none is free"
            )
        return replace(self, unknown=value)

    def with_left_right(self, pairs: Any, where: str = "left_right") -> "ClassTable":
        """The table with other pairs of left and right classes.

        Args:
            pairs: of class names, as a yml has them; None keeps the table's own, [] means none.
            where: opens the message.

        Raises:
            UsageError: it is no list of pairs, or a name is unknown or used twice.
        """
        if pairs is None:
            return self
        found = _pairs(pairs, self.class_names, where)
        return replace(self, left_right=found)

    def with_colours(self, values: Sequence[int] | None, where: str) -> "ClassTable":
        """The table with other colours.

        Args:
            values: red, green and blue of every class, 0 to 255; None keeps the table's own.
            where: opens the message.

        Raises:
            UsageError: another count of numbers, or one out of range.
        """
        if values is None:
            return self
        if len(values) != 3 * self.num_classes:
            raise UsageError(
                f"{where}: red, green and blue of {self.num_classes} classes are expected, "
                f"{3 * self.num_classes} numbers, got {len(values)}"
            )
        if wrong := [value for value in values if not 0 <= value <= 255]:
            raise UsageError(f"{where}: numbers from 0 to 255 are expected, got {wrong[0]}")
        return replace(self, palette=np.array(values, np.uint8).reshape(-1, 3))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a yml or JSON file, which `from_dict` reads."""
        entries = {
            "name": self.name,
            "class_names": list(self.class_names),
            "palette": self.palette.tolist(),
            "ignore_index": self.ignore_index,
            "label_lookup": None if self.label_lookup is None else self.label_lookup.tolist(),
            "lookup_suffix": self.lookup_suffix,
            "left_right": [[self.class_names[i] for i in pair] for pair in self.left_right],
        }
        if self.class_lookup is not None:  # bundles without these are read by older releases
            entries["class_lookup"] = self.class_lookup.tolist()
        if self.label_colours is not None:
            entries["label_colours"] = self.label_colours.tolist()
            entries["other_colours"] = self.other_colours
        if self.unknown is not None:
            entries["unknown"] = self.unknown
        return entries

    @classmethod
    def from_dict(cls, values: Any, where: str = "class table") -> "ClassTable":
        """The table that `to_dict` described.

        Args:
            values: a mapping, from a file.
            where: names its place in messages.

        Raises:
            UsageError: a key is unknown (the nearest is named) or missing, or a value is of the
                wrong kind.
        """
        if not isinstance(values, Mapping):
            raise UsageError(
                f"{where}: the keys of a class table are expected, got {shown(values)}"
            )
        read = from_section(_Entries, values, where)
        check_name(f"{where}: name", read.name)
        check_class_names(f"{where}: class_names", read.class_names)
        if not 1 <= len(read.class_names) <= MAX_CLASSES:
            found = len(read.class_names)
            raise UsageError(f"{where}: class_names: 1 to {MAX_CLASSES} are expected, got {found}")
        lookup = read.label_lookup
        return cls(
            read.name,
            read.class_names,
            _bytes(read.palette, (len(read.class_names), 3), f"{where}: palette"),
            read.ignore_index,
            None if lookup is None else _bytes(lookup, (256,), f"{where}: label_lookup"),
            read.lookup_suffix,
            left_right_pairs(read.class_names)
            if read.left_right is None
            else _pairs(read.left_right, read.class_names, f"{where}: left_right"),
            None
            if read.class_lookup is None
            else _bytes(read.class_lookup, (256,), f"{where}: class_lookup"),
            None
            if read.label_colours is None
            else _bytes(
                read.label_colours, (len(read.label_colours), 4), f"{where}: label_colours"
            ),
            read.other_colours,
            check_unknown(read.unknown, len(read.class_names), {read.ignore_index}, where),
        )


def check_unknown(value: int | None, num_classes: int, ignored: set[int], where: str) -> int | None:
    """`unknown`, if it is no class and not ignored; raises `UsageError` if it is."""
    if value is not None and (value < num_classes or value in ignored):
        what = "a class" if value < num_classes else "ignored"
        raise UsageError(
            f"{where}: unknown: a value of {num_classes} to 254 is expected, {value} is {what}"
        )
    return value


def check_class_names(where: str, names: Sequence[Any]) -> None:
    """Refuse names that are no texts, and one that two classes have.

    Scores, colours, pairs and mappings are by name: of two equal ones they would mean the first.

    Args:
        where: their place, which the message begins with.
        names: by class number.

    Raises:
        UsageError: naming the first, with its classes' numbers.
    """
    check_names(where, names)
    first: dict[Any, int] = {}
    for number, name in enumerate(names):
        if name in first:
            raise UsageError(
                f"{where}: different names are expected, classes {first[name]} and {number} are "
                f"both {shown(name)}; to merge classes, give `classes:` with a mapping"
            )
        first[name] = number


@dataclass(frozen=True)
class _Entries:
    """A class table's keys in a file."""

    name: str
    class_names: tuple[str, ...]
    palette: list
    ignore_index: int = option(IGNORE_INDEX, "", at_least=0, below=256)
    label_lookup: list | None = None
    lookup_suffix: str = LABEL_IDS_SUFFIX
    left_right: list | None = None
    class_lookup: list | None = None
    label_colours: list | None = None
    other_colours: int = option(INVALID, "", at_least=0, below=256)
    unknown: int | None = option(None, "", at_least=0, below=256)


def _pairs(pairs: Any, names: Sequence[str], where: str) -> tuple[tuple[int, int], ...]:
    """Class numbers of pairs of class names."""
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in pairs
    ):
        raise UsageError(
            f"{where}: a list of [left class, right class] is expected, got {shown(pairs)}"
        )
    flat = [name for pair in pairs for name in pair]
    for name in flat:
        check_choice(where, name, names, "class")
        if flat.count(name) > 1:
            raise UsageError(f"{where}: a class belongs to one pair, '{name}' belongs to several")
    return tuple((names.index(left), names.index(right)) for left, right in pairs)


def _bytes(values: list, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Numbers of a file as uint8 of this shape; NumPy 1 would let larger ones wrap round."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):  # lists of different lengths
        array = np.array(None)
    fits = array.shape == shape and array.dtype.kind in "iu"
    if not fits or (array.size and (array.min() < 0 or array.max() > 255)):
        wanted = "x".join(map(str, shape))
        found = f"shape {array.shape}" if array.ndim else shown(values)
        raise UsageError(f"{where}: {wanted} whole numbers from 0 to 255 expected, got {found}")
    return array.astype(np.uint8)


def unknown_values(raw: np.ndarray, table: ClassTable, lookup: np.ndarray | None) -> list[int]:
    """Values of a raw label that are neither a class nor ignored, in ascending order."""
    ids = np.arange(256, dtype=np.uint8) if lookup is None else lookup
    unknown = ((ids >= table.num_classes) & (ids != table.ignore_index)).astype(np.uint8)
    mask = cv2.LUT(raw, unknown)
    return np.unique(raw[mask > 0]).tolist() if mask.any() else []


def decode_label(path: str | Path, table: ClassTable) -> np.ndarray:
    """Read a label file as classes: `(H, W)` uint8, values below `num_classes` or ignored.

    Raises:
        DataError: the file cannot be used, or holds a value that is neither a class nor ignored.
    """
    if table.label_colours is not None:
        return classes_of_colours(path, table.label_colours, table.other_colours)
    return _as_classes(read_label(path), path, table)


def decode_unknown(path: str | Path, table: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """Read a label file whose pixels may have the value `table.unknown`: in the file, too.

    Returns:
        (H, W) uint8 classes as `decode_label` gives them, ignored where unknown, and (H, W) bool
        where that is.

    Raises:
        DataError: as `decode_label`.
    """
    if table.label_colours is not None:
        raise DataError(f"{path}: an unknown object is a value; this table's labels are colours")
    raw = read_label(path)
    is_unknown = raw == table.unknown
    known = np.where(is_unknown, np.uint8(table.ignore_index), raw)
    return _as_classes(known, path, table), is_unknown


def _as_classes(raw: np.ndarray, path: str | Path, table: ClassTable) -> np.ndarray:
    lookup = table.lookup_for(path)
    unknown = unknown_values(raw, table, lookup)
    if unknown:
        shown = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        kind = "label id" if lookup is not None else "class"
        raise DataError(
            f"{path}: value {shown} is no {kind} of {table.name} ({table.num_classes} classes) "
            f"and not ignored ({table.ignore_index})"
        )
    return raw if lookup is None else cv2.LUT(raw, lookup)


def lookup_table(mapping: Mapping[int, int], ignored: set[int] | range) -> np.ndarray:
    """`(256,)` uint8: `mapping` for its keys, 255 for `ignored` and 255, else 254."""
    lookup = np.full(256, INVALID, np.uint8)
    lookup[[*ignored, IGNORE_INDEX]] = IGNORE_INDEX
    for raw, train_id in mapping.items():
        lookup[raw] = train_id
    return lookup


def generic_table(
    num_classes: int,
    class_names: list[str] | None = None,
    raw_ignore: int = IGNORE_INDEX,
    name: str = "list",
    left_right: list[list[str]] | None = None,
) -> ClassTable:
    """A table for labels of which only the number of classes is known.

    Args:
        num_classes: 1..254.
        class_names: `num_classes` names; by default `class_0`, `class_1`, ...
        raw_ignore: the ignored value in the label files. It is read as 255, so that padding and
            ignored pixels have one value everywhere.
        left_right: pairs of names that a mirrored image exchanges; by default those whose names
            differ in left and right only.

    Raises:
        UsageError: a value is out of range, the names are not `num_classes` words, or the pairs
            are none of them.
    """
    if not isinstance(num_classes, int) or not 1 <= num_classes <= MAX_CLASSES:
        raise UsageError(f"num_classes: 1..{MAX_CLASSES} expected, got {num_classes}")
    if not isinstance(raw_ignore, int) or not 0 <= raw_ignore <= 255:
        raise UsageError(f"ignore_index: 0..255 expected, got {raw_ignore}")
    if class_names is not None and (
        not isinstance(class_names, list) or not all(isinstance(n, str) for n in class_names)
    ):  # a yml reads no and 5 as a truth value and a number
        raise UsageError(
            f"class_names: a list of words in quotes is expected, got {shown(class_names)}"
        )
    check_class_names("class_names", class_names or ())
    names = class_names or [f"class_{index}" for index in range(num_classes)]
    if len(names) != num_classes:
        raise UsageError(
            f"class_names: {num_classes} names expected (num_classes), got {len(names)}"
        )
    lookup = None
    if raw_ignore != IGNORE_INDEX:
        lookup = lookup_table(
            {i: i for i in range(num_classes) if i != raw_ignore}, ignored={raw_ignore}
        )
    palette, found = spread_palette(num_classes), left_right_pairs(names)
    table = ClassTable(name, tuple(names), palette, IGNORE_INDEX, lookup, "", found)
    return table.with_left_right(left_right)


# Class, raw id in *_labelIds.png, colour. Ids that are left out are void or not evaluated.
_CITYSCAPES_CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
CITYSCAPES_RAW_IDS = tuple(raw for _, raw, _ in _CITYSCAPES_CLASSES)
CITYSCAPES = ClassTable(
    name="cityscapes",
    class_names=tuple(name for name, _, _ in _CITYSCAPES_CLASSES),
    palette=np.array([colour for _, _, colour in _CITYSCAPES_CLASSES], np.uint8),
    label_lookup=lookup_table(
        {raw: index for index, raw in enumerate(CITYSCAPES_RAW_IDS)}, ignored=range(34)
    ),
)

# The SegNet edition: label values are classes, 11 is unlabelled.
_CAMVID_CLASSES = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
CAMVID = ClassTable(
    name="camvid",
    class_names=tuple(name for name, _ in _CAMVID_CLASSES),
    palette=np.array([colour for _, colour in _CAMVID_CLASSES], np.uint8),
    label_lookup=lookup_table({index: index for index in range(11)}, ignored={11}),
    lookup_suffix="",
)
