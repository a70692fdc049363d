"""Reports of a run in progress: log lines, history, trackers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import format_eta
from paddleseg_ext.training.history import HISTORY, EarlyStop, History, LossEntry, ScoreEntry
from paddleseg_ext.training.state import TrainState
from paddleseg_ext.training.trackers import Tracker, loss_scalars, score_tag


@dataclass(frozen=True)
class StepRecord:
    """One iteration that is done.

    Attributes:
        iteration: counted from 1.
        epoch: counted from 1.
        loss: mean over its batches, before the step.
        head_losses: the same per head, without the head's weight.
        learning_rate: of the step.
        l2_loss: see `history.LossEntry`; needed where a line is logged.
        samples: number of samples, in all processes.
        reader_seconds: time spent waiting for samples.
        seconds: time of the whole iteration.
    """

    iteration: int
    epoch: int
    loss: float
    head_losses: Sequence[float]
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

    def __init__(
        self, save_dir: Path, iters: int, log_iters: int, trackers: Sequence[Tracker] = ()
    ):
        """
        Args:
            save_dir: the run's folder.
            iters: of the whole run.
            log_iters: iterations between log lines.
            trackers: that also get curves and pictures.
        """
        self._path = save_dir / HISTORY
        self._iters = iters
        self._log_iters = log_iters
        self.history = History()
        self._steps: list[StepRecord] = []
        self._trackers = trackers

    def resume(self, iteration: int, evaluated: bool = True) -> None:
        """Take over the history up to `iteration`.

        Args:
            iteration: that the run continues from.
            evaluated: whether its evaluation counts as done; else it will be noted once more.

        Raises:
            UsageError: the file is damaged.
        """
        if self._path.exists():
            try:
                self.history = History.read(self._path).up_to(iteration, evaluated)
            except UsageError as error:
                raise UsageError(f"{error}; delete it, and resuming begins a new one") from None
        for tracker in self._trackers:
            tracker.resume(self.history, iteration)

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
        by_head = zip(*(each.head_losses for each in self._steps), strict=True)
        log(
            f"[TRAIN] epoch: {step.epoch}, iter: {step.iteration}/{self._iters}, "
            f"loss: {mean_loss:.4f}, lr: {step.learning_rate:.6f}, "
            f"batch_cost: {batch_cost:.4f}, reader_cost: {reader_cost:.5f}, "
            f"ips: {samples / seconds:.4f} samples/sec | "
            f"ETA {format_eta(batch_cost * (self._iters - step.iteration))}"
        )
        entry = LossEntry(
            step.iteration,
            mean_loss,
            step.learning_rate,
            step.l2_loss,
            tuple(sum(losses) / count for losses in by_head),
        )
        self.history.train.append(entry)
        for tag, value in loss_scalars(entry).items():
            self._scalar(tag, value, step.iteration)
        self._scalar("Train/batch_cost", batch_cost, step.iteration)
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
        entries, tag = self.history.eval, score_tag(protocol)
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
        return bool(self._trackers)

    def picture(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Give an `(H, W, 3)` uint8 RGB picture to the trackers."""
        for tracker in self._trackers:
            tracker.picture(tag, image, iteration)

    def save(self) -> None:
        """Write `history.json`; called before a checkpoint is written, so that the two agree."""
        self.history.write(self._path)
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """End the trackers."""
        for tracker in self._trackers:
            tracker.close()

    def _scalar(self, tag: str, value: float, iteration: int) -> None:
        for tracker in self._trackers:
            tracker.scalar(tag, value, iteration)
