"""One image through a runtime with all parts timed, and what follows from such times.

`tune`, `quantize` and `bench` measure with `take_turn`, in rounds: each runtime takes one image,
then each takes the next. So two of them are compared by the ratios of their rounds, which a busy
machine moves less than it moves the times.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.benchmark import PERCENTILES
from paddleseg_ext.inference.engines.base import RunTimes
from paddleseg_ext.inference.outputs import encode_label_map
from paddleseg_ext.inference.predictor import Predictor, Segmentation
from paddleseg_ext.inference.preprocess import Geometry, SizeHW
from paddleseg_ext.inference.runtime import RuntimeReport

PARTS = ("decode", "preprocess", "copy_in", "run", "copy_out", "postprocess", "encode")
NETWORK_PARTS = ("copy_in", "run", "copy_out")
LABELS_PARTS = (*NETWORK_PARTS, "postprocess")  # from the network's input to the label map
# OpenMP's threads spin for so long after a run; the next runtime would share its cores with them.
SETTLE_SECONDS = 0.2
# Two runtimes are equal where 1 lies between these percentiles of the ratios of their rounds: of 12
# rounds of equals that fails by chance in one comparison of 25.
SPREAD = (25, 75)
PRECISIONS = ("fp32", "bf16", "fp16", "int8")  # of equals, the first


@dataclass(frozen=True)
class TimedImage:
    """One image, all the way.

    Attributes:
        output: of the network, for this image.
        geometry: the way back from `output` to the original size.
        seconds: part -> seconds, of `PARTS`.
        new_size_s: what the network's parts took when an input of this size came for the first
            time; None where one has come before.
    """

    segmentation: Segmentation
    output: NDArray
    geometry: Geometry
    seconds: dict[str, float]
    new_size_s: float | None = None

    def seconds_of(self, parts: Sequence[str]) -> float:
        """The sum of some parts."""
        return sum(self.seconds[part] for part in parts)


def take_turn(predictor: Predictor, image: Path, sizes_hw: set[SizeHW]) -> TimedImage:
    """Predict an image twice; the second time counts.

    Before the first one others have run: this runtime's caches are cold and its threads wake up.

    Args:
        predictor: a runtime.
        image: the file.
        sizes_hw: of the network's inputs that have come before; a new one is added.

    Raises:
        DataError: it cannot be read or predicted.
        CheckFailed: see `time_image`.
    """
    time.sleep(SETTLE_SECONDS)
    first, second = time_image(predictor, image), time_image(predictor, image)
    size_hw = first.segmentation.input_hw
    if size_hw in sizes_hw:
        return second
    sizes_hw.add(size_hw)
    return replace(second, new_size_s=first.seconds_of(NETWORK_PARTS))


def time_image(predictor: Predictor, image: Path) -> TimedImage:
    """Predict an image once.

    Raises:
        DataError: it cannot be read or predicted.
        CheckFailed: a GPU's time that was taken before the GPU had finished.
    """
    started = time.perf_counter()
    pixels = read_image(image, predictor.preprocess.orientation)
    decode_s = time.perf_counter() - started
    prepared = predictor.prepare(pixels)
    ran = predictor.run(prepared.tensor[None], [prepared.geometry])
    require_synchronised(ran.times, predictor.describe())
    result = predictor.finish(prepared, ran.outputs[0], ran.geometries[0])
    started = time.perf_counter()
    encode_label_map(result.label_map, result.class_table)
    encode_s = time.perf_counter() - started
    seconds = {
        "decode": decode_s,
        "preprocess": prepared.preprocess_ms / 1000,
        "copy_in": ran.times.copy_in_s,
        "run": ran.times.run_s,
        "copy_out": ran.times.copy_out_s,
        "postprocess": result.timings.postprocess_ms / 1000,
        "encode": encode_s,
    }
    return TimedImage(result, ran.outputs[0], ran.geometries[0], seconds)


def require_synchronised(times: RunTimes, report: RuntimeReport) -> None:
    """Refuse a GPU's time that was taken before the GPU had finished.

    Raises:
        CheckFailed: such a time is that of asking, not of computing.
    """
    if report.device != "cpu" and not times.synchronised:
        raise CheckFailed(
            f"{report.name} on {report.device}: the clock was stopped without a synchronise, so "
            "its time means nothing and is not shown"
        )


@dataclass(frozen=True)
class Measured:
    """The figures of one runtime after the rounds.

    Attributes:
        name: as it is shown.
        precision: that was asked for.
        seconds: of each round, from the network's input to the label map; the rounds of all that
            are compared are the same.
        passed: whether its label maps are the network's; None where that is not known.
        different: share of the pixels whose class differs, 0 to 1; None where that is not known.
    """

    name: str
    precision: str
    seconds: Sequence[float]
    passed: bool | None = None
    different: float | None = None

    @property
    def median(self) -> float:
        """Seconds, by the median over the rounds."""
        return float(np.median(self.seconds))

    def milliseconds(self) -> str:
        """The percentiles, in words."""
        points = np.percentile(self.seconds, PERCENTILES) * 1000
        shown = (f"p{p} {point:.1f}" for p, point in zip(PERCENTILES, points, strict=True))
        return ", ".join(shown) + " ms"

    def is_equal_to(self, other: "Measured") -> bool:
        """Whether the spread of the rounds' ratios leaves open which one is faster."""
        if other is self:
            return True
        low, high = np.percentile(np.divide(other.seconds, self.seconds), SPREAD)
        return bool(low <= 1 <= high)


def preferred(measured: Sequence[Measured], kept: str = "") -> Measured | None:
    """The one to take of those that are right; None where none is known to be.

    The fastest, or one that equals it within the spread: the one that was taken before, else the
    one of the highest precision, else the first.

    Args:
        measured: in their order.
        kept: name of the one that was taken before.
    """
    equal = equals_of_fastest(measured)
    before = [each for each in equal if each.name == kept]
    return next(iter(before or sorted(equal, key=lambda m: PRECISIONS.index(m.precision))), None)


def equals_of_fastest(measured: Sequence[Measured]) -> list[Measured]:
    """The fastest of those that are right, and all that equal it, in their order."""
    right = [each for each in measured if each.passed]
    if not right:
        return []
    fastest = min(right, key=lambda each: each.median)
    return [each for each in right if fastest.is_equal_to(each)]


def advice(measured: Sequence[Measured], kept: str = "") -> str:
    """One line: which one to take, and what that gains and costs.

    Args:
        measured: the first one is what others are compared with, where FP32 is taken.
        kept: name of the one that was taken before.
    """
    taken = preferred(measured, kept)
    if taken is None:
        return "take none: no label maps are known to be right here (paddleseg-ext tune, or parity)"
    right = [each for each in measured if each.passed]
    plain = min((m for m in right if m.precision == "fp32"), key=lambda m: m.median, default=None)
    against, called = measured[0], measured[0].name
    if taken.precision != "fp32" and plain is not None:
        against, called = plain, f"FP32 ({plain.name})"
    line = f"take {taken.name}"
    if against is not taken:
        line += f": {against.median / taken.median:.1f} times as fast as {called}"
    if taken.different is not None:
        line += f", {share_of(taken.different)} of the pixels differ"
    without = [each for each in right if each.precision != "int8"]
    if taken.precision == "int8" and without:
        line += f"; fastest without calibration: {min(without, key=lambda m: m.median).name}"
    others = [each.name for each in equals_of_fastest(measured) if each is not taken]
    return line + (f"; equal within the spread: {', '.join(others)}" if others else "")


def share_of(share: float) -> str:
    """A share of pixels in percent, and never 0% for a few."""
    return "none" if not share else "below 0.1%" if share < 0.0005 else f"{share:.1%}"
