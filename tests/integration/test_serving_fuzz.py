"""Damaged files against the service and `infer.py`: both live, and agree on what is an image."""

import io
import json
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.hostile_images import ENDLESS, HOSTILE, png_bomb

from .conftest import load_script
from .serving import serving

WAIT_S = 60.0
PNG_HEAD = 8


def healthy_files() -> list[bytes]:
    """One of each kind that the service takes, small."""
    random = np.random.default_rng(11)
    rgb = Image.fromarray(random.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    deep = Image.fromarray(random.integers(0, 65536, (24, 40), dtype=np.uint16))
    tag = Image.Exif()
    tag[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict]] = [
        (rgb, "PNG", {}),
        (rgb.convert("P"), "PNG", {"transparency": 1}),
        (deep, "PNG", {}),
        (rgb.convert("LA"), "PNG", {}),
        (rgb, "JPEG", {"exif": tag}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "JPEG", {"progressive": True, "restart_marker_blocks": 2}),
        (rgb, "WEBP", {"exif": tag}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (rgb, "BMP", {}),
        (rgb.convert("P"), "BMP", {}),
    ]
    files = []
    for image, kind, options in kinds:
        content = io.BytesIO()
        image.save(content, kind, **options)
        files.append(content.getvalue())
    return files


def with_right_checksums(content: bytes) -> bytes:
    """A changed PNG whose chunks' checksums fit again: the damage reaches the decoder."""
    mended, at = bytearray(content), PNG_HEAD
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if end > len(content):
            break
        mended[end - 4 : end] = zlib.crc32(content[at + 4 : end - 4]).to_bytes(4, "big")
        at = end
    return bytes(mended)


def flip(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for at in random.integers(0, len(changed), random.integers(1, 9)):
        changed[at] ^= 1 << random.integers(0, 8)
    return bytes(changed)


def flip_head(content: bytes, random: np.random.Generator) -> bytes:
    head = min(64, len(content))
    return flip(content[:head], random) + content[head:]


def overwrite(content: bytes, random: np.random.Generator) -> bytes:
    start = int(random.integers(0, len(content)))
    filling = bytes([int(random.choice([0, 127, 255]))]) * int(random.integers(1, 17))
    return content[:start] + filling + content[start + len(filling) :]


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(0, len(content))]


def repeat(content: bytes, random: np.random.Generator) -> bytes:
    start, end = sorted(random.integers(0, len(content), 2))
    return content[:end] + content[start:end] * 3 + content[end:]


def append(content: bytes, random: np.random.Generator) -> bytes:
    return content + random.bytes(int(random.integers(1, 400)))


MUTATIONS: list[Callable[[bytes, np.random.Generator], bytes]] = [
    flip,
    flip_head,
    overwrite,
    cut,
    repeat,
    append,
    lambda content, random: with_right_checksums(flip(content, random)),
]


def corpus(count: int) -> list[bytes]:
    """`count` mutations, the same in every run."""
    files = healthy_files()
    random = np.random.default_rng(2024)
    mutations = [MUTATIONS[i % len(MUTATIONS)] for i in range(count)]
    return [mutate(files[i % len(files)], random) for i, mutate in enumerate(mutations)]


def hostile_names() -> list[tuple[str, bytes]]:
    """Charset of a multipart body and the name of its part."""
    charsets = ["utf-8", "utf-7", "utf-16", "unicode_escape", "raw_unicode_escape", "idna", "hex"]
    names = [b"\\ud800.png", b"+2AA-.png", b"\xed\xa0\x80", b"a\0b", b"../../x", b"", b"x" * 9000]
    return [(charset, name) for charset in [*charsets, "no-such"] for name in names]


def test_hostile_files_and_names(bundle: Path, tmp_path: Path) -> None:
    """Small files that kept a decoder busy for minutes, and names that no JSON holds."""
    image = healthy_files()[0]
    kinds = {kind for kind in HOSTILE if "4,000,000 pixels" not in kind} - ENDLESS
    with serving(bundle, "--backend", "paddle") as server:
        with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
            for kind in kinds | ENDLESS:
                start = time.monotonic()
                response = client.post("/v1/segment?output=json", content=HOSTILE[kind]())
                assert response.status_code in (200, 400), (kind, response.text)
                assert time.monotonic() - start < WAIT_S / 2, kind
            response = client.post("/v1/segment", content=png_bomb(4000, 4000))
            assert response.status_code == 413
            for charset, name in hostile_names():
                head = b'--x\r\nContent-Disposition: form-data; name="a"; filename="' + name
                media = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
                body = head + b'"\r\n\r\n' + image + b"\r\n--x--\r\n"
                response = client.post("/v1/segment:batch", content=body, headers=media)
                assert response.status_code in (200, 400), (charset, name, response.text)
            assert 'status="5' not in client.get("/metrics").text
        assert server.stop() == 0
    for kind in kinds:
        (tmp_path / f"{kind}.png").write_bytes(HOSTILE[kind]())
    arguments = ["--config", str(bundle), "--image_path", str(tmp_path), "--cpu_threads", "1"]
    start = time.monotonic()
    load_script("infer").main(
        [*arguments, "--backend", "paddle", "--device", "cpu", "--save_dir", str(tmp_path / "out")]
    )
    assert time.monotonic() - start < WAIT_S
    inferred = json.loads((tmp_path / "out" / "inference.json").read_text())
    assert inferred["num_predicted"] + len(inferred["errors"]) == len(kinds)


@pytest.mark.parametrize("count", [40, pytest.param(600, marks=pytest.mark.slow)])
def test_damaged_files(count: int, bundle: Path, tmp_path: Path) -> None:
    """A label map or one sentence for every file, and the same label map from both."""
    contents = corpus(count)
    for i, content in enumerate(contents):
        (tmp_path / f"{i:04d}.png").write_bytes(content)
    arguments = ["--config", str(bundle), "--image_path", str(tmp_path), "--cpu_threads", "1"]
    save_dir = tmp_path / "out"
    status = load_script("infer").main(
        [*arguments, "--backend", "paddle", "--device", "cpu", "--save_dir", str(save_dir)]
    )
    inferred = json.loads((save_dir / "inference.json").read_text())
    assert status == (1 if inferred["errors"] else 0)
    assert inferred["num_predicted"] + len(inferred["errors"]) == count
    answered = 0
    with serving(bundle, "--backend", "paddle") as server:
        with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
            for i, content in enumerate(contents):
                response = client.post("/v1/segment", content=content)
                label_map = save_dir / "label_maps" / f"{i:04d}.png"
                if response.status_code == 200:
                    answered += 1
                    assert response.content == label_map.read_bytes(), i
                else:
                    assert response.status_code in (400, 413, 415, 422), (i, response.text)
                    assert re.fullmatch(r"[^\n]{10,300}", response.json()["error"]), i
            assert client.get("/healthz").status_code == 200
        assert server.stop() == 0
    assert 0 < answered < count
