"""The best class at full size without interpolating everywhere: exact, and several times faster.

Bilinear interpolation is a convex combination of the samples around a pixel, its taps. So is a
bilinear interpolation of a bilinear interpolation, with the taps of the taps, and cutting padding
off only drops pixels. The whole way from the network's output to the original size is therefore one
table of taps and weights for the rows and one for the columns. The samples are mixed row by row,
which costs little since the output is narrow; pixels of a row that have the same taps form a cell.

What the dense way computes for class c at a pixel is D = V + e: V the exact combination of the
samples, with the weights that the dense way uses, and |e| <= 11 u M for each of S resizes, where
u = 2^-24 and M is the largest |sample| (two linear interpolations in float32, at most 5.5 u M each
in whichever order, fused or not). What is computed here in float32 is off by at most 10 u M. The
difference of two classes is off by twice the sum, 2 (11 S + 10) u M: 64 u M for S = 2, and `DOUBT`
is 128 u. Hence:

1. Where one class leads by more than DOUBT * M at each tap of a cell, its V leads at each pixel of
   the cell, as a convex combination of leads. So D does: the cell is that class.
2. In another cell, a class whose largest sample is below some class's smallest by more than that
   loses everywhere in it. The rest is interpolated, and whoever leads by more than DOUBT * M wins.
3. Where no class does, V is computed in float64. With M of the two classes and the samples that the
   dense way reads for the pixel, a lead of more than ROUNDING * S * M = 32 S u M exceeds 22 S u M:
   it decides. What is read may be more than the taps: `a + w * (b - a)` rounds by a, also where w
   is 1. So where an interpolation has one tap, its neighbours count as read.
4. The pixels that are left, a handful in an image, take what the dense way gives. It sees only what
   it reads, so one plane serves many pixels and classes: around each the samples of one of
   the classes that compete there. Two or three planes do instead of one for each class.

The weights are asked from the interpolation itself, by interpolating planes of zeros and ones:
OpenCV's own code and Intel's library inside it differ by more than rounding at odd ratios. That
pays from the second image of a size on, so the first one goes the dense way, as do scores that are
not finite and interpolations of another kind. Nor is numba loaded before (`sparse_kernels`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.inference.preprocess import SizeHW

Plane = NDArray[np.float32]
# Resizes an (h, w) float32 plane.
Resize = Callable[[Plane, SizeHW], Plane]

DOUBT = 2.0**-17  # of the largest sample
ROUNDING = 2.0**-19  # of the largest sample, for each time that something is resized
SMALLEST, LARGEST = 1e-30, 1e30  # of the largest |L|: outside, float32 rounds in other ways
MOST_SIZES = 64  # that are remembered
MOST_RESIZES = 2
MOST_TAPS = 4  # in one direction; more are needed only where something shrinks by much
BLOCK = 16  # pixels that are computed at once
MOST_PLANES = 4
NOBODY = -1  # instead of a class
MOST_UNDECIDED = 64  # one entry in so many pixels; above that, the dense way is as fast
PROBES = 3  # neighbouring samples are distinguished by their number modulo this
FARTHEST = 1e-2  # samples: how far the weights' mean may be from where a pixel is said to be


@dataclass(frozen=True)
class Stage:
    """One step of the way to the original size.

    Attributes:
        size_hw: what comes out.
        resize: None where the step cuts off rows and columns.
    """

    size_hw: SizeHW
    resize: Resize | None


class Axis(NamedTuple):
    """Rows, or columns, of the original size as combinations of the output's; contiguous.

    Attributes:
        start: (n,) int64, the first tap.
        taps: (n,) int64, how many follow each other.
        weights: (n, `MOST_TAPS`) float64.
        lanes: (`MOST_TAPS`, n + `BLOCK`) float32, the weights again, one tap after the other.
        edges: (cells + 1,) int64, where the taps change.
        read_start, read_count: (n,) int64, the window of what the interpolations read.
    """

    start: NDArray[np.int64]
    taps: NDArray[np.int64]
    weights: NDArray[np.float64]
    lanes: NDArray[np.float32]
    edges: NDArray[np.int64]
    read_start: NDArray[np.int64]
    read_count: NDArray[np.int64]


class _Table(NamedTuple):
    """Each row, or column, after one step or several, in samples of the first.

    Attributes:
        start: (n,) int64, the first sample of each one's window.
        values: (n, width) float64, one for each sample from there: a weight, or 1 for what is read.
    """

    start: NDArray[np.int64]
    values: NDArray[np.float64]


class SparseUpsampler:
    """The best class at full size, with the tables of the sizes that came before.

    The first image of a size takes the dense way, and its tables are made with the second one: at
    most `MOST_SIZES` sizes are remembered. Several threads may use one upsampler.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[SizeHW, tuple[Stage, ...]]] = Counter()
        self._axes = lru_cache(MOST_SIZES)(_axes)
        self._lock = Lock()

    def _axes_of(self, size_hw: SizeHW, stages: tuple[Stage, ...]) -> tuple[Axis, Axis] | None:
        """The tables of rows and columns; None for the first image of a size, or without any."""
        way = (size_hw, stages)
        with self._lock:
            if way not in self._seen and len(self._seen) >= MOST_SIZES:
                self._seen.clear()
            self._seen[way] += 1
            return self._axes(*way) if self._seen[way] > 1 else None

    def best_class(
        self,
        scores: NDArray[np.float32],
        stages: Sequence[Stage],
        dense: Callable[[Plane], Plane],
    ) -> NDArray[np.uint8] | None:
        """The class that the dense way gives at every pixel, (H, W); None if only it will do.

        Args:
            scores: (C, h, w) float32, C at most 256.
            stages: the way to (H, W), one or two that resize.
            dense: one (h, w) plane through all the stages.
        """
        axes = self._axes_of((scores.shape[1], scores.shape[2]), tuple(stages))
        resizes = sum(stage.resize is not None for stage in stages)
        if axes is None or resizes > MOST_RESIZES:
            return None
        from paddleseg_ext.inference.sparse_kernels import fill, largest_of

        scores = np.ascontiguousarray(scores, np.float32)
        largest = float(largest_of(scores))
        if not SMALLEST < largest < LARGEST:
            return None
        rows, columns = axes
        height, width = len(rows.start), len(columns.start)
        out = np.empty(height * width + BLOCK, np.uint8)
        undecided = np.empty((out.size // MOST_UNDECIDED + 1, 3), np.int64)
        found = fill(scores, rows, columns, DOUBT * largest, ROUNDING * resizes, out, undecided)
        label_map = out[: height * width].reshape(height, width)
        if found > len(undecided) or not _settle(scores, undecided[:found], axes, dense, label_map):
            return None
        return label_map


def _settle(
    scores: NDArray[np.float32],
    undecided: NDArray[np.int64],
    axes: tuple[Axis, Axis],
    dense: Callable[[Plane], Plane],
    out: NDArray[np.uint8],
) -> bool:
    """Give the undecided pixels of `out` the class that has the largest dense value.

    Args:
        undecided: (n, 3) row, column and class; the classes of a pixel follow each other, rising.

    Returns:
        False where more than `MOST_PLANES` would be needed.
    """
    rows, columns = axes
    planes: list[_Patchwork] = []
    values = np.empty(len(undecided), np.float32)
    for number, (y, x, index) in enumerate(undecided.tolist()):
        window = (
            slice(rows.read_start[y], rows.read_start[y] + rows.read_count[y]),
            slice(columns.read_start[x], columns.read_start[x] + columns.read_count[x]),
        )
        if not any(plane.add(window, index, number) for plane in planes):
            if len(planes) == MOST_PLANES:
                return False
            planes.append(_Patchwork(scores))
            planes[-1].add(window, index, number)
    for plane in planes:
        values[plane.entries] = dense(plane.samples)[tuple(undecided[plane.entries, :2].T)]
    best: dict[tuple[int, int], float] = {}
    for (y, x, index), value in zip(undecided.tolist(), values.tolist(), strict=True):
        if value > best.get((y, x), -np.inf):  # the first of equals, as everywhere
            best[y, x] = value
            out[y, x] = index
    return True


class _Patchwork:
    """A plane of samples, each of the class that was asked for there first.

    Attributes:
        samples: (h, w) float32.
        entries: of `undecided`, those that this plane decides.
    """

    def __init__(self, scores: NDArray[np.float32]):
        self._scores = scores
        self._classes = np.full(scores.shape[1:], NOBODY, np.int16)
        self.samples = np.zeros(scores.shape[1:], np.float32)
        self.entries: list[int] = []

    def add(self, window: tuple[slice, slice], index: int, entry: int) -> bool:
        """Put class `index` into the window for an entry; False where another class is."""
        classes = self._classes[window]
        if not ((classes == NOBODY) | (classes == index)).all():
            return False
        classes[:] = index
        self.samples[window] = self._scores[index][window]
        self.entries.append(entry)
        return True


def _axes(size_hw: SizeHW, stages: tuple[Stage, ...]) -> tuple[Axis, Axis] | None:
    """The table of rows and that of columns; None where one cannot be had."""
    axes = []
    for axis in (0, 1):
        start, ones = np.arange(size_hw[axis]), np.ones((size_hw[axis], 1))
        weights, reads = _Table(start, ones), _Table(start, ones)
        before_hw = size_hw
        for stage in stages:
            side = stage.size_hw[axis]
            if stage.resize is None:
                weights = _Table(weights.start[:side], weights.values[:side])
                reads = _Table(reads.start[:side], reads.values[:side])
            else:
                probed = _probe(stage.resize, before_hw, stage.size_hw, axis)
                if probed is None:
                    return None
                weights = _compose(weights, probed)
                reads = _compose(reads, _reads_of(probed, before_hw[axis]))
            before_hw = stage.size_hw
        if weights.values.shape[1] > MOST_TAPS:
            return None
        axes.append(_as_axis(weights, reads))
    return axes[0], axes[1]


def _probe(resize: Resize, before_hw: SizeHW, after_hw: SizeHW, axis: int) -> _Table | None:
    """The weights of three neighbouring samples for each row (axis 0) or column.

    Returns:
        None where the weights are not those of a linear interpolation.
    """
    side = before_hw[axis]

    def ask(line: NDArray) -> Plane | None:
        """The interpolation of a plane that varies along one axis; None where the other matters."""
        plane = np.broadcast_to(line[:, None] if axis == 0 else line[None], before_hw)
        reply = resize(np.ascontiguousarray(plane, np.float32), after_hw)
        # The first pixel is on or outside the border: no rounding of the other direction there.
        exact = reply[:, :1] if axis == 0 else reply[:1]
        if abs(reply - exact).max() > ROUNDING * max(1, side):
            return None
        return exact.ravel()

    numbers = np.arange(side)
    replys = [ask(numbers % PROBES == residue) for residue in range(PROBES)]
    position = ask(numbers)
    if position is None or any(reply is None for reply in replys):
        return None
    start = np.clip(np.rint(position).astype(np.int64) - 1, 0, max(0, side - PROBES))
    taps = start[:, None] + np.arange(PROBES)
    weights = np.take_along_axis(np.stack(replys, axis=1), taps % PROBES, axis=1)  # type: ignore[arg-type]
    weights = np.where(taps < side, weights, 0.0)
    off = np.abs((weights * taps).sum(axis=1) - position).max()
    is_linear = (weights >= 0).all() and abs(weights.sum(axis=1) - 1).max() <= ROUNDING
    return _Table(start, weights.astype(np.float64)) if is_linear and off < FARTHEST else None


def _reads_of(probed: _Table, side: int) -> _Table:
    """Which of `side` samples an interpolation may read: its taps, beside a single one both sides.

    `_probe` has put a single tap between its neighbours.
    """
    taps = probed.values > 0
    exists = probed.start[:, None] + np.arange(PROBES) < side
    reads = np.where(taps.sum(axis=1, keepdims=True) > 1, taps, exists)
    return _Table(probed.start, reads.astype(np.float64))


def _compose(first: _Table, second: _Table) -> _Table:
    """The table of `first` followed by `second`."""
    sources = second.start[:, None] + np.arange(second.values.shape[1])
    sources = np.minimum(sources, len(first.start) - 1)  # beyond the border the values are 0
    offsets = first.start[sources]
    start = offsets.min(axis=1)
    offsets -= start[:, None]
    values = np.zeros((len(start), int(offsets.max()) + first.values.shape[1]))
    rows = np.arange(len(start))
    for tap in range(offsets.shape[1]):
        for number in range(first.values.shape[1]):
            # Each of these assignments has a row once.
            share = second.values[:, tap] * first.values[sources[:, tap], number]
            values[rows, offsets[:, tap] + number] += share
    return _trimmed(start, values)


def _trimmed(start: NDArray[np.int64], values: NDArray[np.float64]) -> _Table:
    """Windows without what is 0 at every one's ends."""
    used = values > 0
    first = used.argmax(axis=1)
    last = values.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    width = int((last - first).max()) + 1
    padded = np.pad(values, ((0, 0), (0, width)))
    kept = first[:, None] + np.arange(width)
    return _Table(start + first, np.take_along_axis(padded, kept, axis=1))


def _lengths(table: _Table) -> NDArray[np.int64]:
    """(n,) how many samples from the first on are used."""
    return table.values.shape[1] - (table.values > 0)[:, ::-1].argmax(axis=1)


def _as_axis(table: _Table, reads: _Table) -> Axis:
    start, count = table.start, _lengths(table)
    changes = np.flatnonzero((np.diff(start) != 0) | (np.diff(count) != 0)) + 1
    weights = np.pad(table.values, ((0, 0), (0, MOST_TAPS - table.values.shape[1])))
    lanes = np.pad(weights, ((0, BLOCK), (0, 0))).T
    edges = np.concatenate([[0], changes, [len(start)]])
    wholes = [start, count, edges, reads.start, _lengths(reads)]
    start, count, edges, *read = (np.ascontiguousarray(one, np.int64) for one in wholes)
    weights = np.ascontiguousarray(weights, np.float64)
    return Axis(start, count, weights, np.ascontiguousarray(lanes, np.float32), edges, *read)
