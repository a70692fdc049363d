"""Negative controls: faults that the comparison must notice.

A comparison that passes everything proves nothing. So copies of the bundle get the faults of real
deployments, and run on the first images like the bundle itself: in the plainest runtime, which
allows nothing but near ties, and in each stage of bf16 or INT8 that was asked for, within its
budget.
A control is caught when its run fails, by its label maps and counts, and its cause is named. Hashes
play no part, except for a stale checkpoint in these stages: the step from one checkpoint to the
next can be smaller than their budget (`checkpoint.py`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.bundle import DEPLOY_FILE, Bundle
from paddleseg_ext.inference.engines.paddle_inference import WRONG_LEGACY_PASSES
from paddleseg_ext.inference.engines.table import ENGINES, PADDLE
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import REDUCED, RuntimeSpec, known_runtimes
from paddleseg_ext.parity.checkpoint import STALE_CHECKPOINT
from paddleseg_ext.parity.compare import Comparison, Outcome, ParityRun, compare_run, describe
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
from paddleseg_ext.parity.stages import STATIC
from paddleseg_ext.parity.weights import change_scales, change_tensors
from paddleseg_ext.scoring.verdict import FAILED, judge_counts

INT8 = "int8"
CONTROL_IMAGES = 2
# Factor of the changed weight over its tensor's largest: a flipped high bit, not a rounding.
WEIGHT_FACTOR = 100.0
# Relative change of every weight in the stale checkpoint, as by further training.
STALE_STEP = 0.1
EVERY_PASS = "paddle_onednn with every pass"
NO_CHECKPOINT = "without a checkpoint it is unknown whether the graph is of another one"
UNKNOWN_CHECKPOINT = (
    "the bundle does not say which checkpoint it is from, its tensors cannot be compared, and {} "
    "may differ by as much"
)

# Makes a faulty bundle in an empty folder, or returns why the fault cannot be made.
Fault = Callable[[Bundle, Reference, Path], Bundle | str]


@dataclass(frozen=True)
class Control:
    """One fault and whether it was noticed.

    Attributes:
        caught: whether the run failed, and its cause was named where that is possible; None where
            the control shows nothing here, `summary` says why.
        cause: the one that the comparison named; empty where none can be inferred.
        stage: that ran it; empty where only counts were compared.
    """

    name: str
    caught: bool | None
    summary: str
    cause: str = ""
    stage: str = ""

    @property
    def title(self) -> str:
        """The name for reports, with the stage where that is one with a budget."""
        spec = known_runtimes().get(self.stage)
        return f"{self.name}, {self.stage}" if spec and spec.precision in REDUCED else self.name

    def to_json(self) -> dict[str, Any]:
        """Plain values for `results.json`."""
        return {**vars(self), "title": self.title}


def run_controls(
    comparison: Comparison, asked_for: Sequence[RuntimeSpec], folder: Path
) -> list[Control]:
    """Make every fault, run it on the first images, and check that it is noticed.

    Args:
        comparison: its bundle is the sound one; it is copied.
        asked_for: the stages that are compared; those of bf16 and INT8 run the faults, too.
        folder: an empty one, for the copies.
    """
    bundle, reference = comparison.bundle, comparison.reference
    # The sound bundle's own checkpoint must not be what fails a control.
    evidence = replace(comparison.evidence, find_layer=None)
    first = replace(
        comparison, reference=reference.first(CONTROL_IMAGES), evidence=evidence, faults=()
    )
    faults: dict[str, Fault] = {
        CHANGED_WEIGHTS: change_one_weight,
        STALE_CHECKPOINT: change_every_weight,
        NO_NORMALIZE: drop_normalize,
        SWAPPED_CHANNELS: swap_channels,
    }
    plain = _plainest(bundle)
    controls = [_show(name, faults[name], plain, first, folder / "float") for name in faults]
    for stage in asked_for:
        if stage.precision in REDUCED:
            own = faults | _faults_of_weights(stage)
            controls += [_show(name, own[name], stage, first, folder / stage.name) for name in own]
    if bundle.is_legacy:
        controls.append(_keep_wrong_pass(first))
    controls.append(_shift_labels(first.reference))
    for control in controls:
        state = {True: "caught", False: "NOT CAUGHT", None: "shows nothing"}[control.caught]
        log(f"[PARITY] control '{control.title}': {state}: {control.summary}")
    return controls


def _faults_of_weights(stage: RuntimeSpec) -> dict[str, Fault]:
    """Those that change the graph that a stage runs, where it is not the bundle's own."""
    if stage.precision == INT8:
        return {CHANGED_WEIGHTS: change_one_scale, STALE_CHECKPOINT: change_every_scale}
    entry = ENGINES[stage.engine]
    if entry.runs_onnx:
        return {CHANGED_WEIGHTS: change_one_onnx_weight, STALE_CHECKPOINT: change_every_onnx_weight}
    if entry.graphs[stage.precision] != PADDLE:
        return dict.fromkeys((CHANGED_WEIGHTS, STALE_CHECKPOINT), leave_weights)
    return {}


def _show(name: str, tamper: Fault, spec: RuntimeSpec, first: Comparison, folder: Path) -> Control:
    """One fault in one stage; `folder` is made for it and removed."""
    folder.mkdir()
    try:
        faulty = tamper(first.bundle, first.reference, folder)
        if isinstance(faulty, str):
            return Control(name, None, faulty, stage=spec.name)
        shown = replace(first, bundle=faulty)
        if spec.precision in REDUCED and name == STALE_CHECKPOINT:
            checkpoint = first.evidence.checkpoint
            stale = checkpoint.why_stale(faulty) if checkpoint else ""
            if not stale:
                why = UNKNOWN_CHECKPOINT.format(spec.precision) if checkpoint else NO_CHECKPOINT
                return Control(name, None, why, stage=spec.name)
            shown = replace(shown, faults=[stale])
        return _judge(name, compare_run(ParityRun(f"control: {name}", spec), shown), shown)
    except UsageError as error:
        return Control(name, None, f"the fault cannot be made: {error}", stage=spec.name)
    finally:
        shutil.rmtree(folder)


def _plainest(bundle: Bundle) -> RuntimeSpec:
    """The plainest runtime for the bundle's kind of graph, on any Paddle."""
    if bundle.is_onnx:
        return RuntimeSpec("onnxruntime")
    return RuntimeSpec("paddle" if bundle.is_legacy else STATIC)


def _judge(name: str, outcome: Outcome, shown: Comparison) -> Control:
    """Caught: the run failed because pixels differ, not because it could not run, and by name.

    A network that predicts one class everywhere reveals few faults; that is said, not failed.
    """
    verdict, one_sided = outcome.verdict, shown.reference.one_sided()
    caught = verdict is not None and verdict.grade == FAILED and verdict.num_different > 0
    if not caught and one_sided:
        return Control(name, None, one_sided, stage=outcome.stage)
    cause, summary = outcome.divergence.cause if outcome.divergence else "", describe(outcome)
    if caught and not cause.startswith(name):
        why = "" if cause else _why_nameless(name, outcome, shown)
        caught = bool(why)
        summary += f"; {why or f'it is not called {name}'}"
    return Control(name, caught, summary, cause, outcome.stage)


def _why_nameless(name: str, outcome: Outcome, shown: Comparison) -> str:
    """Why the cause of this fault cannot be named; empty where it can."""
    if name not in (CHANGED_WEIGHTS, STALE_CHECKPOINT):
        return ""
    if shown.evidence.checkpoint is None:
        return "without a checkpoint its cause cannot be inferred"
    if shown.bundle.is_onnx or outcome.precision == INT8:
        return (
            f"its cause cannot be inferred: the tensors of {outcome.stage} are not the checkpoint's"
        )
    return ""


def _copy(bundle: Bundle, folder: Path) -> Bundle:
    """A copy of the bundle's graph and weights in a folder."""
    model = folder / bundle.model_file.name
    if bundle.params_file is None:
        import onnx

        onnx.save(onnx.load(str(bundle.model_file)), str(model))  # tensors of other files, too
        return bundle.with_onnx(model)
    shutil.copy(bundle.model_file, model)
    params = Path(shutil.copy(bundle.params_file, folder))
    return replace(bundle, model_file=model, params_file=params)


class _ChangeFirst:
    """Pushes one value of the first fitting tensor far outside its range.

    Attributes:
        done: whether there was a fitting tensor.
    """

    def __init__(self, num_dims: int | None = None):
        """
        Args:
            num_dims: of a fitting tensor; None takes any.
        """
        self.done = False
        self._num_dims = num_dims

    def __call__(self, tensor: NDArray[np.float32]) -> NDArray[np.float32] | None:
        if self.done or self._num_dims not in (None, tensor.ndim):
            return None
        largest = np.abs(tensor).max(initial=0)
        if not largest:  # nothing would change
            return None
        self.done = True
        changed = np.array(tensor, ndmin=1)
        changed.flat[0] = WEIGHT_FACTOR * min(largest, np.finfo(tensor.dtype).max / WEIGHT_FACTOR)
        return changed.reshape(tensor.shape)


def change_one_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """One weight of the file's first convolution, far outside its tensor's range."""
    copy, change = _copy(bundle, folder), _ChangeFirst(num_dims=4)
    change_tensors(copy, change)
    return copy if change.done else f"{bundle.model_file.name} has no convolution of floats"


def change_every_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """Every tensor changed a little, as in a bundle of an earlier iteration."""
    copy = _copy(bundle, folder)
    generator = np.random.default_rng(0)

    def change(tensor: NDArray[np.float32]) -> NDArray[np.float32] | None:
        if tensor.size <= 1:
            return None
        steps = generator.uniform(-STALE_STEP, STALE_STEP, tensor.shape).astype(tensor.dtype)
        return tensor * (1 + steps)

    return copy if change_tensors(copy, change) else f"{bundle.model_file.name} has no weights"


def leave_weights(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """Why the weights of a graph of another kind stay as they are."""
    return "weights are changed in Paddle's graphs and in ONNX only"


def change_one_onnx_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """As `change_one_weight`, in the ONNX graph."""
    return change_one_weight(bundle.with_onnx(bundle.onnx_file()), reference, folder)


def change_every_onnx_weight(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """Every tensor of both graphs changed a little; a checkpoint in the manifest is another one."""
    moved = change_every_weight(bundle, reference, folder)
    if isinstance(moved, str) or moved.is_onnx:
        return moved
    faulty = change_every_weight(bundle.with_onnx(bundle.onnx_file()), reference, folder)
    if isinstance(faulty, str):
        return faulty
    return _of_another_checkpoint(replace(faulty, params_file=moved.params_file))


def _of_another_checkpoint(bundle: Bundle) -> Bundle:
    """The bundle, of another checkpoint by its manifest, where that names one."""
    manifest = bundle.manifest
    if manifest is None or not manifest.checkpoint.get("sha256"):
        return bundle
    other = {**manifest.checkpoint, "path": "another checkpoint", "sha256": "0" * 64}
    return replace(bundle, manifest=replace(manifest, checkpoint=other))


def _copy_int8(bundle: Bundle, folder: Path) -> Bundle:
    """A copy of the bundle's INT8 graph in a folder."""
    shutil.copy(bundle.onnx_file(INT8), folder)
    return replace(bundle, deploy_file=folder / DEPLOY_FILE)


def change_one_scale(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """The scale of one channel of the first INT8 convolution, far outside its tensor's range."""
    faulty = _copy_int8(bundle, folder)
    change_scales(faulty.onnx_file(INT8), _ChangeFirst())
    return faulty


def change_every_scale(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """Every channel's scale changed a little; a checkpoint in the manifest is another one."""
    moved = change_every_weight(bundle, reference, folder)
    if isinstance(moved, str):
        return moved
    faulty = replace(_copy_int8(bundle, folder), params_file=moved.params_file)
    generator = np.random.default_rng(0)

    def change(scale: NDArray[np.float32]) -> NDArray[np.float32]:
        changes = generator.uniform(1 - STALE_STEP, 1 + STALE_STEP, scale.shape)
        return (scale * changes).astype(np.float32)

    change_scales(faulty.onnx_file(INT8), change)
    return _of_another_checkpoint(faulty)


def drop_normalize(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """`Normalize` removed from the transforms."""
    kept = [t for t in bundle.transforms if t.get("type") != "Normalize"]
    if len(kept) == len(bundle.transforms):
        return "the bundle has no Normalize"
    return replace(bundle, transforms=kept)


def swap_channels(bundle: Bundle, reference: Reference, folder: Path) -> Bundle | str:
    """BGR where the bundle says RGB, or the other way round."""
    if bundle.channels == 1:
        return "the bundle takes grey images"
    manifest = bundle.manifest or Manifest(network="", class_table=reference.table)
    swapped = "BGR" if bundle.color_order == "RGB" else "RGB"
    return replace(bundle, manifest=replace(manifest, color_order=swapped))


def _keep_wrong_pass(comparison: Comparison) -> Control:
    """A graph of Paddle 2.6 with the fuse pass that drops a ReLU, as Paddle runs it by default."""
    bundle, spec = comparison.bundle, RuntimeSpec("paddle_onednn")

    def open_plain() -> Predictor:
        parts = bundle.preprocess(), bundle.postprocess(), comparison.reference.table
        plain = Predictor(PlainPaddle(bundle, spec), *parts, bundle=bundle)
        return by_protocol(plain, comparison.protocol)

    outcome = compare_run(ParityRun(f"control: {WRONG_ONEDNN}", spec), comparison, open_plain)
    outcome.stage = EVERY_PASS
    if outcome.verdict and outcome.verdict.passed:
        reason = (
            f"{WRONG_LEGACY_PASSES[-1]} changes nothing in this network: it has no convolution "
            "without bias before ReLU and sigmoid"
        )
        return Control(WRONG_ONEDNN, None, reason, stage=EVERY_PASS)
    return _judge(WRONG_ONEDNN, outcome, comparison)


def _shift_labels(reference: Reference) -> Control:
    """Labels read through a table that is off by one; the predictions stay."""
    if reference.counts is None:
        return Control(SHIFTED_LABELS, None, "the images have no labels")
    table, names = reference.table, reference.table.class_names
    shifted = np.zeros_like(reference.counts)
    try:
        for number, sample in enumerate(reference.samples):
            if sample.label is not None:
                scorer = Scorer(shift_labels(table, sample.label))
                shifted += scorer.count(sample, reference.label_map(number)).pairs
    except DataError as error:
        return Control(SHIFTED_LABELS, None, f"the fault cannot be made: {error}")
    verdict = judge_counts(reference.counts, shifted, names, len(reference.samples))
    divergence = locate_counts(reference.counts, shifted)
    cause = divergence.cause if divergence else ""
    caught = verdict.grade == FAILED and cause.startswith(SHIFTED_LABELS)
    return Control(SHIFTED_LABELS, caught, verdict.summary(), cause)


def shift_labels(table: ClassTable, label: Path) -> ClassTable:
    """The table with every class of a label file read as the next one; the last is ignored."""
    if table.label_colours is not None:
        colours = table.label_colours.copy()
        colours[:, 3] = np.where(colours[:, 3] < table.num_classes, colours[:, 3] + 1, 255)
        colours[colours[:, 3] == table.num_classes, 3] = table.ignore_index
        return replace(table, label_colours=colours)
    lookup = table.lookup_for(label)
    classes = np.arange(256, dtype=np.uint8) if lookup is None else lookup.copy()
    is_class = (classes < table.num_classes) & (classes != table.ignore_index)
    classes[is_class] += 1
    classes[is_class & (classes == table.num_classes)] = table.ignore_index
    return replace(table, label_lookup=classes, lookup_suffix="", class_lookup=None)
