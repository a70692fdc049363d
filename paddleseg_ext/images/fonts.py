"""Fonts that can draw a text: Pillow's own has ASCII letters and little more."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

from PIL import ImageFont

from paddleseg_ext.common.log import warn

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Files that systems install, by the name under which Pillow finds them; Western letters first.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "msyh.ttc",
    "simhei.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "malgun.ttf",
    "Arial Unicode.ttf",
)
_PROBE_SIZE = 13  # of letters that are looked for in a font
_NO_LETTER = "\U0010ffff"  # no font has it: drawn as the box of a missing glyph


def drawable_names(names: Sequence[str], size: int) -> tuple[Font, dict[str, str]]:
    """A font, and each name as that font can draw it.

    Pillow's own font is taken where it has all letters, else the first of `SYSTEM_FONTS` that has.
    Where none has, those names that Pillow's font cannot draw become `class 7`, after a warning.

    Args:
        names: of all classes, in their order.
        size: of the font, pixels.
    """
    letters = frozenset("".join(names)) - {" "}
    font = _font_of(letters, size)
    if font is not None:
        return font, {name: name for name in names}
    own = ImageFont.load_default(size)
    drawn = {
        name: name if _has(own, frozenset(name) - {" "}) else f"class {index}"
        for index, name in enumerate(names)
    }
    _warn_once(next(name for name in names if drawn[name] != name))
    return own, drawn


@lru_cache
def _font_of(letters: frozenset[str], size: int) -> Font | None:
    own = ImageFont.load_default(size)
    if _has(own, letters):
        return own
    return next((font for font in _installed(SYSTEM_FONTS, size) if _has(font, letters)), None)


def _installed(names: Sequence[str], size: int) -> Iterator[ImageFont.FreeTypeFont]:
    """The fonts of these names that are there."""
    for name in names:
        with suppress(OSError):
            yield ImageFont.truetype(name, size)


def file_with_letters(texts: Iterable[str], own: str) -> str | None:
    """The file of a font that has all letters of the texts; None where none has.

    For drawing that is not Pillow's.

    Args:
        texts: that will be drawn.
        own: file of the drawer's own font, which is taken where it has them.
    """
    letters = frozenset("".join(texts)) - {" "}
    fonts = _installed((own, *SYSTEM_FONTS), _PROBE_SIZE)
    return next((str(font.path) for font in fonts if _has(font, letters)), None)


def _has(font: Font, letters: frozenset[str]) -> bool:
    """Whether the font has a picture of its own for each letter."""
    box = _picture(font, _NO_LETTER)
    return not any(_picture(font, letter) == box for letter in letters)


def _picture(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@lru_cache
def _warn_once(name: str) -> None:
    warn(
        f"legend: no font of this system draws '{name}', so that classes have their numbers there; "
        "install one that does, such as the package fonts-noto-cjk"
    )
