"""The folder of a training run: its files, how they are written, how a run is resumed from them.

    iter_N/model.pdparams, model.pdparams.json, model.pdopt, train_state.json
    iter_N/model_raw.pdparams   with `ema:`; model.pdparams then holds the averaged weights
    best_model/model.pdparams, model.pdparams.json
    best_model_NAME/            the same for each protocol of `keep_best:`
    history.json          losses and scores of the whole run
    run.json, config.yml  how the run was made (`run_record`)
    profile.json, profile_trace.json    of --profile
    previous_runs/K/      the files of an earlier run in this folder

The paths are below `--save_dir`.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    read_parameter_names,
    save_arrays,
    weights_of,
)
from paddleseg_ext.common.errors import UsageError, require_none
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
from paddleseg_ext.training.optimizer import (
    optimizer_arrays,
    restore_optimizer,
    under_structured_names,
)
from paddleseg_ext.training.precision import Precision
from paddleseg_ext.training.state import NEVER, STATE, WEIGHTS, TrainState

if TYPE_CHECKING:
    import numpy as np
    import paddle
    from paddle import nn

OPTIMIZER, RAW_WEIGHTS = "model.pdopt", "model_raw.pdparams"
BEST, PREVIOUS_RUNS = "best_model", "previous_runs"
RECORD, CONFIG = "run.json", "config.yml"
PROFILE, PROFILE_TRACE = "profile.json", "profile_trace.json"
_ITERATION = re.compile(r"iter_(\d+)")
# Of the yml: of the evaluation or the beginning, or compared as fields of `TrainState`.
_NO_TRAINING_KEYS = (
    "val_dataset",
    "test_config",
    "absent_class",
    "keep_best",
    "iters",
    "starting_weights",
    "initialization",
)


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


def newest_manifests(save_dir: Path) -> list[CheckpointManifest]:
    """Manifests of the newest `iter_N` and of the best weights.

    Raises:
        UsageError: one is damaged.
    """
    folders = [*iteration_folders(save_dir)[-1:], *sorted(save_dir.glob(f"{BEST}*"))]
    return [read_manifest(f / WEIGHTS) for f in folders if (f / WEIGHTS).is_file()]


def find_resume_folder(resume_model: str | None, save_dir: Path) -> Path | None:
    """The folder that `--resume_model` names; None without it, and for `auto` without checkpoints.

    `auto` takes the newest checkpoint that is whole, and warns of newer ones that are damaged.

    Raises:
        UsageError: it is no folder of a checkpoint, a file of it is missing or damaged, or `auto`
            finds no whole one.
    """
    if resume_model is None:
        return None
    if resume_model == "auto":
        return _newest_whole(iteration_folders(save_dir))
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
    read_whole(folder)
    return folder


def iteration_of_paddlesegs(resume_model: str | None) -> int | None:
    """The iteration of a checkpoint that PaddleSeg wrote, `iter_N`; None for any other.

    It has no state of ours beside it.
    """
    if resume_model in (None, "auto"):
        return None
    folder = Path(str(resume_model))
    named = _ITERATION.fullmatch(folder.resolve().name)
    is_theirs = (folder / WEIGHTS).is_file() and not (
        (folder / STATE).exists() or (folder / f"{WEIGHTS}.json").exists()
    )
    return int(named[1]) if named and is_theirs and (folder / OPTIMIZER).exists() else None


def _newest_whole(folders: Sequence[Path]) -> Path | None:
    """The last of the folders whose checkpoint is whole; None where there are none."""
    damages: list[str] = []
    for folder in reversed(folders):
        try:
            read_whole(folder)
        except UsageError as error:
            damages.append(str(error))
            continue
        for damage in damages:
            warn(f"--resume_model auto: {damage}")
        if damages:
            warn(f"--resume_model auto: the run continues from {folder}, the newest whole one")
        return folder
    require_none(damages, "--resume_model auto: no checkpoint is whole:")
    return None


def read_whole(folder: Path) -> TrainState:
    """The state in a checkpoint's folder, after a check of every file beside it.

    Raises:
        UsageError: a file is missing, damaged, or of another iteration.
    """
    for name in (WEIGHTS, OPTIMIZER, STATE):
        require_file(folder / name, "--resume_model")
    state = TrainState.read(folder)
    manifest = read_manifest(folder / WEIGHTS)
    named = _ITERATION.fullmatch(folder.resolve().name)
    iterations = {"the folder": int(named[1]) if named else None, WEIGHTS: manifest.iteration}
    for what, iteration in iterations.items():
        if iteration not in (None, state.iteration):
            raise UsageError(
                f"{folder / STATE}: it is of iteration {state.iteration}, {what} of {iteration}; "
                "restore the files of one checkpoint, or resume another iter_N"
            )
    if state.ema:
        require_file(folder / RAW_WEIGHTS, "--resume_model")
    for name, digest in state.files.items():
        if sha256_of(require_file(folder / name, "--resume_model")) != digest:
            raise UsageError(
                f"{folder / name}: its sha256 is not the one in {STATE}: the file was damaged or "
                "is of another iteration. Restore it, or resume another iter_N"
            )
    return state


def config_changes(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Differences between the yml of a checkpoint and another in all that changes a training.

    Args:
        folder: of the checkpoint, whose manifest may hold no configuration; then there are none.
        config: the other one, resolved.

    Returns:
        Lines such as `lr_scheduler.learning_rate was 0.1, is 0.01`.
    """
    stored = read_manifest(folder / WEIGHTS).config
    if not isinstance(stored, dict):
        return []
    old, new = leaves_of(stored), leaves_of(config)
    return [
        f"{key} was {old.get(key, 'not given')}, is {new.get(key, 'not given')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key.partition(".")[0] not in _NO_TRAINING_KEYS
    ]


def leaves_of(value: Any, key: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their keys, as `a.0.b`."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif value is not None:
        return {key: value}
    leaves: dict[str, Any] = {}
    for name, inner in items:
        leaves |= leaves_of(inner, f"{key}.{name}" if key else str(name))
    return leaves


@dataclass(frozen=True)
class KeptBest:
    """The best weights of a later iteration than the one that a run continues from.

    Attributes:
        mean_iou: what an evaluation must reach to replace them.
        iteration: of the weights.
    """

    mean_iou: float
    iteration: int


def later_bests(save_dir: Path, state: TrainState, is_same_run: bool) -> dict[str | None, KeptBest]:
    """The best weights in a resumed run's folder that are kept until better ones come.

    Where the weights of a best score of `state` are missing, damaged or of another run, the score
    is taken out of `state`: else no best weights would be written before one above it.

    Args:
        save_dir: the run's folder.
        state: of the checkpoint that is resumed; changed in place.
        is_same_run: whether the run goes on as it did before, with an equal yml and folder.

    Returns:
        By protocol of `keep_best:`; None for `best_model`.
    """
    kept: dict[str | None, KeptBest] = {}
    found = sorted(path.name.removeprefix(f"{BEST}_") for path in save_dir.glob(f"{BEST}_*"))
    for protocol in dict.fromkeys([None, *state.best_by_protocol, *found]):
        folder = save_dir / best_folder(protocol)
        try:
            require_file(folder / WEIGHTS, "best weights")
            manifest = read_manifest(folder / WEIGHTS)
        except UsageError as error:
            if state.best_iteration:
                warn(f"{error}: the next evaluation decides about {folder.name} anew")
            _forget_best(state, protocol)
            continue
        if (manifest.iteration or 0) <= state.iteration:
            continue
        mean_iou = ((manifest.scores or {}).get("scores") or {}).get("mean_iou")
        if is_same_run and isinstance(mean_iou, float) and manifest.iteration:
            kept[protocol] = KeptBest(mean_iou, manifest.iteration)
        else:
            _forget_best(state, protocol)
    return kept


def _forget_best(state: TrainState, protocol: str | None) -> None:
    if protocol is None:
        state.best_mean_iou, state.best_iteration = NEVER, 0
    else:
        state.best_by_protocol = {k: v for k, v in state.best_by_protocol.items() if k != protocol}


def set_earlier_run_aside(
    save_dir: Path, resumed: Path | None = None, kept: Collection[str | None] = ()
) -> None:
    """Move the files of an earlier run in `save_dir`, so that none of them is overwritten.

    Args:
        save_dir: the run's folder.
        resumed: the checkpoint that the run continues from. If it is one of `save_dir`, only the
            later ones move: else they would count as this run's, be deleted as its oldest, and be
            found by `auto`.
        kept: the protocols whose best weights stay although they are later (`later_bests`).
    """
    bests = [*save_dir.glob(BEST), *sorted(save_dir.glob(f"{BEST}_*"))]
    if resumed is not None and is_in(save_dir, resumed):
        bests = [p for p in bests if p.name not in {best_folder(protocol) for protocol in kept}]
        left = _later_than(TrainState.read(resumed).iteration, bests, iteration_folders(save_dir))
    else:
        names = [HISTORY, RECORD, CONFIG, PROFILE, PROFILE_TRACE]
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


def is_in(save_dir: Path, checkpoint: Path) -> bool:
    """Whether `checkpoint` is an `iter_N` of `save_dir`."""
    return checkpoint.resolve().parent == save_dir.resolve()


def _later_than(iteration: int, bests: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    """The `iter_N` with N above `iteration`, and best weights that are later or damaged."""
    later = []
    for path in bests:
        try:
            require_file(path / WEIGHTS, "best weights")
            is_later = (read_manifest(path / WEIGHTS).iteration or 0) > iteration
        except UsageError:
            is_later = True
        if is_later:
            later.append(path)
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
        save_arrays(learner.deployed_arrays(), folder / WEIGHTS, manifest)
        written = [folder / name for name in (WEIGHTS, OPTIMIZER, RAW_WEIGHTS)]
        state.files = {path.name: sha256_of(path) for path in written if path.exists()}
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
        UsageError: another network, or another run (`TrainState.check_same_run`).
    """
    saved = TrainState.read(folder)
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
        learner.average.restore(read_arrays(folder / WEIGHTS), str(folder / WEIGHTS))
    learner.precision.restore(saved.loss_scaling)
    log(f"resumed from {folder} at iteration {saved.iteration}: {report.describe()}")
    return replace(saved, iters=state.iters, threads=state.threads)


def load_paddlesegs_iteration(folder: Path, learner: Learner) -> None:
    """Restore weights and optimizer of a checkpoint that PaddleSeg wrote, in place of `begin`.

    Raises:
        UsageError: it is of another network or another type of optimizer, or a file is damaged.
    """
    weights = folder / WEIGHTS
    report = load_into(learner.model, weights)
    learner.begin()
    # `.pdopt` counts the layers of that process; the table in `.pdparams` says which they were.
    names = read_parameter_names(weights)
    arrays = under_structured_names(read_arrays(folder / OPTIMIZER), names)
    how = "its weights and optimizer"
    if names:
        restore_optimizer(learner.optimizer, learner.model, arrays, str(folder / OPTIMIZER))
    else:
        how = f"its weights; the optimizer starts from zero: {weights.name} has no names of layers"
    warn(
        f"{weights} was written by PaddleSeg: the run goes on with {how}; the order of the samples "
        "is ours"
    )
    log(f"{weights}: {report.describe()}")
