"""The state of a run beside weights and optimizer: `train_state.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, write_json
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import from_section
from paddleseg_ext.training.precision import FP32

WEIGHTS, STATE = "model.pdparams", "train_state.json"


@dataclass
class TrainState:
    """All that a run needs to continue, beside weights and optimizer.

    The fields without a default, `accumulate`, `precision` and `ema` describe the run, and a
    resumed run must agree in them. Another thread count changes only the last bits of the sums.

    Attributes:
        best_mean_iou: of `best_model/`.
        best_by_protocol: the best mIoU per protocol of `keep_best:`.
        stale_evaluations: number of evaluations since `best_mean_iou`.
        loss_scaling: state of mixed precision's scaler.
        evaluated: whether only iterations are left to do: these weights were scored, or the run
            scores none.
    """

    seed: int
    batch_size: int
    world_size: int
    num_samples: int
    iters: int
    threads: int
    accumulate: int = 1
    precision: str = FP32
    ema: bool = False
    iteration: int = 0
    best_mean_iou: float = -1.0
    best_iteration: int = 0
    best_by_protocol: dict[str, float] = field(default_factory=dict)
    stale_evaluations: int = 0
    loss_scaling: dict[str, Any] = field(default_factory=dict)
    evaluated: bool = True

    @classmethod
    def read(cls, folder: Path) -> "TrainState":
        """The state in a checkpoint's folder.

        Raises:
            UsageError: the file is missing or damaged.
        """
        path = require_file(folder / STATE, "--resume_model")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return from_section(cls, content, STATE)
        except (ValueError, AttributeError, RecursionError, UsageError) as error:
            raise UsageError(f"{path}: not a training state: {error}") from None

    def write(self, folder: Path) -> None:
        """Write the state into a checkpoint's folder."""
        write_json(folder / STATE, asdict(self))

    def settings(self) -> dict[str, Any]:
        """Settings of the run, for the manifest of its checkpoints."""
        names = ("seed", "batch_size", "accumulate", "world_size", "threads", "precision")
        return {name: getattr(self, name) for name in names}

    def comparable(self) -> dict[str, Any]:
        """The fields that all processes of a run must have in common."""
        return {key: value for key, value in asdict(self).items() if key != "threads"}

    def check_same_run(self, saved: "TrainState", source: Path) -> None:
        """Compare with the state of the run that is to be resumed.

        Args:
            saved: the state of that run.
            source: its folder.

        Raises:
            UsageError: the runs would not see the same samples, or `saved` is already complete.
        """
        same = ("seed", "world_size", "batch_size", "num_samples", "accumulate", "precision", "ema")
        for key in same:
            mine, theirs = getattr(self, key), getattr(saved, key)
            if mine != theirs:
                how = " (launch: --gpus or --nproc_per_node)" if key == "world_size" else ""
                raise UsageError(
                    f"{source}: that run had {key} {theirs}, this one has {mine}; resume it with "
                    f"{key} {theirs}{how}, or start anew from its weights with "
                    f"--opts pretrained={source / WEIGHTS}"
                )
        only_scores_left = saved.iteration == self.iters and not saved.evaluated
        if saved.iteration >= self.iters and not only_scores_left:
            raise UsageError(
                f"{source}: that run has done {saved.iteration} iterations of {self.iters}; "
                "raise --iters to continue it"
            )
        for key in ("threads", "iters"):
            mine, theirs = getattr(self, key), getattr(saved, key)
            if mine != theirs:
                warn(
                    f"{source}: that run had {key} {theirs}, this one has {mine}: "
                    "the result will not be that of an uninterrupted run to the bit"
                )
