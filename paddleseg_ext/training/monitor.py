"""What a run tells while it goes on: progress lines, history, VisualDL."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import format_eta
from paddleseg_ext.training.run_folder import HISTORY, TrainState

EARLY_STOP = "early_stop"


class Monitor:
    """Averages losses and times between progress lines, and keeps the run's history."""

    def __init__(self, save_dir: Path, iters: int, log_iters: int, use_vdl: bool):
        self._path = save_dir / HISTORY
        self._iters = iters
        self._log_iters = log_iters
        self._history: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}
        self._losses: list[float] = []
        self._reader_seconds = 0.0
        self._seconds = 0.0
        self._samples = 0
        self._writer = None
        if use_vdl:
            from visualdl import LogWriter

            self._writer = LogWriter(str(save_dir / "vdl"))

    def resume(self, iteration: int, evaluated: bool = True) -> None:
        """Take over the history up to `iteration`.

        Args:
            iteration: that the run goes on from.
            evaluated: whether its evaluation counts as done; else it is done once more, and noted
                then.

        Raises:
            UsageError: the file is damaged.
        """
        if not self._path.exists():
            return
        try:
            saved = json.loads(self._path.read_text(encoding="utf-8"))
            saved.pop(EARLY_STOP, None)  # what goes on has not stopped
            for kind, entries in saved.items():
                last = iteration if kind == "train" or evaluated else iteration - 1
                self._history[kind] = [e for e in entries if e["iter"] <= last]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UsageError(
                f"{self._path}: not the history of a run; delete it, and resuming begins a new one"
            ) from None

    def step(
        self,
        iteration: int,
        epoch: int,
        loss: float,
        learning_rate: float,
        samples: int,
        reader_seconds: float,
        seconds: float,
    ) -> None:
        """Count one iteration (from 1); every `log_iters`-th prints PaddleSeg's line."""
        self._losses.append(loss)
        self._samples += samples
        self._reader_seconds += reader_seconds
        self._seconds += seconds
        if iteration % self._log_iters and iteration != self._iters:
            return
        count = len(self._losses)
        batch_cost, mean_loss = self._seconds / count, sum(self._losses) / count
        log(
            f"[TRAIN] epoch: {epoch}, iter: {iteration}/{self._iters}, loss: {mean_loss:.4f}, "
            f"lr: {learning_rate:.6f}, batch_cost: {batch_cost:.4f}, "
            f"reader_cost: {self._reader_seconds / count:.5f}, "
            f"ips: {self._samples / self._seconds:.4f} samples/sec | "
            f"ETA {format_eta(batch_cost * (self._iters - iteration))}"
        )
        self._history["train"].append({"iter": iteration, "loss": mean_loss, "lr": learning_rate})
        self._scalar("Train/loss", mean_loss, iteration)
        self._scalar("Train/lr", learning_rate, iteration)
        self._scalar("Train/batch_cost", batch_cost, iteration)
        self._losses, self._samples = [], 0
        self._reader_seconds = self._seconds = 0.0

    def evaluated(
        self, iteration: int, mean_iou: float, accuracy: float, protocol: str | None = None
    ) -> None:
        """Note the scores of an evaluation.

        Args:
            iteration: of the weights that were scored.
            mean_iou: 0 to 1.
            accuracy: 0 to 1.
            protocol: where it is another than that of `best_model/`.
        """
        kind = "eval" if protocol is None else f"eval_{protocol}"
        entry = {"iter": iteration, "mean_iou": mean_iou, "accuracy": accuracy}
        self._history.setdefault(kind, []).append(entry)
        tag = "Evaluate" if protocol is None else f"Evaluate_{protocol}"
        self._scalar(f"{tag}/mIoU", mean_iou, iteration)
        self._scalar(f"{tag}/Acc", accuracy, iteration)

    def stopped_early(self, state: TrainState, evaluations: int) -> None:
        """Say that the run ends, and note it in the history."""
        log(
            f"stopped early at iter {state.iteration}: {evaluations} evaluations without a better "
            f"mIoU than {state.best_mean_iou:.4f} at iter {state.best_iteration}"
        )
        self._history[EARLY_STOP] = [
            {
                "iter": state.iteration,
                "evaluations": evaluations,
                "best_iter": state.best_iteration,
            }
        ]

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures go anywhere."""
        return self._writer is not None

    def picture(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Show an `(H, W, 3)` uint8 RGB picture in VisualDL."""
        if self._writer is not None:
            self._writer.add_image(tag, image, iteration)

    def save(self) -> None:
        """Write `history.json`; called before a checkpoint says the same, so that the two agree."""
        write_json(self._path, self._history)

    def close(self) -> None:
        """Flush VisualDL."""
        if self._writer is not None:
            self._writer.close()

    def _scalar(self, tag: str, value: float, iteration: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, value, iteration)
