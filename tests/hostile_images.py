"""Small files that keep a decoder busy for long, and what they are made of."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_OF_JPEG = b"\xff\xd9"
MIB = 1 << 20


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG, with its right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """Signature and header of 8-bit RGB."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_bomb(width: int, height: int) -> bytes:
    """A black picture: a thousandth of its pixels' bytes."""
    pixels = chunk(b"IDAT", zlib.compress(bytes(height * (1 + 3 * width)), 9))
    return png_header(width, height) + pixels + chunk(b"IEND", b"")


def endless_png(mib: int) -> bytes:
    """8x8 pixels, and behind them so many MiB of zeros in a thousandth of the bytes."""
    packer = zlib.compressobj(9)
    start = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = start + block * mib  # a flushed block refers to nothing before it
    return png_header(8, 8) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_with(kind: bytes, data: bytes, count: int, before: bool) -> bytes:
    """8x8 pixels and the same chunk many times, before or behind them."""
    pixels = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    flood = chunk(kind, data) * count
    return png_header(8, 8) + (flood + pixels if before else pixels + flood) + chunk(b"IEND", b"")


def compressed_comments(kind: bytes) -> bytes:
    """400 of 7.5 MiB, each in 8 KiB."""
    between = {b"zTXt": b"\0", b"iTXt": b"\1\0\0\0"}[kind]  # method; flag, method, two texts
    data = b"a\0" + between + zlib.compress(bytes(15 * MIB // 2), 9)
    return png_with(kind, data, 400, before=False)


def many_scans(count: int, side: int) -> bytes:
    """A grey progressive JPEG and scans of 17 bytes that each pass over all its blocks."""
    content = io.BytesIO()
    Image.new("L", (side, side), 128).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    # A Huffman table with one code, `0`: a run of 16384 blocks and as many as 14 bits say.
    table = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1] + [0] * 15) + b"\xe0"
    runs = -(-(((side + 7) // 8) ** 2) // 16384)
    bits = "0" * 15 * runs
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    scan = b"\xff\xda" + struct.pack(">HBBB", 8, 1, 1, 0) + bytes([1, 63, 0]) + data
    return whole.removesuffix(END_OF_JPEG) + table + scan * count + END_OF_JPEG


def jpeg_of(filling: bytes) -> bytes:
    """8 MB of it before the picture."""
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "JPEG")
    whole = content.getvalue()
    return whole[:2] + filling * (8 * MIB // len(filling)) + whole[2:]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "jpeg, 20,000 scans": lambda: many_scans(20_000, 2048),
    "jpeg, 2 scans of 4,000,000 pixels": lambda: many_scans(1, 2048),
    "jpeg, padding": lambda: jpeg_of(b"\xff"),
    "jpeg, junk": lambda: jpeg_of(b"\0"),
    "jpeg, restart markers": lambda: jpeg_of(b"\xff\xd0"),
    "jpeg, empty segments": lambda: jpeg_of(b"\xff\xe1\0\2"),
    "jpeg, empty comments": lambda: jpeg_of(b"\xff\xfe\0\2"),
    "jpeg, markers of no meaning": lambda: jpeg_of(b"\xff\x01"),
    "png, empty pixels": lambda: png_with(b"IDAT", b"", 500_000, before=False),
    "png, private chunks": lambda: png_with(b"prVt", b"", 500_000, before=True),
    "png, comments": lambda: png_with(b"tEXt", b"a\0b", 400_000, before=True),
    "png, compressed comments": lambda: compressed_comments(b"zTXt"),
    "png, compressed international comments": lambda: compressed_comments(b"iTXt"),
    "png, data behind the last row": lambda: endless_png(2048),
}
# Those that no reader takes; `ENDLESS` only a reader that is told to expect strangers' files.
ENDLESS = {"png, data behind the last row"}
REFUSED = (
    set(HOSTILE)
    - ENDLESS
    - {
        "jpeg, 2 scans of 4,000,000 pixels",
        "png, compressed comments",
        "png, compressed international comments",
    }
)
