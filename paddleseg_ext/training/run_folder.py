"""The folder of a training run: what is in it, how it is written, how a run goes on from it.

save_dir/iter_N/model.pdparams, model.pdparams.json, model.pdopt, train_state.json
save_dir/iter_N/model_raw.pdparams   with `ema:`; model.pdparams then holds the averaged weights
save_dir/best_model/model.pdparams, model.pdparams.json
save_dir/best_model_NAME/            the same for each protocol of `keep_best:`
save_dir/history.json          losses and scores of the whole run
save_dir/profile.json, profile_trace.json    of --profile
save_dir/previous_runs/K/      what an earlier run had left here
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.checkpoints.store import (
    load_arrays_into,
    load_into,
    read_arrays,
    read_manifest,
    save_arrays,
    update_manifest,
    weights_of,
)
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import (
    atomic_directory,
    delete_directory,
    require_file,
    require_room,
    write_json,
)
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.training.ema import WeightAverage
from paddleseg_ext.training.optimizer import optimizer_arrays, restore_optimizer
from paddleseg_ext.training.precision import FP32, Precision

if TYPE_CHECKING:
    import numpy as np
    import paddle
    from paddle import nn

WEIGHTS, OPTIMIZER, STATE = "model.pdparams", "model.pdopt", "train_state.json"
RAW_WEIGHTS = "model_raw.pdparams"
BEST, HISTORY, PREVIOUS_RUNS = "best_model", "history.json", "previous_runs"
PROFILE, PROFILE_TRACE = "profile.json", "profile_trace.json"
_ITERATION = re.compile(r"iter_(\d+)")


@dataclass
class TrainState:
    """All that a run needs to go on, beside weights and optimizer.

    The fields without a default, `accumulate`, `precision` and `ema` say what run it is; a resumed
    run must agree. Another thread count changes the last bits of the sums, nothing else.

    Attributes:
        best_mean_iou: of `best_model/`.
        best_by_protocol: the best mIoU by each protocol of `keep_best:`.
        stale_evaluations: how many there were since `best_mean_iou`.
        loss_scaling: what mixed precision goes on from.
        evaluated: whether nothing is left to do but iterations: these weights were scored, or the
            run scores none.
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

    def comparable(self) -> dict[str, Any]:
        """What all processes of a run must have in common."""
        return {key: value for key, value in asdict(self).items() if key != "threads"}

    def check_same_run(self, saved: "TrainState", source: Path) -> None:
        """Compare with the state of the run that is to be resumed.

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
                "raise --iters to go on"
            )
        for key in ("threads", "iters"):
            mine, theirs = getattr(self, key), getattr(saved, key)
            if mine != theirs:
                warn(
                    f"{source}: that run had {key} {theirs}, this one has {mine}: "
                    "the result will not be that of an uninterrupted run to the bit"
                )


@dataclass
class Learner:
    """What an iteration changes, and so what a checkpoint holds.

    Attributes:
        average: of the weights; None without `ema:`.
    """

    model: "nn.Layer"
    optimizer: "paddle.optimizer.Optimizer"
    precision: Precision
    average: WeightAverage | None = None

    def begin(self) -> None:
        """Get ready to train; the network has its initial weights."""
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
        """The network, with those weights inside."""
        averaged = nullcontext() if self.average is None else self.average.in_place_of_weights()
        with averaged, self.precision.evaluating():
            yield self.model


def best_folder(protocol: str | None) -> str:
    """The name of the folder that keeps the best by a protocol of `keep_best:`; None: of all."""
    return BEST if protocol is None else f"{BEST}_{protocol}"


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
    if not (folder / OPTIMIZER).exists():
        raise UsageError(
            f"--resume_model: '{folder}' holds no '{OPTIMIZER}' to go on from; expected is "
            "SAVE_DIR/iter_N, or 'auto' for the newest"
        )
    for name in (WEIGHTS, OPTIMIZER, STATE):
        require_file(folder / name, "--resume_model")
    return folder


def set_earlier_run_aside(save_dir: Path, resumed: Path | None = None) -> None:
    """Move what an earlier run has left in `save_dir`, so that nothing of it is overwritten.

    Args:
        save_dir: the run's folder.
        resumed: the checkpoint that the run goes on from. If it is one of `save_dir`, only what
            came after it moves: its own checkpoints would be deleted as the older ones, and `auto`
            would find those of the run that was left.
    """
    bests = [*save_dir.glob(BEST), *sorted(save_dir.glob(f"{BEST}_*"))]
    if resumed is not None and resumed.resolve().parent == save_dir.resolve():
        left = _later_than(read_state(resumed).iteration, bests, iteration_folders(save_dir))
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
    """The `iter_N` with N above `iteration`, and the best weights that are of such an iteration."""
    manifests = {best: read_manifest(best / WEIGHTS) or {} for best in bests}
    later = [p for p in bests if manifests[p].get("iteration", 0) > iteration]
    return later + [p for p in folders if int(p.name.removeprefix("iter_")) > iteration]


def require_room_for_checkpoints(save_dir: Path, learner: Learner, saves: int) -> None:
    """The disk takes `saves` checkpoints of the learner, the best weights, and one in the making.

    Raises:
        UsageError: it does not.
    """
    weights = sum(tensor.nbytes for tensor in weights_of(learner.model).values())
    # Weights and, at most, two moments of each (Adam); an average's raw weights lie beside it.
    iteration = weights * (3 if learner.average is None else 4)
    require_room(save_dir, (saves + 1) * iteration + weights, "--save_dir", "its checkpoints")


def save_iteration(
    save_dir: Path,
    learner: Learner,
    state: TrainState,
    manifest: Mapping[str, Any],
    keep: int,
) -> None:
    """Write `iter_N` in one step and delete the oldest beyond `keep`."""
    import paddle

    state.loss_scaling = learner.precision.state()
    target = save_dir / f"iter_{state.iteration}"
    with atomic_directory(target) as folder:
        save_arrays(learner.deployed_arrays(), folder / WEIGHTS, manifest)
        if learner.average is not None:
            paddle.save(weights_of(learner.model), str(folder / RAW_WEIGHTS))
        arrays = optimizer_arrays(learner.optimizer, learner.model)
        paddle.save(arrays, str(folder / OPTIMIZER))
        write_json(folder / STATE, asdict(state))
    for old in iteration_folders(save_dir)[:-keep]:
        delete_directory(old)


def note_evaluation(save_dir: Path, state: TrainState, scores: Mapping[str, Any]) -> None:
    """Add to the `iter_N` of this state how it was scored.

    The state comes last: a kill before it repeats the evaluation, which comes to the same.
    """
    folder = save_dir / f"iter_{state.iteration}"
    update_manifest(folder / WEIGHTS, {"scores": scores})
    write_json(folder / STATE, asdict(state))


def load_iteration(folder: Path, learner: Learner, state: TrainState) -> TrainState:
    """Restore weights, optimizer and state from `folder`; instead of `Learner.begin`.

    Raises:
        UsageError: damaged files, another network, or another run (`TrainState.check_same_run`).
    """
    saved = read_state(folder)
    state.check_same_run(saved, folder)
    if learner.average is None:
        report = load_into(learner.model, folder / WEIGHTS)
    else:
        raw = folder / RAW_WEIGHTS
        report = load_arrays_into(learner.model, read_arrays(raw), str(raw))
    learner.begin()
    arrays = read_arrays(folder / OPTIMIZER)
    restore_optimizer(learner.optimizer, learner.model, arrays, str(folder / OPTIMIZER))
    if learner.average is not None:
        read_manifest(folder / WEIGHTS)
        learner.average.restore(read_arrays(folder / WEIGHTS), str(folder / WEIGHTS))
    learner.precision.restore(saved.loss_scaling)
    log(f"resumed from {folder} at iteration {saved.iteration}: {report.describe()}")
    return replace(saved, iters=state.iters, threads=state.threads)


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
