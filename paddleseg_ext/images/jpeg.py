"""Whether a JPEG holds the data of all its blocks.

Where a scan ends too soon, libjpeg fills the remaining blocks with grey and only warns on standard
error, which neither OpenCV nor Pillow passes on. A file that was cut off and closed with an end
marker (a camera that lost power, a repaired download) would be read as a whole picture.
"""

import io
import re
import struct
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.structure import JPEG_SCAN, jpeg_segments

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2  # Huffman-coded frames of lossy JPEGs
_RESTART_INTERVAL = 0xDD
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_MORE = bytes((73 * i + 41) % 251 for i in range(64))  # data of no meaning, without FF
DAMAGED = "the JPEG is damaged: its data ends before its last block"
_GREY = 128  # of a block without data


def require_all_blocks(content: bytes, image: np.ndarray, name: str) -> None:
    """Refuse a JPEG one of whose scans, or intervals between restart markers, ends too soon.

    More data behind a scan changes nothing where the scan is complete; that is compared. Baseline
    JPEGs of one scan are compared only where the last block of an interval is grey as if without
    data, so that most cost nothing. The last block alone may be damaged there without being found.

    Args:
        content: of a JPEG that `structure.essential` passed.
        image: (H, W, 3) RGB, as decoded.
        name: what messages call it.

    Raises:
        DataError: data is missing.
    """
    segments = list(jpeg_segments(content))
    frame = next((s for s in segments if s[0] in (_BASELINE, _EXTENDED, _PROGRESSIVE)), None)
    if frame is None:  # arithmetic coding, whose end may be left out
        return
    components = content[frame[1] + 9]
    scans = sum(kind == JPEG_SCAN for kind, _, _ in segments)
    is_plain = frame[0] != _PROGRESSIVE and scans == 1
    if is_plain and not _may_lack_blocks(content, segments, image, name) and components != 4:
        return
    shrink = 8 if frame[0] != _PROGRESSIVE else 1  # a grey block shows at an eighth of the size
    more = _with_more_data(content, segments)
    try:
        whole = np.array_equal(_decoded(content, shrink), _decoded(more, shrink))
    except MemoryError:
        raise
    except Exception:  # Pillow raises many kinds for a damaged file that OpenCV reads
        whole = False
    if not whole:
        raise DataError(f"{name}: {DAMAGED}")


def frame_size_wh(content: bytes) -> tuple[int, int] | None:
    """The size in a JPEG's frame header; None where there is none."""
    for kind, start, end in jpeg_segments(content):
        # C0 to CF are frames, except tables (C4, CC) and a reserved one (C8).
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and end >= start + 9:
            height, width = struct.unpack_from(">HH", content, start + 5)
            return width, height
    return None


def _may_lack_blocks(
    content: bytes, segments: list[tuple[int, int, int]], image: np.ndarray, name: str
) -> bool:
    """Whether the last block of an interval is grey, as it is without data.

    Raises:
        DataError: intervals are missing.
    """
    frame = next(s for s in segments if s[0] in (_BASELINE, _EXTENDED))
    sampling = content[frame[1] + 11 : frame[2] : 3]  # one byte per component
    across, down = (8 * max(s >> 4 for s in sampling), 8 * max(s & 15 for s in sampling))
    if len(sampling) == 1:
        across = down = 8
    height, width = image.shape[:2]
    columns = -(-width // across)
    units = columns * -(-height // down)
    interval = 0
    for kind, start, _ in segments:
        if kind == _RESTART_INTERVAL:
            interval = struct.unpack_from(">H", content, start + 4)[0]
    if interval:
        scan = next(n for n, (kind, _, _) in enumerate(segments) if kind == JPEG_SCAN)
        data = content[segments[scan][2] : segments[scan + 1][1]]
        if len(_RESTART.findall(data)) < -(-units // interval) - 1:
            raise DataError(f"{name}: {DAMAGED}")
    last = np.arange(interval, units, interval) - 1 if interval else np.zeros(0, np.int64)
    last = np.append(last, units - 1)
    rows = np.minimum(last // columns * down + down // 2, height - 1)
    across_at = np.minimum(last % columns * across + across // 2, width - 1)
    pixels = np.ascontiguousarray(image[rows, across_at])[:, None]  # (N, 1, 3)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.int16)
    return bool((abs(grey - _GREY) <= 2).any())  # colours of neighbours are mixed in


def _with_more_data(content: bytes, segments: list[tuple[int, int, int]]) -> bytes:
    parts, position = [], 0
    for (kind, _, end), (_, following, _) in pairwise(segments):
        if kind == JPEG_SCAN:
            data = content[end:following]
            stripped = data.rstrip(b"\xff")  # fill bytes of the marker that follows
            parts += [content[position:end], _RESTART.sub(lambda m: _MORE + m[0], stripped), _MORE]
            position = end + len(stripped)
    return b"".join([*parts, content[position:]])


def _decoded(content: bytes, shrink: int) -> np.ndarray:
    """By Pillow, which is silent about damage."""
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
        opened.draft(opened.mode, (-(-opened.width // shrink), -(-opened.height // shrink)))
        return np.asarray(opened)
