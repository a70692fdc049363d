"""Loss and mIoU of training runs in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_path
from paddleseg_ext.common.log import log
from paddleseg_ext.training.history import HISTORY, History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
SMOOTHED_SHARE = 1 / 20  # of a run's entries are averaged for the loss line


@dataclass(frozen=True)
class NamedHistory:
    """The history of a run that has logged an iteration, under the name of its folder."""

    name: str
    history: History

    def describe(self) -> str:
        """The last loss and the best mIoU, in one line."""
        last, scores = self.history.train[-1], self.history.eval
        line = f"{self.name}: iteration {last.iter}, loss {last.loss:.4f}"
        if not scores:
            return f"{line}; never evaluated"
        best = max(scores, key=lambda entry: entry.mean_iou)
        return f"{line}; best mIoU {best.mean_iou:.4f} at iteration {best.iter}"


def read_run(directory: str | Path) -> NamedHistory:
    """The history in a run's folder.

    Raises:
        UsageError: the folder contains no history, or one that is damaged or empty.
    """
    path = Path(directory) / HISTORY
    history = History.read(path)
    if not history.train:
        raise UsageError(f"{path}: no iteration was logged yet")
    return NamedHistory(path.parent.resolve().name, history)


def draw_curves(
    directories: Sequence[str | Path], save_path: str | Path, with_l2: bool = False
) -> list[NamedHistory]:
    """Log one line per run and draw all runs into one picture.

    Args:
        directories: `--save_dir` of each training; a run may still be in progress.
        save_path: ends in .png, .svg or .pdf.
        with_l2: draw the loss with the term of weight decay, and that term alone, dashed.

    Returns:
        The runs, in the same order.

    Raises:
        UsageError: another suffix, a folder without a usable history, or with `with_l2` one without
            that term.
    """
    target = Path(save_path)
    if target.suffix not in SUFFIXES:
        raise UsageError(f"--save_path {target}: one of {', '.join(SUFFIXES)} is expected")
    runs = [read_run(directory) for directory in directories]
    for run in runs:
        if with_l2 and any(entry.l2_loss is None for entry in run.history.train):
            raise UsageError(
                f"--l2_loss: {run.name} has no l2_loss: it was trained without weight decay, with "
                "AdamW, or by an earlier release"
            )
        log(run.describe())
    with atomic_path(target) as temporary:
        figure_of(runs, with_l2).savefig(temporary, dpi=100)
    log(f"{target}: {len(runs)} runs")
    return runs


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and the `window` - 1 before it (fewer at the start)."""
    means = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - window) : end]
        means.append(sum(part) / len(part))
    return means


def figure_of(runs: Sequence[NamedHistory], with_l2: bool = False) -> "Figure":
    """Losses on the left (as logged, and smoothed), mIoU on the right; see `draw_curves`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    loss_axes, score_axes = figure.subplots(1, 2)
    for index, run in enumerate(runs):
        color, train, scores = f"C{index % 10}", run.history.train, run.history.eval
        iterations, losses = [e.iter for e in train], [e.loss for e in train]
        if with_l2:
            terms = [e.l2_loss or 0.0 for e in train]
            loss_axes.plot(iterations, terms, "--", color=color, linewidth=0.8)
            losses = [loss + term for loss, term in zip(losses, terms, strict=True)]
        window = max(1, round(len(losses) * SMOOTHED_SHARE))
        loss_axes.plot(iterations, losses, color=color, alpha=0.25, linewidth=0.8)
        loss_axes.plot(iterations, smoothed(losses, window), color=color, label=run.name)
        if scores:
            points = [e.iter for e in scores], [e.mean_iou for e in scores]
            score_axes.plot(*points, "o-", color=color, label=run.name)
    loss_name = "loss with weight decay (dashed: that alone)" if with_l2 else "loss"
    for axes, what in ((loss_axes, loss_name), (score_axes, "mIoU")):
        axes.set_xlabel("iteration")
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    loss_axes.legend()
    return figure
