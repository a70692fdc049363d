"""The speed of every runtime that returns a bundle's label maps here, recorded in the bundle."""

from collections.abc import Sequence
from itertools import product

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.budgets import read_budgets
from paddleseg_ext.evaluation.trials import REFERENCE, Judging, Trial, new_size_share, run_trials
from paddleseg_ext.images.samples import Sample, evenly
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.table import DEPLOYED, ENGINES
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.verified import Verified

PRECISIONS = ("fp32", "bf16")  # those that need no graph of their own


def tune(
    bundle: Bundle, listed: Sequence[Sample], num_images: int = 8, threads: int | None = None
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
    run_trials(trials, REFERENCE, track(samples, "tune", total=len(samples)))
    records = judging.record_all(bundle, trials, trials[REFERENCE])
    log(f"recorded in {bundle.deploy_file}")
    return records


def open_trials(bundle: Bundle, threads: int | None) -> dict[str, Trial]:
    """The runtimes that can be opened, by name; the others are named in the log."""
    trials = {}
    for name, precision in product(DEPLOYED, PRECISIONS):
        spec = RuntimeSpec(name, precision, threads=threads)
        if precision not in ENGINES[name].graphs:
            continue
        if not ENGINES[name].is_installed:
            log(f"{spec.name}: not installed, left out")
            continue
        try:
            predictor = Predictor.of_bundle(bundle, spec)
        except UsageError as error:
            log(f"{spec.name}: left out: {error}")
            continue
        trials[spec.name] = Trial(predictor)
    return trials
