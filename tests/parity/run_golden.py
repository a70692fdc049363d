"""Run every golden case of a folder by its meta.json: `run_golden.py DIR`, for `make golden`.

One line a case with its largest difference, then the counts; status 1 if a case failed.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddleseg_ext.common.errors import CheckFailed, UsageError, run_command
from paddleseg_ext.published.golden import FAILED, PASSED, SKIPPED, CaseResult, run_network
from paddleseg_ext.published.golden_data import GoldenCase, find_cases, read_case


def load_generator(directory: Path) -> ModuleType:
    """`fixture.py`, which stands beside the cases and makes their images, labels and logits.

    Raises:
        UsageError: it is neither there nor beside the cases that the project knows.
    """
    known = Path(__file__).resolve().parents[3] / "shared" / "golden"
    for path in (folder / "fixture.py" for folder in (directory, *directory.parents[:2], known)):
        if path.exists():
            spec = importlib.util.spec_from_file_location("golden_fixture", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise UsageError(f"'{directory}' has no fixture.py, which makes the inputs of this case")


def run_evaluation(case: GoldenCase) -> CaseResult:
    """A protocol's label maps and scores."""
    from golden_evaluation import run_case

    outcome = run_case(case.directory, load_generator(case.directory.parent))
    note = f"{outcome.different_pixels} of {outcome.allowed_pixels} allowed pixels differ"
    status = PASSED if outcome.passed else FAILED
    return CaseResult(case.name, status, outcome.score_difference, note)


def run_loss(case: GoldenCase) -> CaseResult:
    """A loss and its gradient."""
    import golden_training

    return golden_training.run_loss(case, load_generator(case.directory.parent))


def run_schedule(case: GoldenCase) -> CaseResult:
    """Learning rates."""
    import golden_training

    return golden_training.run_schedule(case)


RUNNERS: dict[str, Callable[[GoldenCase], CaseResult]] = {
    "network": run_network,
    "evaluation": run_evaluation,
    "loss": run_loss,
    "schedule": run_schedule,
}


def run_case(directory: Path) -> CaseResult:
    """Run one case by its kind; one that cannot be run has failed, an unknown kind is skipped."""
    try:
        case = read_case(directory)
        if case.kind not in RUNNERS:
            return CaseResult(case.name, SKIPPED, None, f"no runner for kind '{case.kind}'")
        return RUNNERS[case.kind](case)
    except (UsageError, AssertionError, ValueError, KeyError) as error:
        return CaseResult(directory.name, FAILED, None, " ".join(str(error).split())[:200])


def main() -> None:
    """Run the folder named on the command line."""
    if len(sys.argv) != 2:
        raise UsageError("usage: run_golden.py DIR")
    results = []
    for directory in find_cases(Path(sys.argv[1]).resolve()):
        results.append(run_case(directory))
        print(results[-1].line(), flush=True)
    counts = {
        status: sum(r.status == status for r in results) for status in (PASSED, FAILED, SKIPPED)
    }
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if counts[FAILED]:
        raise CheckFailed(f"{counts[FAILED]} golden cases failed")


if __name__ == "__main__":
    run_command(main)
