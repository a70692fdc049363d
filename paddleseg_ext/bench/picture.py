"""Speed against accuracy, a point for each candidate, with labels that cover nothing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paddleseg_ext.common.files import atomic_path
from paddleseg_ext.inference.runtime import known_runtimes

PASSED, FAILED, UNKNOWN = "passed", "FAILED", "not checked"
COLOURS = {"fp32": "tab:blue", "bf16": "tab:orange", "fp16": "tab:green", "int8": "tab:purple"}
FONT = 8
GAP = 6  # pixels between a point and its label, and between two labels
# Where a label may be, in steps of its own size from its point: beside it, then farther away.
BESIDE = [(1, 0), (-1, 0)]
PLACES = BESIDE + [(side, step) for step in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5) for side in (1, -1)]


def draw_picture(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Speed (1 / median latency of network and label map) and mIoU, a point each.

    The colour is the precision's. A hollow red point is one whose recorded parity failed, a hollow
    one was never checked.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [result for result in results if result["mean_iou"] is not None]
    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    for precision, colour in COLOURS.items():
        if any(_precision(result) == precision for result in shown):
            axes.scatter([], [], color=colour, label=precision)
    points = [(1000 / r["labels_ms"]["p50"], 100 * r["mean_iou"]) for r in shown]
    for result, point in zip(shown, points, strict=True):
        colour = "tab:red" if result["parity"] == FAILED else COLOURS[_precision(result)]
        filled = colour if result["parity"] == PASSED else "none"
        axes.scatter(*point, facecolors=filled, edgecolors=colour, zorder=3)
    axes.set_xlabel("images a second (network and label map, batch 1)")
    axes.set_ylabel("mIoU of the images of the run (%)")
    axes.margins(0.25)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    texts = [_text(result) for result in shown]
    place_labels(figure, axes, points, texts)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)


def place_labels(
    figure: Any, axes: Any, points: list[tuple[float, float]], texts: list[str]
) -> list[Any]:
    """Write a label to each point so that it covers no point and no other label.

    A label that is not beside its point has a line to it.

    Returns:
        The labels, as matplotlib's annotations.
    """
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    at = axes.transData.transform(points) if points else []
    taken = [_box(x - GAP / 2, y - GAP / 2, GAP, GAP) for x, y in at]
    if axes.get_legend() is not None:
        taken.append(axes.get_legend().get_window_extent(renderer))
    points_per_pixel = 72 / figure.dpi
    labels = []
    for (x, y), point, text in zip(at, points, texts, strict=True):
        label = axes.annotate(text, point, fontsize=FONT, zorder=4)
        extent = label.get_window_extent(renderer)
        width, height = extent.width + GAP, extent.height + GAP
        places = [
            _box(x + GAP if side > 0 else x - GAP - width, y + (step - 0.5) * height, width, height)
            for side, step in PLACES
        ]
        free = [box for box in places if not any(box.overlaps(other) for other in taken)]
        inside = [box for box in free if axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1]
        chosen = next(iter(inside or free), places[0])
        taken.append(chosen)
        label.remove()
        moved = chosen.x0 + GAP / 2 - x, chosen.y0 + height / 2 - y
        is_beside = places.index(chosen) < len(BESIDE)
        label = axes.annotate(
            text,
            point,
            xytext=(moved[0] * points_per_pixel, moved[1] * points_per_pixel),
            textcoords="offset points",
            va="center",
            fontsize=FONT,
            zorder=4,
            arrowprops=None if is_beside else {"arrowstyle": "-", "lw": 0.5, "color": "grey"},
        )
        labels.append(label)
    return labels


def _box(x: float, y: float, width: float, height: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(x, y, width, height)


def _precision(result: Mapping[str, Any]) -> str:
    return known_runtimes()[result["stage"]].precision


def _text(result: Mapping[str, Any]) -> str:
    """The candidate's name, and its verdict."""
    verdict = "" if result["parity"] == PASSED else f" (parity {result['parity']})"
    return result["name"] + verdict
