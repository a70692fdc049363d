"""The compiled part of `sparse_upsampling`: machine code of one signature, made by the import.

The types are declared, so that no call compiles anything: arrays of scores may be writable or not,
and whatever else has another type or layout is refused by numba. Importing takes half a second, and
several where the machine code is not on disk yet.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from paddleseg_ext.inference.sparse_upsampling import BLOCK, LARGEST, MOST_TAPS, Axis

_NUMBERS = types.Array(types.int64, 1, "C")
_AXIS = types.NamedTuple(
    [
        _NUMBERS,
        _NUMBERS,
        types.Array(types.float64, 2, "C"),
        types.Array(types.float32, 2, "C"),
        _NUMBERS,
        _NUMBERS,
        _NUMBERS,
    ],
    Axis,
)
_SCORES = types.Array(types.float32, 3, "C", readonly=True)  # takes writable ones, too


def _compiled(*signature: Any) -> Callable[[Callable], Any]:
    """Machine code that runs beside other threads, kept on disk where there is a place for it.

    With types it is made at once; without, together with what calls it.
    """
    signatures: Any = [signature] if signature else None

    def compile_function(function: Callable) -> Any:
        try:
            return njit(signatures, nogil=True, cache=True)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            return njit(signatures, nogil=True)(function)

    return compile_function


# What numba compiles takes no annotations. It is float32 but for `_compete`; the loops over x and t
# become vector instructions.
@_compiled()
def _mix_row(scores, start, count, weights, lines):  # type: ignore[no-untyped-def]
    """The samples above and below a row of the picture, mixed as it wants them."""
    for c in range(len(scores)):
        line = lines[c]
        for a in range(count):
            weight, samples = np.float32(weights[a]), scores[c, start + a]
            if a == 0:
                for x in range(len(samples)):
                    line[x] = weight * samples[x]
            else:
                for x in range(len(samples)):
                    line[x] += weight * samples[x]


@_compiled()
def _best_and_lead(lines, width, labels, leads):  # type: ignore[no-untyped-def]
    """The best class of each column, and its lead over the next one."""
    best = lines[0, :width].copy()
    second = np.full(width, -np.inf, np.float32)
    labels[:] = 0
    for c in range(1, len(lines)):
        line, index = lines[c], np.uint8(c)
        for x in range(width):
            value, top = line[x], best[x]
            is_better = value > top
            less = top if is_better else value
            best[x] = value if is_better else top
            labels[x] = index if is_better else labels[x]
            second[x] = less if less > second[x] else second[x]
    for x in range(width):
        leads[x] = best[x] - second[x]


@_compiled()
def _may_win(lines, labels, x0, nx, doubt, candidates):  # type: ignore[no-untyped-def]
    """How many classes may be best between these columns; they go into `candidates`."""
    floor = -np.inf
    for b in range(nx):
        line = lines[labels[x0 + b]]
        least = line[x0]
        for other in range(1, nx):
            value = line[x0 + other]
            least = value if value < least else least
        floor = least if least > floor else floor
    number = 0
    for c in range(len(lines)):
        most = lines[c, x0]
        for b in range(1, nx):
            value = lines[c, x0 + b]
            most = value if value > most else most
        candidates[number] = c
        number += most >= floor - doubt
    return number


@_compiled()
def _best_in_block(lines, candidates, x0, lanes, start, best, second, winner):  # type: ignore[no-untyped-def]
    """The best candidate, its value and the next value of `BLOCK` pixels from `start` on."""
    weights0, weights1 = lanes[0, start : start + BLOCK], lanes[1, start : start + BLOCK]
    weights2, weights3 = lanes[2, start : start + BLOCK], lanes[3, start : start + BLOCK]
    for t in range(BLOCK):
        best[t] = -np.inf
        second[t] = -np.inf
        winner[t] = 0
    for c in candidates:
        sample0, sample1 = lines[c, x0], lines[c, x0 + 1]
        sample2, sample3 = lines[c, x0 + 2], lines[c, x0 + 3]
        for t in range(BLOCK):
            value = weights0[t] * sample0 + weights1[t] * sample1
            value += weights2[t] * sample2 + weights3[t] * sample3
            top, next_best = best[t], second[t]
            is_better = value > top
            less = top if is_better else value
            best[t] = value if is_better else top
            winner[t] = c if is_better else winner[t]
            second[t] = less if less > next_best else next_best


@_compiled()
def _compete(scores, rows, columns, near, y, x, line, undecided, found):  # type: ignore[no-untyped-def]
    """Decide one pixel in float64, or put the classes that compete there into `undecided`."""
    values = np.zeros(len(scores), np.float64)
    sizes = np.zeros(len(scores), np.float64)
    for c in range(len(scores)):
        for a in range(rows.taps[y]):
            for b in range(columns.taps[x]):
                sample = scores[c, rows.start[y] + a, columns.start[x] + b]
                values[c] += rows.weights[y, a] * columns.weights[x, b] * sample
        for a in range(rows.read_count[y]):
            for b in range(columns.read_count[x]):
                sample = scores[c, rows.read_start[y] + a, columns.read_start[x] + b]
                sizes[c] = max(sizes[c], abs(sample))
    winner = values.argmax()
    line[x] = winner
    first = found
    for c in range(len(scores)):
        if values[winner] - values[c] > near * max(sizes[c], sizes[winner]):
            continue
        if found == len(undecided):
            return found + 1
        undecided[found, 0], undecided[found, 1], undecided[found, 2] = y, x, c
        found += 1
    return first if found == first + 1 else found


@_compiled(
    _SCORES,
    _AXIS,
    _AXIS,
    types.float64,
    types.float64,
    types.Array(types.uint8, 1, "C"),
    types.Array(types.int64, 2, "C"),
)
def fill(scores, rows, columns, doubt, near, out, undecided):  # type: ignore[no-untyped-def]
    """Fill `out`; returns how many entries `undecided` got, more than fit where it gave up.

    `out` has the picture's rows one after the other, and `BLOCK` pixels more: whole blocks are
    written, and what is too much is overwritten by what follows to the right and in the next row.
    """
    classes, _, width = scores.shape
    across = len(columns.start)
    # One row of the picture, at the columns of the output; beyond them is weight 0.
    lines = np.zeros((classes, width + MOST_TAPS), np.float32)
    leads = np.empty(width, np.float32)
    labels = np.empty(width, np.uint8)
    candidates = np.empty(classes + 1, np.int32)
    best = np.empty(BLOCK, np.float32)
    second = np.empty(BLOCK, np.float32)
    winner = np.empty(BLOCK, np.int32)
    found = 0
    for y in range(len(rows.start)):
        _mix_row(scores, rows.start[y], rows.taps[y], rows.weights[y], lines)
        _best_and_lead(lines, width, labels, leads)
        line = out[y * across : (y + 1) * across + BLOCK]
        for j in range(len(columns.edges) - 1):
            left, right = columns.edges[j], columns.edges[j + 1]
            x0, nx = columns.start[left], columns.taps[left]
            label, alike = labels[x0], leads[x0] > doubt
            for x in range(x0 + 1, x0 + nx):
                alike &= (labels[x] == label) & (leads[x] > doubt)
            if alike:
                for start in range(left, right, BLOCK):
                    block = line[start : start + BLOCK]
                    for t in range(BLOCK):
                        block[t] = label
                continue
            number = _may_win(lines, labels, x0, nx, doubt, candidates)
            for start in range(left, right, BLOCK):
                _best_in_block(
                    lines, candidates[:number], x0, columns.lanes, start, best, second, winner
                )
                block = line[start : start + BLOCK]
                doubtful = False
                for t in range(BLOCK):
                    block[t] = winner[t]
                    doubtful |= best[t] - second[t] <= doubt
                if not doubtful:
                    continue
                for x in range(start, min(start + BLOCK, right)):
                    if best[x - start] - second[x - start] <= doubt:
                        found = _compete(scores, rows, columns, near, y, x, line, undecided, found)
                        if found > len(undecided):
                            return found
    return found


@_compiled(_SCORES)
def largest_of(scores):  # type: ignore[no-untyped-def]
    """The largest |score|; NaN or infinite where a score is."""
    largest = np.float32(0.0)
    for value in scores.ravel():
        size = abs(value)
        if not size <= largest:
            largest = size
            if not size <= LARGEST:
                break
    return largest
