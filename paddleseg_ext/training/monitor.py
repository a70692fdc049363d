"""Reports of a run in progress: log lines, history, trackers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import format_eta
from paddleseg_ext.training.history import HISTORY, EarlyStop, History, LossEntry, ScoreEntry
from paddleseg_ext.training.state import TrainState
from paddleseg_ext.training.trackers import Tracker, loss_scalars, score_tag

DISTILLATION = "distillation"  # what it adds to the loss, beside the losses of the heads


@dataclass(frozen=True)
class Losses:
    """The losses of an iteration, before its step.

    Attributes:
        total: what is trained.
        heads: of each head, without its weight.
        distillation: what a teacher adds to the total; None without one.
    """

    total: float
    heads: tuple[float, ...] = ()
    distillation: float | None = None

    @classmethod
    def named(cls, total: float, parts: Mapping[str, float]) -> "Losses":
        """The losses of parts by name: `DISTILLATION`, all others are heads in their order."""
        heads = tuple(value for name, value in parts.items() if name != DISTILLATION)
        return cls(total, heads, parts.get(DISTILLATION))

    @classmethod
    def mean(cls, losses: Sequence["Losses"]) -> "Losses":
        """The mean of several."""
        count = len(losses)
        terms = [each.distillation for each in losses if each.distillation is not None]
        heads = zip(*(each.heads for each in losses), strict=True)
        return cls(
            sum(each.total for each in losses) / count,
            tuple(sum(values) / count for values in heads),
            sum(terms) / count if terms else None,
        )


@dataclass(frozen=True)
class StepRecord:
    """One iteration that is done.

    Attributes:
        iteration: counted from 1.
        epoch: counted from 1.
        losses: means over its batches.
        learning_rate: of the step.
        l2_loss: see `history.LossEntry`; needed where a line is logged.
        samples: number of samples, in all processes.
        reader_seconds: time spent waiting for samples.
        seconds: time of the whole iteration.
    """

    iteration: int
    epoch: int
    losses: Losses
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
        losses = Losses.mean([each.losses for each in self._steps])
        reader_cost = sum(each.reader_seconds for each in self._steps) / count
        samples, batch_cost = sum(each.samples for each in self._steps), seconds / count
        log(
            f"[TRAIN] epoch: {step.epoch}, iter: {step.iteration}/{self._iters}, "
            f"loss: {losses.total:.4f}, lr: {step.learning_rate:.6f}, "
            f"batch_cost: {batch_cost:.4f}, reader_cost: {reader_cost:.5f}, "
            f"ips: {samples / seconds:.4f} samples/sec | "
            f"ETA {format_eta(batch_cost * (self._iters - step.iteration))}"
        )
        entry = LossEntry(
            step.iteration,
            losses.total,
            step.learning_rate,
            step.l2_loss,
            losses.heads,
            losses.distillation,
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
