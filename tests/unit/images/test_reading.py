"""One reader: what it reads, how, and what it refuses by name."""

import io
import os
import socket
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.orientation import turn_upright
from paddleseg_ext.images.reading import (
    decode_image,
    decode_label_values,
    read_image,
    read_label,
    turned_hint,
)

COLOURS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
CLASSES = np.random.default_rng(4).integers(0, 3, (24, 40), np.uint8)
TAG = 0x0112


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def by_opencv(suffix: str, array: np.ndarray) -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped_and_nothing_multiplied(suffix: str, depth: int) -> None:
    scale = 1 if depth == 8 else 257
    alpha = np.full((24, 40, 1), 128, np.uint8)
    pixels = np.dstack([COLOURS[..., ::-1], alpha]).astype(np.uint8 if depth == 8 else np.uint16)
    np.testing.assert_array_equal(decode_image(by_opencv(suffix, pixels * scale), "x"), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_that_pillow_wrote(kind: str) -> None:
    pixels = np.dstack([COLOURS, np.full((24, 40), 7, np.uint8)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(pixels), kind, **options)
    np.testing.assert_array_equal(decode_image(content, "x"), COLOURS)


def test_alpha_that_was_multiplied_in_is_refused() -> None:
    content = encoded(Image.fromarray(np.dstack([COLOURS, CLASSES])), "TIFF")
    entry = struct.pack("<HHI", 338, 3, 1)
    assert content.count(entry + b"\2") == 1
    content = content.replace(entry + b"\2", entry + b"\1")
    with pytest.raises(DataError, match=r"x: a TIFF whose colours are multiplied by its alpha"):
        decode_image(content, "x")


@pytest.mark.parametrize(("channels", "dtype"), [(1, "f4"), (3, "f4"), (1, "f8")])
def test_a_tiff_of_other_samples_is_refused_by_name(dtype: str, channels: int) -> None:
    pixels = COLOURS[..., :channels].astype(dtype)
    signed = Image.fromarray(CLASSES.astype(np.int32))
    with pytest.raises(DataError, match="x: a TIFF of 1 x 32-bit signed integers"):
        decode_image(encoded(signed, "TIFF"), "x")
    with pytest.raises(DataError, match=rf"x: a TIFF of {channels} x \d+-bit (floats|signed int)"):
        decode_image(by_opencv(".tif", pixels), "x")


def with_entry(content: bytes, tag: int, value: int, renamed: int = 0) -> bytes:
    """A little-endian TIFF with another value of a tag, or another tag in its place."""
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    places = (start + 2 + 12 * number for number in range(count))
    place = next(at for at in places if struct.unpack_from("<H", content, at) == (tag,))
    entry = struct.pack("<HHII", renamed or tag, 4, 1, value)
    return content[:place] + entry + content[place + 12 :]


@pytest.mark.parametrize(
    ("tag", "value", "renamed", "said"),
    [
        (278, 12, 0, "some strips or tiles of the TIFF are missing"),  # of 24 rows, and one strip
        (273, 0, 0, "some strips or tiles of the TIFF are missing"),  # sparse, as GDAL writes it
        (262, 1, 263, "does not say what its values mean"),  # no PhotometricInterpretation
    ],
)
def test_a_tiff_of_which_pillow_makes_up_pixels(
    tag: int, value: int, renamed: int, said: str
) -> None:
    content = with_entry(encoded(Image.fromarray(CLASSES), "TIFF"), tag, value, renamed)
    for decode in (decode_image, decode_label_values):
        with pytest.raises(DataError, match=f"^x: .*{said}"):
            decode(content, "x")


def test_a_second_channel_of_a_tiff_label_is_not_dropped() -> None:
    both = Image.fromarray(np.dstack([CLASSES, np.full_like(CLASSES, 255)]), "LA")
    content = encoded(both, "TIFF")
    np.testing.assert_array_equal(decode_label_values(content, "x"), CLASSES)  # a full alpha
    with pytest.raises(DataError, match="x: a label has one channel; this is a TIFF of 2 x 8-bit"):
        decode_label_values(with_entry(content, 338, 0), "x")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits_become_their_high_byte(suffix: str, grey: bool) -> None:
    deep = np.random.default_rng(5).integers(0, 65536, (24, 40, 3), np.uint16)
    expected = (deep >> 8).astype(np.uint8)
    if grey and suffix == ".ppm":
        suffix = ".pgm"
    if grey:
        expected = np.repeat(expected[..., :1], 3, axis=2)
    content = by_opencv(suffix, np.ascontiguousarray(deep[..., 0] if grey else deep[..., ::-1]))
    np.testing.assert_array_equal(decode_image(content, "x"), expected)


@pytest.mark.parametrize("maxval", [1, 100, 255, 300, 4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_a_ppm_is_scaled_by_its_largest_value(kind: int, maxval: int) -> None:
    values = np.array([0, maxval // 2, maxval, maxval, 1, 0], np.uint16)
    if kind < 4:
        pixels = " ".join(map(str, values)).encode()
    else:
        pixels = values.astype(">u2" if maxval > 255 else np.uint8).tobytes()
    width = 2 if kind in (3, 6) else 6
    content = b"P%d\n# by hand\n%d 1\n%d\n" % (kind, width, maxval) + pixels
    image = decode_image(content, "x")
    found = image.reshape(-1) if kind in (3, 6) else image[0, :, 0]
    assert found[2] == found[3] == 255 and found[0] == 0
    np.testing.assert_allclose(found, values / maxval * 255, atol=1)
    if kind in (2, 5) and maxval < 256:  # of a label the values are the classes
        assert decode_label_values(content, "x")[0].tolist() == values.tolist()


@pytest.mark.parametrize("content", [b"P6 2 2 0\n", b"P6 2 2 255\n123", b"P5 1 1 9\n\x0b", b"P6"])
def test_a_damaged_ppm(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^x: (damaged|truncated|cannot)"):
        decode_image(content, "x")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF lzw"])
def test_the_orientation_tag_in_every_format(kind: str, orientation: int) -> None:
    tag = Image.Exif()
    tag[TAG] = orientation
    name, *packed = kind.split()
    options = {"exif": tag} if name != "TIFF" else {"tiffinfo": {TAG: orientation}}
    if packed:
        options["compression"] = "tiff_lzw"
    if name == "WEBP":
        options["lossless"] = True
    content = encoded(Image.fromarray(COLOURS), name, **options)
    plain = {k: v for k, v in options.items() if k not in ("exif", "tiffinfo")}
    stored = decode_image(encoded(Image.fromarray(COLOURS), name, **plain), "x")
    np.testing.assert_array_equal(decode_image(content, "x"), stored)
    turned = decode_image(content, "x", "upright")
    np.testing.assert_array_equal(turned, turn_upright(stored, orientation))
    shown = Image.fromarray(stored)
    shown.getexif()[TAG] = orientation
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(shown)))
    if name != "JPEG" and orientation > 1:
        content = encoded(Image.fromarray(CLASSES), name, **options)
        with pytest.raises(DataError, match="orientation tag"):
            decode_label_values(content, "x")


def test_sizes_that_differ_by_the_tag_say_so(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[TAG] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", exif=tag)
    assert "orientation tag 6" in turned_hint(tmp_path / "a.jpg", (24, 40), (40, 24))
    assert turned_hint(tmp_path / "a.jpg", (24, 40), (24, 41)) == ""
    Image.fromarray(COLOURS).save(tmp_path / "b.jpg")
    assert turned_hint(tmp_path / "b.jpg", (24, 40), (40, 24)) == ""


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("JPEG", {"quality": 100}, "a JPEG is no label"),
        ("WEBP", {"quality": 90}, "a lossy WebP is no label"),
        ("TIFF", {"compression": "jpeg"}, "compression of this TIFF"),
        ("JPEG2000", {}, "this is a JPEG 2000"),
    ],
)
def test_lossy_files_are_no_labels(kind: str, options: dict, message: str) -> None:
    image = Image.fromarray(CLASSES)
    content = encoded(image.convert("RGB") if kind == "WEBP" else image, kind, **options)
    with pytest.raises(DataError, match=f"x: .*{message}"):
        decode_label_values(content, "x")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"])
def test_a_label_whose_channels_are_equal(kind: str, mode: str) -> None:
    if (kind == "PPM" and mode in ("LA", "RGBA", "P")) or (kind == "BMP" and mode == "LA"):
        pytest.skip("Pillow writes none")
    image = Image.fromarray(CLASSES)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9, 200, 10, 10])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    if (kind, mode) in (("WEBP", "P"), ("GIF", "RGB"), ("GIF", "RGBA"), ("GIF", "LA")):
        pytest.skip("another image is written")
    content = encoded(image if mode == "P" else image.convert(mode), kind, **options)
    np.testing.assert_array_equal(decode_label_values(content, "x"), CLASSES)


def test_a_label_with_alpha_or_deep_colours_is_named() -> None:
    half = np.dstack([CLASSES, np.full_like(CLASSES, 100)])
    with pytest.raises(DataError, match="alpha channel that is not full"):
        decode_label_values(encoded(Image.fromarray(half), "PNG"), "x")
    deep = np.dstack([CLASSES] * 3).astype(np.uint16)
    for suffix in (".png", ".tif"):
        with pytest.raises(DataError, match="x: a label has one channel"):
            decode_label_values(by_opencv(suffix, deep), "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"shapes": []}', "a JSON file; draw label images"),
        (b"<annotation/>", "an XML or HTML file"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"0 0.5 0.5 0.1", "an image file is expected"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "label.png").write_bytes(content)
    for read in (read_label, read_image):
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / "label.png")
        assert "object at" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this system's files")
def test_only_regular_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
        listening.bind("socket.png")
        for name in ("pipe", "zero", "folder", "socket"):
            for read in (read_image, read_label):
                with pytest.raises(DataError, match=rf"{name}\.png"):
                    read(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="null byte"):
        read_image("a\0.png")


@pytest.mark.parametrize("restarts", [0, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_last_blocks(
    mode: str, restarts: int, capfd: pytest.CaptureFixture
) -> None:
    image = Image.fromarray(np.kron(COLOURS, np.ones((8, 8, 1), np.uint8))).convert(mode)
    whole = encoded(image, "JPEG", quality=90, restart_marker_blocks=restarts)
    decode_image(whole, "x")
    for cut in (300, len(whole) // 2):
        short = whole[: -2 - cut].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(DataError, match="x: the JPEG is damaged"):
            decode_image(short, "x")
    frame = whole.index(b"\xff\xc0")  # a header that promises more blocks than there are
    tall = whole[: frame + 5] + struct.pack(">HH", 640, 960) + whole[frame + 9 :]
    with pytest.raises(DataError, match="x: the JPEG is damaged"):
        decode_image(tall, "x")


def test_a_progressive_jpeg_without_its_last_blocks() -> None:
    image = Image.fromarray(np.kron(COLOURS, np.ones((8, 8, 1), np.uint8)))
    whole = encoded(image, "JPEG", quality=90, progressive=True)
    decode_image(whole, "x")
    with pytest.raises(DataError, match="x: the JPEG is damaged"):
        decode_image(whole[:-102].rstrip(b"\xff") + b"\xff\xd9", "x")


def test_a_grey_jpeg_is_whole() -> None:
    grey = Image.new("RGB", (70, 50), (128, 128, 128))
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}):
        assert (decode_image(encoded(grey, "JPEG", **options), "x") == 128).all()


def test_animations_are_refused() -> None:
    frames = {"save_all": True, "append_images": [Image.fromarray(COLOURS[::-1])]}
    for kind in ("PNG", "WEBP"):
        with pytest.raises(DataError, match="animation"):
            decode_image(encoded(Image.fromarray(COLOURS), kind, **frames), "x")


def test_one_limit_for_images_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own would be 179 million
    content = encoded(Image.fromarray(CLASSES), "PNG")
    np.testing.assert_array_equal(decode_label_values(content, "x"), CLASSES)
    monkeypatch.setattr("paddleseg_ext.images.reading.MAX_PIXELS", 959)
    for decode in (decode_image, decode_label_values):
        with pytest.raises(DataError, match="24 are more pixels than the 959"):
            decode(content, "x")
