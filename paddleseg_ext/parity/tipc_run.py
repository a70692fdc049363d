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
from pathlib import Path

from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed
from paddleseg_ext.parity.report import Case, parity_cases, write_junit
from paddleseg_ext.parity.tipc import Plan, Run

STATUS_LOG, RESULTS, JUNIT = "results_python.log", "results.json", "junit.xml"
# Without these nothing that follows can run.
ESSENTIAL = ("train", "export")


def run_plan(plan: Plan) -> None:
    """Run every command of a plan.

    Raises:
        CheckFailed: one failed, or the verdict did; it says which and where the logs are.
    """
    plan.log_dir.mkdir(parents=True, exist_ok=True)
    for name in (STATUS_LOG, RESULTS, JUNIT):
        (plan.log_dir / name).unlink(missing_ok=True)
    cases: list[Case] = []
    blocked = ""
    for number, run in enumerate(plan.runs, start=1):
        if run.kind == "train":  # another checkpoint: what blocked the last one is over
            blocked = ""
        print(f"== {number}/{len(plan.runs)} {run.name}", flush=True)
        case = _do(run, plan, blocked)
        cases.append(case)
        if case.failure and run.kind in ESSENTIAL:
            blocked = f"{run.name} failed"
        if run.kind == "parity":
            cases += _read_verdict(run)
    write_junit(plan.log_dir / JUNIT, cases)
    _conclude(plan, cases)


def _do(run: Run, plan: Plan, blocked: str) -> Case:
    """Run one command, log it, and record what came of it."""
    reason = run.reason or blocked
    log_path = plan.log_dir / f"{run.name}.log"
    if reason:
        _record(plan, f"Not run - {plan.model_name} - {run.shown_command} - {reason}")
        return Case("commands", run.name, skipped=reason)
    if run.results is not None:  # what an earlier run left there must not be taken for this one's
        shutil.rmtree(run.results, ignore_errors=True)
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


def _read_verdict(run: Run) -> list[Case]:
    folder = next(w.partition("=")[2] for w in run.command if w.startswith("--save_dir="))
    path = Path(folder) / RESULTS
    if not path.is_file():
        return []
    return parity_cases(json.loads(path.read_text(encoding="utf-8")))


def _conclude(plan: Plan, cases: list[Case]) -> None:
    failed = [case for case in cases if case.failure]
    skipped = [case for case in cases if case.skipped]
    passed = len(cases) - len(failed) - len(skipped)
    print(f"== {passed} passed, {len(failed)} failed, {len(skipped)} not run; {plan.log_dir}")
    for case in failed:
        print(f"   failed: {case.name}: {case.failure}")
    for case in skipped:
        print(f"   not run: {case.name}: {case.skipped}", flush=True)
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(cases)} checks; {plan.log_dir / STATUS_LOG}")
