"""The folder of a training run: its files, how they are written, how a run is resumed from them.

save_dir/iter_N/model.pdparams, model.pdparams.json, model.pdopt, train_state.json
save_dir/iter_N/model_raw.pdparams   with `ema:`; model.pdparams then holds the averaged weights
save_dir/best_model/model.pdparams, model.pdparams.json
save_dir/best_model_NAME/            the same for each protocol of `keep_best:`
save_dir/history.json          losses and scores of the whole run
save_dir/profile.json, profile_trace.json    of --profile
save_dir/previous_runs/K/      the files of an earlier run in this folder
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.checkpoints.manifest import (
    CheckpointManifest,
    read_manifest,
    update_manifest,
)
from paddleseg_ext.checkpoints.store import (
    load_arrays_into,
    load_into,
    read_arrays,
    save_arrays,
    weights_of,
)
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import (
    atomic_directory,
    delete_directory,
    require_file,
    require_room,
    sha256_of,
)
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.training.ema import WeightAverage
from paddleseg_ext.training.history import HISTORY
from paddleseg_ext.training.optimizer import optimizer_arrays, restore_optimizer
from paddleseg_ext.training.precision import Precision
from paddleseg_ext.training.state import STATE, WEIGHTS, TrainState

if TYPE_CHECKING:
    import numpy as np
    import paddle
    from paddle import nn

OPTIMIZER, RAW_WEIGHTS = "model.pdopt", "model_raw.pdparams"
BEST, PREVIOUS_RUNS = "best_model", "previous_runs"
PROFILE, PROFILE_TRACE = "profile.json", "profile_trace.json"
_ITERATION = re.compile(r"iter_(\d+)")


@dataclass
class Learner:
    """The objects that an iteration changes, and whose state a checkpoint contains.

    Attributes:
        average: of the weights; None without `ema:`.
    """

    model: "nn.Layer"
    optimizer: "paddle.optimizer.Optimizer"
    precision: Precision
    average: WeightAverage | None = None

    def begin(self) -> None:
        """Prepare for training; to be called when the network has its initial weights."""
        self.precision.prepare(self.model, self.optimizer)
        if self.average is not None:
            self.average.restart()

    def step(self, iteration: int) -> None:
        """Change the weights by the gradients, at iteration `iteration` (from 1)."""
        self.precision.step(self.optimizer)
        if self.average is not None:
            self.average.update(iteration)

    def deployed_arrays(self) -> dict[str, "np.ndarray"]:
        """The weights that are scored and exported: the averaged ones where there are any."""
        return weights_of(self.model) if self.average is None else self.average.arrays()

    @contextmanager
    def as_deployed(self) -> Iterator["nn.Layer"]:
        """The network with the deployed weights, inside the context."""
        averaged = nullcontext() if self.average is None else self.average.in_place_of_weights()
        with averaged, self.precision.evaluating():
            yield self.model


def best_folder(protocol: str | None) -> str:
    """Folder of the best weights by a protocol of `keep_best:`; None for `best_model`."""
    return BEST if protocol is None else f"{BEST}_{protocol}"


def iteration_folders(save_dir: Path) -> list[Path]:
    """The `iter_N` folders of a run, oldest first."""
    found = [(int(m[1]), p) for p in save_dir.glob("iter_*") if (m := _ITERATION.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def find_resume_folder(resume_model: str | None, save_dir: Path) -> Path | None:
    """The folder that `--resume_model` names; None without it, and for `auto` without checkpoints.

    Raises:
        UsageError: it is no folder of a checkpoint, or a file is missing in it.
    """
    if resume_model is None:
        return None
    if resume_model == "auto":
        folders = iteration_folders(save_dir)
        return folders[-1] if folders else None
    folder = Path(resume_model)
    if not folder.is_dir():
        raise UsageError(
            f"--resume_model: '{folder}' is not a folder; expected is SAVE_DIR/iter_N, or 'auto'"
        )
    if not (folder / OPTIMIZER).exists():
        raise UsageError(
            f"--resume_model: '{folder}' holds no '{OPTIMIZER}' to resume from; expected is "
            "SAVE_DIR/iter_N, or 'auto' for the newest"
        )
    for name in (WEIGHTS, OPTIMIZER, STATE):
        require_file(folder / name, "--resume_model")
    return folder


def set_earlier_run_aside(save_dir: Path, resumed: Path | None = None) -> None:
    """Move the files of an earlier run in `save_dir`, so that none of them is overwritten.

    Args:
        save_dir: the run's folder.
        resumed: the checkpoint that the run continues from. If it is one of `save_dir`, only the
            later ones move: else they would count as this run's, be deleted as its oldest, and be
            found by `auto`.
    """
    bests = [*save_dir.glob(BEST), *sorted(save_dir.glob(f"{BEST}_*"))]
    if resumed is not None and resumed.resolve().parent == save_dir.resolve():
        left = _later_than(TrainState.read(resumed).iteration, bests, iteration_folders(save_dir))
    else:
        names = [HISTORY, PROFILE, PROFILE_TRACE]
        left = [save_dir / name for name in names if (save_dir / name).exists()]
        left += [*bests, *iteration_folders(save_dir)]
    if not left:
        return
    shelf = save_dir / PREVIOUS_RUNS
    shelf.mkdir(exist_ok=True)
    number = 1 + max((int(p.name) for p in shelf.iterdir() if p.name.isdigit()), default=0)
    target = shelf / str(number)
    target.mkdir()
    for path in left:
        path.replace(target / path.name)
    how = "" if resumed else "; --resume_model continues a run"
    warn(f"an earlier run's checkpoints were moved to {target}{how}")


def _later_than(iteration: int, bests: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    """The `iter_N` with N above `iteration`, and the best weights of such an iteration."""
    later = [p for p in bests if (read_manifest(p / WEIGHTS).iteration or 0) > iteration]
    return later + [p for p in folders if int(p.name.removeprefix("iter_")) > iteration]


def require_room_for_checkpoints(save_dir: Path, learner: Learner, saves: int) -> None:
    """Check that the disk has room for `saves` checkpoints, the best weights and a temporary copy.

    Raises:
        UsageError: it has less.
    """
    weights = sum(tensor.nbytes for tensor in weights_of(learner.model).values())
    # Weights and at most two moments of each (Adam); with an average also the raw weights.
    iteration = weights * (3 if learner.average is None else 4)
    require_room(save_dir, (saves + 1) * iteration + weights, "--save_dir", "its checkpoints")


def save_iteration(
    save_dir: Path,
    learner: Learner,
    state: TrainState,
    manifest: CheckpointManifest,
    keep: int,
) -> None:
    """Write `iter_N` in one step and delete the oldest beyond `keep`."""
    import paddle

    state.loss_scaling = learner.precision.state()
    target = save_dir / f"iter_{state.iteration}"
    with atomic_directory(target) as folder:
        if learner.average is not None:
            paddle.save(weights_of(learner.model), str(folder / RAW_WEIGHTS))
        arrays = optimizer_arrays(learner.optimizer, learner.model)
        paddle.save(arrays, str(folder / OPTIMIZER))
        sums = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        save_arrays(learner.deployed_arrays(), folder / WEIGHTS, replace(manifest, files=sums))
        state.write(folder)
    for old in iteration_folders(save_dir)[:-keep]:
        delete_directory(old)


def note_evaluation(save_dir: Path, state: TrainState, scores: dict[str, Any]) -> None:
    """Add the scores to the `iter_N` of this state.

    The state comes last: after a kill before it the evaluation is repeated, with equal scores.
    """
    folder = save_dir / f"iter_{state.iteration}"
    update_manifest(folder / WEIGHTS, scores=scores)
    state.write(folder)


def load_iteration(folder: Path, learner: Learner, state: TrainState) -> TrainState:
    """Restore weights, optimizer and state from `folder`, in place of `Learner.begin`.

    Raises:
        UsageError: damaged files, another network, or another run (`TrainState.check_same_run`).
    """
    saved = TrainState.read(folder)
    state.check_same_run(saved, folder)
    read_manifest(folder / WEIGHTS).check_files(folder)
    if learner.average is None:
        report = load_into(learner.model, folder / WEIGHTS)
    else:
        raw = folder / RAW_WEIGHTS
        report = load_arrays_into(learner.model, read_arrays(raw), str(raw))
    learner.begin()
    arrays = read_arrays(folder / OPTIMIZER)
    restore_optimizer(learner.optimizer, learner.model, arrays, str(folder / OPTIMIZER))
    if learner.average is not None:
        learner.average.restore(read_arrays(folder / WEIGHTS), str(folder / WEIGHTS))
    learner.precision.restore(saved.loss_scaling)
    log(f"resumed from {folder} at iteration {saved.iteration}: {report.describe()}")
    return replace(saved, iters=state.iters, threads=state.threads)
