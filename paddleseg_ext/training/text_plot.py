"""Curves as letters, for a terminal without a display.

A plotting package for terminals would be a dependency for one picture, and colours that a log file
keeps as escapes; 40 lines of plain letters are the same in both.
"""

import shutil
from collections.abc import Mapping, Sequence

MARKS = "abcdefghijklmnopqrstuvwxyz"
_HEIGHT = 10  # lines
_WIDEST = 100  # letters
_LABEL = 9  # letters of the numbers beside the axis

Curve = tuple[Sequence[float], Sequence[float]]  # iterations, values


def plot_lines(title: str, curves: Mapping[str, Curve]) -> list[str]:
    """Lines of a plot: title, rows from the highest value to the lowest, iterations, legend.

    Args:
        title: of the values.
        curves: by name, at least one point in all; each gets a letter, the later one is in front.
    """
    points = [p for xs, ys in curves.values() for p in zip(xs, ys, strict=True)]
    columns = max(20, min(_WIDEST, shutil.get_terminal_size().columns) - _LABEL - 3)
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    grid = [[" "] * columns for _ in range(_HEIGHT)]
    for number, (xs, ys) in enumerate(curves.values()):
        for x, y in zip(xs, ys, strict=True):
            row = _cell(high - y, high - low, _HEIGHT)
            grid[row][_cell(x - left, right - left, columns)] = MARKS[number % len(MARKS)]
    lines = [title]
    for row, cells in enumerate(grid):
        value = high - (high - low) * row / (_HEIGHT - 1)
        lines.append(f"{value:>{_LABEL}.3g} |{''.join(cells)}".rstrip())
    lines.append(" " * _LABEL + " +" + "-" * columns)
    lines.append(" " * (_LABEL + 2) + f"{left:g}" + f"{right:g}".rjust(columns - len(f"{left:g}")))
    names = [f"{MARKS[i % len(MARKS)]} {name}" for i, name in enumerate(curves)]
    return [*lines, " " * (_LABEL + 2) + "   ".join(names)]


def _cell(offset: float, extent: float, cells: int) -> int:
    """The cell of an offset in an extent that `cells` cells cover."""
    return round(offset / extent * (cells - 1)) if extent else 0
