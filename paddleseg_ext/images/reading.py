"""The one reader of image and label files.

Training, evaluation, inference, the service and Ray read through it, so that a file has the same
pixels everywhere or is refused with the same line. One decoder per format, chosen so that the
pixels do not depend on the release of OpenCV:

- OpenCV decodes JPEG, PNG and WebP as images; it is faster than Pillow, and equal to the bit.
- Pillow decodes BMP and TIFF, and all labels. OpenCV's TIFF reader multiplies colours by alpha,
  turns the image by its orientation tag whatever flags it gets, and reads floats as bytes.
- PPM and PGM are taken apart here: OpenCV does not scale by the largest value in the header, and
  Pillow scales labels, too.

The rule as a table: docs/data.md.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.log import warn
from paddleseg_ext.images import netpbm, tiff
from paddleseg_ext.images.header import FORMATS, load_pixels, opened_header
from paddleseg_ext.images.jpeg import frame_size_wh, require_all_blocks
from paddleseg_ext.images.orientation import UPRIGHT, Orientation, orientation_of, turn_upright
from paddleseg_ext.images.structure import (
    PNG_SIGNATURE,
    OtherKind,
    essential,
    require_bounded_pixels,
)

MAX_PIXELS = 1 << 30  # OpenCV's own limit
# Pillow's name -> how a file begins. MPO is a JPEG with a second picture behind it.
_BEGINNINGS = {
    "PNG": (PNG_SIGNATURE,),
    "JPEG": (b"\xff\xd8",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "PPM": tuple(b"P%d" % number for number in range(1, 7)),
    "GIF": (b"GIF8",),
}
LABEL_FORMATS = (*(name for name in FORMATS if name != "JPEG"), "GIF")
# What people put in place of an image: how it begins -> what it is, what to do.
_OTHERS = {
    b"{": "a JSON file; draw label images of its polygons (paddleseg-ext data prepare)",
    b"[": "a JSON file; draw label images of its polygons (paddleseg-ext data prepare)",
    b"<": "an XML or HTML file; draw label images of its polygons (paddleseg-ext data prepare)",
    b"\x93NUMPY": "a NumPy array; save it as PNG",
    b"MATLAB": "a MATLAB file; save its array as PNG",
    b"\x89HDF": "an HDF5 file; save its array as PNG",
    b"PK\3\4": "a zip file (.npz, .zip); save its arrays as PNG",
    b"%PDF": "a PDF; save it as PNG",
    b"\0\0\0\x0cjP": "a JPEG 2000; save it as PNG",
    b"\xff\x4f\xff\x51": "a JPEG 2000; save it as PNG",
    b"GIF8": "a GIF; save it as PNG",
    b"P7": "a PAM; save it as PNG",
    b"PF": "a PFM, floats; save it as PNG",
    b"Pf": "a PFM, floats; save it as PNG",
    b"#?RADIANCE": "a Radiance HDR, floats; save it as PNG",
    b"\x76\x2f\x31\x01": "an OpenEXR file, floats; save it as PNG",
    b"8BPS": "a Photoshop file; save it as PNG",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file (git lfs pull)",
}
_FTYP = slice(4, 8)
_said: set[str] = set()


@dataclass(frozen=True)
class FileHeader:
    """An image as described by its file's header.

    Attributes:
        format: Pillow's name ("PNG").
        size_wh: as stored.
        mode: Pillow's name of the kind of pixels; "?" where Pillow refuses what OpenCV reads.
        orientation: of the camera's tag, 1 (upright) to 8.
        bits: per channel.
    """

    format: str
    size_wh: tuple[int, int]
    mode: str
    orientation: int
    bits: int


def read_file(path: str | Path) -> bytes:
    """The content of a regular file.

    Raises:
        DataError: it is missing, empty, cannot be read, or is no regular file; a pipe, a device or
            a socket would be waited for, or read without end.
    """
    try:
        # Not blocking, and looked at once it is open: another process may replace it in between.
        with open(path, "rb", opener=_not_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DataError(
                    f"{path}: a regular file is expected, this is {_kind(file.fileno())}"
                )
            content = file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: the file does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a regular file is expected, this is a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{str(path)!r}: cannot be read: {reason}") from None
    except MemoryError:
        raise DataError(f"{path}: larger than the memory that is left") from None
    if not content:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    return content


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _kind(descriptor: int) -> str:
    mode = os.fstat(descriptor).st_mode
    return (
        "a pipe" if stat.S_ISFIFO(mode) else "a device" if not stat.S_ISSOCK(mode) else "a socket"
    )


def read_image(path: str | Path, orientation: Orientation = "stored") -> np.ndarray:
    """Read an image file; see `decode_image`.

    Raises:
        DataError: it is missing, empty, no regular file, truncated or no image.
    """
    return decode_image(read_file(path), str(path), orientation)


def decode_image(content: bytes, name: str, orientation: Orientation = "stored") -> np.ndarray:
    """Decode an image as RGB `(H, W, 3)` uint8.

    Grey images get three equal channels, alpha is dropped, 16 bits become 8 by their high byte.

    Args:
        content: of an image file.
        name: what messages call it.
        orientation: `stored` takes the pixels as they are in the file; `upright` applies the
            camera's orientation tag.

    Raises:
        DataError: it is truncated, damaged, of a kind that is not read, or not an image.
    """
    content, header = _decodable(content, name, FORMATS)
    try:
        image = _pixels(content, header, name)
    except MemoryError:
        raise DataError(f"{name}: {_wh(header)} pixels need more memory than is left") from None
    if image.shape[1::-1] != header.size_wh:
        raise DataError(f"{name}: damaged: its header and its pixels disagree in size")
    if header.bits > 8 and image.max() < 128:
        most = 256 * int(image.max()) + 255
        _warn_once(
            "dark",
            f"{name}: {header.bits} bits per channel, but no value above {most} "
            f"({most.bit_length()} bits): it is read as nearly black; scale such images to the "
            f"full range",
        )
    if orientation == "stored" and header.orientation != UPRIGHT:
        _warn_once(
            "turned",
            f"{name}: its orientation tag ({header.orientation}) is not applied; "
            "'orientation: upright' in the yml applies such tags",
        )
        return image
    return turn_upright(image, header.orientation)


def read_label(path: str | Path) -> np.ndarray:
    """Read a label as `(H, W)` uint8: the stored values, of a palette PNG the index.

    Raises:
        DataError: as `decode_label_values`, or the file is missing, empty or no regular file.
    """
    return decode_label_values(read_file(path), str(path))


def decode_label_values(content: bytes, name: str) -> np.ndarray:
    """Decode a label as `(H, W)` uint8; as `read_label`, from the file's content.

    Args:
        content: of an image file.
        name: what messages call it.

    Raises:
        DataError: it is truncated, no image, lossy, a colour image, has alpha or an orientation
            tag, or has values above 255 or fractions.
    """
    content, header = _decodable(content, name, LABEL_FORMATS)
    if header.orientation != UPRIGHT:
        raise DataError(
            f"{name}: a label with an orientation tag ({header.orientation}): whether its pixels "
            "are meant as stored or turned is not known; save it without the tag"
        )
    try:
        label = _one_channel(_stored_values(content, header, name), name)
    except MemoryError:
        raise DataError(f"{name}: {_wh(header)} pixels need more memory than is left") from None
    if label.dtype != np.uint8:
        with np.errstate(invalid="ignore"):  # NaN becomes 0, which differs from it below
            values = label.astype(np.uint8)
        wrong = label[values != label]
        if wrong.size:
            raise DataError(f"{name}: label values must be whole and 0..255, got {wrong[0]}")
        label = values
    return label


def read_whole_numbers(path: str | Path, what: str, fewest_bits: int = 8) -> np.ndarray:
    """Read an image of whole numbers as `(H, W)` int32: the stored values, of up to 16 bits.

    Args:
        path: the file.
        what: the numbers are, for the error.
        fewest_bits: 16 where 8 bits would be a picture of the numbers and not these.

    Raises:
        DataError: it is missing, truncated, no image, lossy, a colour image, or has fractions or
            another number of bits.
    """
    name = str(path)
    content, header = _decodable(read_file(path), name, LABEL_FORMATS)
    values = _one_channel(_stored_values(content, header, name), name)
    if values.dtype.kind not in "iu" or not fewest_bits <= header.bits <= 16:
        bits = "16 bits" if fewest_bits == 16 else "8 or 16 bits"
        raise DataError(f"{name}: {what} are whole numbers of {bits}, got {header.bits} bits")
    return values.astype(np.int32)


def read_label_colours(path: str | Path) -> np.ndarray:
    """Read a label that is a colour image as `(H, W, 3)` uint8 RGB; alpha is dropped.

    Of a palette PNG the colours count, not the indices.

    Raises:
        DataError: it is missing, truncated, no image, lossy, or has more than 8 bits.
    """
    name = str(path)
    content, header = _decodable(read_file(path), name, LABEL_FORMATS)
    if header.bits > 8 or (header.format == "WEBP" and _is_lossy_webp(content)):
        raise DataError(
            f"{name}: colours of a lossless image of 8 bits are expected; save labels as PNG"
        )
    if header.format == "GIF":
        return load_pixels(content, "GIF", name, "the GIF", to_rgb=True)[0][..., :3]
    return _pixels(content, header, name)


def read_header(path: str | Path) -> FileHeader:
    """The header of an image file, without decoding a pixel.

    Raises:
        DataError: as `read_image`, as far as the header shows it.
    """
    return header_of(read_file(path), str(path), (*FORMATS, "GIF"))[1]


def turned_hint(path: str | Path, image_hw: Sequence[int], label_hw: Sequence[int]) -> str:
    """The end of a message where an image's orientation tag explains that sizes differ, or ""."""
    if tuple(image_hw) != tuple(label_hw)[::-1]:
        return ""
    try:
        tag = read_header(path).orientation
    except DataError:
        return ""
    if tag <= 4:  # 5 to 8 exchange the sides
        return ""
    return (
        f"; the image has the orientation tag {tag}: 'orientation: upright' in the yml applies it; "
        "'stored' does not"
    )


def header_of(content: bytes, name: str, formats: tuple[str, ...]) -> tuple[bytes, FileHeader]:
    """The bytes for a decoder, and the file's header; no pixel is decoded.

    Args:
        content: of a file.
        name: what messages call it.
        formats: Pillow's names of those that are accepted.

    Raises:
        OtherKind: another format, or an animation.
        DataError: it is truncated or damaged, as far as its parts show it.
    """
    found = format_of(content)
    if found is None or found not in formats:
        raise OtherKind(f"{name}: {_refusal(content, found, formats)}")
    content = essential(content, name)
    return content, _header(content, found, name)


def _decodable(content: bytes, name: str, formats: tuple[str, ...]) -> tuple[bytes, FileHeader]:
    """As `header_of`, after the checks of a file that would cost too much to decode."""
    content, header = header_of(content, name, formats)
    width, height = header.size_wh
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width}x{height} are more pixels than the {MAX_PIXELS} that are read; "
            "cut it into tiles"
        )
    require_bounded_pixels(content, name)
    return content, header


def format_of(content: bytes) -> str | None:
    """Pillow's name of a file's format, by how it begins; None for one that is never read."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] in _BEGINNINGS["PPM"] and not content[2:3].isspace() and content[2:3] != b"#":
        return None
    return next((name for name, starts in _BEGINNINGS.items() if content.startswith(starts)), None)


def _refusal(content: bytes, found: str | None, formats: tuple[str, ...]) -> str:
    if found == "JPEG":
        return "a JPEG is no label: it changes the values; save labels as PNG"
    expected = f"an image file is expected ({', '.join(formats)})"
    start = content[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    is_media = content[_FTYP] == b"ftyp"
    what = next((said for begin, said in _OTHERS.items() if start.startswith(begin)), None)
    if is_media:
        what = "an AVIF, HEIC or film file; save it as PNG or JPEG"
    return f"cannot be decoded: {expected}" + (f", this is {what}" if what else "")


def _header(content: bytes, found: str, name: str) -> FileHeader:
    if found == "PPM":
        said = netpbm.parse_header(content, name)
        mode = {1: "1", 8: "L", 16: "I;16"}[said.bits] if said.channels == 1 else "RGB"
        return FileHeader(found, said.size_wh, mode, UPRIGHT, said.bits)
    if found == "TIFF":
        return _tiff_header(content, name)
    try:
        with opened_header(content, name, (found,), any_size=True) as opened:
            frames = 1 if found in ("JPEG", "PNG") else getattr(opened, "n_frames", 1)
            header = FileHeader(found, opened.size, opened.mode, orientation_of(opened), 8)
    except DataError:
        size_wh = frame_size_wh(content) if found == "JPEG" else None
        if size_wh is None:
            raise
        return FileHeader(found, size_wh, "?", UPRIGHT, 8)  # OpenCV reads more of them
    if frames > 1:
        raise OtherKind(f"{name}: one still picture is expected, this is an animation")
    return replace(header, bits=content[24]) if found == "PNG" else header


def _tiff_header(content: bytes, name: str) -> FileHeader:
    tags, _ = tiff.read_tags(content)
    try:
        size_wh = tags[tiff.WIDTH][0], tags[tiff.HEIGHT][0]
    except (KeyError, IndexError):
        raise DataError(f"{name}: cannot be decoded: the TIFF is damaged or truncated") from None
    try:
        with opened_header(content, name, ("TIFF",), any_size=True) as opened:
            mode = opened.mode
    except DataError:
        mode = "?"  # why it is not read is said when it is decoded
    (orientation,) = tags.get(tiff.ORIENTATION, (UPRIGHT,))[:1] or (UPRIGHT,)
    orientation = orientation if 1 <= orientation <= 8 else UPRIGHT
    return FileHeader("TIFF", size_wh, mode, orientation, max(tags.get(tiff.BITS, (1,))))


def _pixels(content: bytes, header: FileHeader, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB, as stored."""
    if header.format == "PPM":
        said = netpbm.parse_header(content, name)
        values = netpbm.as_bytes(netpbm.stored_values(content, said, name), said.maxval)
        return cv2.cvtColor(values, cv2.COLOR_GRAY2RGB) if values.ndim == 2 else values
    if header.format == "TIFF":
        return tiff.decode_image(content, name)
    if header.format == "BMP":
        pixels, _ = load_pixels(content, "BMP", name, "a BMP", to_rgb=True)
        return np.ascontiguousarray(pixels[..., :3])
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        image = None
    if image is None:
        raise DataError(f"{name}: cannot be decoded: the {header.format} is damaged")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if header.format == "JPEG":
        require_all_blocks(content, image, name)
    return image


def _stored_values(content: bytes, header: FileHeader, name: str) -> np.ndarray:
    """The values of a label, `(H, W)` or `(H, W, channels)`."""
    if header.format == "PPM":
        return netpbm.stored_values(content, netpbm.parse_header(content, name), name)
    if header.format == "TIFF":
        return tiff.stored_values(content, name)
    if header.format == "WEBP" and _is_lossy_webp(content):
        raise DataError(
            f"{name}: a lossy WebP is no label: it changes the values; save labels as PNG"
        )
    colors = content[25] if header.format == "PNG" else 0  # 0 is grey, 3 a palette
    if header.bits == 16 and colors:
        raise DataError(
            f"{name}: a label has one channel of 8 bits; this is a PNG of several with 16 bits"
        )
    values, _ = load_pixels(content, header.format, name, f"the {header.format}")
    if header.bits in (2, 4) and not colors:
        return values // (255 // (2**header.bits - 1))  # Pillow stretches them over 0..255
    return values


def _is_lossy_webp(content: bytes) -> bool:
    """Whether a chunk holds VP8 data. Source: RFC 9649, 2.5 and 2.6."""
    position = 12
    while position + 8 <= len(content):
        if content[position : position + 4] == b"VP8 ":
            return True
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return False


def _one_channel(values: np.ndarray, name: str) -> np.ndarray:
    """The label of one channel, or of grey stored as several."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.ndim == 2:
        return values
    channels = values.shape[2]
    if channels in (2, 4) and (values[..., -1] != 255).any():
        raise DataError(
            f"{name}: a label has one channel whose value is the class; this one has an alpha "
            "channel that is not full: which class its pixels have is not known; save it without"
        )
    first = values[..., 0]
    colours = values[..., : channels - 1 + channels % 2]
    if (colours != first[..., None]).any():
        raise DataError(
            f"{name}: a label has one channel whose value is the class; this is a colour image "
            f"({channels} channels that differ): `classes: {{mapping: class_dict.csv}}` in the "
            "data set reads it by its colours, data prepare converts exports (docs/own_data.md)"
        )
    return np.ascontiguousarray(first)


def _wh(header: FileHeader) -> str:
    return "{}x{}".format(*header.size_wh)


def _warn_once(subject: str, message: str) -> None:
    """A warning about the first file of a kind; thousands of equal ones would hide the others."""
    if subject not in _said:
        _said.add(subject)
        warn(f"{message} (said once)")
