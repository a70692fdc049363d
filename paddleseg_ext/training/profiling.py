"""The time of an iteration: always by stage, with `--profile` also by operator."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.files import atomic_path, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.training.options import WARMUP_ITERS
from paddleseg_ext.training.run_folder import PROFILE, PROFILE_TRACE

STAGES = ("reader", "forward", "loss", "backward", "step")
LISTED_OPERATORS = 15
# Categories of Paddle's trace: operators of the forward pass, gradient nodes of the backward pass.
_FORWARD, _GRADIENT, _GRADIENT_NODE = "Operator", "OperatorInner", "GradNode"
# Paddle 3 has one event per gradient node, and one around it for the node and its bookkeeping.
_NODE, _AROUND_NODE = "Local_", "Global_"


class StageClock:
    """Seconds per stage of an iteration."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        # Called before a stage counts as over: a GPU still works after a call has returned.
        self.wait: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time inside the context to `stage`, one of `STAGES`."""
        started = time.perf_counter()
        yield
        self.wait()
        self._seconds[stage] += time.perf_counter() - started

    def take(self) -> dict[str, float]:
        """Seconds by stage since the last call."""
        seconds = {stage: self._seconds[stage] for stage in STAGES}
        self._seconds.clear()
        return seconds


class Profile:
    """The profile of `num_iters` iterations of a run, written when they are done.

    The run continues afterwards. Meanwhile Paddle's profiler records every operator, which itself
    takes time: shares are more reliable than seconds.
    """

    def __init__(self, num_iters: int, save_dir: Path, first: int, clock: StageClock):
        """
        Args:
            num_iters: number of measured iterations; 0 for none.
            save_dir: gets `profile.json` and `profile_trace.json`.
            first: the first iteration of the run, counted from 0.
            clock: of the run's stages.
        """
        self._begin = first + WARMUP_ITERS
        self._end = self._begin + num_iters
        self._save_dir = save_dir
        self._clock = clock
        self._stages: list[Mapping[str, float]] = []
        self._profiler: Any = None

    def before(self, iteration: int) -> None:
        """To be called before each iteration, counted from 0."""
        if iteration != self._begin or self._begin == self._end:
            return
        import paddle

        targets = [paddle.profiler.ProfilerTarget.CPU]
        if paddle.get_device().startswith("gpu"):
            targets.append(paddle.profiler.ProfilerTarget.GPU)
            self._clock.wait = paddle.device.synchronize
        # Without `on_trace_ready` Paddle writes a folder into the working directory.
        self._profiler = paddle.profiler.Profiler(targets=targets, on_trace_ready=self._write)
        self._profiler.start()

    def after(self, iteration: int, stages: Mapping[str, float]) -> None:
        """To be called after each iteration, with the seconds of its stages."""
        if self._profiler is None:
            return
        self._stages.append(stages)
        if iteration + 1 < self._end:
            self._profiler.step()
            return
        self._profiler.stop()  # calls `_write`
        self._clock.wait = lambda: None
        self._profiler = None

    def _write(self, profiler: Any) -> None:
        trace = self._save_dir / PROFILE_TRACE
        with atomic_path(trace) as temporary:
            profiler.export(str(temporary), format="json")
            events = json.loads(temporary.read_bytes())["traceEvents"]
        stages = stage_table(self._stages)
        operators = operator_table(events, len(self._stages))
        which = [self._begin + 1, self._end]
        write_json(
            self._save_dir / PROFILE,
            {"iterations": which, "stages": stages, "operators": operators},
        )
        log(f"profile of iterations {which[0]} to {which[1]}:")
        for line in table_lines(stages, operators[:LISTED_OPERATORS]):
            log(line)
        log(f"profile written to {self._save_dir / PROFILE}; {trace} opens in chrome://tracing")


def stage_table(iterations: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Median milliseconds per iteration and share of the sum, per stage."""
    medians = {stage: float(np.median([i[stage] for i in iterations])) for stage in STAGES}
    whole = sum(medians.values())
    return [
        {"name": stage, "ms": 1000.0 * seconds, "share": seconds / whole}
        for stage, seconds in medians.items()
    ]


def operator_table(events: Sequence[Mapping[str, Any]], num_iters: int) -> list[dict[str, Any]]:
    """Calls and milliseconds per iteration of each operator, the longest first.

    Args:
        events: of a trace in Chrome's form, durations in microseconds.
        num_iters: number of iterations in the trace.
    """
    micros: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in events:
        name = str(event.get("name", "")).partition("[")[0].removesuffix(" dygraph")
        category = event.get("cat")
        is_gradient = category == _GRADIENT and _GRADIENT_NODE in name
        if event.get("ph") != "X" or not (category == _FORWARD or is_gradient):
            continue
        if name.startswith(_AROUND_NODE):
            continue
        name = name.removeprefix(_NODE)
        micros[name] += event["dur"]
        calls[name] += 1
    whole = sum(micros.values())
    return [
        {
            "name": name,
            "calls": calls[name] / num_iters,
            "ms": micros[name] / 1000.0 / num_iters,
            "share": micros[name] / whole,
        }
        for name in sorted(micros, key=lambda name: -micros[name])
    ]


def table_lines(
    stages: Sequence[Mapping[str, Any]], operators: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Both tables as text."""
    lines = [f"{'stage':<34}{'':>8}{'ms/iter':>12}{'share':>9}"]
    lines += [f"{s['name']:<34}{'':>8}{s['ms']:>12.2f}{s['share']:>9.1%}" for s in stages]
    lines.append(f"{'operator':<34}{'calls':>8}{'ms/iter':>12}{'share':>9}")
    lines += [
        f"{o['name'][:33]:<34}{o['calls']:>8.0f}{o['ms']:>12.2f}{o['share']:>9.1%}"
        for o in operators
    ]
    return lines
