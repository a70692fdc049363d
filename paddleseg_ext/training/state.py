"""The state of a run beside weights and optimizer: `train_state.json`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, write_json
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.training.precision import FP32

WEIGHTS, STATE = "model.pdparams", "train_state.json"
NO_TEACHER = "none"
NEVER = -1.0  # the best mIoU before anything was scored
_OWN_SUM = "sha256"
# Where the settings of a run are given that are no key or flag of their name.
_HOW = {
    "world_size": " (launch: --gpus or --nproc_per_node)",
    "teacher": " (sha256 of the file that distillation.teacher names)",
}


def _number(least: int, default: Any = MISSING) -> Any:
    """A field that holds a whole number of at least `least`."""
    return option(default, "", at_least=least)


@dataclass
class TrainState:
    """All that a run needs to continue, beside weights and optimizer.

    The fields without a default, `accumulate`, `precision`, `ema` and `teacher` describe the
    run, and a resumed run must agree in them. Another thread count changes only the last bits of
    the sums.

    Attributes:
        teacher: sha256 of the teacher's weights; empty without `distillation:`.
        best_mean_iou: of `best_model/`; `NEVER` before anything was scored.
        best_by_protocol: the best mIoU per protocol of `keep_best:`.
        stale_evaluations: number of evaluations since `best_mean_iou`.
        loss_scaling: state of mixed precision's scaler.
        evaluated: whether only iterations are left to do: these weights were scored, or the run
            scores none.
        files: sha256 of the files of tensors beside this one, by name; empty in older versions.
    """

    seed: int = _number(0)
    batch_size: int = _number(1)
    world_size: int = _number(1)
    num_samples: int = _number(1)
    iters: int = _number(1)
    threads: int = _number(1)
    accumulate: int = _number(1, 1)
    precision: str = FP32
    ema: bool = False
    teacher: str = ""
    iteration: int = _number(0, 0)
    best_mean_iou: float = NEVER
    best_iteration: int = _number(0, 0)
    best_by_protocol: dict[str, float] = field(default_factory=dict)
    stale_evaluations: int = _number(0, 0)
    loss_scaling: dict[str, Any] = field(default_factory=dict)
    evaluated: bool = True
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `ValueError` for a value that no run leaves."""
        for name, score in {"": self.best_mean_iou, **self.best_by_protocol}.items():
            if not (score == NEVER or 0 <= score <= 1):
                where = f"'best_by_protocol.{name}'" if name else "'best_mean_iou'"
                raise ValueError(f"{where} must be a number from 0 to 1, got {score!r}")
        for name, value in self.loss_scaling.items():
            _require_finite(value, f"'loss_scaling.{name}'")
        for name in self.files:
            if Path(name).name != name:
                raise ValueError(f"'files' must hold names of files beside it, got '{name}'")

    @classmethod
    def read(cls, folder: Path) -> "TrainState":
        """The state in a checkpoint's folder.

        Raises:
            UsageError: the file is missing or damaged, or a value is of another kind or outside
                its range.
        """
        path = require_file(folder / STATE, "--resume_model")
        try:
            content = read_json(path)
            digest = content.pop(_OWN_SUM, None)
            state = from_section(cls, content, STATE)
        except (ValueError, AttributeError, TypeError, RecursionError, UsageError) as error:
            raise UsageError(f"{path}: not a training state: {error}") from None
        if digest is not None and digest != _sum_of(content):
            raise UsageError(
                f"{path}: its sha256 is not the one that it holds: the file was damaged or changed"
            )
        return state

    def write(self, folder: Path) -> None:
        """Write the state into a checkpoint's folder."""
        content = asdict(self)
        write_json(folder / STATE, content | {_OWN_SUM: _sum_of(content)})

    def settings(self) -> dict[str, Any]:
        """Settings of the run, for the manifest of its checkpoints."""
        names = ("seed", "batch_size", "accumulate", "world_size", "threads", "precision")
        teacher = {"teacher": self.teacher} if self.teacher else {}
        return {name: getattr(self, name) for name in names} | teacher

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
        same = (
            "seed", "world_size", "batch_size", "num_samples", "accumulate", "precision", "ema",
            "teacher",
        )  # fmt: skip
        for key in same:
            mine, theirs = getattr(self, key), getattr(saved, key)
            if mine != theirs:
                how = _HOW.get(key, "")
                mine, theirs = (NO_TEACHER if v == "" else v for v in (mine, theirs))
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


def _sum_of(content: Mapping[str, Any]) -> str:
    """The sha256 of a state's values, however they are spaced."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _require_finite(value: Any, where: str) -> None:
    """Raise `ValueError` or `TypeError` unless `value` is a finite number, or a list of such."""
    for each in value if isinstance(value, list) else [value]:
        if not abs(each) < float("inf"):
            raise ValueError(f"{where} must be a finite number, got {each!r}")
