"""From the network's output to a label map at the original image's size.

Scores (logits or probabilities) come back by bilinear interpolation and are compared afterwards,
class ids come back by nearest neighbour: the two give different maps where preprocessing resizes,
so which one happened is part of every bundle's manifest.

The confidence of a pixel is the largest softmax of its scores at the original size, after all that
resizes them: of logits divided by the bundle's temperature. A graph that ends in softmax returns
probabilities, and the largest one is the confidence.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError, check_choice
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.images import functional
from paddleseg_ext.inference.preprocess import Geometry, SizeHW
from paddleseg_ext.inference.sparse_upsampling import SparseUpsampler, Stage

MOST_CLASSES = 256
ROWS_AT_ONCE = 32
NO_SCORES = (
    "the graph ends in argmax and returns class ids: scores and confidence need one that was "
    "exported with --output_op none (or softmax)"
)
UPSAMPLINGS = ("graph", "half_pixel", "aligned")
RESIZE_BACK = {
    "none": "bilinear logits",
    "softmax": "bilinear probabilities",
    "argmax": "nearest labels",
}
OUTPUT_OPS = tuple(RESIZE_BACK)


class Best(NamedTuple):
    """The best class and its confidence.

    Attributes:
        label_map: (H, W) uint8 class ids.
        confidence: (H, W) float32, 0 to 1.
    """

    label_map: NDArray[np.uint8]
    confidence: NDArray[np.float32]


class Postprocess:
    """Undoes the changes of size and takes the best class; see `label_map`."""

    def __init__(
        self,
        output_op: str = "none",
        nearest_labels: bool = False,
        upsampling: str = "graph",
        sparse: bool | None = None,
        temperature: float = 1.0,
        class_temperatures: Sequence[float] = (),
        native_stride: int = 0,
    ):
        """
        Args:
            output_op: what the graph ends in: `none` (logits), `softmax` or `argmax`.
            nearest_labels: take the class at the network's size and return it by nearest, as an
                exported `argmax` does, also where the output is scores.
            upsampling: how the output comes to the size of the network's input: `graph` (it has
                it; what does not is resized with half-pixel centres), `half_pixel` or `aligned`
                (corners).
            sparse: interpolate only where classes meet (`sparse_upsampling`; the label maps are
                the same); None where numba is installed.
            temperature: logits are divided by it before the softmax of the confidence, above 0;
                label maps do not depend on it.
            class_temperatures: one for each class, in place of `temperature`: that of the best
                class divides all logits of a pixel.
            native_stride: of a network that pads its input by itself: the output comes to so many
                times its size, and what is beyond the input's, right and below, is cut off. 0: it
                comes to the input's size.

        Raises:
            UsageError: an unknown `output_op` or `upsampling`, or numba is asked for and missing.
        """
        check_choice("output_op", output_op, OUTPUT_OPS)
        check_choice("upsampling", upsampling, UPSAMPLINGS)
        if sparse and not has_numba():
            raise UsageError(f"sparse upsampling needs numba: {how_to_install('fast')}")
        self.output_op = output_op
        self.upsampling = upsampling
        self.native_stride = native_stride
        self.sparse = has_numba() if sparse is None else sparse
        self._upsampler = SparseUpsampler()
        self.nearest_labels = nearest_labels or output_op == "argmax"
        self.temperature = temperature
        self.class_temperatures = np.array(class_temperatures, np.float32)

    @property
    def resize_back(self) -> str:
        """How the original size is reached, in words."""
        return RESIZE_BACK["argmax" if self.nearest_labels else self.output_op]

    def compile(self) -> None:
        """Load the compiled code that label maps may need, so that none of them waits for it."""
        if self.sparse and self.output_op != "argmax":
            import_module("paddleseg_ext.inference.sparse_kernels")

    def label_map(self, output: NDArray, geometry: Geometry) -> NDArray[np.uint8]:
        """(H, W) uint8 class ids at the original size.

        Args:
            output: one image's output: (C, h, w) float32 scores, or (h, w) integer class ids.
            geometry: how the image became the network's input.

        Raises:
            DataError: the scores hold NaN.
            UsageError: the output is not what `output_op` says.
        """
        self._check(output)
        if output.ndim == 2:
            return _undo(_as_uint8(output), geometry, _resize_labels)
        if self.nearest_labels:
            network_size = Geometry(geometry.network_hw, geometry.network_hw)
            return _undo(self._from_scores(output, network_size), geometry, _resize_labels)
        return self._from_scores(output, geometry)

    def best(self, output: NDArray[np.float32], geometry: Geometry) -> Best:
        """The label map, equal to that of `label_map`, and the confidence of each pixel.

        All classes are interpolated everywhere: the sparse way has only the best one's value.

        Args:
            output: (C, h, w) float32 scores of one image.
            geometry: how the image became the network's input.

        Raises:
            DataError: the scores hold NaN.
            UsageError: the output is not what `output_op` says, or it holds class ids.
        """
        is_resized_after, planes = self._planes(output, geometry)
        if len(self.class_temperatures):
            found = _best_then_confidence(planes, self.class_temperatures)
        else:
            temperature = None if self.output_op == "softmax" else self.temperature
            found = _best_and_confidence(planes(), temperature)
        if is_resized_after:
            return Best(*(_undo(plane, geometry, _resize_labels) for plane in found))
        return found

    def largest(
        self, output: NDArray[np.float32], geometry: Geometry
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The label map, equal to that of `label_map`, and the score of each pixel's class.

        Raises:
            DataError: the scores hold NaN.
            UsageError: the output is not what `output_op` says, or it holds class ids.
        """
        is_resized_after, planes = self._planes(output, geometry)
        found = _largest(planes())
        if is_resized_after:
            label_map, scores = (_undo(plane, geometry, _resize_labels) for plane in found)
            return label_map, scores
        return found

    def _planes(
        self, output: NDArray[np.float32], geometry: Geometry
    ) -> tuple[bool, Callable[[], Iterator[NDArray[np.float32]]]]:
        """Whether the best class is found before resizing, and each class's scores there."""
        self._check(output)
        if output.ndim != 3:
            raise UsageError(NO_SCORES)
        target = geometry
        if self.nearest_labels:
            target = Geometry(geometry.network_hw, geometry.network_hw)
        whole = output.shape[1:] == geometry.network_hw and not target.resizes

        def planes() -> Iterator[NDArray[np.float32]]:
            return iter(output) if whole else (self._dense(plane, target) for plane in output)

        return whole or self.nearest_labels, planes

    def _dense(self, plane: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
        """One class's scores at the original size."""
        return _undo(plane, geometry, _resize_scores, self._to_network_size)

    def _from_scores(self, output: NDArray[np.float32], geometry: Geometry) -> NDArray[np.uint8]:
        """The best class of what the scores become at the original size."""
        if output.shape[1:] == geometry.network_hw and not geometry.resizes:
            return _undo(_best_class(output), geometry, _resize_labels)

        def dense(plane: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._dense(plane, geometry)

        if self.sparse:
            stages = self._stages(output.shape[1:], geometry)
            label_map = self._upsampler.best_class(output, stages, dense)
            if label_map is not None:
                return label_map
        return _best_of_planes(dense(plane) for plane in output)

    def _to_network_size(self, plane: NDArray, network_hw: SizeHW) -> NDArray:
        """One (h, w) plane of the output at the size of the network's input."""
        height, width = network_hw
        padded_hw = self._padded_hw(plane.shape, network_hw)
        return self._upsample(plane, padded_hw)[:height, :width]

    @property
    def _upsample(self) -> Callable[[NDArray, SizeHW], NDArray]:
        return _resize_aligned if self.upsampling == "aligned" else _resize_scores

    def _padded_hw(self, size_hw: tuple[int, ...], network_hw: SizeHW) -> SizeHW:
        """The size that an output is interpolated to: that of the input, as the network padded it.

        Raises:
            UsageError: it would be smaller than the input.
        """
        if not self.native_stride or size_hw == network_hw:
            return network_hw
        padded_hw = (size_hw[0] * self.native_stride, size_hw[1] * self.native_stride)
        if padded_hw[0] < network_hw[0] or padded_hw[1] < network_hw[1]:
            raise UsageError(
                f"native_stride is {self.native_stride}, and the network gave {size_hw} for an "
                f"input of {network_hw} (height, width); export the model again"
            )
        return padded_hw

    def _stages(self, size_hw: tuple[int, ...], geometry: Geometry) -> list[Stage]:
        """The steps of `_undo` for a plane of `size_hw`."""
        stages = []
        padded_hw = self._padded_hw(size_hw, geometry.network_hw)
        if size_hw != padded_hw:
            stages.append(Stage(padded_hw, self._upsample))
        if padded_hw != geometry.network_hw:
            stages.append(Stage(geometry.network_hw, None))
        for step in reversed(geometry.steps):
            resize = None if step.kind == "padding" else _resize_scores
            stages.append(Stage(step.before_hw, resize))
        return stages

    def full_logits(self, output: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
        """(C, H, W) float32 scores at the original size: what `label_map` compares.

        Raises:
            UsageError: the output holds class ids.
        """
        self._check(output)
        if output.ndim != 3:
            raise UsageError(NO_SCORES)
        # Nearest picks whole pixels: such scores belong to the labels that nearest returned.
        resize = _resize_labels if self.nearest_labels else _resize_scores
        first = self._to_network_size
        return np.stack([_undo(plane, geometry, resize, first) for plane in output])

    def network_scores(
        self, batch: NDArray[np.float32], size_hw: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """(N, C, h, w) output of the network as (N, C, H, W) scores at the size of its input."""
        height, width = size_hw
        if batch.shape[2:] == (height, width):
            return batch
        aligned = self.upsampling == "aligned"
        padded_wh = self._padded_hw(batch.shape[2:], (height, width))[::-1]
        planes = [functional.resize_logits(one, padded_wh, aligned) for one in batch]
        return np.stack([one[:, :height, :width] for one in planes])

    def _check(self, output: NDArray) -> None:
        is_labels = output.dtype.kind in "iu"
        if is_labels != (self.output_op == "argmax") or output.ndim != (2 if is_labels else 3):
            raise UsageError(
                f"output_op is '{self.output_op}', but the network gave {output.dtype} of shape "
                f"{output.shape} for an image; export the model again"
            )


def softmax(logits: NDArray[np.float32], overwrite: bool = False) -> NDArray[np.float32]:
    """(N, C, h, w) float32 probabilities over the classes, axis 1.

    Args:
        logits: (N, C, h, w).
        overwrite: use the memory of `logits` for the result, where they own it.
    """
    own = overwrite and logits.flags.writeable and logits.flags.owndata
    scores = logits if own else logits.copy()
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def _best_class(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(C, h, w) -> (h, w), some rows at a time: what is compared stays in the cache."""
    rows = range(0, scores.shape[1], ROWS_AT_ONCE)
    return np.concatenate([_best_of_planes(iter(scores[:, r : r + ROWS_AT_ONCE])) for r in rows])


def _best_of_planes(planes: Iterator[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The index of the largest plane at each pixel; the first of equals."""
    return _largest(planes)[0]


def _largest(
    planes: Iterator[NDArray[np.float32]],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The index of the largest plane at each pixel, the first of equals, and its value.

    One plane at a time: the scores at full size are never held all at once, and this is ten times
    faster than `argmax` along the first axis.
    """
    best = next(planes).copy()
    labels = np.zeros(best.shape, np.uint8)
    for index, plane in enumerate(planes, start=1):
        # The index only grows, so the largest that ever was better is the last that was.
        better = (plane > best).view(np.uint8)
        better *= np.uint8(index)
        np.maximum(labels, better, out=labels)
        np.maximum(best, plane, out=best)  # passes NaN on
    if np.isnan(best).any():
        raise DataError("the network's output holds NaN")
    return labels, best


def _best_then_confidence(
    planes: Callable[[], Iterator[NDArray[np.float32]]], temperatures: NDArray[np.float32]
) -> Best:
    """As `_best_and_confidence`, with the temperature of the best class: the planes come twice."""
    labels, best = _largest(planes())
    scale = (-1.0 / temperatures)[labels]
    total = np.zeros(best.shape, np.float32)
    for plane in planes():
        with np.errstate(invalid="ignore", over="ignore"):  # two infinite scores
            share = np.exp((best - plane) * scale)
        total += np.fmin(share, 1.0)  # NaN where both are infinite: they are equal
    return Best(labels, 1.0 / total)


def _best_and_confidence(planes: Iterator[NDArray[np.float32]], temperature: float | None) -> Best:
    """`_best_of_planes`, and the softmax of the best class at each pixel.

    The sum over the classes is of exp((score - best score so far) / temperature), rescaled where a
    better one comes: one exponential per class and pixel, and none overflows.

    Args:
        planes: the (H, W) scores of each class.
        temperature: of logits; None where the scores are probabilities.
    """
    best = next(planes).copy()
    labels = np.zeros(best.shape, np.uint8)
    total = np.ones(best.shape, np.float32)
    for index, plane in enumerate(planes, start=1):
        for top in range(0, len(plane), ROWS_AT_ONCE):
            rows = slice(top, top + ROWS_AT_ONCE)
            _add_class(index, plane[rows], (best[rows], labels[rows], total[rows]), temperature)
    if np.isnan(best).any():
        raise DataError("the network's output holds NaN")
    if temperature is None:
        return Best(labels, np.clip(best, 0.0, 1.0))
    return Best(labels, 1.0 / total)


def _add_class(
    index: int, plane: NDArray[np.float32], state: tuple[NDArray, ...], temperature: float | None
) -> None:
    """Bring best score, label and sum of exponentials of some rows up to date, in place."""
    best, labels, total = state
    better = plane > best
    if temperature is not None:
        with np.errstate(invalid="ignore", over="ignore"):  # two infinite scores
            share = np.abs(plane - best)
            share *= np.float32(-1.0 / temperature)
            np.exp(share, out=share)
        np.fmin(share, 1.0, out=share)  # NaN where both are infinite: they are equal
        np.copyto(total, np.where(better, total * share + 1.0, total + share))
    labels[better] = index
    np.maximum(best, plane, out=best)  # passes NaN on


def has_numba() -> bool:
    """Whether the optional compiler of the sparse way is installed."""
    return find_spec("numba") is not None


def _undo(
    plane: NDArray,
    geometry: Geometry,
    resize: Callable[..., NDArray],
    to_network_size: Callable[..., NDArray] | None = None,
) -> NDArray:
    """One (h, w) plane at the original size: padding cut off, resizing undone, last step first."""
    plane = (to_network_size or resize)(plane, geometry.network_hw)
    for step in reversed(geometry.steps):
        if step.kind == "padding":
            plane = plane[: step.before_hw[0], : step.before_hw[1]]
        else:
            plane = resize(plane, step.before_hw)
    return np.ascontiguousarray(plane)


def _resize_aligned(plane: NDArray[np.float32], size_hw: SizeHW) -> NDArray[np.float32]:
    planes = np.ascontiguousarray(plane)[None]
    return functional.resize_logits(planes, size_hw[::-1], align_corners=True)[0]


def _resize_scores(plane: NDArray[np.float32], size_hw: SizeHW) -> NDArray[np.float32]:
    if plane.shape == size_hw:
        return plane
    return functional.resize_logits(np.ascontiguousarray(plane)[None], size_hw[::-1])[0]


def _resize_labels(labels: NDArray, size_hw: SizeHW) -> NDArray:
    if labels.shape == size_hw:
        return labels
    return functional.resize_label(np.ascontiguousarray(labels), size_hw[::-1])


def _as_uint8(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    if labels.size and not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        raise DataError(f"class ids 0 to 255 are expected, got {labels.min()} to {labels.max()}")
    return labels.astype(np.uint8)
