"""The speed of every runtime that returns a bundle's label maps here, recorded in the bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.budgets import read_budgets
from paddleseg_ext.evaluation.bundle_protocol import rule_for_bundle
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.evaluation.trials import REFERENCE, Judging, Trial, new_size_share, run_trials
from paddleseg_ext.evaluation.turns import Measured, advice, preferred
from paddleseg_ext.images.samples import Sample, evenly
from paddleseg_ext.inference.bundle import Bundle, record_verified
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.table import DEPLOYED, ENGINES, ONNX_INT8
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec, known_runtimes
from paddleseg_ext.inference.verified import Verified

PRECISIONS = ("fp32", "bf16", "int8")  # the last one where the bundle has a graph of it


def tune(
    bundle: Bundle, listed: Sequence[Sample], num_images: int = 12, threads: int | None = None
) -> dict[str, Verified]:
    """Compare every installed runtime with Paddle Inference, and record what was found.

    Args:
        bundle: one of `export`, with a manifest and a graph of Paddle's.
        listed: images; their sizes decide how often a new size costs its time.
        num_images: of them, evenly spread, that are predicted.
        threads: of a run; None means every core.

    Returns:
        Runtime -> its record, as in the bundle's deploy.yaml.

    Raises:
        UsageError: the bundle keeps no records.
    """
    if bundle.manifest is None or bundle.is_onnx:
        raise UsageError(
            f"{bundle.deploy_file}: a bundle of export_model.py is expected: its Manifest keeps "
            "the record, and its Paddle graph is what the others are compared with"
        )
    judging = Judging("tune", threads, read_budgets(), new_size_share(bundle, listed))
    samples = evenly(listed, num_images)
    trials = open_trials(bundle, threads)
    kept = {precision: taken_before(bundle, precision) for precision in precisions_of(trials)}
    run_trials(trials, REFERENCE, track(samples, "tune", total=len(samples)))
    records = judging.record_all(bundle, trials, trials[REFERENCE])
    measured = measured_trials(trials, records)
    for each in measured:
        log(f"{each.name}: {each.milliseconds()}, network and label map of one image")
    records |= mark_preferred(bundle, records, measured, kept)
    log(f"recorded in {bundle.deploy_file}")
    log(advice(measured, kept.get("fp32", "")))
    return records


def precisions_of(trials: Mapping[str, Trial]) -> set[str]:
    """The precisions that were asked for."""
    return {trial.predictor.spec.precision for trial in trials.values() if trial.predictor.spec}


def taken_before(bundle: Bundle, precision: str) -> str:
    """The runtime that `auto` takes by a speed recorded here; empty where none was measured."""
    known = {name: found for name, found in bundle.verified.items() if found.speed}
    if not any(known_runtimes()[name].precision == precision for name in known):
        return ""
    try:
        taken = choose_runtime(bundle, precision)[0].name
    except UsageError:  # all of them have failed
        return ""
    return taken if taken in known else ""


def measured_trials(trials: Mapping[str, Trial], records: Mapping[str, Verified]) -> list[Measured]:
    """The trials' figures, the reference first."""
    return [
        Measured(
            name,
            known_runtimes()[name].precision,
            trials[name].seconds,
            records[name].passed,
            records[name].different,
        )
        for name in sorted(trials, key=lambda name: name != REFERENCE)
    ]


def mark_preferred(
    bundle: Bundle,
    records: Mapping[str, Verified],
    measured: Sequence[Measured],
    kept: Mapping[str, str],
) -> dict[str, Verified]:
    """Record in the bundle which runtime is taken in each precision; returns the records.

    Where every image has another size, the recorded speeds decide: they count what a size costs.
    """
    marked = {}
    for precision, before in kept.items():
        of_it = [each for each in measured if each.precision == precision]
        one_size = all(not records[each.name].new_size_share for each in of_it)
        taken = preferred(of_it, before) if one_size else None
        for each in of_it:
            is_taken = None if taken is None else each is taken
            marked[each.name] = replace(records[each.name], preferred=is_taken or None)
    record_verified(bundle, marked)
    return marked


def open_trials(bundle: Bundle, threads: int | None) -> dict[str, Trial]:
    """The runtimes that can be opened, by name; the others are named in the log."""
    trials = {}
    protocol = rule_for_bundle(bundle).make()
    has_int8 = bundle.manifest is not None and ONNX_INT8 in bundle.manifest.graphs
    for name, precision in product(DEPLOYED, PRECISIONS):
        spec = RuntimeSpec(name, precision, threads=threads)
        graph = ENGINES[name].graphs.get(precision)
        if graph is None or (graph == ONNX_INT8 and not has_int8):
            continue
        if not ENGINES[name].is_installed:
            log(f"{spec.name}: not installed, left out")
            continue
        try:
            predictor = by_protocol(Predictor.of_bundle(bundle, spec), protocol)
        except UsageError as error:
            log(f"{spec.name}: left out: {error}")
            continue
        trials[spec.name] = Trial(predictor)
    return trials
