"""PBM, PGM and PPM files.

OpenCV takes their values as they are, whatever the header says is white, and Pillow scales them
for labels, too. Source: https://netpbm.sourceforge.net/doc/ppm.html and pgm.html, pbm.html.
"""

import re
from dataclasses import dataclass

import numpy as np

from paddleseg_ext.common.errors import DataError

_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"  # white space and comments
_HEADER = re.compile(rb"P([1-6])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_MAXVAL = re.compile(_GAP + rb"(\d{1,5})")
_COMMENT = re.compile(rb"#[^\n\r]*")
HEADER_BYTES = 1 << 16  # comments included


@dataclass(frozen=True)
class Netpbm:
    """A header: the kind ("1" to "6"), the size, the largest value, and where pixels begin."""

    kind: int
    size_wh: tuple[int, int]
    maxval: int
    start: int

    @property
    def channels(self) -> int:
        """3 of a PPM, else 1."""
        return 3 if self.kind in (3, 6) else 1

    @property
    def bits(self) -> int:
        """Bits per channel as stored, 1, 8 or 16."""
        return 1 if self.kind in (1, 4) else 8 if self.maxval < 256 else 16


def parse_header(content: bytes, name: str) -> Netpbm:
    """The header of a file that begins with P1 to P6.

    Raises:
        DataError: it is damaged, or has no pixels.
    """
    head = content[:HEADER_BYTES]
    found = _HEADER.match(head)
    if found is None:
        raise DataError(
            f"{name}: damaged: 'P6 WIDTH HEIGHT LARGEST_VALUE' is expected at its start"
        )
    kind, width, height = (int(number) for number in found.groups())
    maxval, end = 1, found.end()
    if kind not in (1, 4):
        largest = _MAXVAL.match(head, end)
        if largest is None or not 0 < int(largest[1]) < 65536:
            raise DataError(f"{name}: damaged: a largest value from 1 to 65535 is expected in it")
        maxval, end = int(largest[1]), largest.end()
    if not width or not height:
        raise DataError(f"{name}: damaged: {width}x{height} pixels")
    return Netpbm(kind, (width, height), maxval, end + 1)


def stored_values(content: bytes, header: Netpbm, name: str) -> np.ndarray:
    """The values as stored, `(H, W)` or `(H, W, 3)`, uint8 or uint16; of a bitmap, white is 1.

    Raises:
        DataError: values are missing, or above the header's largest.
    """
    width, height = header.size_wh
    count = width * height * header.channels
    if header.kind == 4:
        row_bytes = -(-width // 8)
        packed = _bytes(content, header.start, row_bytes * height, name).reshape(height, row_bytes)
        return 1 - np.unpackbits(packed, axis=1)[:, :width]
    if header.kind < 4:
        values = _plain(content, header, count, name)
    elif header.bits == 8:
        values = _bytes(content, header.start, count, name)
    else:
        values = _bytes(content, header.start, 2 * count, name).view(">u2").astype(np.uint16)
    if values.max() > header.maxval:
        raise DataError(
            f"{name}: damaged: value {values.max()}, its header says {header.maxval} at most"
        )
    if header.kind == 1:
        values = 1 - values
    shape = (height, width) if header.channels == 1 else (height, width, 3)
    return values.reshape(shape)


def as_bytes(values: np.ndarray, maxval: int) -> np.ndarray:
    """Values of 0..maxval as uint8 of 0..255: up to 8 bits rounded, above by their high byte."""
    if maxval == 255:
        return values
    if maxval < 256:
        table = (np.arange(256) * 255 + maxval // 2) // maxval
        return np.minimum(table, 255).astype(np.uint8)[values]
    # 65535 and 4095 are white, as where 16 bits of a PNG become 8.
    return (values.astype(np.uint32) * 256 // (maxval + 1)).astype(np.uint8)


def _bytes(content: bytes, start: int, count: int, name: str) -> np.ndarray:
    if len(content) < start + count:
        raise DataError(f"{name}: truncated: {count} bytes of pixels are expected")
    return np.frombuffer(content, np.uint8, count, start)


def _plain(content: bytes, header: Netpbm, count: int, name: str) -> np.ndarray:
    text = _COMMENT.sub(b"", content[header.start - 1 :])
    if header.kind == 1:  # digits need no space between them
        digits = np.frombuffer(text, np.uint8)
        values = digits[(digits == ord("0")) | (digits == ord("1"))] - np.uint8(ord("0"))
    else:
        words = text.split(maxsplit=count)[:count] if count <= len(text) else []
        if not all(word.isdigit() and len(word) <= 5 for word in words):
            raise DataError(f"{name}: damaged: whole numbers are expected")
        values = np.array(words, dtype="S5").astype(np.uint32)
    if len(values) < count:
        raise DataError(f"{name}: truncated: {count} values are expected")
    values = values[:count]
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
