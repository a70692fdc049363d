"""From an image to the network's input, and the record of how to get back.

The transforms are PaddleSeg's, by PaddleSeg's names and arguments, because that is what
`deploy.yaml` and the validation section of a yml hold. Only those without randomness belong here.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import (
    DataError,
    UsageError,
    check_choice,
    cut,
    nearest_name,
    shown,
)
from paddleseg_ext.common.options import check_kind
from paddleseg_ext.common.transform_arguments import LARGEST_SIDE, check_transform
from paddleseg_ext.images import functional
from paddleseg_ext.images.orientation import Orientation

FloatImage = NDArray[np.float32]
SizeHW = tuple[int, int]
SizeWH = tuple[int, int]

INTERPOLATIONS = tuple(
    name.upper() for name in (*functional.INTERPOLATIONS, functional.PILLOW_LINEAR)
)


@dataclass(frozen=True)
class Step:
    """One change of size: what was done, and the (height, width) before it."""

    kind: Literal["resize", "padding"]
    before_hw: SizeHW


@dataclass(frozen=True)
class Geometry:
    """The way from the original image to the network's input; read backwards, the way back.

    Attributes:
        original_hw: size of the image as read.
        network_hw: size of the tensor that the network sees.
        steps: the changes of size, in order.
    """

    original_hw: SizeHW
    network_hw: SizeHW
    steps: tuple[Step, ...] = ()

    @property
    def resizes(self) -> bool:
        """Whether a step resized; padding alone is cut off without interpolation."""
        return any(step.kind == "resize" for step in self.steps)


def _check_side(name: str, side: float | None) -> None:
    if side is not None and not 0 < side <= LARGEST_SIDE:
        raise ValueError(f"{name}: 1 to {LARGEST_SIDE} pixels are expected, got {side}")


def _check_size_wh(name: str, size_wh: Any) -> tuple[int, int]:
    if isinstance(size_wh, int):
        size_wh = (size_wh, size_wh)
    if (
        not isinstance(size_wh, (list, tuple))
        or len(size_wh) != 2
        or not all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in size_wh)
    ):
        raise ValueError(f"{name}: [width, height] is expected, got {shown(size_wh)}")
    return (size_wh[0], size_wh[1])


def _wh(image: FloatImage) -> SizeWH:
    return image.shape[1], image.shape[0]


class Resizing:
    """A transform that resizes an image to a size that depends on its own.

    Attributes:
        interp: interpolation, by PaddleSeg's name.
    """

    kind = "resize"
    interp = "LINEAR"

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """(width, height) that an image of this (width, height) is resized to."""
        raise NotImplementedError

    def __call__(self, image: FloatImage) -> FloatImage:
        """The resized image; itself where it has that size already."""
        size_wh = self.size_wh_after(_wh(image))
        if size_wh == _wh(image):
            return image
        return functional.resize_image(image, size_wh, self.interp.lower())


class ImageResize(Resizing):
    """Resize to `target_size` (width, height), or to what fits into it with `keep_ratio`."""

    def __init__(
        self,
        target_size: int | Sequence[int] = (512, 512),
        keep_ratio: bool = False,
        size_divisor: int | None = None,
        interp: str = "LINEAR",
    ):
        self.target_wh = _check_size_wh("target_size", target_size)
        if interp not in INTERPOLATIONS:
            raise ValueError(
                f"interp: unknown '{cut(interp)}'{nearest_name(interp, INTERPOLATIONS)}"
            )
        _check_side("size_divisor", size_divisor or None)
        self.keep_ratio = keep_ratio
        self.size_divisor = size_divisor
        self.interp = interp

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """Source: PaddleSeg 2.8 `Resize` (`rescale_size` for `keep_ratio`)."""
        width, height = self.target_wh
        if self.keep_ratio:
            width, height = functional.keep_ratio_size_wh(size_wh, self.target_wh)
        if self.size_divisor:
            width = math.ceil(width / self.size_divisor) * self.size_divisor
            height = math.ceil(height / self.size_divisor) * self.size_divisor
        return width, height


def _scaled(size_wh: SizeWH, scale: float) -> SizeWH:
    """A very narrow image keeps one pixel, where PaddleSeg fails."""
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))


class ResizeByLong(Resizing):
    """Resize so that the longer side is `long_size`."""

    def __init__(self, long_size: int):
        _check_side("long_size", long_size)
        self.long_size = long_size

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """Source: PaddleSeg 2.8 `ResizeByLong`."""
        return _scaled(size_wh, self.long_size / max(size_wh))


class ResizeByShort(Resizing):
    """Resize so that the shorter side is `short_size` and the longer at most `max_size`.

    PaddleSeg's keeps a short size that one image's `max_size` lowered for all later images; here
    every image is treated by itself.
    """

    def __init__(self, short_size: int, max_size: float = 1e10):
        _check_side("short_size", short_size)
        if not max_size > 0:
            raise ValueError(f"max_size: a number above 0 is expected, got {max_size}")
        self.short_size = short_size
        self.max_size = max_size

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """Source: PaddleSeg 2.8 `ResizeByShort`."""
        short, long = min(size_wh), max(size_wh)
        short_size = self.short_size
        if short_size / short * long > self.max_size:
            short_size = int(self.max_size / long * short)
        return _scaled(size_wh, short_size / short)


class LimitLong(Resizing):
    """Resize only where the longer side is above `max_long` or below `min_long`."""

    def __init__(self, max_long: int | None = None, min_long: int | None = None):
        _check_side("max_long", max_long)
        _check_side("min_long", min_long)
        if max_long is not None and min_long is not None and min_long > max_long:
            raise ValueError(f"min_long ({min_long}) is above max_long ({max_long})")
        self.max_long = max_long
        self.min_long = min_long

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """Source: PaddleSeg 2.8 `LimitLong`."""
        long = max(size_wh)
        if self.max_long is not None and long > self.max_long:
            return _scaled(size_wh, self.max_long / long)
        if self.min_long is not None and long < self.min_long:
            return _scaled(size_wh, self.min_long / long)
        return size_wh


class ImagePadding:
    """Pad at the bottom and the right to `target_size` (width, height)."""

    kind = "padding"

    def __init__(
        self,
        target_size: int | Sequence[int],
        im_padding_value: float | Sequence[float] = 127.5,
        label_padding_value: int = 255,
    ):
        """`label_padding_value` is accepted as PaddleSeg writes it; labels are not padded here."""
        self.target_wh = _check_size_wh("target_size", target_size)
        values = np.ravel(im_padding_value)
        if len(values) not in (1, 3) or not np.isfinite(values).all():
            raise ValueError(
                f"im_padding_value: 1 or 3 numbers are expected, got {shown(im_padding_value)}"
            )
        self.value = im_padding_value

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """Source: PaddleSeg 2.8 `Padding`.

        Raises:
            DataError: the image is larger than the target.
        """
        width, height = size_wh
        if width > self.target_wh[0] or height > self.target_wh[1]:
            raise DataError(
                f"Padding: an image of at most {self.target_wh[0]}x{self.target_wh[1]} "
                f"(width x height) is expected, got {width}x{height}; put a Resize before it"
            )
        return self.target_wh

    def __call__(self, image: FloatImage) -> FloatImage:
        return functional.pad(image, self.size_wh_after(_wh(image)), self.value)


class ImageNormalize:
    """`(image / 255 - mean) / std`, a value for each channel or one for all."""

    kind = "values"

    def __init__(self, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)):
        for name, values in (("mean", mean), ("std", std)):
            if not isinstance(values, (list, tuple)) or len(values) not in (1, 3):
                raise ValueError(
                    f"{name}: a list of 1 or 3 numbers is expected, got {shown(values)}"
                )
            if not all(map(math.isfinite, values)):
                raise ValueError(f"{name}: finite numbers are expected, got {shown(values)}")
        if not all(std):
            raise ValueError(f"std: numbers other than 0 are expected, got {shown(std)}")
        self.mean = tuple(float(value) for value in mean) * (3 // len(mean))
        self.std = tuple(float(value) for value in std) * (3 // len(std))

    @property
    def is_even(self) -> bool:
        """Whether all channels get the same."""
        return len(set(self.mean)) == len(set(self.std)) == 1

    def size_wh_after(self, size_wh: SizeWH) -> SizeWH:
        """The size as it was."""
        return size_wh

    def __call__(self, image: FloatImage) -> FloatImage:
        channels = image.shape[2]
        return functional.normalize(image, self.mean[:channels], self.std[:channels])


_OF_ONE_SIDE = (ResizeByShort, ResizeByLong, LimitLong)
# By PaddleSeg's names.
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "Resize": ImageResize,
    "ResizeByShort": ResizeByShort,
    "ResizeByLong": ResizeByLong,
    "LimitLong": LimitLong,
    "Padding": ImagePadding,
    "Normalize": ImageNormalize,
}


class Preprocess:
    """The transforms of a `deploy.yaml` or of a yml's validation section, in order."""

    def __init__(
        self,
        transforms: Sequence[Mapping[str, Any]],
        color_order: str = "RGB",
        input_dtype: str = "float32",
        orientation: Orientation = "stored",
        channels: int = 3,
    ):
        """
        Args:
            transforms: `{"type": name, argument: value, ...}` each.
            color_order: the channel order that the network was trained with, RGB or BGR.
            input_dtype: `uint8` where the graph takes bytes: a resize then rounds to them.
            orientation: how image files are read; arrays are taken as they are.
            channels: of the network's input: 3, or 1 for a network of grey images.

        Raises:
            UsageError: a transform that is random or unknown, or a wrong argument.
        """
        check_choice("orientation", orientation, get_args(Orientation))
        self.orientation: Orientation = orientation
        if color_order not in ("RGB", "BGR"):
            raise UsageError(f"color_order: RGB or BGR is expected, got '{color_order}'")
        if not isinstance(transforms, (list, tuple)):
            raise UsageError(f"transforms: a list is expected, got {shown(transforms)}")
        self.color_order = color_order
        self.input_dtype = np.dtype(input_dtype)
        self.channels = functional.check_channels(channels)
        self._transforms = [_build(spec) for spec in transforms]
        for each in self._transforms:
            if channels == 1 and isinstance(each, ImageNormalize) and not each.is_even:
                raise UsageError(
                    "transforms: Normalize: one mean and one std are expected for grey images "
                    f"(img_channels: 1), got {list(each.mean)} and {list(each.std)}"
                )

    @property
    def settings(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and all values, also the default ones, of what is done: equal for equal work."""
        names = {factory: name for name, factory in TRANSFORMS.items()}
        order = ("reading", {"color_order": self.color_order, "orientation": self.orientation})
        return [order, *((names[type(each)], dict(vars(each))) for each in self._transforms)]

    def before_normalize(self, input_dtype: str) -> "Preprocess":
        """The same without Normalize, for a graph that normalises by itself."""
        part = Preprocess([], self.color_order, input_dtype, self.orientation, self.channels)
        part._transforms = [t for t in self._transforms if not isinstance(t, ImageNormalize)]
        return part

    @property
    def changes_size(self) -> bool:
        """Whether a transform may resize or pad."""
        return any(transform.kind != "values" for transform in self._transforms)

    @property
    def keeps_ratio(self) -> bool:
        """Whether all that changes the size is a side of the image that is given."""
        return all(t.kind == "values" or isinstance(t, _OF_ONE_SIDE) for t in self._transforms)

    @property
    def resizes(self) -> bool:
        """Whether a transform may resize."""
        return any(transform.kind == "resize" for transform in self._transforms)

    def network_hw(self, original_hw: SizeHW) -> SizeHW:
        """The (height, width) that the network would see of an image, before it is decoded.

        Raises:
            DataError: an image of that size does not fit the transforms.
        """
        width, height = original_hw[1], original_hw[0]
        for transform in self._transforms:
            width, height = transform.size_wh_after((width, height))
        return height, width

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray, Geometry]:
        """Make the network's input.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The (`channels`, h, w) tensor, float32 or bytes, and the way back to (H, W).

        Raises:
            DataError: the image does not fit the transforms.
        """
        # PaddleSeg turns pixels into float32 before it resizes; on bytes the result is rounded.
        grey = self.channels == 1
        pixels: NDArray = (functional.as_grey(image) if grey else image).astype(self.input_dtype)
        if self.color_order == "BGR":
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        steps = []
        for transform in self._transforms:
            before_hw = _size_hw(pixels)
            pixels = transform(pixels)
            if _size_hw(pixels) != before_hw:
                steps.append(Step(transform.kind, before_hw))
        planes = pixels.transpose(2, 0, 1)[: self.channels]
        tensor = np.ascontiguousarray(planes, dtype=self.input_dtype)
        return tensor, Geometry(_size_hw(image), _size_hw(pixels), tuple(steps))


def _size_hw(image: NDArray) -> SizeHW:
    return image.shape[0], image.shape[1]


def _build(spec: Mapping[str, Any]) -> Any:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        raise UsageError(f"transforms: items with 'type: NAME' are expected, got {shown(spec)}")
    name = spec["type"].removeprefix("paddleseg.")
    if name not in TRANSFORMS:
        raise UsageError(
            f"transforms: '{cut(name)}' cannot be used for inference; "
            f"supported: {', '.join(sorted(TRANSFORMS))}"
        )
    arguments = {key: value for key, value in spec.items() if key != "type"}
    parameters = inspect.signature(TRANSFORMS[name]).parameters
    for key in arguments:
        if key not in parameters:
            raise UsageError(
                f"transforms: {name} takes no '{cut(str(key))}'{nearest_name(key, parameters)}"
            )
    check_transform(f"transforms: {name}", arguments)
    kinds = get_type_hints(TRANSFORMS[name].__init__)
    for key, value in arguments.items():
        check_kind(f"transforms: {name}", key, value, kinds[key])
    try:
        return TRANSFORMS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"transforms: {name}: {error}") from None
