"""The embedded data set: drawn street scenes in Cityscapes' own layout.

A street seen from a car: road with pavements towards a vanishing point, buildings, walls, fences
and trees at its sides, poles with lights and signs along it, people and vehicles on it. Position,
outline and texture tell the classes apart; colours do so only in part, since every thing is painted
with a colour of its own around its class's, and pixels are noisy. There are void regions, and
`train` never occurs. A scene follows from its seed to the byte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_directory
from paddleseg_ext.common.flags import natural_int, positive_int
from paddleseg_ext.common.options import option
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.labels import CITYSCAPES, CITYSCAPES_RAW_IDS, IGNORE_INDEX

CITY = "synthetic"
MIN_SIZE_WH = (64, 32)
VAL_SHARE = 5  # one scene in so many is for validation
ODD_SIZE_SHARE = 5  # and one in so many has a size of its own
VOID_RAW_ID = 4  # Cityscapes' "static"

ID = {name: index for index, name in enumerate(CITYSCAPES.class_names)}
# Mean colours, RGB. Several are close to each other on purpose.
COLOURS = {
    "road": (105, 102, 106),
    "sidewalk": (148, 140, 138),
    "building": (142, 122, 108),
    "wall": (122, 112, 108),
    "fence": (134, 124, 106),
    "pole": (92, 92, 96),
    "traffic light": (52, 50, 42),
    "traffic sign": (196, 72, 62),
    "vegetation": (66, 98, 58),
    "terrain": (124, 132, 82),
    "sky": (172, 192, 212),
    "person": (116, 78, 84),
    "rider": (86, 74, 112),
    "car": (92, 96, 122),
    "truck": (158, 146, 124),
    "bus": (184, 132, 58),
    "motorcycle": (62, 60, 70),
    "bicycle": (78, 92, 84),
}
COLOUR_SPREAD = 16.0  # standard deviation of a thing's colour around its class's
VERGE = 1.45  # houses stand behind so many pavement widths; between is terrain
PIXEL_NOISE = 9.0  # standard deviation, 8-bit steps


@dataclass
class Canvas:
    """A picture and its classes, painted together from far to near.

    Lengths are in units of the height, so that every size shows the same street.
    """

    image: np.ndarray  # (H, W, 3) float32 RGB
    label: np.ndarray  # (H, W) uint8 train ids
    random: np.random.Generator

    @property
    def height(self) -> int:
        """In pixels."""
        return self.label.shape[0]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.label.shape[1]

    def colour(self, name: str, spread: float = COLOUR_SPREAD) -> np.ndarray:
        """A thing's own colour."""
        return np.clip(COLOURS[name] + self.random.normal(0.0, spread, 3), 8, 247)

    def fill(self, points: np.ndarray, name: str | None, colour: np.ndarray) -> np.ndarray:
        """Paint a polygon of `(n, 2)` pixel positions; None leaves the class as it is.

        Returns:
            The polygon's mask, `(H, W)` bool.
        """
        mask = np.zeros(self.label.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
        return self.paint(mask.astype(bool), name, colour)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        name: str | None,
        colour: np.ndarray,
    ) -> np.ndarray:
        """Paint an upright rectangle, in pixels."""
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return self.fill(corners, name, colour)

    def ellipse(
        self,
        centre: tuple[float, float],
        axes: tuple[float, float],
        name: str | None,
        colour: np.ndarray,
    ) -> np.ndarray:
        """Paint an upright ellipse; half axes, in pixels."""
        mask = np.zeros(self.label.shape, np.uint8)
        middle = (round(centre[0]), round(centre[1]))
        cv2.ellipse(
            mask, middle, (max(1, round(axes[0])), max(1, round(axes[1]))), 0, 0, 360, 1, -1
        )
        return self.paint(mask.astype(bool), name, colour)

    def paint(self, mask: np.ndarray, name: str | None, colour: np.ndarray) -> np.ndarray:
        """Paint a mask."""
        self.image[mask] = colour
        if name is not None:
            self.label[mask] = ID[name]
        return mask


@dataclass(frozen=True)
class Street:
    """The geometry of one scene: a vanishing point and how wide road and pavements are there."""

    vanishing_x: float
    horizon_y: float
    road_half: float  # half the road's width at the bottom edge, pixels
    pavement: float  # a pavement's width at the bottom edge, pixels
    height: int

    def depth(self, y: float) -> float:
        """Size of things that stand at row `y`: 0 at the horizon, 1 at the bottom edge."""
        return (y - self.horizon_y) / (self.height - self.horizon_y)

    def row(self, depth: float) -> float:
        """The row of a depth."""
        return self.horizon_y + depth * (self.height - self.horizon_y)

    def x(self, depth: float, offset: float) -> float:
        """The column of what is `offset` pixels right of the middle at the bottom edge."""
        return self.vanishing_x + offset * depth


def draw_scene(seed: int, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street.

    Args:
        seed: of everything in it.
        size_wh: width and height in pixels.

    Returns:
        `(H, W, 3)` uint8 RGB image and `(H, W)` uint8 train ids, 255 where void.
    """
    width, height = size_wh
    random = np.random.default_rng([0x57EE7, seed])
    canvas = Canvas(
        np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.uint8), random
    )
    street = Street(
        vanishing_x=width * random.uniform(0.42, 0.58),
        horizon_y=height * random.uniform(0.40, 0.47),
        road_half=width * random.uniform(0.36, 0.46),
        pavement=width * random.uniform(0.22, 0.32),
        height=height,
    )
    _draw_sky(canvas)
    for side in (-1, 1):
        _draw_row_of_houses(canvas, street, side)
    _draw_ground(canvas, street)
    for side in (-1, 1):
        _draw_border(canvas, street, side)
    _draw_things(canvas, street)
    _draw_void(canvas)
    return _photograph(canvas), canvas.label


def _draw_sky(canvas: Canvas) -> None:
    everything = np.ones(canvas.label.shape, bool)
    canvas.paint(everything, "sky", canvas.colour("sky", 8.0))
    fade = np.linspace(-14.0, 16.0, canvas.height)[:, None, None]
    canvas.image += fade
    for _ in range(canvas.random.integers(2, 5)):
        centre = (
            canvas.random.uniform(0, canvas.width),
            canvas.random.uniform(0, canvas.height * 0.3),
        )
        axes = (canvas.width * canvas.random.uniform(0.05, 0.15), canvas.height * 0.03)
        canvas.ellipse(centre, axes, None, canvas.colour("sky", 4.0) + 28.0)


def _draw_row_of_houses(canvas: Canvas, street: Street, side: int) -> None:
    """Houses and trees from the far end to the near one, standing behind pavement and verge."""
    random, depth = canvas.random, 0.10
    offset = street.road_half + street.pavement * VERGE
    while depth < 1.3:
        step = depth * random.uniform(0.5, 0.8)
        near = street.x(depth + step, side * offset)
        far = street.x(depth, side * offset)
        base_near, base_far = street.row(depth + step), street.row(depth)
        if random.uniform() < 0.62:
            rise = canvas.height * random.uniform(0.55, 1.1)
            outline = np.array(
                [
                    [far, base_far],
                    [far, base_far - rise * depth - canvas.height * 0.08],
                    [near, base_near - rise * (depth + step) - canvas.height * 0.08],
                    [near, base_near],
                ]
            )
            _draw_house(canvas, outline)
        else:
            size = canvas.height * 0.36 * (depth + step)
            _draw_tree(canvas, ((near + far) / 2, base_near - size * 1.3), size)
        depth += step


def _draw_house(canvas: Canvas, outline: np.ndarray) -> None:
    colour = canvas.colour("building")
    mask = canvas.fill(outline, "building", colour)
    height = outline[3, 1] - outline[2, 1]
    pitch = max(8.0, height / 5)
    rows, columns = np.nonzero(mask)
    # Windows stand in rows that lead to the vanishing point no more than this sketch does.
    panes = ((rows % pitch) > pitch * 0.45) & ((columns % pitch) > pitch * 0.5)
    canvas.image[rows[panes], columns[panes]] = colour * 0.55 + 12.0


def _draw_tree(canvas: Canvas, crown: tuple[float, float], size: float) -> None:
    random, colour = canvas.random, canvas.colour("vegetation")
    for _ in range(9):
        centre = (
            crown[0] + random.normal(0.0, size * 0.40),
            crown[1] + random.normal(0.0, size * 0.34),
        )
        radius = size * random.uniform(0.35, 0.60)
        canvas.ellipse(centre, (radius, radius), "vegetation", colour + random.normal(0.0, 10.0))


def _draw_ground(canvas: Canvas, street: Street) -> None:
    """Terrain out to the sides, pavements, road, markings."""
    outer = street.road_half + street.pavement
    top = street.row(0.06)
    verge = street.road_half + street.pavement * VERGE
    for offset, name in ((verge, "terrain"), (outer, "sidewalk"), (street.road_half, "road")):
        colour = canvas.colour(name, 9.0)
        outline = np.array(
            [
                [street.x(0.06, -offset), top],
                [street.x(0.06, offset), top],
                [street.x(1.6, offset), street.row(1.6)],
                [street.x(1.6, -offset), street.row(1.6)],
            ]
        )
        mask = canvas.fill(outline, name, colour)
        if name == "sidewalk":
            slabs = np.arange(canvas.height)[:, None] % max(4, canvas.height // 24) == 0
            canvas.image[mask & slabs] -= 22.0
    for offset in (-street.road_half * 0.33, street.road_half * 0.33):
        for depth in np.arange(0.12, 1.0, 0.22):
            width = street.road_half * 0.035
            dash = np.array(
                [
                    [street.x(depth, offset - width), street.row(depth)],
                    [street.x(depth, offset + width), street.row(depth)],
                    [street.x(depth + 0.1, offset + width), street.row(depth + 0.1)],
                    [street.x(depth + 0.1, offset - width), street.row(depth + 0.1)],
                ]
            )
            canvas.fill(dash, None, np.array([205.0, 205.0, 200.0]))


def _draw_border(canvas: Canvas, street: Street, side: int) -> None:
    """Walls, fences and hedges between pavement and houses."""
    random, depth = canvas.random, 0.30
    offset = side * (street.road_half + street.pavement * VERGE * 0.98)
    while depth < 1.1:
        step = random.uniform(0.22, 0.4)
        kind = random.choice(["wall", "fence", "vegetation", ""], p=[0.36, 0.36, 0.14, 0.14])
        if kind:
            rise = canvas.height * 0.24
            outline = np.array(
                [
                    [street.x(depth, offset), street.row(depth)],
                    [street.x(depth, offset), street.row(depth) - rise * depth],
                    [
                        street.x(depth + step, offset),
                        street.row(depth + step) - rise * (depth + step),
                    ],
                    [street.x(depth + step, offset), street.row(depth + step)],
                ]
            )
            colour = canvas.colour(str(kind))
            mask = canvas.fill(outline, str(kind), colour)
            _texture(canvas, mask, str(kind))
        depth += step


def _texture(canvas: Canvas, mask: np.ndarray, kind: str) -> None:
    rows, columns = np.nonzero(mask)
    if kind == "wall":  # courses of stone
        dark = rows % 6 < 2
        canvas.image[rows[dark], columns[dark]] -= 34.0
    elif kind == "fence":  # bars
        light = columns % 6 < 3
        canvas.image[rows[light], columns[light]] += 48.0
    else:
        canvas.image[rows, columns] += canvas.random.normal(0.0, 16.0, rows.size)[:, None]


def _draw_things(canvas: Canvas, street: Street) -> None:
    """Everything that stands on the ground, the far before the near."""
    random = canvas.random
    things = []
    for draw, fewest, most, place in THINGS:
        for _ in range(random.integers(fewest, most + 1)):
            offset = _offset(street, place, random)
            things.append((random.uniform(FARTHEST, NEAREST), draw, offset))
    for depth, draw, offset in sorted(things, key=lambda thing: thing[0]):
        draw(canvas, street.x(depth, offset), street.row(depth), depth * canvas.height)


def _offset(street: Street, place: str, random: np.random.Generator) -> float:
    """Pixels right of the middle, at the bottom edge, of something that stands at `place`."""
    if place == "lane":
        return street.road_half * random.uniform(-0.85, 0.85)
    share = random.uniform(0.06, 0.2) if place == "kerb" else random.uniform(0.3, 0.85)
    return random.choice([-1.0, 1.0]) * (street.road_half + street.pavement * share)


# Each of these stands with its foot in the middle at (x, y); `unit` is what the image's height is
# at that distance.


def _draw_pole(canvas: Canvas, x: float, y: float, unit: float, tall: float) -> None:
    half = max(1.6, 0.013 * unit)
    canvas.box(x - half, y - tall * unit, x + half, y, "pole", canvas.colour("pole"))


def _draw_light(canvas: Canvas, x: float, y: float, unit: float) -> None:
    tall = canvas.random.uniform(0.55, 0.75)
    _draw_pole(canvas, x, y, unit, tall)
    half, top = max(3.0, 0.042 * unit), y - tall * unit
    deep = max(9.0, 0.17 * unit)
    canvas.box(
        x - half,
        top - deep / 2,
        x + half,
        top + deep / 2,
        "traffic light",
        canvas.colour("traffic light"),
    )
    lit = canvas.random.integers(0, 3)
    for number, colour in enumerate(((235, 60, 45), (240, 190, 60), (80, 220, 120))):
        shown = np.array(colour, float) * (1.0 if number == lit else 0.45)
        centre = (x, top + deep * (number - 1) * 0.3)
        canvas.ellipse(centre, (half * 0.6, half * 0.6), None, shown)


def _draw_sign(canvas: Canvas, x: float, y: float, unit: float) -> None:
    tall = canvas.random.uniform(0.42, 0.6)
    _draw_pole(canvas, x, y, unit, tall)
    radius, top = max(4.5, 0.068 * unit), y - tall * unit
    colour = canvas.colour("traffic sign", 22.0)
    if canvas.random.uniform() < 0.5:
        canvas.ellipse((x, top), (radius, radius), "traffic sign", colour)
        canvas.ellipse(
            (x, top), (radius * 0.55, radius * 0.55), None, np.array([225.0, 222.0, 215.0])
        )
    else:
        corners = np.array(
            [[x - radius, top - radius], [x + radius, top - radius], [x, top + radius]]
        )
        canvas.fill(corners, "traffic sign", colour)
        canvas.fill(
            corners * 0.5 + np.array([x, top - radius * 0.3]) * 0.5,
            None,
            np.array([225.0, 222.0, 215.0]),
        )


def _draw_person(canvas: Canvas, x: float, y: float, unit: float, name: str = "person") -> None:
    tall = canvas.random.uniform(0.36, 0.44) * unit
    half = max(3.0, tall * 0.17)
    colour = canvas.colour(name)
    legs = colour * 0.6
    canvas.box(x - half * 0.8, y - tall * 0.5, x - half * 0.08, y, name, legs)
    canvas.box(x + half * 0.08, y - tall * 0.5, x + half * 0.8, y, name, legs)
    canvas.box(x - half, y - tall * 0.84, x + half, y - tall * 0.42, name, colour)
    skin = np.array([196.0, 152.0, 126.0]) + canvas.random.normal(0.0, 12.0)
    canvas.ellipse((x, y - tall * 0.91), (half * 0.6, tall * 0.09), name, skin)


def _draw_wheels(canvas: Canvas, x: float, y: float, half: float, radius: float, name: str) -> None:
    for wheel in (-half, half):
        canvas.ellipse(
            (x + wheel, y - radius), (radius, radius), name, np.array([34.0, 34.0, 36.0])
        )
        canvas.ellipse(
            (x + wheel, y - radius), (radius * 0.45, radius * 0.45), None, np.array([120.0] * 3)
        )


def _draw_car(canvas: Canvas, x: float, y: float, unit: float) -> None:
    half, tall = 0.26 * unit, 0.27 * unit
    colour = canvas.colour("car", 30.0)
    canvas.box(x - half, y - tall * 0.62, x + half, y - tall * 0.12, "car", colour)
    roof = np.array(
        [
            [x - half * 0.82, y - tall * 0.6],
            [x - half * 0.55, y - tall],
            [x + half * 0.55, y - tall],
            [x + half * 0.82, y - tall * 0.6],
        ]
    )
    canvas.fill(roof, "car", colour)
    glass = (roof - [x, y - tall * 0.78]) * 0.78 + [x, y - tall * 0.78]
    canvas.fill(glass, None, np.array([70.0, 84.0, 96.0]))
    for lamp in (-half * 0.8, half * 0.8):
        canvas.ellipse(
            (x + lamp, y - tall * 0.42),
            (half * 0.12, tall * 0.07),
            None,
            np.array([235.0, 90.0, 70.0]),
        )
    _draw_wheels(canvas, x, y, half * 0.68, tall * 0.17, "car")


def _draw_truck(canvas: Canvas, x: float, y: float, unit: float) -> None:
    half, tall = 0.33 * unit, 0.60 * unit
    colour = canvas.colour("truck", 24.0)
    load = canvas.box(x - half, y - tall, x + half, y - tall * 0.2, "truck", colour)
    rows, columns = np.nonzero(load)
    ribs = columns % 8 < 2
    canvas.image[rows[ribs], columns[ribs]] -= 30.0
    canvas.box(x - half, y - tall * 0.26, x + half, y - tall * 0.1, "truck", colour * 0.35)
    _draw_wheels(canvas, x, y, half * 0.7, tall * 0.11, "truck")


def _draw_bus(canvas: Canvas, x: float, y: float, unit: float) -> None:
    half, tall = 0.36 * unit, 0.56 * unit
    colour = canvas.colour("bus", 22.0)
    canvas.box(x - half, y - tall, x + half, y - tall * 0.1, "bus", colour)
    for number in range(4):
        left = x - half * 0.9 + number * half * 0.46
        canvas.box(
            left,
            y - tall * 0.86,
            left + half * 0.36,
            y - tall * 0.5,
            None,
            np.array([66.0, 82.0, 96.0]),
        )
    _draw_wheels(canvas, x, y, half * 0.7, tall * 0.11, "bus")


def _draw_motorcyclist(canvas: Canvas, x: float, y: float, unit: float) -> None:
    _draw_person(canvas, x, y - 0.13 * unit, unit * 0.9, "rider")
    half = 0.17 * unit
    canvas.box(
        x - half,
        y - 0.21 * unit,
        x + half,
        y - 0.07 * unit,
        "motorcycle",
        canvas.colour("motorcycle"),
    )
    _draw_wheels(canvas, x, y, half * 0.9, 0.085 * unit, "motorcycle")


def _draw_bicycle(canvas: Canvas, x: float, y: float, unit: float) -> None:
    half, radius = 0.14 * unit, 0.105 * unit
    colour = canvas.colour("bicycle", 22.0)
    for wheel in (-half, half):
        canvas.ellipse((x + wheel, y - radius), (radius, radius), "bicycle", colour)
        canvas.ellipse(
            (x + wheel, y - radius), (radius * 0.68, radius * 0.68), None, colour * 0.5 + 92.0
        )
    canvas.box(x - half, y - radius * 2.1, x + half, y - radius * 1.3, "bicycle", colour)


def _draw_cyclist(canvas: Canvas, x: float, y: float, unit: float) -> None:
    _draw_person(canvas, x, y - 0.13 * unit, unit * 0.85, "rider")
    _draw_bicycle(canvas, x, y, unit)


# What is drawn, how many at least and at most, where. Things at the horizon are too small to learn.
FARTHEST, NEAREST = 0.30, 0.80
THINGS: tuple[tuple[Callable[[Canvas, float, float, float], None], int, int, str], ...] = (
    (_draw_light, 1, 3, "kerb"),
    (_draw_sign, 1, 3, "kerb"),
    (_draw_person, 2, 4, "walk"),
    (_draw_bicycle, 0, 1, "walk"),
    (_draw_cyclist, 0, 1, "lane"),
    (_draw_motorcyclist, 0, 1, "lane"),
    (_draw_car, 1, 3, "lane"),
    (_draw_truck, 0, 1, "lane"),
    (_draw_bus, 0, 1, "lane"),
)


def _draw_void(canvas: Canvas) -> None:
    """The own bonnet, and now and then a thing of no class."""
    bonnet = np.zeros(canvas.label.shape, np.uint8)
    middle = (canvas.width // 2, round(canvas.height * 1.03))
    cv2.ellipse(
        bonnet, middle, (round(canvas.width * 0.42), round(canvas.height * 0.10)), 0, 0, 360, 1, -1
    )
    canvas.image[bonnet > 0] = canvas.random.uniform(30.0, 60.0)
    canvas.label[bonnet > 0] = IGNORE_INDEX
    if canvas.random.uniform() < 0.5:
        x, y = (
            canvas.random.uniform(0.1, 0.9) * canvas.width,
            canvas.random.uniform(0.55, 0.8) * canvas.height,
        )
        size = canvas.height * 0.06
        mask = canvas.box(
            x, y, x + size, y + size * 1.3, None, canvas.random.uniform(60.0, 190.0, 3)
        )
        canvas.label[mask] = IGNORE_INDEX


def _photograph(canvas: Canvas) -> np.ndarray:
    """Blur, exposure, noise: the image as `(H, W, 3)` uint8."""
    image = cv2.GaussianBlur(canvas.image, (3, 3), 0.7)
    exposure, tint = canvas.random.uniform(0.86, 1.14), canvas.random.normal(0.0, 4.0, 3)
    noise = canvas.random.normal(0.0, PIXEL_NOISE, image.shape)
    return np.clip(image * exposure + tint + noise, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SceneOptions:
    """The scenes of an embedded data set, one in five of them for validation."""

    num_images: int = option(160, "scenes in all", parse=positive_int)
    size: tuple[int, int] = option(
        (384, 192), "width and height in pixels", parse=positive_int, nargs=2, metavar=("W", "H")
    )
    seed: int = option(0, "other scenes", parse=natural_int)


def write_synthetic(save_dir: str | Path, options: SceneOptions = SceneOptions()) -> None:
    """Write an embedded data set.

    Labels are written as `labelIds` and as `labelTrainIds`. One scene in five is smaller than
    `options.size` by odd numbers of pixels.

    Args:
        save_dir: the data set's root, a new or empty folder; filled in one step.
        options: number, size and seed of the scenes.

    Raises:
        UsageError: the folder is not empty, or the scenes are too few or too small.
    """
    save_dir = Path(save_dir)
    if save_dir.exists() and (not save_dir.is_dir() or any(save_dir.iterdir())):
        raise UsageError(f"--save_dir: '{save_dir}' is not empty; name a new folder")
    width, height = options.size
    if width < MIN_SIZE_WH[0] or height < MIN_SIZE_WH[1]:
        raise UsageError(f"--size: at least {MIN_SIZE_WH[0]} {MIN_SIZE_WH[1]} is expected")
    if options.num_images < VAL_SHARE:
        raise UsageError(f"--num_images: at least {VAL_SHARE}, of which one is for validation")
    raw_of = np.full(256, VOID_RAW_ID, np.uint8)
    raw_of[: len(CITYSCAPES_RAW_IDS)] = CITYSCAPES_RAW_IDS
    with atomic_directory(save_dir) as root:
        for number in track(range(options.num_images), "draw street scenes"):
            split = "val" if number % VAL_SHARE == VAL_SHARE - 1 else "train"
            odd = number % ODD_SIZE_SHARE == 1 or number % (3 * VAL_SHARE) == VAL_SHARE - 1
            size_wh = (width - 11, height - 7) if odd else (width, height)
            image, label = draw_scene(options.seed * 1_000_003 + number, size_wh)
            name = f"{CITY}_{number:06d}_000019"
            for file, array in (
                (f"leftImg8bit/{split}/{CITY}/{name}_leftImg8bit.png", image[:, :, ::-1]),
                (f"gtFine/{split}/{CITY}/{name}_gtFine_labelTrainIds.png", label),
                (f"gtFine/{split}/{CITY}/{name}_gtFine_labelIds.png", raw_of[label]),
            ):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(root / file), array):
                    raise OSError(f"{root / file}: cannot be written")
