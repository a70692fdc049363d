"""Headers are read without decoding pixels, whatever Pillow's own limit is."""

import io
from pathlib import Path

import pytest
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.header import FORMATS, opened_header


def _encode(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 30)).save(content, kind)
    return content.getvalue()


def test_a_header_from_a_path_or_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {kind: _encode(kind) for kind in FORMATS}
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    for kind, content in contents.items():
        (tmp_path / "a").write_bytes(content)
        for file in (content, tmp_path / "a"):
            with opened_header(file, "a") as header:
                assert (header.size, header.mode, header.format) == ((40, 30), "RGB", kind)


def test_only_the_formats_that_are_named() -> None:
    message = r"^a\.bmp: its header .* one of PNG, JPEG is expected"
    header = opened_header(_encode("BMP"), "a.bmp", ("PNG", "JPEG"))
    with pytest.raises(DataError, match=message), header:
        pass


def test_any_size_lifts_pillows_limit_for_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with opened_header(_encode("PNG"), "a", any_size=True) as header:
        assert header.size == (40, 30)
        assert Image.MAX_IMAGE_PIXELS == 500
    with pytest.raises(DataError), opened_header(_encode("PNG"), "a"):
        pass
