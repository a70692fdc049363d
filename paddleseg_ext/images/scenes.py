"""The embedded data set: drawn street scenes in Cityscapes' layout.

A scene is a street seen from a car: a road with pavements towards a vanishing point, buildings,
walls, fences and trees at its sides, poles with lights and signs along it, people and vehicles on
it. The classes differ in position, outline and texture. Their colours overlap, since each object
has a random colour around its class's, and pixels are noisy. There are void regions, and `train`
never occurs. Equal seeds give equal pixels in every release of NumPy and OpenCV: shapes are filled
in whole numbers here, since OpenCV's outlines and its blur differ between releases.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_directory
from paddleseg_ext.common.flags import positive_int
from paddleseg_ext.common.options import CheckedOptions, option, switch
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.labels import CITYSCAPES, CITYSCAPES_RAW_IDS, IGNORE_INDEX

CITY = "synthetic"
MIN_SIZE_WH = (64, 32)
VAL_SHARE = 5  # every fifth scene is for validation
ODD_SIZE_SHARE = 5  # every fifth scene has an odd size
UNKNOWN_ID = 254  # of labels: an object that belongs to none of the classes
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
COLOUR_SPREAD = 16.0  # standard deviation of an object's colour around its class's
VERGE = 1.45  # distance of houses from the road, in pavement widths; terrain lies between
SIGN_FACE = np.array([225.0, 222.0, 215.0])
BLUR_SIDE = 0.21  # weight of a neighbour: a Gaussian of 0.7 pixels
PIXEL_NOISE = 9.0  # standard deviation, 8-bit steps


@dataclass
class Canvas:
    """An image and its label, painted together from far to near."""

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
        """A random colour around the class's."""
        return np.clip(COLOURS[name] + self.random.normal(0.0, spread, 3), 8, 247)

    def fill(self, points: np.ndarray, name: str | None, colour: np.ndarray) -> np.ndarray:
        """Paint a convex polygon of `(n, 2)` pixel positions; `name` None keeps the label.

        Returns:
            The polygon's mask, `(H, W)` bool.
        """
        corners = np.round(points).astype(np.int64)
        mask, rows, columns = self._window(corners.min(axis=0), corners.max(axis=0))
        # Inside, the pixel lies on one side of every edge, or on the edge.
        sides = [
            (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0)
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        ]
        right = np.logical_and.reduce([side >= 0 for side in sides])
        left = np.logical_and.reduce([side <= 0 for side in sides])
        mask[rows, columns] = right | left
        return self.paint(mask, name, colour)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        name: str | None,
        colour: np.ndarray,
    ) -> np.ndarray:
        """Paint an upright rectangle, in pixels; returns its mask."""
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return self.fill(corners, name, colour)

    def ellipse(
        self,
        centre: tuple[float, float],
        axes: tuple[float, float],
        name: str | None,
        colour: np.ndarray,
    ) -> np.ndarray:
        """Paint an upright ellipse with these half axes, in pixels; returns its mask."""
        x, y = round(centre[0]), round(centre[1])
        a, b = max(1, round(axes[0])), max(1, round(axes[1]))
        mask, rows, columns = self._window(np.array([x - a, y - b]), np.array([x + a, y + b]))
        mask[rows, columns] = (b * (columns - x)) ** 2 + (a * (rows - y)) ** 2 <= (a * b) ** 2
        return self.paint(mask, name, colour)

    def _window(
        self, first_xy: np.ndarray, last_xy: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An empty mask `(H, W)`, and the rows `(h, 1)` and columns `(1, w)` of a box in it."""
        (left, top), (right, bottom) = np.maximum(first_xy, 0), np.maximum(last_xy + 1, 0)
        rows = np.arange(top, min(bottom, self.height))[:, None]
        columns = np.arange(left, min(right, self.width))[None]
        return np.zeros(self.label.shape, bool), rows, columns

    def paint(self, mask: np.ndarray, name: str | None, colour: np.ndarray) -> np.ndarray:
        """Paint a mask `(H, W)` bool, and return it."""
        self.image[mask] = colour
        if name is not None:
            self.label[mask] = ID[name]
        return mask


@dataclass(frozen=True)
class Street:
    """The geometry of one scene: its vanishing point, and the widths of road and pavements."""

    vanishing_x: float
    horizon_y: float
    road_half: float  # half the road's width at the bottom edge, pixels
    pavement: float  # a pavement's width at the bottom edge, pixels
    height: int

    def row(self, depth: float) -> float:
        """The row of a depth: 0 at the horizon, 1 at the bottom edge."""
        return self.horizon_y + depth * (self.height - self.horizon_y)

    def x(self, depth: float, offset: float) -> float:
        """The column, at a depth, of a line `offset` pixels right of the middle at depth 1."""
        return self.vanishing_x + offset * depth

    def strip(self, far: float, near: float, left: float, right: float) -> np.ndarray:
        """Corners `(4, 2)` of the ground between two depths and two offsets."""
        corners = ((far, left), (far, right), (near, right), (near, left))
        return np.array([[self.x(depth, offset), self.row(depth)] for depth, offset in corners])

    def wall(
        self, far: float, near: float, offset: float, rise: float, base: float = 0.0
    ) -> np.ndarray:
        """Corners `(4, 2)` of an upright wall along the street, `base + rise * depth` high."""
        corners = ((far, 0.0), (far, rise * far + base), (near, rise * near + base), (near, 0.0))
        return np.array([[self.x(depth, offset), self.row(depth) - up] for depth, up in corners])


def draw_scene(
    seed: int, size_wh: tuple[int, int], with_animal: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street.

    Args:
        seed: determines all of the scene.
        size_wh: width and height in pixels.
        with_animal: put an animal on the same street, which no other scene has.

    Returns:
        `(H, W, 3)` uint8 RGB image and `(H, W)` uint8 train ids, 255 where void, 254 on the animal.
    """
    canvas, street = _painted(seed, size_wh)
    if with_animal:
        _draw_animal(canvas, street, np.random.default_rng([0xA817A1, seed]))
    exposure, tint = canvas.random.uniform(0.86, 1.14), canvas.random.normal(0.0, 4.0, 3)
    return _photograph(canvas.image, exposure, tint, canvas.random), canvas.label


def draw_film(
    seed: int, size_wh: tuple[int, int], num_frames: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the frames of a film: the camera pans over a street, and a car drives through.

    Every frame has noise of its own; what stands still moves by whole pixels.

    Args:
        seed: determines the film.
        size_wh: width and height of a frame in pixels; the street is half as large again.
        num_frames: of the film. The camera stops at the street's end.

    Yields:
        Image and label of each frame, as `draw_scene` returns them.
    """
    width, height = size_wh
    canvas, street = _painted(seed, (width + width // 2, height + height // 2))
    random = np.random.default_rng([0xF117, seed])
    exposure, tint = random.uniform(0.86, 1.14), random.normal(0.0, 4.0, 3)
    room = np.array([canvas.width - width, canvas.height - height])
    speed, place = random.uniform([-4.0, -1.0], [4.0, 1.0]), random.uniform(0.3, 0.7, 2) * room
    car_x, car_speed = random.uniform(0.2, 0.8) * canvas.width, random.uniform(-6.0, 6.0)
    depth = random.uniform(0.4, 0.7)
    for number in range(num_frames):
        shown = Canvas(canvas.image.copy(), canvas.label.copy(), np.random.default_rng(seed))
        at = car_x + car_speed * number
        _draw_car(shown, at, street.row(depth), depth * canvas.height)
        left, top = np.clip(place + speed * number, 0, room).round().astype(int)
        window = (slice(top, top + height), slice(left, left + width))
        yield _photograph(shown.image[window], exposure, tint, random), shown.label[window]


def _painted(seed: int, size_wh: tuple[int, int]) -> tuple[Canvas, Street]:
    """The canvas of a scene, before it is photographed."""
    width, height = size_wh
    random = np.random.default_rng([0x57EE7, seed])
    image, label = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.uint8)
    canvas = Canvas(image, label, random)
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
    _draw_objects(canvas, street)
    _draw_void(canvas)
    return canvas, street


def _draw_sky(canvas: Canvas) -> None:
    everything = np.ones(canvas.label.shape, bool)
    canvas.paint(everything, "sky", canvas.colour("sky", 8.0))
    fade = np.linspace(-14.0, 16.0, canvas.height)[:, None, None]
    canvas.image += fade
    for _ in range(canvas.random.integers(2, 5)):
        x, y = canvas.random.uniform(0, canvas.width), canvas.random.uniform(0, canvas.height * 0.3)
        axes = (canvas.width * canvas.random.uniform(0.05, 0.15), canvas.height * 0.03)
        canvas.ellipse((x, y), axes, None, canvas.colour("sky", 4.0) + 28.0)


def _draw_row_of_houses(canvas: Canvas, street: Street, side: int) -> None:
    """Houses and trees behind pavement and verge, from the far end to the near one."""
    random, depth = canvas.random, 0.10
    offset = side * (street.road_half + street.pavement * VERGE)
    while depth < 1.3:
        near = depth + depth * random.uniform(0.5, 0.8)
        if random.uniform() < 0.62:
            rise = canvas.height * random.uniform(0.55, 1.1)
            _draw_house(canvas, street.wall(depth, near, offset, rise, canvas.height * 0.08))
        else:
            size = canvas.height * 0.36 * near
            middle = (street.x(near, offset) + street.x(depth, offset)) / 2
            _draw_tree(canvas, (middle, street.row(near) - size * 1.3), size)
        depth = near


def _draw_house(canvas: Canvas, outline: np.ndarray) -> None:
    colour = canvas.colour("building")
    mask = canvas.fill(outline, "building", colour)
    height = outline[3, 1] - outline[2, 1]
    pitch = max(8.0, height / 5)
    rows, columns = np.nonzero(mask)
    # Rows of windows, without perspective.
    panes = ((rows % pitch) > pitch * 0.45) & ((columns % pitch) > pitch * 0.5)
    canvas.image[rows[panes], columns[panes]] = colour * 0.55 + 12.0


def _draw_tree(canvas: Canvas, crown: tuple[float, float], size: float) -> None:
    random, colour = canvas.random, canvas.colour("vegetation")
    for _ in range(9):
        x = crown[0] + random.normal(0.0, size * 0.40)
        y = crown[1] + random.normal(0.0, size * 0.34)
        radius = size * random.uniform(0.35, 0.60)
        canvas.ellipse((x, y), (radius, radius), "vegetation", colour + random.normal(0.0, 10.0))


def _draw_ground(canvas: Canvas, street: Street) -> None:
    """Terrain at the sides, pavements, road, markings."""
    outer = street.road_half + street.pavement
    verge = street.road_half + street.pavement * VERGE
    for offset, name in ((verge, "terrain"), (outer, "sidewalk"), (street.road_half, "road")):
        colour = canvas.colour(name, 9.0)
        mask = canvas.fill(street.strip(0.06, 1.6, -offset, offset), name, colour)
        if name == "sidewalk":
            slabs = np.arange(canvas.height)[:, None] % max(4, canvas.height // 24) == 0
            canvas.image[mask & slabs] -= 22.0
    for offset in (-street.road_half * 0.33, street.road_half * 0.33):
        for depth in np.arange(0.12, 1.0, 0.22):
            width = street.road_half * 0.035
            dash = street.strip(depth, depth + 0.1, offset - width, offset + width)
            canvas.fill(dash, None, np.array([205.0, 205.0, 200.0]))


def _draw_border(canvas: Canvas, street: Street, side: int) -> None:
    """Walls, fences and hedges between pavement and houses."""
    random, depth = canvas.random, 0.30
    offset = side * (street.road_half + street.pavement * VERGE * 0.98)
    while depth < 1.1:
        step = random.uniform(0.22, 0.4)
        kind = random.choice(["wall", "fence", "vegetation", ""], p=[0.36, 0.36, 0.14, 0.14])
        if kind:
            outline = street.wall(depth, depth + step, offset, canvas.height * 0.24)
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


def _draw_objects(canvas: Canvas, street: Street) -> None:
    """Draw the objects on the ground, far ones first."""
    random = canvas.random
    objects = []
    for draw, fewest, most, place in OBJECTS:
        for _ in range(random.integers(fewest, most + 1)):
            offset = _offset(street, place, random)
            objects.append((random.uniform(FARTHEST, NEAREST), draw, offset))
    for depth, draw, offset in sorted(objects, key=lambda each: each[0]):
        draw(canvas, street.x(depth, offset), street.row(depth), depth * canvas.height)


def _offset(street: Street, place: str, random: np.random.Generator) -> float:
    """A random offset from the middle, in pixels at depth 1, for an object at `place`."""
    if place == "lane":
        return street.road_half * random.uniform(-0.85, 0.85)
    share = random.uniform(0.06, 0.2) if place == "kerb" else random.uniform(0.3, 0.85)
    return random.choice([-1.0, 1.0]) * (street.road_half + street.pavement * share)


# The middle of each object's foot is at (x, y); `unit` is the image's height at that distance.


def _draw_pole(canvas: Canvas, x: float, y: float, unit: float, tall: float) -> None:
    half = max(1.6, 0.013 * unit)
    canvas.box(x - half, y - tall * unit, x + half, y, "pole", canvas.colour("pole"))


def _draw_light(canvas: Canvas, x: float, y: float, unit: float) -> None:
    tall = canvas.random.uniform(0.55, 0.75)
    _draw_pole(canvas, x, y, unit, tall)
    half, top = max(3.0, 0.042 * unit), y - tall * unit
    deep, name = max(9.0, 0.17 * unit), "traffic light"
    canvas.box(x - half, top - deep / 2, x + half, top + deep / 2, name, canvas.colour(name))
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
        canvas.ellipse((x, top), (radius * 0.55, radius * 0.55), None, SIGN_FACE)
    else:
        corners = np.array(
            [[x - radius, top - radius], [x + radius, top - radius], [x, top + radius]]
        )
        canvas.fill(corners, "traffic sign", colour)
        canvas.fill(corners * 0.5 + np.array([x, top - radius * 0.3]) * 0.5, None, SIGN_FACE)


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
        centre, hub = (x + wheel, y - radius), radius * 0.45
        canvas.ellipse(centre, (radius, radius), name, np.array([34.0, 34.0, 36.0]))
        canvas.ellipse(centre, (hub, hub), None, np.array([120.0] * 3))


def _draw_car(canvas: Canvas, x: float, y: float, unit: float) -> None:
    half, tall = 0.26 * unit, 0.27 * unit
    colour = canvas.colour("car", 30.0)
    canvas.box(x - half, y - tall * 0.62, x + half, y - tall * 0.12, "car", colour)
    across, up = np.array([-0.82, -0.55, 0.55, 0.82]), np.array([0.6, 1.0, 1.0, 0.6])
    roof = np.stack([x + half * across, y - tall * up], axis=1)
    canvas.fill(roof, "car", colour)
    glass = (roof - [x, y - tall * 0.78]) * 0.78 + [x, y - tall * 0.78]
    canvas.fill(glass, None, np.array([70.0, 84.0, 96.0]))
    for lamp in (-half * 0.8, half * 0.8):
        centre, axes = (x + lamp, y - tall * 0.42), (half * 0.12, tall * 0.07)
        canvas.ellipse(centre, axes, None, np.array([235.0, 90.0, 70.0]))
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
        right, top, bottom = left + half * 0.36, y - tall * 0.86, y - tall * 0.5
        canvas.box(left, top, right, bottom, None, np.array([66.0, 82.0, 96.0]))
    _draw_wheels(canvas, x, y, half * 0.7, tall * 0.11, "bus")


def _draw_motorcyclist(canvas: Canvas, x: float, y: float, unit: float) -> None:
    _draw_person(canvas, x, y - 0.13 * unit, unit * 0.9, "rider")
    half, top, bottom = 0.17 * unit, y - 0.21 * unit, y - 0.07 * unit
    canvas.box(x - half, top, x + half, bottom, "motorcycle", canvas.colour("motorcycle"))
    _draw_wheels(canvas, x, y, half * 0.9, 0.085 * unit, "motorcycle")


def _draw_bicycle(canvas: Canvas, x: float, y: float, unit: float) -> None:
    half, radius = 0.14 * unit, 0.105 * unit
    colour = canvas.colour("bicycle", 22.0)
    for wheel in (-half, half):
        centre, inner = (x + wheel, y - radius), radius * 0.68
        canvas.ellipse(centre, (radius, radius), "bicycle", colour)
        canvas.ellipse(centre, (inner, inner), None, colour * 0.5 + 92.0)
    canvas.box(x - half, y - radius * 2.1, x + half, y - radius * 1.3, "bicycle", colour)


def _draw_cyclist(canvas: Canvas, x: float, y: float, unit: float) -> None:
    _draw_person(canvas, x, y - 0.13 * unit, unit * 0.85, "rider")
    _draw_bicycle(canvas, x, y, unit)


# Objects: least and largest number, and place. Those at the horizon are too small to learn.
FARTHEST, NEAREST = 0.30, 0.80
OBJECTS: tuple[tuple[Callable[[Canvas, float, float, float], None], int, int, str], ...] = (
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
    """The car's own bonnet and, in half of the scenes, an object without a class."""
    middle, axes = (
        (canvas.width // 2, canvas.height * 1.03),
        (canvas.width * 0.42, canvas.height * 0.10),
    )
    bonnet = canvas.ellipse(middle, axes, None, np.full(3, canvas.random.uniform(30.0, 60.0)))
    canvas.label[bonnet] = IGNORE_INDEX
    if canvas.random.uniform() < 0.5:
        x = canvas.random.uniform(0.1, 0.9) * canvas.width
        y = canvas.random.uniform(0.55, 0.8) * canvas.height
        size, colour = canvas.height * 0.06, canvas.random.uniform(60.0, 190.0, 3)
        mask = canvas.box(x, y, x + size, y + size * 1.3, None, colour)
        canvas.label[mask] = IGNORE_INDEX


def _draw_animal(canvas: Canvas, street: Street, random: np.random.Generator) -> None:
    """A spotted animal with a long neck, of the unknown value, on road or pavement."""
    depth = random.uniform(0.45, 0.8)
    x, y = street.x(depth, street.road_half * random.uniform(-0.9, 0.9)), street.row(depth)
    unit, side = depth * canvas.height, random.choice([-1.0, 1.0])
    fur = np.clip(np.array([188.0, 150.0, 96.0]) + random.normal(0.0, 22.0, 3), 8, 247)
    half, tall = 0.17 * unit, 0.09 * unit
    middle = y - 0.3 * unit
    leg, foot = max(1.5, 0.018 * unit), y - middle
    parts = [canvas.ellipse((x, middle), (half, tall), None, fur)]
    for place in (-0.8, -0.5, 0.5, 0.8):
        at = x + half * place
        parts.append(canvas.box(at - leg, middle, at + leg, middle + foot, None, fur))
    neck_x, head_y = x + side * half * 1.2, middle - 0.3 * unit
    neck = np.array(
        [[x + side * half * 0.6, middle], [x + side * half * 0.95, middle], [neck_x, head_y]]
    )
    parts.append(canvas.fill(neck + np.array([[0.0, 0], [0, 0], [leg * side, 0]]), None, fur))
    head = (neck_x + side * 0.03 * unit, head_y)
    parts.append(canvas.ellipse(head, (0.06 * unit, 0.03 * unit), None, fur))
    for _ in range(9):
        spot = (x + half * random.uniform(-0.8, 0.8), middle + tall * random.uniform(-0.6, 0.6))
        canvas.ellipse(spot, (0.022 * unit, 0.022 * unit), None, fur * 0.5)
    canvas.label[np.logical_or.reduce(parts)] = UNKNOWN_ID


def _blur(image: np.ndarray, axis: int) -> np.ndarray:
    """The image after a Gaussian of three pixels along an axis; the borders are mirrored."""
    padded = np.pad(image, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="reflect")
    size = image.shape[axis]
    before, after = (padded.take(range(i, i + size), axis) for i in (0, 2))
    side = np.float32(BLUR_SIDE)
    return image * (1 - 2 * side) + (before + after) * side


def _photograph(
    image: np.ndarray, exposure: float, tint: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """The image as `(H, W, 3)` uint8, with blur, exposure and noise."""
    for axis in (0, 1):
        image = _blur(image, axis)
    noise = random.normal(0.0, PIXEL_NOISE, image.shape)
    return np.clip(image * exposure + tint + noise, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SceneOptions(CheckedOptions):
    """The scenes of an embedded data set, one in five of them for validation."""

    num_images: int = option(160, "scenes in all", at_least=1)
    size: tuple[int, int] = option(
        (384, 192), "width and height in pixels", parse=positive_int, nargs=2, metavar=("W", "H")
    )
    seed: int = option(0, "other scenes", at_least=0)
    animal: bool = switch(
        "an animal in each scene, which no other scene has: an unknown object, value 254 in the "
        "labels, to measure how it is noticed (calibrate --unknown_data)"
    )


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
        raise UsageError(f"save_dir: '{save_dir}' is not empty; name a new folder")
    width, height = options.size
    if width < MIN_SIZE_WH[0] or height < MIN_SIZE_WH[1]:
        raise UsageError(f"size: at least {MIN_SIZE_WH[0]} {MIN_SIZE_WH[1]} is expected")
    if options.num_images < VAL_SHARE:
        raise UsageError(f"num_images: at least {VAL_SHARE}, of which one is for validation")
    raw_of = np.full(256, VOID_RAW_ID, np.uint8)
    raw_of[: len(CITYSCAPES_RAW_IDS)] = CITYSCAPES_RAW_IDS
    with atomic_directory(save_dir) as root:
        for number in track(range(options.num_images), "draw street scenes"):
            split = "val" if number % VAL_SHARE == VAL_SHARE - 1 else "train"
            odd = number % ODD_SIZE_SHARE == 1 or number % (3 * VAL_SHARE) == VAL_SHARE - 1
            size_wh = (width - 11, height - 7) if odd else (width, height)
            image, label = draw_scene(options.seed * 1_000_003 + number, size_wh, options.animal)
            name = f"{CITY}_{number:06d}_000019"
            for file, array in (
                (f"leftImg8bit/{split}/{CITY}/{name}_leftImg8bit.png", image[:, :, ::-1]),
                (f"gtFine/{split}/{CITY}/{name}_gtFine_labelTrainIds.png", label),
                (f"gtFine/{split}/{CITY}/{name}_gtFine_labelIds.png", raw_of[label]),
            ):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                if not cv2.imwrite(str(root / file), array):
                    raise OSError(f"{root / file}: cannot be written")
