"""Reports of a run in progress: log lines, history, VisualDL."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.progress import format_eta
from paddleseg_ext.training.history import HISTORY, EarlyStop, History, LossEntry, ScoreEntry
from paddleseg_ext.training.state import TrainState

_VISUALDL_LOG = re.compile(r"vdlrecords\.(\d+)\.log")


@dataclass(frozen=True)
class StepRecord:
    """One iteration that is done.

    Attributes:
        iteration: counted from 1.
        epoch: counted from 1.
        loss: mean over its batches, before the step.
        learning_rate: of the step.
        l2_loss: see `history.LossEntry`; needed where a line is logged.
        samples: number of samples, in all processes.
        reader_seconds: time spent waiting for samples.
        seconds: time of the whole iteration.
    """

    iteration: int
    epoch: int
    loss: float
    learning_rate: float
    samples: int
    reader_seconds: float
    seconds: float
    l2_loss: float | None = None


class Monitor:
    """Averages losses and times between log lines, and keeps the run's history.

    Attributes:
        history: the run so far.
    """

    def __init__(self, save_dir: Path, iters: int, log_iters: int, use_vdl: bool):
        """
        Args:
            save_dir: the run's folder.
            iters: of the whole run.
            log_iters: iterations between log lines.
            use_vdl: whether to write a VisualDL log.
        """
        self._path = save_dir / HISTORY
        self._iters = iters
        self._log_iters = log_iters
        self.history = History()
        self._steps: list[StepRecord] = []
        self._writer: Any = None
        self._earlier_log: Path | None = None
        if use_vdl:
            self._writer, self._earlier_log = _open_visualdl(save_dir / "vdl")

    def resume(self, iteration: int, evaluated: bool = True) -> None:
        """Take over the history up to `iteration`.

        Args:
            iteration: that the run continues from.
            evaluated: whether its evaluation counts as done; else it will be noted once more.

        Raises:
            UsageError: the file is damaged.
        """
        if not self._path.exists():
            return
        try:
            self.history = History.read(self._path).up_to(iteration, evaluated)
        except UsageError as error:
            raise UsageError(f"{error}; delete it, and resuming begins a new one") from None
        if self._writer is not None:
            self._show_history(iteration)

    def _show_history(self, iteration: int) -> None:
        """Write the curves up to `iteration` into this run's VisualDL log.

        VisualDL's page shows the newest log of a folder. The history has losses and scores also
        where a kill came before the log was flushed, and each iteration once; other curves come
        from the earlier log.
        """
        shown = {"Train/loss", "Train/lr", "Train/l2_loss", "Train/total"}
        for loss in self.history.train:
            self._scalar("Train/loss", loss.loss, loss.iter)
            self._scalar("Train/lr", loss.lr, loss.iter)
            self._l2_scalars(loss)
        scores = {_score_tag(name): entries for name, entries in self.history.by_protocol.items()}
        for tag, entries in (scores | {_score_tag(None): self.history.eval}).items():
            shown |= {f"{tag}/mIoU", f"{tag}/Acc"}
            for entry in entries:
                self._scalar(f"{tag}/mIoU", entry.mean_iou, entry.iter)
                self._scalar(f"{tag}/Acc", entry.accuracy, entry.iter)
        for name, curve in _curves_of(self._earlier_log).items():
            for step, value in curve.items() if name not in shown else ():
                if step <= iteration:
                    self._scalar(name, value, step)

    def logs(self, iteration: int) -> bool:
        """Whether `step` of this iteration prints a line."""
        return iteration % self._log_iters == 0 or iteration == self._iters

    def step(self, step: StepRecord) -> None:
        """Count one iteration; every `log_iters`-th prints PaddleSeg's line."""
        self._steps.append(step)
        if not self.logs(step.iteration):
            return
        count, seconds = len(self._steps), sum(each.seconds for each in self._steps)
        mean_loss = sum(each.loss for each in self._steps) / count
        reader_cost = sum(each.reader_seconds for each in self._steps) / count
        samples, batch_cost = sum(each.samples for each in self._steps), seconds / count
        log(
            f"[TRAIN] epoch: {step.epoch}, iter: {step.iteration}/{self._iters}, "
            f"loss: {mean_loss:.4f}, lr: {step.learning_rate:.6f}, "
            f"batch_cost: {batch_cost:.4f}, reader_cost: {reader_cost:.5f}, "
            f"ips: {samples / seconds:.4f} samples/sec | "
            f"ETA {format_eta(batch_cost * (self._iters - step.iteration))}"
        )
        entry = LossEntry(step.iteration, mean_loss, step.learning_rate, step.l2_loss)
        self.history.train.append(entry)
        self._scalar("Train/loss", mean_loss, step.iteration)
        self._scalar("Train/lr", step.learning_rate, step.iteration)
        self._scalar("Train/batch_cost", batch_cost, step.iteration)
        self._l2_scalars(entry)
        self._steps = []

    def evaluated(
        self, iteration: int, mean_iou: float, accuracy: float, protocol: str | None = None
    ) -> None:
        """Note the scores of an evaluation.

        Args:
            iteration: of the weights that were scored.
            mean_iou: 0 to 1.
            accuracy: 0 to 1.
            protocol: its name where it is not that of `best_model/`.
        """
        entries, tag = self.history.eval, _score_tag(protocol)
        if protocol is not None:
            entries = self.history.by_protocol.setdefault(protocol, [])
        entries.append(ScoreEntry(iteration, mean_iou, accuracy))
        self._scalar(f"{tag}/mIoU", mean_iou, iteration)
        self._scalar(f"{tag}/Acc", accuracy, iteration)

    def stopped_early(self, state: TrainState, evaluations: int) -> None:
        """Log that the run ends, and note it in the history."""
        log(
            f"stopped early at iter {state.iteration}: {evaluations} evaluations without a better "
            f"mIoU than {state.best_mean_iou:.4f} at iter {state.best_iteration}"
        )
        self.history.early_stop = EarlyStop(state.iteration, evaluations, state.best_iteration)

    @property
    def shows_pictures(self) -> bool:
        """Whether `picture` writes anything."""
        return self._writer is not None

    def picture(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Show an `(H, W, 3)` uint8 RGB picture in VisualDL."""
        if self._writer is not None:
            self._writer.add_image(tag, image, iteration)

    def save(self) -> None:
        """Write `history.json`; called before a checkpoint is written, so that the two agree."""
        self.history.write(self._path)

    def close(self) -> None:
        """Flush VisualDL."""
        if self._writer is not None:
            self._writer.close()

    def _l2_scalars(self, entry: LossEntry) -> None:
        """The curves of bisenetv2-tensorflow: `l2_loss`, and `total` with it."""
        if entry.l2_loss is not None:
            self._scalar("Train/l2_loss", entry.l2_loss, entry.iter)
            self._scalar("Train/total", entry.loss + entry.l2_loss, entry.iter)

    def _scalar(self, tag: str, value: float, iteration: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, value, iteration)


def _score_tag(protocol: str | None) -> str:
    """Name of the scores of a protocol in VisualDL; None for that of `best_model/`."""
    return "Evaluate" if protocol is None else f"Evaluate_{protocol}"


def _open_visualdl(folder: Path) -> tuple[Any, Path | None]:
    """A new VisualDL log in `folder`, and the newest one that is there, if any."""
    from visualdl import LogWriter

    logs = {int(m[1]): p for p in folder.glob("*") if (m := _VISUALDL_LOG.fullmatch(p.name))}
    newest = max(logs, default=0)
    # Later than all others by name: two starts in one second would write into one file.
    name = f"vdlrecords.{max(int(time.time()), newest + 1):010d}.log"
    return LogWriter(str(folder), file_name=name), logs.get(newest)


def _curves_of(path: Path | None) -> dict[str, dict[int, float]]:
    """Values by tag and step of a VisualDL log; empty where there is none or it is damaged."""
    if path is None:
        return {}
    from visualdl import LogReader

    try:
        reader = LogReader(file_path=str(path))
        tags = reader.get_tags().get("scalar", [])
        return {tag: {p.id: p.value for p in reader.get_data("scalar", tag)} for tag in tags}
    except Exception as error:  # of VisualDL or its protobuf, where a kill cut the file
        warn(f"{path}: cannot be read ({type(error).__name__}), so its times are not shown again")
        return {}
