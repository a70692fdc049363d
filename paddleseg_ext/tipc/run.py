"""Runs the commands of a TIPC plan: one log and one line per command, and an exit status.

The lines of `results_python.log` are PaddleSeg's, so that its tools read them. Failures, and what
could not run because of them, are in that file, in `junit.xml` and in the exit status.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed
from paddleseg_ext.common.processes import child_process
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.parity.report import Case, parity_cases, write_junit
from paddleseg_ext.tipc.plan import ChainRun, Plan

STATUS_LOG, JUNIT = "results_python.log", "junit.xml"
INFERENCE = "inference.json"  # of infer.py
# Of a chain in which nothing could run: neither passed (0) nor failed (1).
STATUS_NOT_RUN = 3


@dataclass(frozen=True)
class Tally:
    """The outcome of a chain.

    Attributes:
        cases: every command, comparison and negative control.
        seconds: of the whole chain.
    """

    plan: Plan
    cases: tuple[Case, ...]
    seconds: float

    @property
    def failed(self) -> list[Case]:
        """The cases that failed."""
        return [case for case in self.cases if case.failure]

    @property
    def skipped(self) -> list[Case]:
        """The cases that could not run."""
        return [case for case in self.cases if case.skipped]

    @property
    def num_passed(self) -> int:
        """The number of the others."""
        return len(self.cases) - len(self.failed) - len(self.skipped)

    @property
    def state(self) -> str:
        """`passed`, `failed`, or `not run` where nothing was."""
        if self.failed:
            return "failed"
        return "passed" if self.num_passed else "not run"


def run_plan(plan: Plan) -> int:
    """Runs every command of a plan and prints the outcome.

    Returns:
        The exit status: STATUS_DONE, or STATUS_NOT_RUN where nothing could run here.

    Raises:
        CheckFailed: a command or a comparison failed; the message names the log.
    """
    tally = run_chain(plan)
    place = plan.log_dir / STATUS_LOG
    if tally.failed:
        raise CheckFailed(f"{len(tally.failed)} of {len(tally.cases)} checks; {place}")
    return STATUS_DONE if tally.state == "passed" else STATUS_NOT_RUN


def run_chain(plan: Plan) -> Tally:
    """Runs every command of a plan; writes the status log and JUnit XML to the plan's folder."""
    started = time.perf_counter()
    plan.log_dir.mkdir(parents=True, exist_ok=True)
    for name in (STATUS_LOG, JUNIT):
        (plan.log_dir / name).unlink(missing_ok=True)
    cases: list[Case] = []
    lost: dict[str, str] = {}  # run -> why there is nothing of it
    for number, run in enumerate(plan.runs, start=1):
        print(f"== {number}/{len(plan.runs)} {run.name}", flush=True)
        blocked = next((lost[name] for name in run.needs if name in lost), "")
        case = _do(run, plan, blocked)
        cases.append(case)
        if case.failure:
            lost[run.name] = f"{run.name} failed"
        elif case.skipped:
            lost[run.name] = case.skipped
        if run.verdict and run.verdict.is_file():
            cases += parity_cases(json.loads(run.verdict.read_text(encoding="utf-8")))
        elif run.runtime and not case.failure and not case.skipped:
            cases.append(_check_activity(run))
    write_junit(plan.log_dir / JUNIT, cases)
    tally = Tally(plan, tuple(cases), time.perf_counter() - started)
    _print_tally(tally)
    return tally


def _do(run: ChainRun, plan: Plan, blocked: str) -> Case:
    """Runs one command with a log, and records its outcome."""
    reason = run.reason or blocked
    log_path = plan.log_dir / f"{run.name}.log"
    # Results of an earlier run must not be taken for this one's.
    if run.results is not None:
        shutil.rmtree(run.results, ignore_errors=True)
    if run.verdict is not None:
        run.verdict.unlink(missing_ok=True)
    if reason:
        _record(plan, f"Not run - {plan.model_name} - {run.shown_command} - {reason}")
        return Case("commands", run.name, skipped=reason)
    if run.results is not None:
        run.results.mkdir(parents=True)
    started = time.perf_counter()
    status = _run_logged(run, log_path)
    seconds = time.perf_counter() - started
    done = status == STATUS_DONE
    outcome = "Run successfully with command" if done else "Run failed with command"
    _record(plan, f"{outcome} - {plan.model_name} - {run.shown_command} - {log_path}")
    failure = "" if done else f"exit status {status}, see {log_path}"
    return Case("commands", run.name, seconds, failure)


def _run_logged(run: ChainRun, log_path: Path) -> int:
    """Runs a command with its output on the terminal and in a file; returns its exit status.

    The words are passed on as they are planned. `python` among them is this process's interpreter,
    because the folder of that comes first in PATH.
    """
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    with open(log_path, "wb") as log_file:
        log_file.write(f"$ {run.shown_command}\n".encode())
        log_file.flush()
        into_pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        try:
            with child_process(
                run.command, **into_pipe, env={**os.environ, "PATH": path}
            ) as process:
                assert process.stdout is not None
                # Output is passed on as it arrives, because progress lines end in no newline.
                while chunk := os.read(process.stdout.fileno(), 1 << 16):
                    log_file.write(chunk)
                    log_file.flush()
                    sys.stdout.buffer.write(chunk)
                    sys.stdout.buffer.flush()
        except OSError as error:
            log_file.write(f"{run.command[0]}: {error.strerror}\n".encode())
            return 127
        return process.returncode


def _record(plan: Plan, line: str) -> None:
    print(line, flush=True)
    with open(plan.log_dir / STATUS_LOG, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _check_activity(run: ChainRun) -> Case:
    """Checks by its own report that a run used the runtime that was asked for."""
    assert run.results is not None and run.runtime is not None
    path = run.results / INFERENCE
    if not path.is_file():
        return Case("activity", run.name, failure=f"{path} was not written")
    result = json.loads(path.read_text(encoding="utf-8"))
    try:
        failure = run.runtime.shortfall(RuntimeReport.from_dict(result.get("backend")))
    except ValueError as error:
        failure = f"{path}: {error}"
    wanted, fullest = run.batch_size or 0, result.get("fullest_batch", 0)
    if not failure and fullest < wanted:
        failure = f"batches of {wanted} were asked for, and the fullest held {fullest}"
    return Case("activity", run.name, failure=failure)


def _print_tally(tally: Tally) -> None:
    print(
        f"== {tally.state.upper()}: {tally.num_passed} passed, {len(tally.failed)} failed, "
        f"{len(tally.skipped)} not run; {tally.plan.log_dir}"
    )
    for case in tally.failed:
        print(f"   failed: {case.name}: {case.failure}")
    for case in tally.skipped:
        print(f"   not run: {case.name}: {case.skipped}", flush=True)
