"""Negative controls: the comparison is shown faults that it must notice.

A comparison that passes everything proves nothing. So a copy of the bundle is tampered with, in
the ways in which deployments go wrong, and run on the first images like any other candidate: in
the plainest way of running it, which allows nothing but near ties, and in each INT8 stage that was
asked for, within its budget. A control is caught when its run fails, by its label maps and counts,
and is called by its name. Hashes play no part, but for a stale checkpoint in INT8: the step from
one checkpoint to the next can be smaller than what INT8 may differ by (`checkpoint.py`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.bundle import DEPLOY_FILE, Bundle, Manifest
from paddleseg_ext.inference.engines.paddle_inference import WRONG_LEGACY_PASSES
from paddleseg_ext.inference.pipeline import Prediction
from paddleseg_ext.parity.checkpoint import STALE_CHECKPOINT
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
    SWAPPED_CHANNELS,
    WRONG_ONEDNN,
    locate_counts,
)
from paddleseg_ext.parity.plain_paddle import PlainPaddle
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.stages import STAGES, STATIC, Stage
from paddleseg_ext.parity.static_graph import open_stage
from paddleseg_ext.parity.weights import change_scales, change_tensors
from paddleseg_ext.scoring.verdict import FAILED, judge_counts

INT8 = "int8"
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
        caught: whether the run failed, and the fault was called by its name where that can be
            told; None where it can show nothing here, `summary` says why.
        cause: what the comparison took it for; empty where the numbers do not tell.
        stage: that ran it; empty where only counts were compared.
    """

    name: str
    caught: bool | None
    summary: str
    cause: str = ""
    stage: str = ""

    @property
    def title(self) -> str:
        """For reports; a fault that is shown to INT8, too, is another control there."""
        is_int8 = self.stage in STAGES and STAGES[self.stage].precision == INT8
        return f"{self.name}, {self.stage}" if is_int8 else self.name

    def to_json(self) -> dict[str, Any]:
        """Plain values for `results.json`."""
        return {**vars(self), "title": self.title}


def run_controls(comparison: Comparison, asked_for: Sequence[Stage], folder: Path) -> list[Control]:
    """Make every fault, run it on the first images, and see whether it is noticed.

    Args:
        comparison: its bundle is the sound one; it is copied.
        asked_for: the stages that are compared; those of INT8 are shown the faults, too.
        folder: an empty one, for the copies.
    """
    bundle, reference = comparison.bundle, comparison.reference
    # The sound bundle's own checkpoint must not be what fails a control.
    first = replace(comparison, reference=reference.first(CONTROL_IMAGES), stale="")
    faults: dict[str, Fault] = {
        CHANGED_WEIGHTS: change_one_weight,
        STALE_CHECKPOINT: change_every_weight,
        NO_NORMALIZE: drop_normalize,
        SWAPPED_CHANNELS: swap_channels,
    }
    in_int8 = faults | {CHANGED_WEIGHTS: change_one_scale, STALE_CHECKPOINT: change_every_scale}
    plain = _stage_for(bundle)
    controls = [_show(name, faults[name], plain, first, folder / "float") for name in faults]
    for stage in asked_for:
        if stage.precision == INT8:
            controls += [
                _show(name, in_int8[name], stage, first, folder / stage.name) for name in in_int8
            ]
    if bundle.is_legacy:
        controls.append(_keep_wrong_pass(first))
    controls.append(_shift_labels(first.reference))
    for control in controls:
        state = {True: "caught", False: "NOT CAUGHT", None: "shows nothing"}[control.caught]
        log(f"[PARITY] control '{control.title}': {state}: {control.summary}")
    return controls


def _show(name: str, tamper: Fault, stage: Stage, first: Comparison, folder: Path) -> Control:
    """One fault in one stage; `folder` is made for it and goes."""
    folder.mkdir()
    try:
        faulty = tamper(first.bundle, first.reference, folder)
        if isinstance(faulty, str):
            return Control(name, None, faulty, stage=stage.name)
        shown = replace(first, bundle=faulty)
        if stage.precision == INT8 and name == STALE_CHECKPOINT:
            checkpoint = first.evidence.checkpoint
            if checkpoint is None:
                why = "without a checkpoint nobody can tell that an INT8 graph is of another one"
                return Control(name, None, why, stage=stage.name)
            shown = replace(shown, stale=checkpoint.why_stale(faulty))
            if not shown.stale:
                why = (
                    "the bundle does not say which checkpoint it is from, its tensors cannot be "
                    "compared, and INT8 may differ by as much"
                )
                return Control(name, None, why, stage=stage.name)
        candidate = Candidate(f"control: {name}", stage, partial(open_stage, faulty, stage))
        return _judge(name, run_candidate(candidate, shown), shown, stage)
    except UsageError as error:
        return Control(name, None, f"the fault cannot be made: {error}", stage=stage.name)
    finally:
        shutil.rmtree(folder)


def _stage_for(bundle: Bundle) -> Stage:
    """The plainest way of running the bundle's kind of graph on any Paddle."""
    if bundle.is_onnx:
        return STAGES["onnxruntime"]
    return STAGES["paddle" if bundle.is_legacy else STATIC]


def _judge(name: str, outcome: Outcome, shown: Comparison, stage: Stage) -> Control:
    """Caught: the run failed because pixels differ, not because it could not be run, and by name.

    A network that predicts one class everywhere shows few faults; that is said, not failed.
    """
    verdict, one_sided = outcome.verdict, shown.reference.one_sided()
    caught = verdict is not None and verdict.grade == FAILED and verdict.num_different > 0
    if not caught and one_sided:
        return Control(name, None, one_sided, stage=stage.name)
    cause, summary = outcome.divergence.cause if outcome.divergence else "", describe(outcome)
    if caught and not cause.startswith(name):
        why = "" if cause else _why_nameless(name, shown, stage)
        caught = bool(why)
        summary += f"; {why or f'it is not called {name}'}"
    return Control(name, caught, summary, cause, stage.name)


def _why_nameless(name: str, shown: Comparison, stage: Stage) -> str:
    """Why this fault cannot be told from others of its kind; empty where it can."""
    if name not in (CHANGED_WEIGHTS, STALE_CHECKPOINT):
        return ""
    if shown.evidence.checkpoint is None:
        return "without a checkpoint its cause cannot be told"
    if shown.bundle.is_onnx or stage.precision == INT8:
        return f"its cause cannot be told: the tensors of {stage.name} are not the checkpoint's"
    return ""


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


def change_every_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle:
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


def _copy_int8(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with its INT8 graph in a folder of its own."""
    shutil.copy(bundle.onnx_file(INT8), folder)
    return replace(bundle, deploy_file=folder / DEPLOY_FILE)


def change_one_scale(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """The scale of one channel of the first INT8 convolution, far outside its tensor."""
    faulty = _copy_int8(bundle, folder)
    done = False

    def change(scale: NDArray[np.float32]) -> NDArray[np.float32] | None:
        nonlocal done
        if done:
            return None
        done = True
        changed = np.array(scale, ndmin=1)
        changed.flat[0] = WEIGHT_FACTOR * np.abs(scale).max()
        return changed.reshape(scale.shape)

    change_scales(faulty.onnx_file(INT8), change)
    return faulty


def change_every_scale(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """Every channel a step away, in a bundle whose manifest names another checkpoint, if any."""
    moved = change_every_weight(bundle, reference, folder)
    faulty = replace(_copy_int8(bundle, folder), params_file=moved.params_file)
    generator = np.random.default_rng(0)

    def change(scale: NDArray[np.float32]) -> NDArray[np.float32]:
        return scale * generator.uniform(1 - STALE_STEP, 1 + STALE_STEP, scale.shape)

    change_scales(faulty.onnx_file(INT8), change)
    manifest = bundle.manifest
    if manifest is None or not manifest.checkpoint.get("sha256"):
        return faulty
    other = {**manifest.checkpoint, "path": "another checkpoint", "sha256": "0" * 64}
    return replace(faulty, manifest=replace(manifest, checkpoint=other))


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
    bundle, stage = comparison.bundle, Stage("paddle_onednn with every pass", "plain")
    candidate = Candidate(
        f"control: {WRONG_ONEDNN}",
        stage,
        lambda: PlainPaddle(bundle, enable_mkldnn=True),
        without_onednn=partial(open_stage, bundle, STAGES["paddle"]),
    )
    outcome = run_candidate(candidate, comparison)
    if outcome.verdict and outcome.verdict.passed:
        reason = (
            f"{WRONG_LEGACY_PASSES[-1]} changes nothing in this network: it has no convolution "
            "without bias before ReLU and sigmoid"
        )
        return Control(WRONG_ONEDNN, None, reason, stage=stage.name)
    return _judge(WRONG_ONEDNN, outcome, comparison, stage)


def _shift_labels(reference: Reference) -> Control:
    """Labels read through a table that is off by one, predictions as they are."""
    if reference.counts is None:
        return Control(SHIFTED_LABELS, None, "the images have no labels")
    table, names = reference.table, reference.table.class_names
    shifted = np.zeros_like(reference.counts)
    try:
        for number, sample in enumerate(reference.samples):
            if sample.label is not None:
                scorer = Scorer(shift_labels(table, sample.label))
                scorer.add(Prediction(sample, reference.label_map(number)))
                shifted += scorer.result().counts
    except DataError as error:
        return Control(SHIFTED_LABELS, None, f"the fault cannot be made: {error}")
    verdict = judge_counts(reference.counts, shifted, names, len(reference.samples))
    divergence = locate_counts(reference.counts, shifted)
    cause = divergence.cause if divergence else ""
    caught = verdict.grade == FAILED and cause.startswith(SHIFTED_LABELS)
    return Control(SHIFTED_LABELS, caught, verdict.summary(), cause)


def shift_labels(table: ClassTable, label: Path) -> ClassTable:
    """The table with every class of a label file read as the next one; the last is ignored."""
    lookup = table.lookup_for(label)
    classes = np.arange(256, dtype=np.uint8) if lookup is None else lookup.copy()
    is_class = (classes < table.num_classes) & (classes != table.ignore_index)
    classes[is_class] += 1
    classes[is_class & (classes == table.num_classes)] = table.ignore_index
    return replace(table, label_lookup=classes, lookup_suffix="")
