"""Losses, learning rate and mIoU of training runs, in one picture or as text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from paddleseg_ext.common.errors import UsageError, shortened
from paddleseg_ext.common.files import atomic_path
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.images.fonts import file_with_letters
from paddleseg_ext.training.history import HISTORY, History, ScoreEntry
from paddleseg_ext.training.text_plot import Curve, plot_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

SUFFIXES = (".png", ".svg", ".pdf")
SMOOTHED_SHARE = 1 / 20  # of a run's entries are averaged for the loss line
_HEAD_STYLES = ("-.", ":")
_TERM_STYLE = (0, (1, 3))  # of what a teacher adds
_PROTOCOL_MARKS = ("o", "s", "^", "D", "v")


@dataclass(frozen=True)
class NamedHistory:
    """The history of a run that has logged an iteration, under the name of its folder."""

    name: str
    history: History

    def describe(self) -> str:
        """The last loss, and the best mIoU by each protocol, in one line."""
        last = self.history.train[-1]
        line = f"{self.name}: iteration {last.iter}, loss {last.loss:.4f}"
        bests = [
            f"best mIoU {best.mean_iou:.4f} at iteration {best.iter}"
            + (f" ({protocol})" if protocol else "")
            for protocol, entries in self.history.scores().items()
            if (best := best_of(entries))
        ]
        return "; ".join([line, *(bests or ["never evaluated"])])

    def losses(self, with_l2: bool) -> list[float]:
        """The loss of each entry, with the term of weight decay or without."""
        return [e.loss + (e.l2_loss or 0.0) * with_l2 for e in self.history.train]

    def head_curves(self) -> list[Curve]:
        """The loss of each head, main head first; none where the network has one head."""
        entries = [e for e in self.history.train if len(e.head_losses) > 1]
        heads = zip(*(e.head_losses for e in entries), strict=True)
        return [([e.iter for e in entries], losses) for losses in heads]

    def distillation_curve(self) -> Curve | None:
        """The teacher's term of the loss; None without a teacher."""
        entries = [e for e in self.history.train if e.distillation_loss is not None]
        terms = [e.distillation_loss or 0.0 for e in entries]
        return ([e.iter for e in entries], terms) if entries else None

    def score_curves(self) -> dict[str, list[ScoreEntry]]:
        """Evaluations by name of run and protocol, where there are any."""
        return {
            self.name + (f" {protocol}" if protocol else ""): entries
            for protocol, entries in self.history.scores().items()
            if entries
        }


def best_of(entries: Sequence[ScoreEntry]) -> ScoreEntry | None:
    """The first entry with the highest mIoU; None of none."""
    return max(entries, key=lambda entry: entry.mean_iou, default=None)


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
    directories: Sequence[str | Path],
    save_path: str | Path | None,
    with_l2: bool = False,
    as_text: bool = False,
) -> list[NamedHistory]:
    """Log one line per run, and draw all runs into one picture or print them as text, or both.

    Args:
        directories: `--save_dir` of each training; a run may still be in progress.
        save_path: ends in .png, .svg or .pdf; None for no picture.
        with_l2: draw the loss with the term of weight decay, and that term alone, dashed.
        as_text: print the curves.

    Returns:
        The runs, in the same order.

    Raises:
        UsageError: another suffix, a folder without a usable history, or with `with_l2` one without
            that term.
    """
    target = None if save_path is None else Path(save_path)
    if target is not None and target.suffix not in SUFFIXES:
        raise UsageError(f"--save_path {target}: one of {', '.join(SUFFIXES)} is expected")
    runs = [read_run(directory) for directory in directories]
    for run in runs:
        if with_l2 and any(entry.l2_loss is None for entry in run.history.train):
            raise UsageError(
                f"--l2_loss: {run.name} has no l2_loss: it was trained without weight decay, with "
                "AdamW, or by an earlier release"
            )
        log(run.describe())
    if as_text:
        print("\n".join(text_of(runs, with_l2)))
    if target is not None:
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


def _smoothed_for_display(values: Sequence[float]) -> list[float]:
    return smoothed(values, max(1, round(len(values) * SMOOTHED_SHARE)))


def text_of(runs: Sequence[NamedHistory], with_l2: bool = False) -> list[str]:
    """Lines with a plot each of loss (smoothed), loss per head, learning rate and mIoU."""
    losses: dict[str, Curve] = {}
    heads: dict[str, Curve] = {}
    rates: dict[str, Curve] = {}
    scores: dict[str, Curve] = {}
    for run in runs:
        iterations = [e.iter for e in run.history.train]
        losses[run.name] = iterations, _smoothed_for_display(run.losses(with_l2))
        for head, (where, values) in enumerate(run.head_curves()):
            heads[f"{run.name} head {head}"] = where, _smoothed_for_display(values)
        if (term := run.distillation_curve()) is not None:
            heads[f"{run.name} distillation"] = term[0], _smoothed_for_display(term[1])
        rates[run.name] = iterations, [e.lr for e in run.history.train]
        for name, entries in run.score_curves().items():
            scores[name] = [e.iter for e in entries], [e.mean_iou for e in entries]
    plots = {_loss_title(with_l2): losses, "loss per head": heads, "learning rate": rates}
    plots["mIoU"] = scores
    return [line for title, curves in plots.items() if curves for line in plot_lines(title, curves)]


def _loss_title(with_l2: bool) -> str:
    return "loss with weight decay" if with_l2 else "loss"


def figure_of(runs: Sequence[NamedHistory], with_l2: bool = False) -> "Figure":
    """Losses (as logged, smoothed, per head), learning rates, and mIoU with its best points."""
    from matplotlib.figure import Figure

    runs, font = _drawable(runs)
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    loss_axes, rate_axes, score_axes = figure.subplots(1, 3)
    for index, run in enumerate(runs):
        color = f"C{index % 10}"
        _draw_losses(loss_axes, run, color, with_l2)
        iterations = [e.iter for e in run.history.train]
        rate_axes.plot(iterations, [e.lr for e in run.history.train], color=color, label=run.name)
        _draw_scores(score_axes, run, color)
    dashed = " (dashed: that alone)" if with_l2 else ""
    titles = (f"{_loss_title(with_l2)}{dashed}", "learning rate", "mIoU (star: best)")
    for axes, what in zip(figure.axes, titles, strict=True):
        axes.set_xlabel("iteration")
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(prop=font)
    return figure


def _drawable(runs: Sequence[NamedHistory]) -> tuple[list[NamedHistory], "FontProperties"]:
    """The runs under names that can be drawn, and the font of legends.

    Where no font here has all letters, numbers stand for names that Matplotlib's own lacks.
    """
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties

    own = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    file = file_with_letters([run.name for run in runs], own)
    if file is not None:
        return list(runs), FontProperties(fname=file, size="small")
    named = []
    for number, run in enumerate(runs, 1):
        known = file_with_letters([run.name], own) == own
        named.append(run if known else replace(run, name=f"run {number}"))
    numbered = {new.name: run.name for run, new in zip(runs, named, strict=True) if new != run}
    warn(
        f"no font of this system draws {shortened([f'{v} ({k})' for k, v in numbered.items()])}; "
        "install one that does, such as the package fonts-noto-cjk"
    )
    return named, FontProperties(fname=own, size="small")


def _draw_losses(axes: "Axes", run: NamedHistory, color: str, with_l2: bool) -> None:
    train = run.history.train
    iterations, losses = [e.iter for e in train], run.losses(with_l2)
    if with_l2:
        terms = [e.l2_loss or 0.0 for e in train]
        axes.plot(iterations, terms, "--", color=color, linewidth=0.8)
    axes.plot(iterations, losses, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(iterations, _smoothed_for_display(losses), color=color, label=run.name)
    for head, (where, values) in enumerate(run.head_curves()):
        style = _HEAD_STYLES[min(head, 1)]
        label = f"{run.name} {'main head' if head == 0 else 'auxiliary heads'}"
        values = _smoothed_for_display(values)
        shown = label if head < 2 else None
        axes.plot(where, values, style, color=color, linewidth=0.9, label=shown)
    if (term := run.distillation_curve()) is not None:
        values = _smoothed_for_display(term[1])
        label = f"{run.name} distillation"
        axes.plot(term[0], values, color=color, linestyle=_TERM_STYLE, linewidth=0.9, label=label)


def _draw_scores(axes: "Axes", run: NamedHistory, color: str) -> None:
    for number, (name, entries) in enumerate(run.score_curves().items()):
        mark = _PROTOCOL_MARKS[number % len(_PROTOCOL_MARKS)]
        points = [e.iter for e in entries], [e.mean_iou for e in entries]
        axes.plot(*points, f"{mark}-", color=color, markersize=4, label=name)
        best = best_of(entries)
        if best is not None:
            axes.plot([best.iter], [best.mean_iou], "*", color=color, markersize=12)
            where = (best.iter, best.mean_iou)
            text = f"{best.mean_iou:.4f}"
            axes.annotate(text, where, xytext=(0, 6), textcoords="offset points", fontsize=8)
