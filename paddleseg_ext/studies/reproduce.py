"""The command that repeats a run, and the differences between its machine and this one."""

import shlex
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.training.history import HISTORY, History
from paddleseg_ext.training.options import TrainOptions
from paddleseg_ext.training.run_folder import CONFIG
from paddleseg_ext.training.run_record import (
    Start,
    data_here,
    machine_here,
    read_record,
    versions_here,
    weights_here,
)

_NOT_REPEATED = ("save_dir", "resume_model", "profile")


def reproduce_lines(run: str | Path) -> tuple[list[str], list[str]]:
    """The record of a run for people, and what differs here from its first start.

    Args:
        run: the `--save_dir` of a training.

    Raises:
        UsageError: the folder has no record, or a damaged one.
    """
    run = Path(run)
    starts = read_record(run)
    first = starts[0]
    lines = [f"run {run}: {_progress(run)}"]
    for start in starts:
        where = f"from iteration {start.iteration}" if start.iteration else "new"
        lines.append(f"command, {where}, {start.time}, in {start.directory}:")
        lines.append(f"  {start.command}")
    for before, after in pairwise(starts):
        lines += [f"  at iteration {after.iteration}: {d}" for d in before.differences(after)]
    lines.append(f"seed {first.seed}")
    for title in ("versions", "machine", "data", "weights"):
        values = getattr(first, title)
        lines += [title] if values else []
        lines += [f"  {name}: {_plain(value)}" for name, value in values.items()]
    lines += ["to repeat it:", f"  {repeating_command(run, starts[-1])}"]
    expected = replace(first, config=starts[-1].config)
    return lines, expected.differences(present(run, first))


def repeating_command(run: Path, start: Start) -> str:
    """A command line that trains the same in another folder."""
    words = ["paddleseg-ext", "train", "--config", str(run / CONFIG)]
    words += ["--device", str(start.machine.get("device", "cpu"))]
    for field in fields(TrainOptions):
        value = start.options.get(field.name)
        if field.name in (*_NOT_REPEATED, "device") or value in (None, field.default):
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{field.name}", *map(str, values)]
    return shlex.join([*words, "--save_dir", f"{run}_again"])


def present(run: Path, first: Start) -> Start:
    """The start that the run would have here: versions, machine, data and weights of now."""
    try:
        config = load_config(run / CONFIG)
    except UsageError as error:
        raise UsageError(f"{error}; it belongs to the run's record") from None
    of_run = ("device", "threads", "processes")
    return replace(
        first,
        config=config.raw,
        versions=versions_here(),
        machine=machine_here() | {k: first.machine[k] for k in of_run if k in first.machine},
        data={section: data_here(config, section) for section in first.data},
        weights=weights_here(config, first.options.get("finetune")),
    )


def _progress(run: Path) -> str:
    if not (run / HISTORY).exists():
        return "no checkpoint yet"
    history = History.read(run / HISTORY)
    done = f"{history.train[-1].iter} iterations" if history.train else "no iteration"
    best = max((e.mean_iou for e in history.eval), default=None)
    return done if best is None else f"{done}, best mIoU {best:.4f}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
