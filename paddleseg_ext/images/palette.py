"""Colours for people: the default palette, pictures of labels, legends with names and shares."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from paddleseg_ext.images.fonts import drawable_names

# Of the default palette, in CIE Lab: neither near black, white and grey, nor glaring.
LIGHTNESS, CHROMA = (30.0, 88.0), (22.0, 90.0)
GRID_STEP = 17  # 16 values per channel
FIRST_COLOUR = (17, 119, 187)
HATCH_GREYS = (90, 200)  # ignored pixels; their mean is what a small picture shows
HATCH_STRIPES = 120  # per width of a picture
LEGEND_ROW, LEGEND_SWATCH, LEGEND_FONT, LEGEND_GAP = 20, 12, 13, 8
LEGEND_TEXT, LEGEND_PAPER = (28, 36, 48), (255, 255, 255)

_XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def spread_palette(num_classes: int) -> NDArray[np.uint8]:
    """(C, 3) uint8 RGB: colours that differ as much as they can, none of them black or grey.

    Each colour is the one of a grid that is farthest in CIE Lab from all before it, so that a class
    keeps its colour when others are added behind it.

    Args:
        num_classes: 1 to 254.

    Source:
        C. Glasbey, G. van der Heijden, V. Toh, A. Gray: Colour displays for categorical images,
        Color Research and Application 32 (2007).
    """
    return _spread(num_classes).copy()


@lru_cache
def _spread(num_classes: int) -> NDArray[np.uint8]:
    steps = np.arange(0, 256, GRID_STEP)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    places = _lab(grid)
    chroma = np.hypot(places[:, 1], places[:, 2])
    is_fit = (places[:, 0] > LIGHTNESS[0]) & (places[:, 0] < LIGHTNESS[1])
    is_fit &= (chroma > CHROMA[0]) & (chroma < CHROMA[1])
    grid, places = grid[is_fit], places[is_fit]
    greys = _lab(np.repeat([[0], [HATCH_GREYS[0]], [145], [HATCH_GREYS[1]], [255]], 3, axis=1))
    distance = np.linalg.norm(places[:, None] - greys, axis=2).min(axis=1)
    chosen = int(np.abs(grid - FIRST_COLOUR).sum(axis=1).argmin())
    palette = np.zeros((num_classes, 3), np.uint8)
    for index in range(num_classes):
        palette[index] = grid[chosen]
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen], axis=1))
        chosen = int(distance.round(3).argmax())  # rounded: equal on every machine
    return palette


def _lab(rgb: NDArray) -> NDArray[np.float64]:
    """(N, 3) CIE Lab of (N, 3) sRGB colours of 0 to 255, for the white of D65."""
    shares = rgb / 255.0
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_OF_RGB.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def paint(
    label: NDArray[np.integer], palette: NDArray[np.uint8], ignore_index: int
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: classes in their colours, ignored pixels hatched in two greys.

    Args:
        label: (H, W), values of 0 to 255.
        palette: (256, 3) uint8 RGB.
        ignore_index: the ignored value.
    """
    picture = palette[label]
    rows, columns = np.nonzero(label == ignore_index)
    stripe = max(3, label.shape[1] // HATCH_STRIPES)
    greys = np.array(HATCH_GREYS, np.uint8)
    picture[rows, columns] = greys[(rows + columns) // stripe % 2, None]
    return picture


def legend_entries(
    pixels: Sequence[int] | NDArray[np.integer],
    class_names: Sequence[str],
    palette: NDArray[np.uint8],
) -> list[tuple[str, tuple[int, ...], float]]:
    """Name, colour and share of the pixels per class that occurs, the largest first.

    Args:
        pixels: per class.
        class_names: by class number.
        palette: (C, 3) or more uint8 RGB.
    """
    total = max(1, int(np.sum(pixels)))
    entries = [
        (name, tuple(palette[index].tolist()), int(pixels[index]) / total)
        for index, name in enumerate(class_names)
        if pixels[index]
    ]
    return sorted(entries, key=lambda entry: -entry[2])


def caption(text: str, width: int) -> NDArray[np.uint8]:
    """(h, width, 3) uint8 RGB: a text in as many rows as it needs; letters no font has are `?`."""
    font, drawn = drawable_names([text], LEGEND_FONT)
    if drawn[text] != text:
        text = text.encode("ascii", "replace").decode()
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font.getlength(longer) > width - 2 * LEGEND_GAP:
            rows.append(word)
        else:
            rows[-1] = longer
    strip = Image.new("RGB", (width, LEGEND_ROW * len(rows)), LEGEND_PAPER)
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        middle = (LEGEND_GAP, LEGEND_ROW * number + LEGEND_ROW // 2)
        draw.text(middle, row, LEGEND_TEXT, font=font, anchor="lm")
    return np.asarray(strip)


def shown_share(share: float) -> str:
    """`12.3%`, `0.12%`: two digits where the share is small."""
    return f"{share:.2%}" if share < 0.01 else f"{share:.1%}"


def legend(
    entries: Sequence[tuple[str, tuple[int, ...], float]],
    class_names: Sequence[str],
    width: int,
    height: int | None = None,
) -> NDArray[np.uint8]:
    """(h, width, 3) uint8 RGB: a swatch, the name and the share per entry, in rows.

    Args:
        entries: of `legend_entries`.
        class_names: by class number; numbers stand for names that no font here can draw.
        width: pixels; an entry that is wider is cut off.
        height: pixels; by default what the rows need.
    """
    font, drawn = drawable_names(class_names, LEGEND_FONT)
    # Unknown pixels have an entry and are no class.
    texts = [f"{drawn.get(name, name)} {shown_share(share)}" for name, _, share in entries]
    places, x, y = [], LEGEND_GAP, 0
    for text in texts:
        wide = LEGEND_SWATCH + 2 * LEGEND_GAP + round(font.getlength(text))
        if x > LEGEND_GAP and x + wide > width:
            x, y = LEGEND_GAP, y + LEGEND_ROW
        places.append((x, y))
        x += wide
    strip = Image.new("RGB", (width, height or y + LEGEND_ROW), LEGEND_PAPER)
    draw = ImageDraw.Draw(strip)
    for (x, y), text, (_, colour, _) in zip(places, texts, entries, strict=True):
        top = y + (LEGEND_ROW - LEGEND_SWATCH) // 2
        box = (x, top, x + LEGEND_SWATCH, top + LEGEND_SWATCH)
        draw.rectangle(box, fill=colour, outline=LEGEND_TEXT)
        middle = (x + LEGEND_SWATCH + 5, y + LEGEND_ROW // 2)
        draw.text(middle, text, LEGEND_TEXT, font=font, anchor="lm")
    return np.asarray(strip)
