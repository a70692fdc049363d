"""Curves and pictures of a run in progress, for VisualDL and TensorBoard.

VisualDL's page shows the newest log of a folder, so a resumed run writes its earlier curves again.
TensorBoard shows all files of a folder, and leaves out of earlier ones what a later one declares
void.
"""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from paddleseg_ext.common.log import warn
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.training.history import History, LossEntry

TrackerName = Literal["vdl", "tensorboard"]
_VISUALDL_LOG = re.compile(r"vdlrecords\.(\d+)\.log")


class Tracker(Protocol):
    """Writes one kind of log."""

    def scalar(self, tag: str, value: float, iteration: int) -> None:
        """Add a point to a curve."""

    def picture(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Add an `(H, W, 3)` uint8 RGB picture."""

    def resume(self, history: History, iteration: int) -> None:
        """Show the curves up to `iteration`, and none of a later one that was written before."""

    def flush(self) -> None:
        """Write what is not on the disk yet."""

    def close(self) -> None:
        """Write the rest and end."""


def open_tracker(name: TrackerName, save_dir: Path) -> Tracker:
    """Opens a log in its sub-folder of a run's folder.

    Raises:
        UsageError: its package is not installed.
    """
    require_tracker(name)
    return _TRACKERS[name](save_dir / name)


def require_tracker(name: TrackerName) -> None:
    """Check that the package of a tracker is there.

    Raises:
        UsageError: it is not installed.
    """
    if name == "tensorboard":
        with optional_imports("--log_with tensorboard", "tensorboard", "use --log_with vdl"):
            import tensorboardX  # noqa: F401
    else:
        with optional_imports("--log_with vdl", "cpu"):
            import visualdl  # noqa: F401


def loss_scalars(entry: LossEntry) -> dict[str, float]:
    """Tag -> value of a log line. `Train/l2_loss` and `total` are those of bisenetv2-tensorflow."""
    values = {"Train/loss": entry.loss, "Train/lr": entry.lr}
    if len(entry.head_losses) > 1:
        values |= {f"Train/loss_head_{i}": loss for i, loss in enumerate(entry.head_losses)}
    if entry.distillation_loss is not None:
        values["Train/distillation_loss"] = entry.distillation_loss
    if entry.l2_loss is not None:
        values |= {"Train/l2_loss": entry.l2_loss, "Train/total": entry.loss + entry.l2_loss}
    return values


def score_tag(protocol: str | None) -> str:
    """Prefix of the scores of a protocol; None for that of `best_model/`."""
    return "Evaluate" if protocol is None else f"Evaluate_{protocol}"


class VisualDL:
    """A log that VisualDL's page reads."""

    def __init__(self, folder: Path):
        from visualdl import LogWriter

        logs = {int(m[1]): p for p in folder.glob("*") if (m := _VISUALDL_LOG.fullmatch(p.name))}
        newest = max(logs, default=0)
        # Later than all others by name: two starts in one second would write into one file.
        name = f"vdlrecords.{max(int(time.time()), newest + 1):010d}.log"
        self._writer = LogWriter(str(folder), file_name=name)
        self._earlier_log = logs.get(newest)

    def scalar(self, tag: str, value: float, iteration: int) -> None:
        """Add a point to a curve."""
        self._writer.add_scalar(tag, value, iteration)

    def picture(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Add an `(H, W, 3)` uint8 RGB picture."""
        self._writer.add_image(tag, image, iteration)

    def resume(self, history: History, iteration: int) -> None:
        """Write the curves up to `iteration` again.

        The history has losses and scores also where a kill came before the log was flushed, and
        each iteration once; other curves come from the earlier log.
        """
        shown = set()
        for loss in history.train:
            for tag, value in loss_scalars(loss).items():
                shown.add(tag)
                self.scalar(tag, value, loss.iter)
        for protocol, entries in history.scores().items():
            tag = score_tag(protocol)
            shown |= {f"{tag}/mIoU", f"{tag}/Acc"}
            for entry in entries:
                self.scalar(f"{tag}/mIoU", entry.mean_iou, entry.iter)
                self.scalar(f"{tag}/Acc", entry.accuracy, entry.iter)
        earlier = self._earlier_log if iteration else None
        for name, curve in _curves_of(earlier).items():
            for step, value in curve.items() if name not in shown else ():
                if step <= iteration:
                    self.scalar(name, value, step)

    def flush(self) -> None:
        """VisualDL writes on its own."""

    def close(self) -> None:
        """Write the rest and end."""
        self._writer.close()


class TensorBoard:
    """Event files that TensorBoard reads, by tensorboardX, which needs no TensorFlow."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._opened: Any = None

    def scalar(self, tag: str, value: float, iteration: int) -> None:
        """Add a point to a curve."""
        self._writer(iteration).add_scalar(tag, value, iteration)

    def picture(self, tag: str, image: np.ndarray, iteration: int) -> None:
        """Add an `(H, W, 3)` uint8 RGB picture."""
        self._writer(iteration).add_image(tag, image, iteration, dataformats="HWC")

    def resume(self, history: History, iteration: int) -> None:
        """Begin a file that voids the iterations after `iteration` of the earlier ones."""
        self._writer(iteration + 1)

    def flush(self) -> None:
        """Write the file, so that a kill loses nothing of what a checkpoint has."""
        if self._opened is not None:
            self._opened.flush()

    def close(self) -> None:
        """Write the rest and end."""
        if self._opened is not None:
            self._opened.close()

    def _writer(self, first: int) -> Any:
        """The writer; where there is none yet, a new one that voids `first` and later ones."""
        if self._opened is None:
            from tensorboardX import SummaryWriter

            # Two starts in one second would write into one file.
            suffix = f".{time.time_ns()}"
            self._opened = SummaryWriter(
                str(self._folder), purge_step=first, filename_suffix=suffix
            )
        return self._opened


_TRACKERS: Mapping[TrackerName, Callable[[Path], Tracker]] = {
    "vdl": VisualDL,
    "tensorboard": TensorBoard,
}


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
