"""Images from strangers are decoded as `infer.py` decodes them, or refused before they are."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.serving.images import (
    MAX_SIDE,
    ImageLimits,
    Refused,
    decode_upload,
)
from tests.hostile_images import ENDLESS, HOSTILE, REFUSED, png_bomb

from .conftest import LIMITS, encode, noise, png

RGB = Image.fromarray(noise(24, 33))
GREY = Image.fromarray(noise(24, 33, 1))
DEEP = Image.fromarray(np.arange(24 * 33, dtype=np.uint16).reshape(24, 33) * 80)
KINDS = {
    "png": encode(RGB, "PNG"),
    "png grey": encode(GREY, "PNG"),
    "png grey 16 bit": encode(DEEP, "PNG"),
    "png 1 bit": encode(RGB.convert("1"), "PNG"),
    "png palette": encode(RGB.convert("P"), "PNG"),
    "png palette, transparent": encode(RGB.convert("P"), "PNG", transparency=3),
    "png alpha": encode(Image.fromarray(noise(24, 33, 4)), "PNG"),
    "png grey alpha": encode(Image.fromarray(noise(24, 33, 4)).convert("LA"), "PNG"),
    "jpeg": encode(RGB, "JPEG"),
    "jpeg grey": encode(GREY, "JPEG"),
    "jpeg cmyk": encode(RGB.convert("CMYK"), "JPEG"),
    "jpeg progressive": encode(RGB, "JPEG", progressive=True),
    "webp": encode(RGB, "WEBP"),
    "webp alpha": encode(Image.fromarray(noise(24, 33, 4)), "WEBP", lossless=True),
    "bmp": encode(RGB, "BMP"),
    "bmp palette": encode(RGB.convert("P"), "BMP"),
    "mpo": encode(RGB, "MPO", save_all=True, append_images=[GREY.convert("RGB")]),
}
MOST_SECONDS = 2.0  # of one thread; without bounds it would be 4 to 100
AS_IT_IS = Preprocess([])


def png_of_size(width: int, height: int) -> bytes:
    """Header and end of a PNG that promises pixels and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_decoded_as_infer_does(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(KINDS[kind])
    decoded = decode_upload(KINDS[kind], LIMITS, AS_IT_IS, "stored")
    np.testing.assert_array_equal(decoded, read_image(file))
    assert decoded.shape == (24, 33, 3) and decoded.dtype == np.uint8


def test_sixteen_bits_become_eight() -> None:
    decoded = decode_upload(KINDS["png grey 16 bit"], LIMITS, AS_IT_IS, "stored")
    np.testing.assert_allclose(decoded[:, :, 0], np.asarray(DEEP) / 256, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag(orientation: int, tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    content = encode(RGB, "PNG", exif=tag)
    file = tmp_path / "image.png"
    file.write_bytes(content)
    stored = decode_upload(content, LIMITS, AS_IT_IS, "stored")
    np.testing.assert_array_equal(stored, read_image(file))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(decode_upload(content, LIMITS, AS_IT_IS, "upright"), expected)


def animation(kind: str) -> bytes:
    return encode(RGB, kind, save_all=True, append_images=[RGB.rotate(9)])


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 400, "the body is empty"),
        (b"\x89PNG\r\n\x1a\n" + KINDS["png"][33:], 400, "one header is expected"),
        (b"hello", 415, "an image file is expected (PNG, JPEG, WEBP, BMP)"),
        (encode(RGB, "TIFF"), 415, "an image file is expected (PNG, JPEG, WEBP, BMP)"),
        (encode(RGB, "GIF"), 415, "an image file is expected (PNG, JPEG, WEBP, BMP)"),
        (animation("PNG"), 415, "an animation"),
        (animation("WEBP"), 415, "an animation"),
        (KINDS["png"][:-20], 400, "the PNG is truncated"),
        (KINDS["png"][:90] + b"?" + KINDS["png"][91:], 400, "checksum"),
        (KINDS["jpeg"][: len(KINDS["jpeg"]) * 2 // 3], 400, "the JPEG is truncated"),
        (KINDS["webp"][: len(KINDS["webp"]) // 2], 400, "header cannot be read"),
        (KINDS["png"][:20], 400, "the PNG is truncated"),
        (b"\0" * (LIMITS.max_bytes + 1), 413, f"at most {LIMITS.max_bytes} bytes"),
        (
            png_of_size(400, 300),
            413,
            "at most 100000 pixels and 16384 a side is expected, got 400x",
        ),
        (png_of_size(MAX_SIDE + 1, 1), 413, "got 16385x1"),
        (png_of_size(60_000, 60_000), 413, "at most 100000 pixels"),
        (png_of_size(40, 30), 400, "cannot be decoded"),
    ],
)
def test_refusals(content: bytes, status: int, sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        decode_upload(content, LIMITS, AS_IT_IS, "stored")
    assert refusal.value.status == status
    assert sentence in refusal.value.sentence and "\n" not in refusal.value.sentence


def test_a_bomb_is_refused_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's `getexif` decodes a PNG that has no orientation tag."""
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("Pillow decoded pixels"))
    with pytest.raises(Refused) as refusal:
        decode_upload(png_bomb(1000, 900), LIMITS, AS_IT_IS, "upright")
    assert refusal.value.status == 413
    for kind in ("png", "png alpha", "jpeg"):
        decode_upload(KINDS[kind], LIMITS, AS_IT_IS, "upright")


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_small_file_costs_little_time(kind: str) -> None:
    """Seconds to minutes each, where decoders were left to work through them."""
    limits = ImageLimits(1 << 24, 4_300_000)
    content = HOSTILE[kind]()
    start = time.thread_time()
    try:
        decode_upload(content, limits, AS_IT_IS, "upright")
    except Refused as refusal:
        assert refusal.status == 400 and kind in REFUSED | ENDLESS
    else:
        assert kind not in REFUSED | ENDLESS
    assert time.thread_time() - start < MOST_SECONDS


@pytest.mark.parametrize(
    ("kind", "place"), [("JPEG", "exif"), ("PNG", "exif"), ("WEBP", "exif"), ("JPEG", "xmp")]
)
def test_upright_is_what_browsers_show(kind: str, place: str) -> None:
    """They ignore XMP; and the tag in WebP, for which the page asks for stored pixels."""
    tag = Image.Exif()
    tag[0x0112] = 6
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = encode(RGB, kind, **({"exif": tag} if place == "exif" else {"xmp": xmp}))
    upright = decode_upload(content, LIMITS, AS_IT_IS, "upright")
    is_turned = place == "exif"
    assert upright.shape == ((33, 24, 3) if is_turned else (24, 33, 3))


def test_what_the_transforms_would_blow_up_is_refused() -> None:
    """One pixel high, and the short side becomes 64."""
    enlarging = Preprocess([{"type": "ResizeByShort", "short_size": 64}])
    with pytest.raises(Refused, match="after the bundle's transforms, got 64000x64") as refusal:
        decode_upload(png(1, 1000), LIMITS, enlarging, "stored")
    assert refusal.value.status == 413
    small = Preprocess([{"type": "Padding", "target_size": [16, 16]}])
    with pytest.raises(Refused, match="Padding") as refusal:
        decode_upload(png(), LIMITS, small, "stored")
    assert refusal.value.status == 422


def test_upright_sizes_are_checked_upright() -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    content = encode(RGB, "PNG", exif=tag)
    fits = Preprocess([{"type": "Padding", "target_size": [24, 33]}])
    assert decode_upload(content, LIMITS, fits, "upright").shape == (33, 24, 3)
    with pytest.raises(Refused, match="Padding"):
        decode_upload(content, LIMITS, fits, "stored")


def test_the_limit_is_inclusive() -> None:
    content = png(20, 30)
    exact = ImageLimits(len(content), 600)
    assert decode_upload(content, exact, AS_IT_IS, "stored").shape == (20, 30, 3)
