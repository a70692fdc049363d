"""What TIPC asks of training logs: are two trainings the same, and how fast was one."""

import math
import re
import statistics
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import CheckFailed, DataError
from paddleseg_ext.common.files import require_file, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.training.history import History

# The first iterations load and allocate; PaddlePaddle's benchmarks leave two out.
SKIPPED_STEPS = 2
_STEP = re.compile(r"\[TRAIN\].* iter: (\d+)/(\d+), loss: ([^,\s]+),.* ips: ([^\s,]+) samples/sec")


def compare_losses(first: Path, second: Path) -> None:
    """Compare the losses of two runs, every one to the bit, in their `history.json`.

    Raises:
        DataError: a file is not a run's history.
        CheckFailed: the runs differ; it names the first iteration that does.
    """
    losses, others = _losses(first), _losses(second)
    if list(losses) != list(others):
        raise CheckFailed(
            f"{first} holds the losses of iterations {_span(losses)}, {second} of {_span(others)}"
        )
    for iteration, loss in losses.items():
        if loss != others[iteration] or not math.isfinite(loss):
            raise CheckFailed(
                f"iteration {iteration}: the loss is {loss!r} in {first} and "
                f"{others[iteration]!r} in {second}"
            )
    log(f"the losses of {len(losses)} iterations are equal to the bit")


def _losses(path: Path) -> dict[int, float]:
    losses = {entry.iter: entry.loss for entry in History.read(path).train}
    if not losses:
        raise DataError(f"{path}: it holds no losses")
    return losses


def _span(losses: dict[int, float]) -> str:
    return f"{min(losses)} to {max(losses)} ({len(losses)})"


def write_speed(log_file: Path, target: Path) -> None:
    """Read the speed of a training from its log and write it as PaddlePaddle's benchmarks do.

    Args:
        log_file: with a `[TRAIN]` line for each iteration.
        target: a JSON file; `ips` is the median of the iterations' samples/s, without the first
            SKIPPED_STEPS.

    Raises:
        CheckFailed: the log does not hold every iteration, or a loss is not finite.
    """
    text = require_file(log_file, "log of a training").read_text(encoding="utf-8", errors="replace")
    steps = [
        (int(iteration), int(iters), float(loss), float(ips))
        for iteration, iters, loss, ips in _STEP.findall(text)
    ]
    if not steps or [step[0] for step in steps] != list(range(1, steps[-1][1] + 1)):
        raise CheckFailed(
            f"{log_file}: a [TRAIN] line for each iteration is expected (--log_iters 1), "
            f"{len(steps)} found"
        )
    measured = [ips for _, _, _, ips in steps[SKIPPED_STEPS:]]
    if not measured:
        raise CheckFailed(f"{log_file}: more than {SKIPPED_STEPS} iterations are expected")
    if not all(math.isfinite(loss) for _, _, loss, _ in steps):
        raise CheckFailed(f"{log_file}: a loss is not finite")
    speed: dict[str, Any] = {
        "model_name": target.name.removesuffix("_speed"),
        "ips": statistics.median(measured),
        "speed_unit": "samples/s",
        "steps": len(measured),
        "skipped_steps": SKIPPED_STEPS,
        "convergence_key": "loss",
        "convergence_value": steps[-1][2],
    }
    write_json(target, speed)
    log(f"{speed['ips']:.4f} samples/s over {len(measured)} iterations; {target}")
