"""Negative controls: the comparison is shown faults that it must notice.

A comparison that passes everything proves nothing. So a copy of the bundle is tampered with, in
the ways in which deployments go wrong, and run on the first images like any other candidate. A
control is caught when its run fails, by its label maps and counts; hashes play no part.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.log import log
from paddleseg_ext.inference.backends.base import Backend
from paddleseg_ext.inference.backends.open import open_backend
from paddleseg_ext.inference.backends.paddle_inference import WRONG_LEGACY_PASSES
from paddleseg_ext.inference.bundle import Bundle, Manifest
from paddleseg_ext.parity.compare import (
    Candidate,
    Comparison,
    Outcome,
    describe,
    run_candidate,
)
from paddleseg_ext.parity.divergence import (
    CHANGED_WEIGHTS,
    NO_NORMALIZE,
    SHIFTED_LABELS,
    STALE_CHECKPOINT,
    SWAPPED_CHANNELS,
    WRONG_ONEDNN,
    locate_counts,
)
from paddleseg_ext.parity.plain_paddle import PlainPaddle
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.stages import STAGES, STATIC, Stage
from paddleseg_ext.parity.static_graph import StaticGraph
from paddleseg_ext.parity.weights import change_tensors
from paddleseg_ext.scoring.verdict import FAILED, judge_counts

CONTROL_IMAGES = 2
# How far the changed weight lies outside its tensor: a flipped high bit, not a rounding.
WEIGHT_FACTOR = 100.0
# How far every weight of the stale checkpoint is from the given one: training moved on by this.
STALE_STEP = 0.1

# Makes a faulty bundle in an empty folder, or says why the fault cannot be made.
Fault = Callable[[Bundle, Reference, Path], Bundle | str]


@dataclass(frozen=True)
class Control:
    """One fault and whether it was noticed.

    Attributes:
        caught: None where it can show nothing here; `summary` says why.
        cause: what the comparison took it for; empty where the numbers do not tell.
    """

    name: str
    caught: bool | None
    summary: str
    cause: str = ""


def run_controls(comparison: Comparison, work: Path) -> list[Control]:
    """Make every fault, run it on the first images, and see whether it is noticed.

    Args:
        comparison: its bundle is the sound one; it is copied.
        work: an empty folder, for the copies.
    """
    bundle = comparison.bundle
    first = replace(comparison, reference=comparison.reference.first(CONTROL_IMAGES))
    faults: dict[str, Fault] = {
        CHANGED_WEIGHTS: change_one_weight,
        STALE_CHECKPOINT: change_every_weight,
        NO_NORMALIZE: drop_normalize,
        SWAPPED_CHANNELS: swap_channels,
    }
    controls = []
    stage = _stage_for(bundle)
    for number, (name, tamper) in enumerate(faults.items()):
        folder = work / str(number)
        folder.mkdir()
        faulty = tamper(bundle, comparison.reference, folder)
        if isinstance(faulty, str):
            controls.append(Control(name, None, faulty))
        else:
            candidate = Candidate(f"control: {name}", stage, _loader(faulty, stage))
            outcome = run_candidate(candidate, replace(first, bundle=faulty))
            controls.append(_judge(name, outcome, comparison.reference))
        shutil.rmtree(folder)
    if bundle.is_legacy:
        controls.append(_keep_wrong_pass(first))
    controls.append(_shift_labels(comparison.reference))
    for control in controls:
        state = {True: "caught", False: "NOT CAUGHT", None: "shows nothing"}[control.caught]
        log(f"[PARITY] control '{control.name}': {state}: {control.summary}")
    return controls


def _stage_for(bundle: Bundle) -> Stage:
    """The plainest way of running the bundle's kind of graph on any Paddle."""
    if bundle.is_onnx:
        return STAGES["onnxruntime"]
    return STAGES["paddle" if bundle.is_legacy else STATIC]


def _loader(bundle: Bundle, stage: Stage) -> Callable[[], Backend]:
    if stage.runtime == STATIC:
        return lambda: StaticGraph(bundle)
    return lambda: open_backend(bundle, stage.runtime)


def _judge(name: str, outcome: Outcome, reference: Reference) -> Control:
    """Caught: the run failed because pixels differ, not because it could not be run.

    A network that predicts one class everywhere shows few faults; that is said, not failed.
    """
    verdict = outcome.verdict
    caught = verdict is not None and verdict.grade == FAILED and verdict.num_different > 0
    if not caught and reference.one_sided():
        return Control(name, None, reference.one_sided())
    cause = outcome.divergence.cause if outcome.divergence else ""
    return Control(name, caught, describe(outcome), cause)


def _copy(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle's graph and weights in a folder of their own."""
    files = [file for file in (bundle.model_file, bundle.params_file) if file is not None]
    copies = [Path(shutil.copy(file, folder / file.name)) for file in files]
    return replace(bundle, model_file=copies[0], params_file=copies[1] if len(copies) > 1 else None)


def change_one_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """One weight of the first convolution in the file, far outside its tensor."""
    copy = _copy(bundle, folder)
    done = False

    def change(tensor: NDArray[np.float32]) -> NDArray[np.float32] | None:
        nonlocal done
        if done or tensor.ndim != 4:
            return None
        done = True
        changed = tensor.copy()
        changed.flat[0] = WEIGHT_FACTOR * np.abs(tensor).max()
        return changed

    change_tensors(copy, change)
    return copy if done else f"{bundle.model_file.name} has no float32 convolution"


def change_every_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """Every tensor a step away from the checkpoint's, as in a bundle of an earlier iteration."""
    copy = _copy(bundle, folder)
    generator = np.random.default_rng(0)

    def change(tensor: NDArray[np.float32]) -> NDArray[np.float32] | None:
        if tensor.size <= 1:
            return None
        steps = generator.uniform(-STALE_STEP, STALE_STEP, tensor.shape).astype(np.float32)
        return tensor * (1 + steps)

    change_tensors(copy, change)
    return copy


def drop_normalize(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """`Normalize` removed from the transforms."""
    kept = [t for t in bundle.transforms if t.get("type") != "Normalize"]
    if len(kept) == len(bundle.transforms):
        return "the bundle has no Normalize"
    return replace(bundle, transforms=kept)


def swap_channels(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """BGR where the bundle says RGB, or the other way round."""
    manifest = bundle.manifest or Manifest(network="", class_table=reference.table)
    swapped = "BGR" if bundle.color_order == "RGB" else "RGB"
    return replace(bundle, manifest=replace(manifest, color_order=swapped))


def _keep_wrong_pass(comparison: Comparison) -> Control:
    """A graph of Paddle 2.6 with the fuse pass that drops a ReLU, as Paddle runs it by default."""
    bundle, reference = comparison.bundle, comparison.reference
    candidate = Candidate(
        f"control: {WRONG_ONEDNN}",
        Stage("paddle_onednn with every pass", "plain"),
        lambda: PlainPaddle(bundle, enable_mkldnn=True),
        without_onednn=lambda: open_backend(bundle, "paddle"),
    )
    outcome = run_candidate(candidate, comparison)
    if outcome.verdict and outcome.verdict.passed:
        reason = (
            f"{WRONG_LEGACY_PASSES[-1]} changes nothing in this network: it has no convolution "
            "without bias before ReLU and sigmoid"
        )
        return Control(WRONG_ONEDNN, None, reason)
    return _judge(WRONG_ONEDNN, outcome, reference)


def _shift_labels(reference: Reference) -> Control:
    """Labels read through a table that is off by one, predictions as they are."""
    if reference.counts is None:
        return Control(SHIFTED_LABELS, None, "the images have no labels")
    shifted = np.roll(reference.counts, 1, axis=0)
    names, count = reference.table.class_names, len(reference.samples)
    verdict = judge_counts(reference.counts, shifted, names, count)
    divergence = locate_counts(reference.counts, shifted)
    return Control(
        SHIFTED_LABELS,
        verdict.grade == FAILED,
        verdict.summary(),
        divergence.cause if divergence else "",
    )
