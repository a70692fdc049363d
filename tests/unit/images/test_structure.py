"""Every file that programs write passes; what no program writes is refused at once."""

import io
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.reading import decode_image
from paddleseg_ext.images.structure import MAX_SCANS, essential, require_bounded_pixels
from tests.hostile_images import (
    ENDLESS,
    HOSTILE,
    REFUSED,
    chunk,
    endless_png,
    many_scans,
    png_header,
)

MOST_SECONDS = 1.5  # of one thread
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def with_segment(content: bytes, kind: int, data: bytes) -> bytes:
    """A JPEG with another segment at its start."""
    head = bytes([0xFF, kind]) + (len(data) + 2).to_bytes(2, "big")
    return content[:2] + head + data + content[2:]


def with_thumbnail(content: bytes, thumbnail: bytes) -> bytes:
    """A JPEG with another one, end marker and all, in its EXIF segment."""
    return with_segment(content, 0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail)


def with_profile(content: bytes, segments: int) -> bytes:
    """A JPEG with an ICC profile in so many segments; ICC.1, annex B.4."""
    for number in range(segments, 0, -1):
        data = (
            b"ICC_PROFILE\0"
            + bytes([number, segments])
            + b"\xff\xda\xff\xd9" * (16_000 // segments)
        )
        content = with_segment(content, 0xE2, data)
    return content


def decoded_alone(content: bytes) -> np.ndarray:
    """By OpenCV, from the file as it is."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.booleans(),
    st.integers(1, 100),
    st.sampled_from(["plain", "thumbnail", "icc", "large icc", "comment", "restarts", "appended"]),
    st.integers(0, 100),
)
@settings(max_examples=120, deadline=None)
def test_every_jpeg_that_pillow_writes(
    height: int, width: int, mode: str, progressive: bool, quality: int, extra: str, seed: int
) -> None:
    options: dict[str, object] = {"progressive": progressive, "quality": quality}
    if extra == "restarts":
        options["restart_marker_blocks"] = 1
    content = encode(noise(height, width, mode, seed), "JPEG", **options)
    if "icc" in extra:
        content = with_profile(content, 1 if extra == "icc" else 255)
    if extra == "comment":
        content = with_segment(content, 0xFE, b"\xff\xda\xff\xd9" * 1000)
    if extra == "thumbnail":
        content = with_thumbnail(content, encode(noise(60, 80), "JPEG"))
    if extra == "appended":  # as phones do: a short film, in which any two bytes come up
        content += np.random.default_rng(seed).bytes(200_000) + b"\xff\xda" * 1000
    assert essential(content, "x") is content
    np.testing.assert_array_equal(decode_image(content, "x"), decoded_alone(content))


@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from([cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE]),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 2]),
)
@settings(max_examples=30, deadline=None)
def test_every_jpeg_that_opencv_writes(
    height: int, width: int, color: int, progressive: int, restarts: int
) -> None:
    pixels = np.asarray(noise(height, width, "RGB" if color == cv2.IMREAD_COLOR else "L"))
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts]
    content = cv2.imencode(".jpg", pixels, flags)[1].tobytes()
    np.testing.assert_array_equal(decode_image(content, "x"), decoded_alone(content))


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["RGB", "L", "P", "1", "LA", "RGBA", "I;16"]),
    st.booleans(),
    st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_every_png_that_pillow_writes(
    height: int, width: int, mode: str, has_profile: bool, level: int
) -> None:
    image = noise(height, width).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    options: dict[str, object] = {"compress_level": level}
    if has_profile:
        options |= {"icc_profile": SRGB, "dpi": (72, 72)}
    if mode == "P":
        options["transparency"] = 3
    content = encode(image, "PNG", **options)
    require_bounded_pixels(content, "x")
    np.testing.assert_array_equal(decode_image(content, "x"), decoded_alone(content))


def test_interlaced_pixels_are_bounded_likewise() -> None:
    """The smallest widths take the most bytes beyond a picture's own."""
    for side in range(1, 40):
        rows = 0
        for left, top, across, down in ADAM7:
            wide, high = -(-(side - left) // across), -(-(side - top) // down)
            rows += high * (1 + wide * 3) if wide > 0 and high > 0 else 0
        assert rows <= side * (side * 3 + 4)


# PNG specification, 8.2: the first pixel and the distances of each pass.
ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


def test_a_truncated_jpeg_with_a_large_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thumbnail's end marker lies in the file's second half."""
    thumbnail = encode(noise(120, 160), "JPEG", quality=90)
    whole = with_thumbnail(encode(noise(200, 300), "JPEG"), thumbnail)
    decode_image(whole, "x")
    for length in (len(thumbnail) + 900, len(thumbnail) * 3 // 2, len(whole) - 2):
        with pytest.raises(DataError, match="truncated"):
            decode_image(whole[:length], "x")


def test_what_is_appended_to_a_whole_picture_is_nobodys_business() -> None:
    second = encode(noise(90, 90), "JPEG")
    whole = encode(noise(20, 30), "MPO", save_all=True, append_images=[noise(20, 30)])
    assert decode_image(whole + second[: len(second) // 2], "x").shape == (20, 30, 3)


def test_the_number_of_scans() -> None:
    own_scans = many_scans(0, 16).count(b"\xff\xda")
    essential(many_scans(MAX_SCANS - own_scans, 16), "x")
    with pytest.raises(DataError, match=f"at most {MAX_SCANS} scans"):
        essential(many_scans(MAX_SCANS - own_scans + 1, 16), "x")


@pytest.mark.parametrize("kind", sorted(set(HOSTILE) - ENDLESS))
def test_a_small_file_costs_little_time(kind: str) -> None:
    content = HOSTILE[kind]()
    start = time.thread_time()
    if kind in REFUSED:
        with pytest.raises(DataError, match=r"x: a (JPEG|PNG) "):
            decode_image(content, "x")
    else:
        decode_image(content, "x")
    assert time.thread_time() - start < MOST_SECONDS


def test_data_behind_the_last_row() -> None:
    with pytest.raises(DataError, match="more data than its pixels"):
        require_bounded_pixels(endless_png(8), "x")


@pytest.mark.parametrize(
    "content",
    [
        png_header(8, 8)[:8] + chunk(b"prVt", b"\0\0\xff\xff" * 4) + png_header(8, 8)[8:],
        png_header(8, 8) + png_header(9, 9)[8:] + chunk(b"IEND", b""),
        png_header(8, 8)[:8] + chunk(b"IHDR", b"") + chunk(b"IEND", b""),
    ],
)
def test_a_png_has_one_header_at_its_start(content: bytes) -> None:
    """Else the size that is checked would not be the size that is decoded."""
    with pytest.raises(DataError, match="one header"):
        essential(content, "x")
