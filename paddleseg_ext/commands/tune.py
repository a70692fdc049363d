r"""Find the fastest backend that gives a bundle's answer on this machine, and record it there.

Every backend that is installed and for which the bundle has a graph predicts the images of the
list, one after the other on each image, so that a busy machine is unfair to none. Its label maps
are compared with those of Paddle Inference without oneDNN, the reference: identical, near-tie, or
failed. What was found is written into the bundle's deploy.yaml (Manifest.verified), where
infer.py --backend auto looks it up. Where the list has images of several sizes, the speed counts
what each new size costs, as often as the list has one. The exit status is 1 if a backend failed.

  paddleseg-ext tune --config output/inference_model/deploy.yaml --data val.list
"""

import argparse
from collections.abc import Sequence

import numpy as np

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import cpu_name, fix_thread_count
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.trials import Trial, new_size_share, run_trials
from paddleseg_ext.images.samples import Sample, collect_samples
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.inference.bundle import Bundle, read_bundle, record_verified
from paddleseg_ext.inference.choice import is_installed
from paddleseg_ext.inference.engines.open import BACKENDS, open_backend

REFERENCE = "paddle"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "tune")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="images: a list, a folder, or one image"
    )
    parser.add_argument(
        "--num_images", type=flags.positive_int, default=8, help="so many, evenly from the list"
    )
    parser.add_argument("--cpu_threads", type=flags.positive_int, help="default: every core")
    return parser


def main(argv: list[str]) -> int | None:
    """Check what can be checked without Paddle, then try every backend."""
    arguments = build_parser().parse_args(argv)
    bundle = read_bundle(arguments.config)
    if bundle.manifest is None or bundle.is_onnx:
        raise UsageError(
            f"{bundle.deploy_file}: a bundle of export_model.py is expected: its Manifest keeps "
            "the record, and its Paddle graph is what the others are compared with"
        )
    listed = collect_samples(arguments.data)
    samples, share = evenly(listed, arguments.num_images), new_size_share(bundle, listed)
    threads = fix_thread_count(arguments.cpu_threads)
    trials = open_trials(bundle, threads)
    run_trials(trials, REFERENCE, track(samples, "tune", total=len(samples)))
    stages = {
        name: describe(name, trial, trials[REFERENCE], threads, share)
        for name, trial in trials.items()
    }
    record_verified(bundle, stages)
    failed = [name for name, stage in stages.items() if not stage["passed"]]
    log(f"recorded in {bundle.deploy_file}")
    if failed:
        raise CheckFailed(f"another answer than that of {REFERENCE}: {', '.join(failed)}")
    return None


def evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """`count` samples, spread over the list; all where there are fewer."""
    if len(samples) <= count:
        return list(samples)
    return [samples[int(i)] for i in np.linspace(0, len(samples) - 1, count).round()]


def open_trials(bundle: Bundle, threads: int) -> dict[str, Trial]:
    """The backends that can be opened, by name; the others are named in the log."""
    assert bundle.manifest is not None
    trials = {}
    for name in BACKENDS:
        if not is_installed(name):
            log(f"{name}: not installed, left out")
            continue
        try:
            backend = open_backend(bundle, name, threads=threads)
        except UsageError as error:
            log(f"{name}: left out: {error}")
            continue
        fallen = shortfall(backend.describe(), name, "fp32", threads)
        trials[name] = Trial(backend, bundle, fallen, Scorer(bundle.manifest.class_table))
    return trials


def describe(name: str, trial: Trial, reference: Trial, threads: int, share: float) -> dict:
    """What the bundle keeps of a backend; also one line of the log.

    Args:
        share: of the list's images, those that are the first of their size.
    """
    verdict = trial.verdict(reference, trial.scorer.class_table)
    ratio = trial.ratio(reference, share)
    log(
        f"{name}: {verdict.summary()}; {ratio:.2f} times as fast as {REFERENCE}, "
        f"a new input size takes {trial.new_size_s():.3f} s more"
    )
    return {
        "grade": verdict.grade,
        "passed": verdict.passed,
        "num_different": verdict.num_different,
        "num_images": verdict.num_images,
        "ratio": round(ratio, 3),
        "new_size_s": round(trial.new_size_s(), 4),
        "new_size_share": round(share, 4),
        "version": trial.backend.describe()["version"],
        "cpu": cpu_name(),
        "cpu_threads": threads,
    }
