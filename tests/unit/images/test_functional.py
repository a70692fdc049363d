"""Reading, resizing, padding and cropping."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images import functional as F
from paddleseg_ext.images.reading import decode_image, read_image, read_label

SIDES = st.integers(1, 24)


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 100 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


def test_images_are_read_as_rgb(tmp_path: Path) -> None:
    image = np.zeros((5, 7, 3), np.uint8)
    image[..., 0] = 200
    Image.fromarray(image).save(tmp_path / "red.png")
    np.testing.assert_array_equal(read_image(tmp_path / "red.png"), image)


def test_the_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(_noise(8, 16))
    exif = picture.getexif()
    exif[0x0112] = 6  # "rotate by 90 degrees"
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (8, 16, 3)


def test_a_palette_label_gives_the_index(tmp_path: Path) -> None:
    label = Image.fromarray(np.array([[0, 3], [255, 18]], np.uint8), mode="P")
    label.putpalette([200, 10, 10] * 256)
    label.save(tmp_path / "label.png")
    assert read_label(tmp_path / "label.png").tolist() == [[0, 3], [255, 18]]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_grey_label_of_few_bits_gives_what_is_stored(depth: int, tmp_path: Path) -> None:
    values = [3, 1, 0, 2] if depth > 1 else [1, 1, 0, 1]
    bits = "".join(format(value, f"0{depth}b") for value in values).ljust(16, "0")
    row = b"\0" + int(bits, 2).to_bytes(2, "big")  # no filter, then the pixels
    header = struct.pack(">IIBBBBB", 16 // depth, 1, depth, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + checksum
    (tmp_path / "label.png").write_bytes(content)
    assert read_label(tmp_path / "label.png")[0, :4].tolist() == values


def _damaged(kind: str, path: Path) -> Path:
    if kind == "missing":
        return path
    _, encoded = cv2.imencode(path.suffix, _noise(64, 64))
    content = {
        "empty": b"",
        "text": b"not an image at all",
        "truncated": encoded.tobytes()[: len(encoded) // 2],
    }[kind]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated"])
def test_a_damaged_file_is_named(kind: str, suffix: str, tmp_path: Path) -> None:
    path = _damaged(kind, tmp_path / f"frame{suffix}")
    for read in (read_image, read_label):
        with pytest.raises(DataError, match="frame") as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


def test_no_damage_to_a_png_goes_unseen(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """A byte changed or an end cut off is refused, wherever it is; and libpng stays silent."""
    label = np.kron(np.arange(20).reshape(4, 5), np.ones((6, 6))).astype(np.uint8)
    path = tmp_path / "label.png"
    cv2.imwrite(str(path), label)
    content = path.read_bytes()
    damaged = [content[:end] for end in range(1, len(content))]
    for place, value in enumerate(content[8:], 8):
        damaged.append(content[:place] + bytes([value ^ 0x55]) + content[place + 1 :])
    for altered in damaged:
        path.write_bytes(altered)
        for read in (read_label, read_image):
            with pytest.raises(DataError) as caught:
                read(path)
            assert str(caught.value).startswith(str(path))
    assert capfd.readouterr().err == ""


def test_a_truncated_jpeg_is_found_behind_its_thumbnail(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".jpg", _noise(64, 64))
    content = encoded.tobytes()
    comment = b"\xff\xfe\x00\x0a" + b"thumb\xff\xd9."  # ends as a whole picture would
    whole = content[:2] + comment + content[2:]
    (tmp_path / "frame.jpg").write_bytes(whole + b"what a phone appends")
    assert read_image(tmp_path / "frame.jpg").shape == (64, 64, 3)
    (tmp_path / "frame.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        read_image(tmp_path / "frame.jpg")


def test_a_header_that_promises_too_many_pixels() -> None:
    """One limit for images and labels, checked before a pixel is decoded."""
    bomb = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 65000, 65000, 1, 24, *[0] * 6)
    with pytest.raises(DataError, match=r"bomb\.bmp: 65000x65000 are more pixels"):
        decode_image(bomb, "bomb.bmp")


def test_a_colour_image_is_no_label(tmp_path: Path) -> None:
    Image.fromarray(_noise(4, 4)).save(tmp_path / "label.png")
    with pytest.raises(DataError, match="one channel"):
        read_label(tmp_path / "label.png")


def test_a_label_above_255_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "label.png"), np.full((3, 3), 300, np.uint16))
    with pytest.raises(DataError, match="300"):
        read_label(tmp_path / "label.png")


@pytest.mark.parametrize("value", [1.5, -1.0, 256.0, float("nan")])
def test_a_label_of_fractions_is_refused(value: float, tmp_path: Path) -> None:
    """No data is often written as NaN; as a byte it would be class 0."""
    Image.fromarray(np.array([[3, value]], np.float32)).save(tmp_path / "label.tif")
    with pytest.raises(DataError, match="must be whole"):
        read_label(tmp_path / "label.tif")
    Image.fromarray(np.array([[3, 255]], np.float32)).save(tmp_path / "label.tif")
    assert read_label(tmp_path / "label.tif").tolist() == [[3, 255]]


@pytest.mark.parametrize("value", [7, [7], [7, 7, 7]])
def test_padding_fills_every_channel(value: float | list[float]) -> None:
    assert F.pad(np.zeros((1, 1, 3), np.uint8), (2, 1), value)[0, 1].tolist() == [7, 7, 7]


def test_normalize_is_float32_in_the_stated_order() -> None:
    image = _noise(6, 6)
    mean, std = np.float32([0.3257, 0.3690, 0.3223]), np.float32([0.2112, 0.2148, 0.2115])
    result = F.normalize(image, mean.tolist(), std.tolist())
    assert result.dtype == np.float32
    expected = (image.astype(np.float32) / np.float32(255) - mean) / std
    np.testing.assert_array_equal(result, expected)


@given(SIDES, SIDES, SIDES, SIDES)
@settings(max_examples=40, deadline=None)
def test_sizes_are_width_then_height(h: int, w: int, target_h: int, target_w: int) -> None:
    image, label = _noise(h, w), _noise(h, w)[..., 0]
    assert F.resize_image(image, (target_w, target_h)).shape == (target_h, target_w, 3)
    resized = F.resize_label(label, (target_w, target_h))
    assert resized.shape == (target_h, target_w)
    assert set(np.unique(resized)) <= set(np.unique(label))
    padded = F.pad(image, (target_w, target_h), 127.5)
    assert padded.shape == (max(h, target_h), max(w, target_w), 3)
    np.testing.assert_array_equal(padded[:h, :w], image)
    assert (padded[h:] == 127.5).all()
    assert (padded[:, w:] == 127.5).all()


def _direct_bilinear(values: np.ndarray, height: int, width: int, corners: bool) -> np.ndarray:
    """The definition, pixel by pixel."""
    result = np.zeros((len(values), height, width))
    rows, columns = values.shape[1:]
    for y in range(height):
        for x in range(width):
            if corners:
                sy = y * (rows - 1) / max(height - 1, 1)
                sx = x * (columns - 1) / max(width - 1, 1)
            else:
                sy = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
                sx = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            fy, fx = sy - y0, sx - x0
            top = values[:, y0, x0] * (1 - fx) + values[:, y0, x1] * fx
            low = values[:, y1, x0] * (1 - fx) + values[:, y1, x1] * fx
            result[:, y, x] = top * (1 - fy) + low * fy
    return result


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_logits_are_resized_by_the_definition(
    h: int, w: int, height: int, width: int, corners: bool
) -> None:
    logits = np.random.default_rng(1).normal(0, 5, (3, h, w)).astype(np.float32)
    resized = F.resize_logits(logits, (width, height), corners)
    assert resized.shape == (3, height, width)
    assert resized.dtype == np.float32
    expected = _direct_bilinear(logits, height, width, corners)
    np.testing.assert_allclose(resized, expected, atol=1e-4)


def test_pillows_filter_averages_where_it_shrinks() -> None:
    """Bytes round as Pillow does; the mean of a fine pattern is kept, which OpenCV's loses."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[::4] = 200
    halved = F.resize_image(image, (16, 16), F.PILLOW_LINEAR)
    expected = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(halved, expected)
    floats = F.resize_image(image.astype(np.float32), (16, 16), F.PILLOW_LINEAR)
    np.testing.assert_array_equal(floats, expected.astype(np.float32))
    assert abs(float(halved.mean()) - 50.0) < 1.0
    # Values that are no bytes are not rounded.
    fine = F.resize_image(image / np.float32(255), (16, 16), F.PILLOW_LINEAR)
    np.testing.assert_allclose(fine * 255, expected, atol=1.0)
    assert np.any(fine * 255 != np.rint(fine * 255))
