"""Runs of several seeds and of several values of a key, one after the other, each in a sub-folder.

    SAVE_DIR/seed_0                                    --seeds 0 1
    SAVE_DIR/optimizer.weight_decay=1e-4/seed_0        with --sweep optimizer.weight_decay=1e-4,5e-4

The same command again leaves out runs that are done and continues the one that was interrupted.
`studies.table` reads the folders. Which values are worth trying is not decided here.
"""

import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from paddleseg_ext.common.errors import CheckFailed, UsageError, require_none, shortened
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.options import option
from paddleseg_ext.config import Config
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.plan import make_plan
from paddleseg_ext.training.run_folder import RECORD, config_changes, iteration_folders
from paddleseg_ext.training.run_record import read_record
from paddleseg_ext.training.state import TrainState
from paddleseg_ext.training.train import train

_LONGEST_NAME = 120  # letters of a sub-folder's name
_STRANGE = re.compile(r"[^A-Za-z0-9._=+,-]+")
# Options that change the result or its evaluation.
_FIXED_OPTIONS = (
    "do_eval", "save_interval", "early_stop", "finetune", "precision", "amp_level", "to_static",
)  # fmt: skip


@dataclass(frozen=True)
class SeveralOptions:
    """The flags of `train` that make one run into several."""

    seeds: tuple[int, ...] | None = option(
        None, "train once per seed, in SAVE_DIR/seed_N; again: continue", at_least=0, metavar="N"
    )
    sweep: tuple[str, ...] | None = option(
        None,
        "train once per value of a key of the yml, in SAVE_DIR/KEY=VALUE; of several keys, all "
        "combinations",
        metavar="KEY=V1,V2",
    )

    @property
    def is_several(self) -> bool:
        """Whether there is more than the one run of `--save_dir`."""
        return bool(self.seeds or self.sweep)


@dataclass(frozen=True)
class Member:
    """One of the runs."""

    config: Config
    options: TrainOptions

    @property
    def is_done(self) -> bool:
        """Whether all its iterations were trained and scored, or it stopped early."""
        state = self._state()
        if state is None:
            return False
        stopped = 0 < self.options.early_stop <= state.stale_evaluations
        return stopped or (state.iteration >= self.config.iters and state.evaluated)

    def changes(self) -> list[str]:
        """Differences from what trained in its folder before; none where nothing did."""
        state, folder = self._state(), self.options.save_dir
        if state is None:
            return []
        found = config_changes(iteration_folders(folder)[-1], self.config.raw)
        if state.iters != self.config.iters:
            found.append(f"iters was {state.iters}, is {self.config.iters}")
        if (folder / RECORD).exists():
            old, new = read_record(folder)[-1].options, asdict(self.options)
            found += [
                f"--{name} was {old.get(name)}, is {new[name]}"
                for name in _FIXED_OPTIONS
                if old.get(name) != new[name]
            ]
        return found

    def _state(self) -> TrainState | None:
        folders = iteration_folders(self.options.save_dir)
        return TrainState.read(folders[-1]) if folders else None


def plan_members(
    load: Callable[[Sequence[str]], Config], options: TrainOptions, several: SeveralOptions
) -> list[Member]:
    """The runs, each with its configuration, seed and folder; all of them are checked.

    Args:
        load: a configuration from further texts `key=value` of `--opts`.
        options: of every run; `save_dir` is the folder of all.
        several: seeds and values.

    Raises:
        UsageError: see `make_plan`; values that make equal runs or folders; a run that was begun
            in its folder with something else.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        raise UsageError("--seeds and --sweep run in one process; launch each run by itself")
    if options.resume_model not in (None, "auto"):
        raise UsageError("--seeds and --sweep resume each run by themselves: no --resume_model")
    if several.seeds and options.seed != TrainOptions.seed:
        raise UsageError("--seed is of one run and --seeds of several: give one of them")
    seeds = several.seeds or (None,)
    _require_distinct("--seeds", [str(seed) for seed in seeds])
    swept = _combinations(several.sweep or ())
    names = [_folder_name(opts) for opts in swept]
    _require_distinct("--sweep", names)
    configs = [load(opts) for opts in swept]
    _require_different(configs, names)
    members = []
    for (name, config), seed in itertools.product(zip(names, configs, strict=True), seeds):
        folder = options.save_dir / name / ("" if seed is None else f"seed_{seed}")
        given = replace(options, save_dir=folder, resume_model="auto")
        members.append(Member(config, given if seed is None else replace(given, seed=seed)))
    for member in members:
        require_none(
            member.changes(),
            f"{member.options.save_dir}: a run with other settings was begun here; take another "
            "--save_dir, or delete it:",
        )
        if not member.is_done:
            make_plan(member.config, member.options)
    return members


def train_members(members: Sequence[Member], root: Path) -> None:
    """Train the runs one after the other; those that are done are left out.

    Raises:
        UsageError: see `train`.
        CheckFailed: runs whose loss is no longer finite; the others were trained.
    """
    failures = []
    for number, member in enumerate(members, 1):
        folder = member.options.save_dir
        if member.is_done:
            log(f"run {number} of {len(members)}, {folder}: done before")
            continue
        log(f"run {number} of {len(members)}, {folder}")
        try:
            train(member.config, member.options)
        except CheckFailed as error:
            warn(f"{folder}: {error}")
            failures.append(f"{folder}: {error}")
    log(f"{len(members) - len(failures)} runs: paddleseg-ext table {root}")
    require_none(failures, f"{len(failures)} of {len(members)} runs failed:", CheckFailed)


def _combinations(sweep: Sequence[str]) -> list[list[str]]:
    """Lists of `key=value`, one per run: all combinations of the values of each key."""
    choices = []
    for text in sweep:
        key, separator, values = text.partition("=")
        if not separator or not key or not values:
            raise UsageError(f"--sweep: KEY=V1,V2 is expected, got '{text}'")
        choices.append([f"{key}={value}" for value in split_values(values)])
    _require_distinct("--sweep", [choice[0].partition("=")[0] for choice in choices])
    return [list(chosen) for chosen in itertools.product(*choices)]


def split_values(text: str) -> list[str]:
    """The parts between commas that are outside of brackets.

    Raises:
        UsageError: a part is empty.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise UsageError(f"--sweep: values between commas are expected, got '{text}'")
    return parts


def _folder_name(opts: Sequence[str]) -> str:
    name = _STRANGE.sub("_", ",".join(opts))
    if len(name) > _LONGEST_NAME:
        raise UsageError(f"--sweep: '{name}' is too long for a folder's name; sweep shorter values")
    return name


def _require_distinct(flag: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{flag}: given twice, or in one folder: {shortened(twice)}")


def _require_different(configs: Sequence[Config], names: Sequence[str]) -> None:
    """Refuse runs that a flag of its own, such as --learning_rate, makes equal."""
    for (first, one), (second, other) in itertools.combinations(
        zip(configs, names, strict=True), 2
    ):
        if first.raw == second.raw:
            raise UsageError(
                f"--sweep: '{one}' and '{other}' are the same run; a flag sets the key, too"
            )
