"""A comparison's results as JSON for tools, as JUnit XML, and as a grade."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.files import write_bytes
from paddleseg_ext.evaluation import budgets as budget_files
from paddleseg_ext.parity.checkpoint import STALE_CHECKPOINT
from paddleseg_ext.parity.compare import Comparison, Outcome, describe, first_divergence
from paddleseg_ext.parity.controls import Control
from paddleseg_ext.parity.divergence import Divergence
from paddleseg_ext.scoring.confusion import ClassPixels, IntArray
from paddleseg_ext.scoring.metrics import AbsentRule, summarize
from paddleseg_ext.scoring.verdict import FAILED, NEAR_TIE, NOT_COMPARED, as_json, worst_grade

FORMAT = 2
LISTED_IMAGES = 5  # of a run, those that differ most


@dataclass(frozen=True)
class Case:
    """One test case of a JUnit report.

    Attributes:
        failure: why it failed; empty where it passed.
        skipped: why it did not run; empty where it did.
    """

    suite: str
    name: str
    seconds: float = 0.0
    failure: str = ""
    skipped: str = ""


def results(
    comparison: Comparison,
    outcomes: Sequence[Outcome],
    controls: Sequence[Control],
    source: dict[str, Any],
    absent: AbsentRule,
) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        comparison: the bundle and the reference.
        outcomes: of every run.
        controls: the negative ones, if they were asked for.
        source: config, checkpoint, bundle and list.
        absent: how a class that occurs nowhere counts in means.
    """
    reference = comparison.reference
    first = first_divergence(outcomes)
    return {
        "format": FORMAT,
        "grade": overall_grade(outcomes, controls, first_of(comparison.faults)),
        "stale": next((f for f in comparison.faults if f.startswith(STALE_CHECKPOINT)), ""),
        "faults": list(comparison.faults),
        "protocol": comparison.protocol.describe(),
        "first_divergence": {"run": first.name, **_divergence(first)} if first else None,
        "near_tie_margin": NEAR_TIE,
        "budgets": budget_files.to_json(comparison.budgets),
        "source": source,
        "num_images": len(reference.samples),
        "class_names": list(reference.table.class_names),
        "absent": absent,
        "reference": {
            "stage": reference.stage,
            "backend": reference.predictor.describe().to_dict(),
            "warning": reference.one_sided(),
            **_scores(reference.counts, absent),
        },
        "runs": [_run(outcome, comparison, absent) for outcome in outcomes],
        "negative_controls": [control.to_json() for control in controls],
    }


def first_of(faults: Sequence[str]) -> str:
    """The first one; empty where there is none."""
    return faults[0] if faults else ""


def overall_grade(outcomes: Sequence[Outcome], controls: Sequence[Control], fault: str = "") -> str:
    """The worst grade of the runs; NOT_COMPARED where none could be judged.

    A fault that was not noticed fails them all, since they prove little then. So does a fault of
    the bundle itself, such as another checkpoint.
    """
    if fault or any(control.caught is False for control in controls):
        return FAILED
    return worst_grade(outcome.verdict.grade for outcome in outcomes if outcome.verdict)


def check_outcomes(
    outcomes: Sequence[Outcome], controls: Sequence[Control], fault: str = ""
) -> None:
    """Raise an error unless every run agrees and every fault was noticed.

    Raises:
        CheckFailed: a run disagrees, none was judged, or a negative control was not noticed; one
            line names them.
    """
    if not any(outcome.verdict for outcome in outcomes):
        why = "; ".join(f"{outcome.name}: {outcome.note}" for outcome in outcomes)
        raise CheckFailed(f"nothing was compared ({why or 'no run'})")
    failed = [o.name for o in outcomes if o.verdict and not o.verdict.passed]
    if failed:
        why = f" ({fault})" if fault else ""
        raise CheckFailed(
            f"{len(failed)} of {len(outcomes)} runs disagree: {', '.join(failed)}{why}"
        )
    if fault:
        raise CheckFailed(fault)
    missed = [control.title for control in controls if control.caught is False]
    if missed:
        raise CheckFailed(
            f"negative controls not noticed: {', '.join(missed)}; with this network and these "
            "images the comparison proves little"
        )


def _run(outcome: Outcome, comparison: Comparison, absent: AbsentRule) -> dict[str, Any]:
    verdict = outcome.verdict
    shown: dict[str, Any] = {
        "name": outcome.name,
        "stage": outcome.stage,
        "precision": outcome.precision,
        "grade": verdict.grade if verdict else None,
        "summary": describe(outcome),
        "seconds": round(outcome.seconds, 3),
        "fullest_batch": outcome.fullest_batch,
        "backend": outcome.report.to_dict() if outcome.report else {},
        "divergence": outcome.divergence.to_json() if outcome.divergence else None,
        "worst_images": _worst_images(outcome),
        **_scores(outcome.counts, absent),
    }
    if verdict:
        shown["different_pixels"] = verdict.num_different
        shown["num_pixels"] = verdict.num_pixels
        shown["pixels"] = as_json(verdict.flips, comparison.reference.table.class_names)
        shown["count_differences"] = verdict.count_differences
        shown["difference"] = vars(verdict.difference) if verdict.difference else None
    return shown


def _divergence(outcome: Outcome) -> dict[str, Any]:
    if outcome.divergence:
        return outcome.divergence.to_json()
    return Divergence("", "", describe(outcome)).to_json()


def _worst_images(outcome: Outcome) -> list[dict[str, Any]]:
    differing = [v for v in outcome.images if v.num_different]
    differing.sort(key=lambda v: (-v.num_decided, -v.num_different))
    return [
        {
            "image": v.image,
            "grade": v.grade,
            "different_pixels": v.num_different,
            "decided_pixels": v.num_decided,
        }
        for v in differing[:LISTED_IMAGES]
    ]


def _scores(counts: IntArray | None, absent: AbsentRule) -> dict[str, Any]:
    if counts is None:
        return {"counts": None, "scores": None}
    return {
        "counts": ClassPixels.of(counts).to_dict(),
        "scores": summarize(counts, absent).to_dict(),
    }


def parity_cases(shown: dict[str, Any]) -> list[Case]:
    """The cases of a `results.json`."""
    cases = []
    if shown.get("grade") == NOT_COMPARED:  # all cases are skipped, which tools show as green
        cases.append(Case("parity", "verdict", failure="nothing was compared"))
    for run in shown["runs"]:
        failed = run["summary"] if run["grade"] == "failed" else ""
        skipped = run["summary"] if run["grade"] is None else ""
        cases.append(Case("parity", run["name"], run["seconds"], failed, skipped))
    for control in shown.get("negative_controls", []):
        summary = control["summary"]
        missed = f"not noticed: {summary}" if control["caught"] is False else ""
        unmade = summary if control["caught"] is None else ""
        cases.append(
            Case("negative controls", control.get("title", control["name"]), 0.0, missed, unmade)
        )
    return cases


def write_junit(path: Path, cases: Iterable[Case]) -> None:
    """Write JUnit XML, one `testsuite` per suite in order of appearance."""
    suites: dict[str, list[Case]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    root = ElementTree.Element("testsuites")
    for name, members in suites.items():
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(members)),
            failures=str(sum(bool(case.failure) for case in members)),
            skipped=str(sum(bool(case.skipped) for case in members)),
            errors="0",
            time=f"{sum(case.seconds for case in members):.3f}",
        )
        for case in members:
            element = ElementTree.SubElement(
                suite, "testcase", classname=name, name=case.name, time=f"{case.seconds:.3f}"
            )
            if case.failure:
                ElementTree.SubElement(element, "failure", message=case.failure)
            if case.skipped:
                ElementTree.SubElement(element, "skipped", message=case.skipped)
    ElementTree.indent(root)
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
