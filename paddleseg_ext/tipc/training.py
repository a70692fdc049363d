"""Checks of training logs: equality of the losses of two trainings, and the speed of one."""

import math
import re
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from paddleseg_ext.common.errors import CheckFailed, DataError
from paddleseg_ext.common.files import require_file, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.training.history import History

# The first iterations load and allocate; PaddlePaddle's benchmarks leave two out.
SKIPPED_STEPS = 2
_STEP = re.compile(r"\[TRAIN\].* iter: (\d+)/(\d+), loss: ([^,\s]+),.* ips: ([^\s,]+) samples/sec")


@dataclass(frozen=True)
class Speed:
    """The speed of a training, with the keys of PaddlePaddle's benchmarks.

    Attributes:
        ips: median of the iterations' samples/s, without the first SKIPPED_STEPS.
        steps: iterations that count.
        convergence_value: the last loss.
    """

    model_name: str
    ips: float
    steps: int
    convergence_value: float
    speed_unit: str = "samples/s"
    skipped_steps: int = SKIPPED_STEPS
    convergence_key: str = "loss"


def compare_losses(first: Path, second: Path) -> None:
    """Compares every loss of two runs to the bit, from their `history.json`.

    Raises:
        DataError: a file is not a run's history.
        CheckFailed: the runs differ; the first iteration that does is named.
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
        raise DataError(f"{path}: losses are expected, it contains none")
    return losses


def _span(losses: dict[int, float]) -> str:
    return f"{min(losses)} to {max(losses)} ({len(losses)})"


def write_speed(log_file: Path, target: Path) -> None:
    """Reads the speed of a training from its log, and writes it as a `Speed` in JSON.

    Args:
        log_file: with a `[TRAIN]` line for each iteration.
        target: MODEL_CASE_speed.

    Raises:
        CheckFailed: an iteration is missing in the log, or a loss is not finite.
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
    name = target.name.removesuffix("_speed")
    speed = Speed(name, statistics.median(measured), len(measured), convergence_value=steps[-1][2])
    write_json(target, asdict(speed))
    log(f"{speed.ips:.4f} samples/s over {speed.steps} iterations; {target}")
