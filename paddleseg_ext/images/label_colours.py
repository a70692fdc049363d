"""Labels that are colour images, by a table of colours."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.reading import read_label_colours

INVALID = 254  # in a lookup: a value without a meaning; never a class
_SHOWN = 5


def classes_of_colours(path: str | Path, colours: np.ndarray, others: int) -> np.ndarray:
    """Read a colour label as classes, `(H, W)` uint8.

    Args:
        path: PNG or another lossless file; of a palette PNG the colours count, not the indices.
        colours: `(K, 4)` uint8, red, green, blue and class.
        others: the class of all other colours; 254 refuses them.

    Raises:
        DataError: the file cannot be used, or holds a colour without a class.
    """
    image = read_label_colours(path).astype(np.uint32)
    codes = image[:, :, 0] << 16 | image[:, :, 1] << 8 | image[:, :, 2]
    label = _lookup(colours.tobytes(), others)[codes]
    wrong = codes[label == INVALID]
    if wrong.size:
        found, counts = np.unique(wrong, return_counts=True)
        order = np.argsort(-counts)[:_SHOWN]
        listed = ", ".join(
            f"{c >> 16},{c >> 8 & 255},{c & 255} ({n} pixels)"
            for c, n in zip(found[order].tolist(), counts[order].tolist(), strict=True)
        )
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(
            f"{path}: colours without a class: {listed}{more}; name them in `mapping:`, or all "
            "at once: others: ignored"
        )
    return label


@lru_cache(maxsize=4)
def _lookup(colours: bytes, others: int) -> np.ndarray:
    """`(2**24,)` uint8: the class by red << 16 | green << 8 | blue."""
    rows = np.frombuffer(colours, np.uint8).reshape(-1, 4).astype(np.uint32)
    lookup = np.full(1 << 24, others, np.uint8)
    lookup[rows[:, 0] << 16 | rows[:, 1] << 8 | rows[:, 2]] = rows[:, 3]
    return lookup
