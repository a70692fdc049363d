"""Runs the commands of a TIPC plan: one log each, one line each, and a status that tells.

The lines of `results_python.log` are PaddleSeg's, so that its tools read them. What failed, and
what could not run because of it, is in that file, in `junit.xml` and in the exit status.
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
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.parity.report import Case, parity_cases, write_junit
from paddleseg_ext.tipc.plan import Plan, Run

STATUS_LOG, RESULTS, JUNIT = "results_python.log", "results.json", "junit.xml"
INFERENCE = "inference.json"  # of infer.py
# Of a chain in which nothing could run: neither passed (0) nor failed (1).
STATUS_NOT_RUN = 3


@dataclass(frozen=True)
class Tally:
    """What came of a chain.

    Attributes:
        cases: every command, comparison and negative control.
        seconds: the whole chain's.
    """

    plan: Plan
    cases: tuple[Case, ...]
    seconds: float

    @property
    def failed(self) -> list[Case]:
        """What went wrong."""
        return [case for case in self.cases if case.failure]

    @property
    def skipped(self) -> list[Case]:
        """What could not run, and why."""
        return [case for case in self.cases if case.skipped]

    @property
    def num_passed(self) -> int:
        """The rest."""
        return len(self.cases) - len(self.failed) - len(self.skipped)

    @property
    def state(self) -> str:
        """`passed`, `failed`, or `not run` where nothing was."""
        if self.failed:
            return "failed"
        return "passed" if self.num_passed else "not run"


def run_plan(plan: Plan) -> int:
    """Run every command of a plan, and say what came of it.

    Returns:
        The exit status: STATUS_DONE, or STATUS_NOT_RUN where nothing could run here.

    Raises:
        CheckFailed: one failed, or the verdict did; it says which and where the logs are.
    """
    tally = run_chain(plan)
    place = plan.log_dir / STATUS_LOG
    if tally.failed:
        raise CheckFailed(f"{len(tally.failed)} of {len(tally.cases)} checks; {place}")
    return STATUS_DONE if tally.state == "passed" else STATUS_NOT_RUN


def run_chain(plan: Plan) -> Tally:
    """Run every command of a plan; leaves its status log and JUnit XML in the plan's folder."""
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
        if run.kind == "parity":
            cases += _read_verdict(run)
        elif run.asked and not case.failure and not case.skipped:
            cases.append(_check_activity(run))
    write_junit(plan.log_dir / JUNIT, cases)
    tally = Tally(plan, tuple(cases), time.perf_counter() - started)
    _print_tally(tally)
    return tally


def _do(run: Run, plan: Plan, blocked: str) -> Case:
    """Run one command, log it, and record what came of it."""
    reason = run.reason or blocked
    log_path = plan.log_dir / f"{run.name}.log"
    if run.results is not None:  # what an earlier run left there must not be taken for this one's
        shutil.rmtree(run.results, ignore_errors=True)
    if run.kind == "parity":
        _results_of(run).unlink(missing_ok=True)
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


def _run_logged(run: Run, log_path: Path) -> int:
    """Run a command with its output both on the terminal and in a file; gives its status."""
    with open(log_path, "wb") as log_file:
        log_file.write(f"$ {run.shown_command}\n".encode())
        log_file.flush()
        try:
            process = subprocess.Popen(
                run.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            log_file.write(f"{run.command[0]}: {error.strerror}\n".encode())
            return 127
        with process:
            assert process.stdout is not None
            # Whatever has arrived is passed on at once: progress lines end in no newline.
            while chunk := os.read(process.stdout.fileno(), 1 << 16):
                log_file.write(chunk)
                log_file.flush()
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        return process.returncode


def _record(plan: Plan, line: str) -> None:
    print(line, flush=True)
    with open(plan.log_dir / STATUS_LOG, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _results_of(run: Run) -> Path:
    """Where the verdict of a comparison is."""
    folder = next(w.partition("=")[2] for w in run.command if w.startswith("--save_dir="))
    return Path(folder) / RESULTS


def _read_verdict(run: Run) -> list[Case]:
    path = _results_of(run)
    if not path.is_file():
        return []
    return parity_cases(json.loads(path.read_text(encoding="utf-8")))


def _check_activity(run: Run) -> Case:
    """Whether the run's backend is the one asked for, as its runtime tells: no silent fallback."""
    assert run.results is not None and run.asked is not None
    path = run.results / INFERENCE
    if not path.is_file():
        return Case("activity", run.name, failure=f"{path} was not written")
    result = json.loads(path.read_text(encoding="utf-8"))
    asked, fullest = run.asked, result.get("fullest_batch", 0)
    lacking = shortfall(
        result.get("backend") or {},
        asked.backend,
        asked.precision,
        asked.threads,
        asked.device,
        asked.use_trt,
    )
    if not lacking and asked.batch_size is not None and fullest < asked.batch_size:
        lacking = f"batches of {asked.batch_size} were asked for, and the fullest held {fullest}"
    return Case("activity", run.name, failure=lacking)


def _print_tally(tally: Tally) -> None:
    print(
        f"== {tally.state.upper()}: {tally.num_passed} passed, {len(tally.failed)} failed, "
        f"{len(tally.skipped)} not run; {tally.plan.log_dir}"
    )
    for case in tally.failed:
        print(f"   failed: {case.name}: {case.failure}")
    for case in tally.skipped:
        print(f"   not run: {case.name}: {case.skipped}", flush=True)
