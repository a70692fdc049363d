"""How published figures were measured: the geometry and arithmetic of each named protocol.

The same weights score differently under each of these, so a figure without its protocol says
little. Here is what each one does, as numbers; `evaluation.protocols` runs a network by it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from paddleseg_ext.scoring.metrics import AbsentRule

Merge = Literal["logits", "softmax", "window_softmax", "window_exp", "window_product"]

COINCHEUNG = "CoinCheung/BiSeNet tools/evaluate.py"
COINCHEUNG_DEMO = "CoinCheung/BiSeNet tools/demo.py, demo_video.py"
STDC = "MichaelFan01/STDC-Seg evaluation.py"
TORCHSEG = "ycszen/TorchSeg furnace/engine/evaluator.py"
TF2 = "MaybeShewill-CV/bisenetv2-tensorflow tools/cityscapes"
PADDLESEG = "PaddleSeg 2.8 core/infer.py"
MMSEG = "mmsegmentation 0.19 segmentors/encoder_decoder.py"

COINCHEUNG_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
CROP_WH = (1024, 1024)


@dataclass(frozen=True)
class Windows:
    """Crops that slide over an image.

    Attributes:
        crop_wh: width and height of a crop.
        stride_wh: how far one crop is from the next; the last is moved back inside.
        average: divide by how many crops saw a pixel; else their scores are only summed.
        pad: an image smaller than the crop is padded with zeros, centrally; else the crop is cut.
    """

    crop_wh: tuple[int, int]
    stride_wh: tuple[int, int]
    average: bool
    pad: bool


@dataclass(frozen=True)
class Protocol:
    """One way to get from an image to the scores that are compared.

    Attributes:
        source: whose arithmetic this is.
        scales: the image is looked at in each of these sizes.
        flip: and mirrored left to right.
        side_multiple: scaled sides are rounded up to a multiple of this.
        round_sides: scaled sides are rounded to the nearest number, else cut off.
        align_corners: of every resizing, of images and of scores.
        windows: None where the network sees the whole image.
        merge: what is summed. `logits`, or `softmax` of logits that were resized before;
            `window_softmax` (of every crop, resized after; a mirrored one is added),
            `window_exp` (exp(p + p mirrored)), `window_product` (p times p mirrored).
        at_label_size: scores are brought to the label's size before they are summed; else to the
            size of the preprocessed image.
        bytes_first: images are resized and padded as bytes, and normalised afterwards.
        label_stride: scores and labels are compared at this fraction of the label's size.
        fixed_hw: the network sees every image at this height and width.
    """

    name: str
    source: str
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    side_multiple: int = 1
    round_sides: bool = False
    align_corners: bool = False
    windows: Windows | None = None
    merge: Merge = "logits"
    at_label_size: bool = False
    bytes_first: bool = False
    label_stride: int = 1
    fixed_hw: tuple[int, int] | None = None

    @property
    def is_plain(self) -> bool:
        """One look at the whole image as preprocessing gives it: what training's check does."""
        return replace(self, name="", source="") == Protocol("", "", round_sides=self.round_sides)

    @property
    def needs_full_size(self) -> bool:
        """Whether it starts from the image at its own size, so that nothing may resize before."""
        return self.source not in (PADDLESEG, MMSEG)

    def describe(self) -> str:
        """The protocol in words, for the line beside every result."""
        looks = [f"scales {', '.join(f'{scale:g}' for scale in self.scales)}"]
        if self.flip:
            looks.append("flip")
        if self.fixed_hw is not None:
            looks.append(f"at {self.fixed_hw[1]}x{self.fixed_hw[0]}")
        if self.side_multiple > 1:
            looks.append(f"sides up to a multiple of {self.side_multiple}")
        if self.windows is not None:
            (width, height), (step_x, step_y) = self.windows.crop_wh, self.windows.stride_wh
            looks.append(f"crops {width}x{height} every {step_x}x{step_y}")
        looks.append(f"sum of {self.merge}")
        looks.append(f"align_corners={self.align_corners}")
        at = "label size" if self.label_stride == 1 else f"1/{self.label_stride} of the label size"
        return f"{self.name} ({self.source}: {'; '.join(looks)}; scored at {at})"

    def scaled_hw(self, size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
        """The (height, width) at which an image of `size_hw` is looked at."""
        if self.fixed_hw is not None:
            return self.fixed_hw
        half = 0.5 if self.round_sides else 0.0
        height, width = (
            _ceil_to(max(1, int(side * scale + half)), self.side_multiple) for side in size_hw
        )
        return height, width

    def label_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which a label of `size_hw` is scored; a pixel at least."""
        height, width = (max(1, side // self.label_stride) for side in size_hw)
        return height, width


def _ceil_to(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def window_starts(side: int, crop: int, stride: int) -> list[int]:
    """Where the crops along one side begin; the last ends at the side's end.

    Raises:
        ValueError: a stride beyond the crop, which would leave pixels out.
    """
    if not 1 <= stride <= crop:
        raise ValueError(f"stride: 1 to {crop} (the crop) is expected, got {stride}")
    if side <= crop:
        return [0]
    count = -(-(side - crop) // stride) + 1
    return [min(i * stride, side - crop) for i in range(count)]


def fraction_of(crop_wh: Sequence[int], numerator: int, denominator: int) -> tuple[int, int]:
    """The stride that is a fraction of the crop, rounded up."""
    width, height = (math.ceil(side * numerator / denominator) for side in crop_wh)
    return width, height


_COINCHEUNG_WINDOWS = Windows(CROP_WH, fraction_of(CROP_WH, 2, 3), average=False, pad=True)
_COINCHEUNG = Protocol("ss", COINCHEUNG, side_multiple=32, align_corners=True, merge="softmax")
_COINCHEUNG_CROP = Protocol(
    "ssc", COINCHEUNG, align_corners=True, windows=_COINCHEUNG_WINDOWS, merge="window_softmax"
)
_TORCHSEG_WINDOWS = Windows(CROP_WH, fraction_of(CROP_WH, 5, 6), average=False, pad=True)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _COINCHEUNG,
        replace(_COINCHEUNG, name="msf", scales=COINCHEUNG_SCALES, flip=True),
        _COINCHEUNG_CROP,
        replace(
            _COINCHEUNG_CROP,
            name="mscf",
            scales=COINCHEUNG_SCALES,
            flip=True,
            merge="window_exp",
        ),
        # As demo.py since July 2022; before, it took images as they were.
        Protocol("coincheung_demo", COINCHEUNG_DEMO, side_multiple=32),
        Protocol("coincheung_demo_video", COINCHEUNG_DEMO, fixed_hw=(768, 768)),
        Protocol("scale_0.5", STDC, scales=(0.5,), align_corners=True),
        Protocol("scale_0.75", STDC, scales=(0.75,), align_corners=True),
        Protocol("half_resize", TF2, scales=(0.5,), merge="window_softmax", bytes_first=True),
        Protocol("whole", PADDLESEG, round_sides=True),
        Protocol(
            "slide",
            PADDLESEG,
            round_sides=True,
            windows=Windows(CROP_WH, CROP_WH, average=True, pad=False),
        ),
        Protocol("mmseg_whole", MMSEG, round_sides=True, merge="softmax", at_label_size=True),
        Protocol(
            "mmseg_slide",
            MMSEG,
            round_sides=True,
            windows=Windows(CROP_WH, CROP_WH, average=True, pad=False),
            merge="softmax",
            at_label_size=True,
        ),
        Protocol(
            "torchseg",
            TORCHSEG,
            windows=_TORCHSEG_WINDOWS,
            merge="window_product",
            bytes_first=True,
        ),
        Protocol("label_1_8", TORCHSEG, label_stride=8),
    )
}
DEFAULT_PROTOCOL = "whole"
LARGEST_SCALE = 64

# What a user may change; everything else is what makes the protocol itself.
OPTIONS = ("scales", "flip_horizontal", "crop_size", "stride")
OPTIONS_OF = {
    "ssc": ("crop_size",),
    "mscf": ("crop_size",),
    "half_resize": ("scales", "flip_horizontal"),
    "whole": ("scales", "flip_horizontal"),
    "slide": OPTIONS,
    "mmseg_whole": ("scales", "flip_horizontal"),
    "mmseg_slide": OPTIONS,
    "torchseg": ("scales", "flip_horizontal", "crop_size"),
}
NEEDED_OPTIONS_OF = {"slide": ("crop_size", "stride"), "mmseg_slide": ("crop_size", "stride")}


def make_protocol(
    name: str,
    scales: Sequence[float] | None = None,
    flip_horizontal: bool = False,
    crop_size: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
) -> Protocol:
    """A protocol by its name, with what the flags change about it.

    Args:
        name: a key of `PROTOCOLS`.
        scales: of the image (for `half_resize` of the halved image).
        flip_horizontal: look at the mirrored image, too.
        crop_size: [width, height] of the crops.
        stride: [width, height] from one crop to the next.

    Raises:
        ValueError: an unknown name, an option that the protocol fixes or needs, a wrong value.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: one of {', '.join(PROTOCOLS)} is expected, got '{name}'")
    given = {
        "scales": scales is not None,
        "flip_horizontal": flip_horizontal,
        "crop_size": crop_size is not None,
        "stride": stride is not None,
    }
    for option, is_given in given.items():
        if is_given and option not in OPTIONS_OF.get(name, ()):
            raise ValueError(f"protocol {name} fixes {option}; leave --{option} out")
        if not is_given and option in NEEDED_OPTIONS_OF.get(name, ()):
            raise ValueError(f"protocol {name} needs --{option}")
    protocol = PROTOCOLS[name]
    if scales is not None:
        if not _all_of(scales, (int, float)) or not all(0 < s <= LARGEST_SCALE for s in scales):
            raise ValueError(
                f"scales: numbers above 0 and up to {LARGEST_SCALE} are expected, got {scales!r}"
            )
        base = protocol.scales[0]
        protocol = replace(protocol, scales=tuple(base * scale for scale in scales))
    if flip_horizontal:
        protocol = replace(protocol, flip=True)
    if protocol.windows is not None:
        windows = _change_windows(protocol, protocol.windows, crop_size, stride)
        protocol = replace(protocol, windows=windows)
    return protocol


def _change_windows(
    protocol: Protocol,
    windows: Windows,
    crop_size: Sequence[int] | None,
    stride: Sequence[int] | None,
) -> Windows:
    if crop_size is not None:
        crop_wh = _pair("crop_size", crop_size)
        fraction = (5, 6) if protocol.source == TORCHSEG else (2, 3)
        windows = replace(windows, crop_wh=crop_wh, stride_wh=fraction_of(crop_wh, *fraction))
    if stride is not None:
        windows = replace(windows, stride_wh=_pair("stride", stride))
    for crop, step in zip(windows.crop_wh, windows.stride_wh, strict=True):
        window_starts(crop, crop, step)
    return windows


def _pair(name: str, values: Sequence[int]) -> tuple[int, int]:
    if not _all_of(values, (int,)) or len(values) != 2 or min(values) < 1:
        raise ValueError(f"{name}: [width, height] above 0 are expected, got {values!r}")
    return values[0], values[1]


def _all_of(values: object, kinds: tuple[type, ...]) -> bool:
    """Whether `values`, which may come from a yml, is a list of such numbers, and not empty."""
    return (
        isinstance(values, (list, tuple))
        and len(values) > 0
        and all(isinstance(value, kinds) and not isinstance(value, bool) for value in values)
    )


@dataclass(frozen=True)
class EvaluationRule:
    """How a network is evaluated: a protocol, its options, and how absent classes count.

    Training and export write it into the manifests of checkpoint and bundle.

    Attributes:
        protocol: a key of `PROTOCOLS`.
        scales: see `make_protocol`, as the other options.
        absent_class: how a class absent from labels and predictions counts in means.

    Raises:
        ValueError: see `make_protocol`.
    """

    protocol: str = DEFAULT_PROTOCOL
    scales: tuple[float, ...] | None = None
    flip_horizontal: bool = False
    crop_size: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    absent_class: AbsentRule = "skip"

    def __post_init__(self) -> None:
        self.make()

    def make(self) -> Protocol:
        """The protocol."""
        options = self.scales, self.flip_horizontal, self.crop_size, self.stride
        return make_protocol(self.protocol, *options)

    def describe(self) -> str:
        """Protocol and rule for absent classes, in one line."""
        return f"{self.make().describe()}; absent classes: {self.absent_class}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a yml or JSON file: the attributes that have a value."""
        values = {key: value for key, value in asdict(self).items() if value not in (None, False)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def test_config(self) -> dict[str, Any]:
        """The protocol in the words of a yml's `test_config:`."""
        values = self.to_dict()
        del values["absent_class"]
        return values | {"aug_eval": self.scales is not None or self.flip_horizontal}
