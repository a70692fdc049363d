"""Class tables: what the numbers in a label mean, their names and colours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.functional import read_label

IGNORE_INDEX = 255
INVALID = 254  # what a lookup gives for a raw value that means nothing; never a class
LABEL_IDS_SUFFIX = "_labelIds.png"
MAX_CLASSES = 254


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes of a data set.

    Attributes:
        name: of the data set ("cityscapes").
        class_names: index = class.
        palette: `(C, 3)` uint8 RGB.
        ignore_index: the label value that is not scored and gives no loss.
        label_lookup: `(256,)` uint8, raw label value -> class, `ignore_index`, or 254 where the
            raw value means nothing; None where labels hold classes already.
        lookup_suffix: `label_lookup` holds for label files whose name ends so ("": for all).
    """

    name: str
    class_names: tuple[str, ...]
    palette: np.ndarray
    ignore_index: int = IGNORE_INDEX
    label_lookup: np.ndarray | None = None
    lookup_suffix: str = LABEL_IDS_SUFFIX

    @property
    def num_classes(self) -> int:
        """How many classes there are, the ignored value not counted."""
        return len(self.class_names)

    @property
    def full_palette(self) -> np.ndarray:
        """(256, 3) uint8 RGB, one colour for each value of a label: black for what is no class."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.palette)] = self.palette
        return palette

    def lookup_for(self, label_path: str | Path) -> np.ndarray | None:
        """The lookup that the file's raw values need, or None where they are classes already."""
        if self.label_lookup is not None and str(label_path).endswith(self.lookup_suffix):
            return self.label_lookup
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a yml or JSON file; `from_dict` is the way back."""
        return {
            "name": self.name,
            "class_names": list(self.class_names),
            "palette": self.palette.tolist(),
            "ignore_index": self.ignore_index,
            "label_lookup": None if self.label_lookup is None else self.label_lookup.tolist(),
            "lookup_suffix": self.lookup_suffix,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClassTable":
        """The table that `to_dict` described.

        Raises:
            UsageError: a key is missing or its value has the wrong form.
        """
        try:
            palette = _bytes(values["palette"])
            lookup = values.get("label_lookup")
            table = cls(
                name=str(values["name"]),
                class_names=tuple(str(name) for name in values["class_names"]),
                palette=palette,
                ignore_index=int(values.get("ignore_index", IGNORE_INDEX)),
                label_lookup=None if lookup is None else _bytes(lookup),
                lookup_suffix=str(values.get("lookup_suffix", LABEL_IDS_SUFFIX)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"class table: {error!r}; name, class_names and palette are expected"
            ) from None
        if palette.shape != (table.num_classes, 3):
            raise UsageError(
                f"class table: a palette of {table.num_classes} RGB colours is expected, "
                f"got shape {palette.shape}"
            )
        if not 0 <= table.ignore_index <= 255:
            raise UsageError(
                f"class table: ignore_index: 0..255 expected, got {table.ignore_index}"
            )
        if table.label_lookup is not None and table.label_lookup.shape != (256,):
            raise UsageError("class table: label_lookup needs 256 values")
        return table


def _bytes(values: Any) -> np.ndarray:
    """Numbers of a file as uint8; NumPy 1 lets those beyond a byte wrap round."""
    array = np.array(values)
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255):
        raise ValueError("whole numbers 0..255 are expected")
    return array.astype(np.uint8)


def unknown_values(raw: np.ndarray, table: ClassTable, lookup: np.ndarray | None) -> list[int]:
    """The values of a raw label that are neither a class nor ignored, in ascending order."""
    ids = np.arange(256, dtype=np.uint8) if lookup is None else lookup
    unknown = ((ids >= table.num_classes) & (ids != table.ignore_index)).astype(np.uint8)
    mask = cv2.LUT(raw, unknown)
    return np.unique(raw[mask > 0]).tolist() if mask.any() else []


def decode_label(path: str | Path, table: ClassTable) -> np.ndarray:
    """Read a label file as classes: `(H, W)` uint8, values below `num_classes` or ignored.

    Raises:
        DataError: the file cannot be used, or holds a value that is neither a class nor ignored.
    """
    raw = read_label(path)
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
    """`(256,)` uint8: `mapping` where it speaks, 255 for `ignored` and 255, else 254."""
    lookup = np.full(256, INVALID, np.uint8)
    lookup[[*ignored, IGNORE_INDEX]] = IGNORE_INDEX
    for raw, train_id in mapping.items():
        lookup[raw] = train_id
    return lookup


def spread_palette(num_classes: int) -> np.ndarray:
    """`(C, 3)` uint8: the colours of PASCAL VOC, the bits of the class number spread over RGB."""
    palette = np.zeros((num_classes, 3), np.uint8)
    for index in range(num_classes):
        value = index
        for bit in range(7, -1, -1):
            for channel in range(3):
                palette[index, channel] |= ((value >> channel) & 1) << bit
            value >>= 3
    return palette


def generic_table(
    num_classes: int,
    class_names: list[str] | None = None,
    raw_ignore: int = IGNORE_INDEX,
    name: str = "list",
) -> ClassTable:
    """A table for labels nothing more is known of.

    Args:
        num_classes: 1..254.
        class_names: as many; default `class_0`, `class_1`, ...
        raw_ignore: the value in the label files that is ignored. It reads as 255, so that padding
            and ignored pixels are one value everywhere.

    Raises:
        UsageError: the numbers do not fit together.
    """
    if not isinstance(num_classes, int) or not 1 <= num_classes <= MAX_CLASSES:
        raise UsageError(f"num_classes: 1..{MAX_CLASSES} expected, got {num_classes}")
    if not isinstance(raw_ignore, int) or not 0 <= raw_ignore <= 255:
        raise UsageError(f"ignore_index: 0..255 expected, got {raw_ignore}")
    if class_names is not None and (
        not isinstance(class_names, list) or not all(isinstance(n, str) for n in class_names)
    ):  # a yml reads no and 5 as a truth value and a number
        raise UsageError(f"class_names: a list of words in quotes is expected, got {class_names}")
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
    return ClassTable(name, tuple(names), spread_palette(num_classes), IGNORE_INDEX, lookup, "")


# class, raw id in *_labelIds.png, colour; the ids between are void or not evaluated.
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

# The SegNet edition: the label value is the class, 11 is unlabelled.
CAMVID = ClassTable(
    name="camvid",
    class_names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    palette=np.array(
        [
            (128, 128, 128),
            (128, 0, 0),
            (192, 192, 128),
            (128, 64, 128),
            (60, 40, 222),
            (128, 128, 0),
            (192, 128, 128),
            (64, 64, 128),
            (64, 0, 128),
            (64, 64, 0),
            (0, 128, 192),
        ],
        np.uint8,
    ),
    label_lookup=lookup_table({index: index for index in range(11)}, ignored={11}),
    lookup_suffix="",
)
