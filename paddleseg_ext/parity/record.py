"""The verdicts of the compared backends, written into the bundle that was run.

`bench` marks what failed there, and `infer.py --backend auto` does not take it.
"""

from collections.abc import Sequence
from typing import Any

from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.inference.bundle import Bundle, record_verified
from paddleseg_ext.inference.choice import found_elsewhere
from paddleseg_ext.inference.engines.open import BACKENDS, stage_name
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.parity.stages import STAGES
from paddleseg_ext.scoring.verdict import RunVerdict


def record(bundle: Bundle, outcomes: Sequence[Outcome], stale: str = "") -> None:
    """Write each backend's verdict into `Manifest.verified`, the worst of its runs; or say why not.

    Args:
        bundle: that was run.
        outcomes: of its runs; those of other commands and of what could not be opened are left out.
        stale: why the bundle is of another checkpoint; then nothing is said of backends.
    """
    stages = verdicts(bundle, outcomes)
    if not stages:
        return
    if stale or bundle.manifest is None:
        why = "another checkpoint was given" if stale else "the bundle has no Manifest"
        log(f"[PARITY] verdicts are not recorded: {why}")
        return
    try:
        record_verified(bundle, stages)
    except OSError as error:
        log(f"[PARITY] verdicts are not recorded: {bundle.deploy_file}: {error.strerror}")
        return
    log(f"[PARITY] recorded in {bundle.deploy_file}: {', '.join(stages)}")


def verdicts(bundle: Bundle, outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Stage -> what the bundle keeps of it; the speed that `tune` found stays, if it holds here."""
    earlier = bundle.manifest.verified if bundle.manifest else {}
    worst: dict[str, tuple[RunVerdict, Outcome]] = {}
    for outcome in outcomes:
        stage, verdict = STAGES.get(outcome.stage), outcome.verdict
        if stage is None or stage.runtime not in BACKENDS or stage.device != "cpu":
            continue  # what `auto` chooses from, and `tune` measures, runs on a CPU
        if verdict is None or not outcome.backend:
            continue
        name = stage_name(stage.runtime, stage.precision)
        if name not in worst or _badness(verdict) > _badness(worst[name][0]):
            worst[name] = (verdict, outcome)
    stages = {}
    for name, (verdict, outcome) in worst.items():
        kept = earlier.get(name, {})
        if found_elsewhere(kept, STAGES[outcome.stage].runtime):
            kept = {}
        stages[name] = dict(kept) | {
            "grade": verdict.grade,
            "passed": verdict.passed,
            "num_different": verdict.num_different,
            "num_images": verdict.num_images,
            "version": outcome.backend["version"],
            "cpu": cpu_name(),
        }
    return stages


def _badness(verdict: RunVerdict) -> tuple[bool, int]:
    return not verdict.passed, verdict.num_different
