"""Runs every golden case of folders: `python -m tests.parity.run_golden DIR...`, for `make golden`.

Prints one line per case with its largest difference, then the counts. Status 1: a case failed.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from paddleseg_ext.common.errors import CheckFailed, UsageError, run_command
from paddleseg_ext.published.golden import FAILED, PASSED, SKIPPED, CaseResult, run_network
from paddleseg_ext.published.golden_data import GoldenCase, find_cases, read_case

from .golden_evaluation import run_evaluation
from .golden_parts import PARTS
from .golden_preprocess import run_preprocess
from .golden_training import run_loss, run_schedule


def run_network_or_part(case: GoldenCase) -> CaseResult:
    """Run a network, or a part of one that no yml can name."""
    return PARTS.get(case.meta.get("arch", ""), run_network)(case)


RUNNERS: dict[str, Callable[[GoldenCase], CaseResult]] = {
    "network": run_network_or_part,
    "evaluation": run_evaluation,
    "preprocess": run_preprocess,
    "loss": run_loss,
    "schedule": run_schedule,
}


def run_case(directory: Path) -> CaseResult:
    """Run one case by its kind. A damaged case fails, an unknown kind is skipped."""
    try:
        case = read_case(directory)
        if case.kind not in RUNNERS:
            return CaseResult(case.name, SKIPPED, None, f"no runner for kind '{case.kind}'")
        return RUNNERS[case.kind](case)
    except (UsageError, AssertionError, ValueError, KeyError) as error:
        return CaseResult(directory.name, FAILED, None, " ".join(str(error).split())[:200])


def main() -> None:
    """Run the folders named on the command line."""
    if len(sys.argv) < 2:
        raise UsageError("usage: python -m tests.parity.run_golden DIR...")
    counts = dict.fromkeys((PASSED, FAILED, SKIPPED), 0)
    for directory in [case for name in sys.argv[1:] for case in find_cases(Path(name).resolve())]:
        result = run_case(directory)
        counts[result.status] += 1
        print(result.line(), flush=True)
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if counts[FAILED]:
        raise CheckFailed(f"{counts[FAILED]} golden cases failed")


if __name__ == "__main__":
    run_command(main)
