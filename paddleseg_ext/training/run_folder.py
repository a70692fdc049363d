"""The folder of a training run: what is in it, how it is written, how a run goes on from it.

save_dir/iter_N/model.pdparams, model.pdparams.json, model.pdopt, train_state.json
save_dir/best_model/model.pdparams, model.pdparams.json
save_dir/history.json          losses and scores of the whole run
save_dir/previous_runs/K/      what an earlier run had left here
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.checkpoints.store import load_into, read_arrays, save_weights
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_directory, require_file, write_json
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.training.optimizer import optimizer_arrays, restore_optimizer

if TYPE_CHECKING:
    import paddle
    from paddle import nn

WEIGHTS, OPTIMIZER, STATE = "model.pdparams", "model.pdopt", "train_state.json"
BEST, HISTORY, PREVIOUS_RUNS = "best_model", "history.json", "previous_runs"
_ITERATION = re.compile(r"iter_(\d+)")


@dataclass
class TrainState:
    """All that a run needs to go on, beside weights and optimizer.

    The first five fields decide which samples come next: they must be the same when a run is
    resumed. Another thread count changes the last bits of the sums, nothing else.
    """

    seed: int
    batch_size: int
    world_size: int
    num_samples: int
    iters: int
    threads: int
    iteration: int = 0
    best_mean_iou: float = -1.0
    best_iteration: int = 0

    def check_same_run(self, saved: "TrainState", source: Path) -> None:
        """Compare with the state of the run that is to be resumed.

        Raises:
            UsageError: the runs would not see the same samples, or `saved` is already complete.
        """
        for key in ("seed", "batch_size", "world_size", "num_samples"):
            mine, theirs = getattr(self, key), getattr(saved, key)
            if mine != theirs:
                raise UsageError(
                    f"{source}: that run had {key} {theirs}, this one has {mine}; resume it with "
                    f"{key} {theirs}, or start anew from its weights with "
                    f"--opts pretrained={source / WEIGHTS}"
                )
        if saved.iteration >= self.iters:
            raise UsageError(
                f"{source}: that run has done {saved.iteration} iterations of {self.iters}; "
                "raise --iters to go on"
            )
        for key in ("threads", "iters"):
            mine, theirs = getattr(self, key), getattr(saved, key)
            if mine != theirs:
                warn(
                    f"{source}: that run had {key} {theirs}, this one has {mine}: "
                    "the result will not be that of an uninterrupted run to the bit"
                )


def iteration_folders(save_dir: Path) -> list[Path]:
    """The `iter_N` folders of a run, oldest first."""
    found = [(int(m[1]), p) for p in save_dir.glob("iter_*") if (m := _ITERATION.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def find_resume_folder(resume_model: str, save_dir: Path) -> Path | None:
    """The folder that `--resume_model` means; `auto` without any checkpoint is a fresh start.

    Raises:
        UsageError: it is no folder of a checkpoint, or a file is missing in it.
    """
    if resume_model == "auto":
        folders = iteration_folders(save_dir)
        return folders[-1] if folders else None
    folder = Path(resume_model)
    if not folder.is_dir():
        raise UsageError(
            f"--resume_model: '{folder}' is not a folder; expected is SAVE_DIR/iter_N, or 'auto'"
        )
    for name in (WEIGHTS, OPTIMIZER, STATE):
        require_file(folder / name, "--resume_model")
    return folder


def set_earlier_run_aside(save_dir: Path) -> None:
    """Move what an earlier run has left in `save_dir`, so that nothing of it is overwritten."""
    names = [BEST, HISTORY, *(p.name for p in iteration_folders(save_dir))]
    left = [save_dir / name for name in names if (save_dir / name).exists()]
    if not left:
        return
    shelf = save_dir / PREVIOUS_RUNS
    shelf.mkdir(exist_ok=True)
    number = 1 + max((int(p.name) for p in shelf.iterdir() if p.name.isdigit()), default=0)
    target = shelf / str(number)
    target.mkdir()
    for path in left:
        path.replace(target / path.name)
    warn(f"an earlier run's checkpoints were moved to {target}; --resume_model continues a run")


def save_iteration(
    save_dir: Path,
    model: "nn.Layer",
    optimizer: "paddle.optimizer.Optimizer",
    state: TrainState,
    manifest: Mapping[str, Any],
    keep: int,
) -> None:
    """Write `iter_N` in one step and delete the oldest beyond `keep`."""
    import paddle

    target = save_dir / f"iter_{state.iteration}"
    with atomic_directory(target) as folder:
        save_weights(model, folder / WEIGHTS, manifest)
        paddle.save(optimizer_arrays(optimizer, model), str(folder / OPTIMIZER))
        write_json(folder / STATE, asdict(state))
    for old in iteration_folders(save_dir)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def load_iteration(
    folder: Path, model: "nn.Layer", optimizer: "paddle.optimizer.Optimizer", state: TrainState
) -> TrainState:
    """Restore weights, optimizer and state from `folder`.

    Raises:
        UsageError: damaged files, another network, or another run (`TrainState.check_same_run`).
    """
    saved = read_state(folder)
    state.check_same_run(saved, folder)
    report = load_into(model, folder / WEIGHTS)
    arrays = read_arrays(folder / OPTIMIZER)
    restore_optimizer(optimizer, model, arrays, str(folder / OPTIMIZER))
    log(f"resumed from {folder} at iteration {saved.iteration}: {report.describe()}")
    state.iteration = saved.iteration
    state.best_mean_iou, state.best_iteration = saved.best_mean_iou, saved.best_iteration
    return state


def read_state(folder: Path) -> TrainState:
    """The `TrainState` of a checkpoint folder.

    Raises:
        UsageError: the file is damaged.
    """
    path = require_file(folder / STATE, "--resume_model")
    try:
        return TrainState(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a training state: {error}") from None
