"""Checks of the parts of JPEG and PNG files, before a decoder reads them.

A few megabytes can keep a decoder busy for minutes without promising many pixels: a progressive
JPEG with a hundred thousand scans, a PNG with a thousand compressed comments. The limits here are
far above what cameras and programs write. Entropy-coded data is skipped by `re`, not by a loop.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from paddleseg_ext.common.errors import DataError


class OtherKind(DataError):
    """A whole file of a kind that is not read: another format, or an animation."""


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"

# Progressive JPEGs have about 10 scans, CMYK ones 18. Each is one pass over the image.
MAX_SCANS = 64
# Marker segments: an ICC profile may have 255, extended XMP (depth maps) hundreds.
MAX_SEGMENTS = 4096
MAX_PADDING = 64 * 1024  # bytes outside segments, before the first scan
# Chunks of a PNG, plus one per CHUNK_BYTES: chunks of 8 KiB of pixels are usual.
MAX_CHUNKS = 4096
CHUNK_BYTES = 1024
HEADER_BYTES = 13
INFLATE_STEP = 1 << 20  # bytes

# Within and between segments `FF 00` is data, `FF FF` is padding and `FF D0` to `FF D7` restart
# markers, which have no length.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = frozenset(range(0x01, 0xC0)) | {0xD8}
# PNG specification, table 7: samples per pixel, by colour type.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def essential(content: bytes, name: str) -> bytes:
    """The parts of a JPEG or PNG that a decoder needs; other files unchanged.

    Args:
        content: of the file.
        name: what messages call it.

    Raises:
        DataError: it is truncated or damaged, or has more parts than an image needs.
    """
    if content.startswith(PNG_SIGNATURE):
        return _essential_png(content, name)
    if content.startswith(JPEG_START):
        _require_whole_jpeg(content, name)
    return content


def _require_whole_jpeg(content: bytes, name: str) -> None:
    """Read from marker to marker up to the image's end.

    End markers of thumbnails lie inside a segment and are skipped with it. Data that phones append
    after the image's end is not read.
    """
    scans, padding, behind = 0, 0, len(JPEG_START)
    segments = list(jpeg_segments(content))
    for kind, start, end in segments:
        if not scans:
            padding += start - behind
        behind = end
        if padding > MAX_PADDING:
            raise DataError(f"{name}: a JPEG is expected, this one is mostly padding")
        if kind == JPEG_END:
            if not scans:
                raise DataError(f"{name}: the JPEG is truncated: it ends before its pixels")
            return
        if kind == JPEG_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise DataError(f"{name}: a JPEG of at most {MAX_SCANS} scans is expected")
    if len(segments) == MAX_SEGMENTS:
        raise DataError(f"{name}: a JPEG of at most {MAX_SEGMENTS} segments is expected")
    raise DataError(f"{name}: the JPEG is truncated")


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields a JPEG's segments up to the image's end: marker, and the first byte and the end.

    The entropy-coded data of a scan follows its segment's end. At most `MAX_SEGMENTS` are read, and
    none behind the end of a truncated file.
    """
    position = len(JPEG_START)
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(content, position)
        if found is None:
            return
        kind, position = content[found.start() + 1], found.end()
        if kind != JPEG_END and kind not in _WITHOUT_LENGTH:
            # libjpeg continues after the two bytes of a length that is too small.
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
        yield kind, found.start(), position
        if kind == JPEG_END:
            return


def _essential_png(content: bytes, name: str) -> bytes:
    """The chunks that pixels are decoded from, after a check of each one's checksum.

    Pillow ignores the checksums of pixel data, so that a damaged label would give other classes.
    Comments and profiles are left out, because decoders unpack them only to drop them. EXIF data
    comes first, where Pillow looks for it.
    """
    view = memoryview(content)
    parts: list[bytes | memoryview] = [PNG_SIGNATURE]
    exif: bytes | memoryview = b""
    position = len(PNG_SIGNATURE)
    most = MAX_CHUNKS + len(content) // CHUNK_BYTES
    for _ in range(most):
        if position + 12 > len(content):
            raise DataError(f"{name}: the PNG is truncated")
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise DataError(f"{name}: the PNG is truncated")
        is_first = position == len(PNG_SIGNATURE)
        if (kind == b"IHDR") != is_first or (is_first and length != HEADER_BYTES):
            raise DataError(f"{name}: the PNG is damaged: one header is expected, at the start")
        # PNG specification, 5.4: four letters, the first a capital where a reader needs the chunk.
        if kind[:1].isupper() or not kind.isalpha() or kind in (b"tRNS", b"eXIf"):
            stored = int.from_bytes(view[end - 4 : end], "big")
            if zlib.crc32(view[position + 4 : end - 4]) != stored:
                raise DataError(f"{name}: the PNG is damaged: a checksum does not fit")
            if kind != b"eXIf":
                parts.append(view[position:end])
            elif not exif:
                exif = view[position:end]
        elif kind == b"acTL" and content[position + 8 : position + 12] > b"\0\0\0\1":  # frames
            raise OtherKind(f"{name}: one still picture is expected, this is an animation")
        position = end
        if kind == b"IEND":
            return b"".join([*parts[:2], exif, *parts[2:]])
    raise DataError(f"{name}: a PNG of at most {most} chunks is expected")


def require_bounded_pixels(content: bytes, name: str) -> None:
    """Refuse a PNG whose pixel data continues after its last row: decoders unpack all of it.

    16 MiB can hold 16 GiB. The check unpacks the pixels, a third of the time that decoding takes.
    Other formats pass.

    Args:
        content: a whole file, as `essential` returns it.
        name: what messages call it.

    Raises:
        DataError: there is more data than pixels.
    """
    if not content.startswith(PNG_SIGNATURE):
        return
    position = len(PNG_SIGNATURE)
    width, height, depth, colors = struct.unpack_from(">IIBB", content, position + 8)
    row_bytes = (width * depth * _PNG_SAMPLES.get(colors, 4) + 7) // 8
    # Interlaced images have up to twice as many rows, each with a filter byte and a partial byte.
    most = height * (row_bytes + 4) + INFLATE_STEP
    view, unpacker, unpacked = memoryview(content), zlib.decompressobj(), 0
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        data: bytes | memoryview = view[position + 8 : position + 8 + length]
        position += 12 + length
        while kind == b"IDAT" and len(data) and not unpacker.eof:
            try:
                unpacked += len(unpacker.decompress(data, INFLATE_STEP))
            except zlib.error:
                return  # damaged: the decoder stops there, too
            data = unpacker.unconsumed_tail
            if unpacked > most:
                raise DataError(f"{name}: the PNG holds more data than its pixels need")
