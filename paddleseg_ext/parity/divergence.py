"""Where a run first differs from the reference, and the likely cause.

One image is followed step by step: input tensor, logits, label map, counts. The first of them that
differs is the place; bundle and checkpoint suggest the cause.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.predictor import Predictor, Prepared
from paddleseg_ext.parity.checkpoint import CHANGED_WEIGHTS, STALE_CHECKPOINT, Checkpoint
from paddleseg_ext.parity.layer_finder import LayerFinder
from paddleseg_ext.parity.layers import Layer
from paddleseg_ext.parity.looks import worst_look
from paddleseg_ext.parity.reference import Reference, run_one
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.verdict import FAILED, GRADES, IDENTICAL, NEAR_TIE, ImageVerdict

INPUT, LOGITS, LABEL_MAP, COUNTS = "input tensor", "logits", "label map", "counts"

# Causes that can be inferred from the numbers. The negative controls have the same names.
SWAPPED_CHANNELS = "red and blue swapped"
NO_NORMALIZE = "Normalize dropped"
SHIFTED_LABELS = "label table shifted by one"
OTHER_ORIENTATION = "other orientation"
WRONG_ONEDNN = "wrong oneDNN pass or kernel"


@dataclass(frozen=True)
class Divergence:
    """The first place at which a run differs from the reference.

    Attributes:
        place: INPUT, LOGITS, LABEL_MAP or COUNTS.
        image: the sample that was followed; empty where only counts are compared.
        text: by how much, one line.
        cause: the likely one; empty where none can be inferred.
        layer: of the graph, that is to blame, where the runtime shows its layers.
    """

    place: str
    image: str
    text: str
    cause: str = ""
    layer: Layer | None = None

    def describe(self) -> str:
        """One line for logs."""
        name = f"{self.image}: " if self.image else ""
        cause = f" (looks like: {self.cause})" if self.cause else ""
        layer = f"; {self.layer.title}: {self.layer.text}" if self.layer else ""
        return f"{name}{self.text}{layer}{cause}"

    def to_json(self) -> dict[str, Any]:
        """The content for `results.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """Facts that a cause can be inferred from, read only where a run differs.

    Attributes:
        transforms: of the yml that the reference was made with.
        checkpoint: the reference's; None where there is a graph only.
        without_onednn: opens the same graph with oneDNN off; None where it was off.
        find_layer: names the layer that is to blame; None does not look for it.
    """

    transforms: Sequence[dict[str, Any]] = ()
    checkpoint: Checkpoint | None = None
    without_onednn: Callable[[], Predictor] | None = None
    find_layer: LayerFinder | None = None


def locate_input(bundle: Bundle, reference: Reference, evidence: Evidence) -> Divergence | None:
    """The first image of which a bundle makes another input tensor; None where it makes the same.

    A graph that takes bytes normalises by itself: its bytes are compared.

    Args:
        bundle: its transforms make the input of its graph.
        reference: its preprocessing makes the right one.
        evidence: for the cause.
    """
    found, wanted = bundle.preprocess(), reference.preprocess
    if found.input_dtype != wanted.input_dtype:
        wanted = wanted.before_normalize(str(found.input_dtype))
    if found.settings == wanted.settings:
        return None
    for sample in reference.samples:
        tensor, expected = (
            each(reference.image(sample.image, each.orientation))[0] for each in (found, wanted)
        )
        divergence = compare_inputs(sample.name, tensor, expected, bundle, reference, evidence)
        if divergence is not None:
            return divergence
    return None


def compare_inputs(
    image: str,
    tensor: NDArray,
    expected: NDArray,
    bundle: Bundle,
    reference: Reference,
    evidence: Evidence,
) -> Divergence | None:
    """The divergence of one image's input tensor from the reference's; None where it is equal."""
    read, wanted = bundle.preprocess().orientation, reference.preprocess.orientation
    turned = f"{OTHER_ORIENTATION}: {read} in the bundle, {wanted} in the yml"
    if expected.shape != tensor.shape:
        text = f"the input tensor is {tensor.shape} instead of {expected.shape}"
        cause = turned if read != wanted else _cause_of_input(bundle, evidence)
        return Divergence(INPUT, image, text, cause)
    difference = float(np.abs(tensor.astype(np.float64) - expected).max())
    if not difference:
        return None
    swapped = bundle.color_order != reference.preprocess.color_order
    swapped |= np.array_equal(tensor[::-1], expected)
    cause = SWAPPED_CHANNELS if swapped else _cause_of_input(bundle, evidence)
    if read != wanted and not swapped:
        cause = turned
    text = f"the input tensor differs by up to {difference:.3g}"
    return Divergence(INPUT, image, text, cause)


def locate(
    verdicts: Sequence[ImageVerdict],
    predictor: Predictor,
    bundle: Bundle,
    reference: Reference,
    evidence: Evidence,
) -> Divergence | None:
    """The divergence of the worst image.

    None where all images are identical, or the worst has no label map.

    Args:
        verdicts: of the run, per image.
        predictor: that made the run.
        bundle: that it ran.
        reference: of the comparison.
        evidence: for the cause.
    """
    number = worst_image(verdicts)
    if number is None:
        return None
    name, failed = verdicts[number].image, verdicts[number].grade == FAILED
    path = reference.samples[number].image
    pixels = reference.image(path, predictor.preprocess.orientation)
    prepared, wanted = predictor.prepare(pixels), reference.preprocess
    if prepared.tensor.dtype != wanted.input_dtype:
        wanted = wanted.before_normalize(str(prepared.tensor.dtype))
    if not isinstance(predictor, ProtocolPredictor):  # else `locate_input` compared it
        expected = wanted(reference.image(path, wanted.orientation))[0]
        found = compare_inputs(name, prepared.tensor, expected, bundle, reference, evidence)
        if found is not None:
            return found
    scores = reference.output(number)
    text = compare_outputs(_output(predictor, prepared, scores.shape), scores, failed)
    if not text:
        text = "equal input and output; the way from the output to the label map differs"
        return Divergence(LABEL_MAP, name, text)
    if not failed:
        return Divergence(LOGITS, name, f"equal input; {text}")
    cause, layer = _cause_of_logits(prepared, scores, bundle, evidence), None
    if evidence.find_layer is not None and predictor.spec is not None:
        tensor = prepared.tensor
        if isinstance(predictor, ProtocolPredictor):
            tensor = worst_look(predictor, reference.predictor.engine, prepared)
        layer = evidence.find_layer(bundle, predictor.spec, tensor)
    return Divergence(LOGITS, name, f"equal input; {text}", cause, layer)


def _output(predictor: Predictor, prepared: Prepared, expected_shape: tuple[int, ...]) -> NDArray:
    """The network's output for one image, upsampled as its bundle says where it is smaller."""
    output = run_one(predictor, prepared)
    if output.ndim == 3 and output.shape != expected_shape:
        size_hw = prepared.tensor.shape[1:]
        output = predictor.postprocess.network_scores(output[np.newaxis], size_hw)[0]
    return output


def worst_image(verdicts: Sequence[ImageVerdict]) -> int | None:
    """Number of the image with the worst grade, among these of that with most decided pixels."""
    differing = [i for i, v in enumerate(verdicts) if v.grade != IDENTICAL and v.num_different]
    if not differing:
        return None
    return max(differing, key=lambda i: (GRADES.index(verdicts[i].grade), verdicts[i].num_decided))


def compare_outputs(output: NDArray, expected: NDArray, failed: bool) -> str:
    """The difference of a network's output from the reference's, in words; empty without one.

    Args:
        output: (C, h, w) scores or (h, w) class ids of the run.
        expected: the same of the reference.
        failed: whether decided pixels differ: rounding does not explain those.
    """
    alike = output.ndim == expected.ndim
    if output.shape[-2:] != expected.shape[-2:] or (alike and output.shape != expected.shape):
        return f"the network's output is {output.shape} instead of {expected.shape}"
    if output.ndim == 2:
        ids = expected if expected.ndim == 2 else expected.argmax(axis=0)
        changed = (output != ids).mean()
        return f"the network's class ids differ at {changed:.2%} of its pixels" if changed else ""
    difference, largest = float(np.abs(output - expected).max()), float(np.abs(expected).max())
    if difference <= (NEAR_TIE * largest if failed else 0.0):
        return ""
    return f"the network's output differs by up to {difference:.3g} at a scale of {largest:.3g}"


def locate_counts(expected: IntArray, counts: IntArray) -> Divergence | None:
    """The divergence of a run from its counts alone; None where they are equal."""
    if np.array_equal(expected, counts):
        return None
    cause = ""
    if expected.shape == counts.shape and _labels_shifted(expected.sum(axis=1), counts.sum(axis=1)):
        cause = SHIFTED_LABELS
    return Divergence(COUNTS, "", "the counts differ", cause)


def _labels_shifted(expected: IntArray, found: IntArray) -> bool:
    """Whether the labelled pixels of each class are those of its neighbour.

    Predictions do not matter. The class at the end of the table is ignored or wraps around to the
    other end, so its pixels are compared last.
    """
    if np.array_equal(expected, found):
        return False
    for wanted, got in ((expected, found), (expected[::-1], found[::-1])):
        if np.array_equal(got[1:], wanted[:-1]) and got[0] in (0, wanted[-1]):
            return True
    return False


def _cause_of_input(bundle: Bundle, evidence: Evidence) -> str:
    wanted, found = (
        [str(spec.get("type")) for spec in specs]
        for specs in (evidence.transforms, bundle.transforms)
    )
    missing = [name for name in wanted if name not in found]
    if missing == ["Normalize"]:
        return NO_NORMALIZE
    if missing:
        return f"{', '.join(missing)} missing in the bundle"
    if wanted != found:
        return "other transforms in the bundle than in the yml"
    pairs = zip(bundle.transforms, evidence.transforms, strict=True)
    other = next(((ours, theirs) for ours, theirs in pairs if ours != theirs), None)
    return f"{other[0]} in the bundle, {other[1]} in the yml" if other else ""


def _cause_of_logits(
    prepared: Prepared, scores: NDArray, bundle: Bundle, evidence: Evidence
) -> str:
    """A graph that is right with oneDNN off, or weights that are not the checkpoint's.

    In this order: the first is proven by a run, and a sound export may add tensors of its own.
    """
    if evidence.without_onednn is not None:
        output = _output(evidence.without_onednn(), prepared, scores.shape)
        if not compare_outputs(output, scores, failed=True):
            return f"{WRONG_ONEDNN}: with oneDNN off the same graph gives the reference's output"
    if evidence.checkpoint is not None:
        weights = evidence.checkpoint.compare(bundle)
        if weights.num_foreign:
            name = STALE_CHECKPOINT if weights.mostly_foreign else CHANGED_WEIGHTS
            return (
                f"{name}: {weights.num_foreign} of "
                f"{weights.num_tensors} tensors of the bundle are not the checkpoint's"
            )
    return ""
