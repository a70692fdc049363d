"""Images that show the same: re-encoded, resized, brightened or mirrored copies, and leaks.

Each image has a perceptual hash of 256 signs. A mirrored image has the same numbers, half of them
negated, so mirrored copies cost no second reading.

Source:
    The hash of low frequencies of the discrete cosine transform ("pHash"), C. Zauner:
    Implementation and Benchmarking of Perceptual Image Hash Functions (2010). Own lines instead of
    the package imagehash, which knows no mirrored images and needs PyWavelets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.data.parts import Part
from paddleseg_ext.data.validate import each_sample
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.samples import Sample

SIDE = 32  # pixels of the grey picture
KEPT = 16  # lowest frequencies per axis
MOST_DIFFERENT = 0.12  # share of the signs: copies stay below, other streets have 0.28 and more
FLAT = 1e-2  # a coefficient that says nothing: a picture of one colour
AT_ONCE = 256


@dataclass(frozen=True)
class Twin:
    """Two images that show the same.

    Attributes:
        first: `PART: NAME` of the image.
        second: of the other.
        is_leak: the two are in different parts, such as training and validation.
        is_mirrored: one is the other's mirror image.
        difference: share of the signs that differ, 0 to 0.12.
    """

    first: str
    second: str
    is_leak: bool
    is_mirrored: bool
    difference: float


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(KEPT, KEPT) signs, -1, 0 and 1, of the lowest frequencies of an (H, W, 3) RGB image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    waves = cv2.dct(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))[:KEPT, :KEPT]
    waves[0, 0] = 0  # the brightness
    waves[np.abs(waves) < FLAT] = 0
    return np.sign(waves)


def mirrored_hash(signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The hashes, (..., KEPT, KEPT), of the mirrored images: odd waves change their sign."""
    return signs * (-1.0) ** np.arange(KEPT, dtype=np.float32)


def find_twins(parts: Sequence[Part]) -> tuple[list[Twin], list[str]]:
    """Images that show the same, within and between parts, and images that cannot be read.

    Returns:
        Per image at most its nearest other of its own part and its nearest one of the parts before;
        leaks first. And one line per image that cannot be read.
    """
    names: list[str] = []
    origins: list[int] = []
    hashes, problems = [], []
    for origin, part in enumerate(parts):
        look = partial(_hash_of, part=part)
        for sample, found in zip(
            part.samples, each_sample(look, part.samples, part.name), strict=True
        ):
            if isinstance(found, str):
                problems.append(found)
                continue
            hashes.append(found)
            names.append(f"{part.name}: {sample.name}")
            origins.append(origin)
    if not hashes:
        return [], problems
    twins = _nearest(np.stack(hashes), np.array(origins), names)
    return sorted(twins, key=lambda twin: (not twin.is_leak, twin.difference)), problems


def _hash_of(sample: Sample, part: Part) -> NDArray[np.float32] | str:
    try:
        return perceptual_hash(read_image(sample.image, part.orientation))
    except DataError as error:
        return str(error)


def _nearest(
    hashes: NDArray[np.float32], origins: NDArray[np.int64], names: Sequence[str]
) -> list[Twin]:
    plain = hashes.reshape(len(hashes), -1)
    mirrored = mirrored_hash(hashes).reshape(len(hashes), -1)
    signs = KEPT * KEPT - 1
    twins = []
    for start in range(0, len(plain), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(plain)))
        # Of signs that agree and differ: (agree - differ); each pair is looked at once.
        alike = np.stack([plain[rows] @ plain.T, mirrored[rows] @ plain.T])
        alike[:, np.arange(len(plain)) >= rows[:, None]] = -signs
        differences = (signs - alike.max(axis=0)) / (2 * signs)
        for row in rows[(differences <= MOST_DIFFERENT).any(axis=1)]:
            for is_leak in (True, False):
                others = (origins != origins[row]) == is_leak
                found = np.where(others, differences[row - start], 1)
                nearest = int(found.argmin())
                if found[nearest] <= MOST_DIFFERENT:
                    is_mirrored = alike[1, row - start, nearest] > alike[0, row - start, nearest]
                    pair = names[nearest], names[row]
                    twins.append(Twin(*pair, is_leak, bool(is_mirrored), float(found[nearest])))
    return twins
