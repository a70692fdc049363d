"""`paddleseg-ext curves`: loss and mIoU of training runs in one picture."""

import json
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_path, require_file
from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.common.log import log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
SMOOTHED_SHARE = 1 / 20  # of a run's entries are averaged for the loss line
DESCRIPTION = """Draw loss and mIoU of training runs, and print what each reached.

    paddleseg-ext curves output/bisenetv1 output/stdc1 --save_path curves.png

Each RUN is the --save_dir of a training; its history.json is read, also while it still runs.
"""


@dataclass(frozen=True)
class Run:
    """What a training's `history.json` holds: (iteration, value) points."""

    name: str
    losses: list[tuple[int, float]]
    mean_ious: list[tuple[int, float]]

    def describe(self) -> str:
        """Where the run stands, in one line."""
        iteration, loss = self.losses[-1]
        line = f"{self.name}: iteration {iteration}, loss {loss:.4f}"
        if not self.mean_ious:
            return f"{line}; never evaluated"
        best_at, best = max(self.mean_ious, key=lambda point: point[1])
        return f"{line}; best mIoU {best:.4f} at iteration {best_at}"


def read_run(directory: str | Path) -> Run:
    """The history of a run.

    Raises:
        UsageError: the folder holds no history, or one that is damaged or empty.
    """
    path = require_file(Path(directory) / "history.json", "history of a run")
    try:
        history: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        losses = [(int(entry["iter"]), float(entry["loss"])) for entry in history["train"]]
        scores = [(int(entry["iter"]), float(entry["mean_iou"])) for entry in history["eval"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not the history of a training run ({error})") from None
    if not losses:
        raise UsageError(f"{path}: no iteration was logged yet")
    return Run(path.parent.resolve().name, losses, scores)


def smoothed(values: list[float], window: int) -> list[float]:
    """Each value's mean with the `window` - 1 before it (fewer at the start)."""
    means = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - window) : end]
        means.append(sum(part) / len(part))
    return means


def draw(runs: list[Run]) -> "Figure":
    """A figure: losses at the left (as logged, and smoothed), mIoU at the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    loss_axes, score_axes = figure.subplots(1, 2)
    for index, run in enumerate(runs):
        color = f"C{index % 10}"
        iterations, losses = zip(*run.losses, strict=True)
        window = max(1, round(len(losses) * SMOOTHED_SHARE))
        loss_axes.plot(iterations, losses, color=color, alpha=0.25, linewidth=0.8)
        loss_axes.plot(iterations, smoothed(list(losses), window), color=color, label=run.name)
        if run.mean_ious:
            score_axes.plot(*zip(*run.mean_ious, strict=True), "o-", color=color, label=run.name)
    for axes, what in ((loss_axes, "loss"), (score_axes, "mIoU")):
        axes.set_xlabel("iteration")
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    loss_axes.legend()
    return figure


def build_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = make_parser(DESCRIPTION, "curves")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="--save_dir of a training")
    parser.add_argument("--save_path", default="curves.png", help="ends in .png, .svg or .pdf")
    return parser


def main(argv: list[str]) -> None:
    """Draw the runs of the command line."""
    args = build_parser().parse_args(argv)
    target = Path(args.save_path)
    if target.suffix not in SUFFIXES:
        raise UsageError(f"--save_path {target}: one of {', '.join(SUFFIXES)} is expected")
    runs = [read_run(directory) for directory in args.runs]
    for run in runs:
        log(run.describe())
    with atomic_path(target) as temporary:
        draw(runs).savefig(temporary, dpi=100)
    log(f"{target}: {len(runs)} runs")
