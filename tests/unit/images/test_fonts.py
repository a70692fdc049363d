"""Fonts for class names: Pillow's own, the system's, or numbers."""

import pytest
from PIL import ImageFont

from paddleseg_ext.images import fonts
from paddleseg_ext.images.fonts import drawable_names

SIZE = 13


@pytest.fixture(autouse=True)
def _forget() -> None:
    fonts._font_of.cache_clear()
    fonts._warn_once.cache_clear()


def test_numbers_stand_for_names_that_no_font_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ("no-such-font.ttf",))
    names = ["sky", "路面", "tree top", "café"]
    for _ in range(2):
        font, drawn = drawable_names(names, SIZE)
    assert list(drawn.values()) == ["sky", "class 1", "tree top", "class 3"]
    assert font.getlength("sky") == ImageFont.load_default(SIZE).getlength("sky")
    assert capsys.readouterr().out.count("no font of this system draws '路面'") == 1


def test_a_font_of_the_system_that_has_all_letters(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        expected = ImageFont.truetype("DejaVuSans.ttf", SIZE)
    except OSError:
        pytest.skip("DejaVu is not installed")
    font, drawn = drawable_names(["café", "дорога", "sky"], SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont) and font.getname() == expected.getname()
    assert list(drawn.values()) == ["café", "дорога", "sky"]
    assert drawable_names(["sky"], SIZE)[0].getlength("é") != font.getlength("é")
    assert not capsys.readouterr().out
