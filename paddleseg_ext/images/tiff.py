"""TIFF files: what their samples are, and their pixels as stored.

Pillow decodes them. It turns an image by its orientation tag as it loads it, so that the tag is
set to 1 first; and it has no kind of pixels for colours of floats, which are refused by name.
Source of the numbers: TIFF 6.0, sections 8 and 18 to 20.
"""

import struct
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import ImageFile

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.header import load_pixels, opened_header

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
SAMPLES, PLANES, EXTRA_SAMPLES, SAMPLE_FORMAT = 277, 284, 338, 339
MIN_IS_WHITE = 0
SEPARATE = 2  # a plane of its own per channel
UNSPECIFIED, ASSOCIATED = 0, 1  # of unknown meaning; alpha by which the colours were multiplied
MAX_TAGS = 4096
_FORMATS = {2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}
_UNSIGNED = (1, 4)  # 4: undefined
# JPEG, JPEG 2000, LERC, JPEG XL and WebP, which may be lossless there, but need not.
LOSSY = {6, 7, 33003, 33004, 33005, 34712, 34887, 34892, 50001, 50002, 52546}
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8

Tags = Mapping[int, tuple[int, ...]]


def read_tags(content: bytes) -> tuple[dict[int, tuple[int, ...]], int]:
    """The whole numbers of the first image's directory, and where the orientation's value lies.

    Returns:
        Tag -> values, as far as they can be read; and an offset in the file, 0 without the tag.
    """
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    word, counter, entry_bytes = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    tags: dict[int, tuple[int, ...]] = {}
    place = 0
    try:
        (start,) = struct.unpack_from(order + word, content, 8 if is_big else 4)
        (count,) = struct.unpack_from(order + counter, content, start)
        for number in range(min(count, MAX_TAGS)):
            entry = start + struct.calcsize("=" + counter) + number * entry_bytes
            tag, kind, length = struct.unpack_from(order + "HH" + word, content, entry)
            if kind not in _TYPES or length > 64:
                continue
            value = entry + 4 + struct.calcsize("=" + word)
            letters = order + str(length) + _TYPES[kind]
            if struct.calcsize(letters) > struct.calcsize("=" + word):
                (value,) = struct.unpack_from(order + word, content, value)
            tags[tag] = struct.unpack_from(letters, content, value)
            place = value if tag == ORIENTATION and length == 1 and kind in (3, 4) else place
    except struct.error:  # truncated: Pillow says so
        pass
    return tags, place


def decode_image(content: bytes, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB, as stored.

    Raises:
        DataError: the samples are not 8 or 16 unsigned bits, the colours are multiplied by alpha,
            or the file is damaged.
    """
    tags, _ = read_tags(content)
    kind = describe(tags)
    if max(tags.get(BITS, (1,))) > 16 or not set(tags.get(SAMPLE_FORMAT, (1,))) <= set(_UNSIGNED):
        raise DataError(
            f"{name}: a TIFF of {kind} is not read as an image; save it with unsigned integers "
            "of 8 or 16 bits"
        )
    if ASSOCIATED in tags.get(EXTRA_SAMPLES, ()):
        raise DataError(
            f"{name}: a TIFF whose colours are multiplied by its alpha is not read; save it "
            "without alpha"
        )
    pixels, mode = _load(content, name, f"a TIFF of {kind}", to_rgb=True)
    if mode.startswith("I;16"):
        shift = max(tags.get(BITS, (16,))) - 8
        if tags.get(PHOTOMETRIC) == (MIN_IS_WHITE,):
            pixels = 65535 - pixels
        return cv2.cvtColor((pixels >> shift).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(pixels[..., :3])


def stored_values(content: bytes, name: str) -> np.ndarray:
    """The values of a label, `(H, W)` or `(H, W, channels)`, as stored.

    Raises:
        DataError: lossy compression, inverted values, several channels of 16 bits, or a second
            channel of unknown meaning, which Pillow drops.
    """
    tags, _ = read_tags(content)
    bits = max(tags.get(BITS, (1,)))
    if set(tags.get(COMPRESSION, ())) & LOSSY:
        raise DataError(
            f"{name}: the compression of this TIFF (JPEG or the like) may change values, which are "
            "classes; save labels as PNG"
        )
    if tags.get(PHOTOMETRIC) == (MIN_IS_WHITE,):
        raise DataError(
            f"{name}: the values of this TIFF are inverted (0 is white); save it as PNG"
        )
    if tags.get(SAMPLES, (1,)) > (1,) and (bits > 8 or UNSPECIFIED in tags.get(EXTRA_SAMPLES, ())):
        raise DataError(f"{name}: a label has one channel; this is a TIFF of {describe(tags)}")
    values, mode = _load(content, name, f"a TIFF of {describe(tags)}")
    if mode == "L" and bits in (2, 4):
        values = values // (255 // (2**bits - 1))  # Pillow stretches them over 0..255
    is_signed = tags.get(SAMPLE_FORMAT) == (2,)
    return values.view(np.int8) if is_signed and values.dtype == np.uint8 else values


def describe(tags: Tags) -> str:
    """The samples in words: "3 x 32-bit floats"."""
    formats = sorted(set(tags.get(SAMPLE_FORMAT, (1,))))
    kind = " and ".join(_FORMATS.get(number, "unsigned integers") for number in formats)
    return f"{tags.get(SAMPLES, (1,))[0]} x {max(tags.get(BITS, (1,)))}-bit {kind}"


def _load(content: bytes, name: str, what: str, to_rgb: bool = False) -> tuple[np.ndarray, str]:
    """The pixels that Pillow decodes, not turned, and their mode."""
    tags, place = read_tags(content)
    if place:
        upright = struct.pack("<H" if content[:2] == b"II" else ">H", 1)
        # A LONG of a big-endian file has its low bytes last.
        place += 2 if content[:2] == b"MM" and content[place : place + 2] == b"\0\0" else 0
        content = content[:place] + upright + content[place + 2 :]
    _require_all_parts(content, tags, name)
    return load_pixels(content, "TIFF", name, what, to_rgb)


def _require_all_parts(content: bytes, tags: Tags, name: str) -> None:
    """Refuse what Pillow fills in by itself.

    A missing PHOTOMETRIC is 0 for it, white, and inverts the picture; of uncompressed strips and
    tiles that are not listed the pixels are black, and of those that a sparse file leaves out
    (offset 0) the header's own bytes. Of compressed ones libtiff says so.

    Raises:
        DataError: naming what is missing.
    """
    if PHOTOMETRIC not in tags:
        raise DataError(
            f"{name}: damaged: the TIFF does not say what its values mean "
            "(PhotometricInterpretation); save it as PNG"
        )
    try:
        with opened_header(content, name, ("TIFF",), any_size=True) as opened:
            assert isinstance(opened, ImageFile.ImageFile)
            width, height = opened.size
            parts = [tile for tile in opened.tile if tile.codec_name == "raw"]
    except DataError:
        return  # of a kind that Pillow does not read, which is said where it is loaded
    if not parts:
        return
    layers = tags.get(SAMPLES, (1,))[0] if tags.get(PLANES) == (SEPARATE,) else 1
    listed = sum((box[2] - box[0]) * (box[3] - box[1]) for part in parts if (box := part.extents))
    if listed < width * height * layers or not all(part.offset for part in parts):
        raise DataError(
            f"{name}: some strips or tiles of the TIFF are missing (a sparse or damaged file); "
            "write it in full, for example as PNG"
        )
