"""The verdicts of the compared runtimes, written into the bundle (`Manifest.verified`).

`infer --backend auto` does not take a runtime that failed there, and `bench` marks it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.inference.bundle import Bundle, record_verified
from paddleseg_ext.inference.engines.table import DEPLOYED
from paddleseg_ext.inference.runtime import RuntimeSpec, known_runtimes
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.parity.checkpoint import STALE_CHECKPOINT
from paddleseg_ext.parity.classes import OTHER_CLASSES
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.scoring.verdict import RunVerdict

COMMAND, QUICK_COMMAND = "parity", "parity --quick"


def record(
    bundle: Bundle, outcomes: Sequence[Outcome], faults: Sequence[str] = (), quick: bool = False
) -> None:
    """Write each runtime's verdict into the bundle, the worst of its runs, or log why not.

    Args:
        bundle: that was run.
        outcomes: of its runs; those of other commands, and runs that did not begin, are left out.
        faults: of the bundle itself. Of another checkpoint or other classes, nothing is recorded:
            the runtimes are not to blame.
        quick: whether a few images were compared only. The record says so, and where it passed
            it does not replace one of more images.
    """
    records = verdicts(bundle, outcomes, QUICK_COMMAND if quick else COMMAND)
    for name in [name for name in records if quick and _says_less(name, records, bundle)]:
        log(f"[PARITY] {name}: the record of {bundle.verified[name].num_images} images stays")
        del records[name]
    if not records:
        return
    whys = {STALE_CHECKPOINT: "another checkpoint was given", OTHER_CLASSES: "its classes differ"}
    why = next((whys[kind] for f in faults if (kind := f.partition(":")[0]) in whys), "")
    if bundle.manifest is None:
        why = "the bundle has no Manifest"
    if why:
        log(f"[PARITY] verdicts are not recorded: {why}")
        return
    try:
        record_verified(bundle, records)
    except OSError as error:
        log(f"[PARITY] verdicts are not recorded: {bundle.deploy_file}: {error.strerror}")
        return
    log(f"[PARITY] recorded in {bundle.deploy_file}: {', '.join(records)}")


def verdicts(
    bundle: Bundle, outcomes: Sequence[Outcome], command: str = COMMAND
) -> dict[str, Verified]:
    """Runtime -> its record; it replaces an earlier one, whose speed stays where it holds here."""
    known = known_runtimes()
    records: dict[str, Verified] = {}
    for outcome in outcomes:
        name, verdict = outcome.stage, outcome.verdict
        spec = known.get(name)
        if spec is None or spec.engine not in DEPLOYED or spec.device != "cpu":
            continue  # `auto` chooses, and `tune` measures, on a CPU
        if verdict is None or outcome.report is None:
            continue
        if name in records and _badness(verdict) <= _badness(records[name]):
            continue
        earlier = bundle.verified.get(name)
        if earlier is None or earlier.foreign_version(spec.engine) or not earlier.is_of_this_cpu:
            earlier = Verified(verdict.grade, verdict.passed)  # without a speed
        records[name] = replace(
            earlier,
            **verdict.figures(),
            command=command,
            version=outcome.report.version,
            cpu=cpu_name(),
        )
    return records


def _says_less(name: str, records: Mapping[str, Verified], bundle: Bundle) -> bool:
    """Whether the bundle has a record of this release with more images, and nothing failed now."""
    found, earlier = records[name], bundle.verified.get(name)
    if earlier is None or earlier.foreign_version(RuntimeSpec.parse(name).engine):
        return False
    return found.passed and earlier.num_images > found.num_images


def _badness(found: RunVerdict | Verified) -> tuple[bool, int]:
    return not found.passed, found.num_different
