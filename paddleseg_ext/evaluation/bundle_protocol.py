"""The protocol that a bundle is run by: that of its manifest, where its graph can be run so."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.labels import MAX_CLASSES, generic_table
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, EvaluationRule, Protocol

# Those that show a network whole images once: a graph runs them, too.
PROTOCOLS_OF_BUNDLES = (DEFAULT_PROTOCOL, "ss", "scale_0.5", "scale_0.75", "half_resize")


def bundle_rule(bundle: Bundle) -> EvaluationRule:
    """The rule in a bundle's manifest; the plain one where it holds none."""
    found = bundle.manifest.evaluation if bundle.manifest else None
    return found or EvaluationRule()


def why_not_by_graph(rule: EvaluationRule, bundle: Bundle) -> str:
    """Why a bundle's graph is not run by a protocol, with a remedy; empty where it is."""
    protocol = rule.make()
    if protocol.is_plain:
        return ""
    looks = len(protocol.scales) * (1 + protocol.flip)
    if rule.protocol not in PROTOCOLS_OF_BUNDLES or looks > 1:
        return (
            "a bundle is run on whole images once; val.py and predict.py run the checkpoint by it"
        )
    if bundle.input_dtype == "uint8" and protocol.scales != (1.0,) and not protocol.bytes_first:
        return (
            "its graph takes bytes, and scaled pixels lie between them: export it without "
            "--fold_normalize"
        )
    if bundle.output_op != "none":
        return f"it needs logits, and the graph ends in {bundle.output_op}: export --output_op none"
    if bundle.postprocess().upsampling != "graph":
        return "it needs logits at the input's size: export with --upsample graph"
    size_hw = tuple(side or -1 for side in (bundle.input_shape or [])[2:])
    if size_hw and min(size_hw) > 0:
        height, width = size_hw
        if protocol.scaled_hw((height, width), protocol.scales[0]) != size_hw:
            return "it needs images of other sizes, and the graph's is fixed: export a free size"
    return ""


def rule_for_bundle(bundle: Bundle, asked: str | None = None) -> EvaluationRule:
    """The rule that a bundle is run by: the one asked for, else its manifest's; it is logged.

    Where the graph cannot be run by the manifest's, a warning says so and `whole` is taken.

    Args:
        bundle: to be run.
        asked: name of a protocol.

    Raises:
        UsageError: the graph cannot be run by the protocol that was asked for.
    """
    recorded = bundle_rule(bundle)
    absent = recorded.absent_class
    rule = EvaluationRule(asked, absent_class=absent) if asked else recorded
    reason = why_not_by_graph(rule, bundle)
    if reason and asked:
        raise UsageError(f"--protocol {asked}: {reason}")
    if reason:
        warn(
            f"protocol: this network was evaluated by {rule.make().describe()}, and is run by "
            f"{DEFAULT_PROTOCOL} here: {reason}"
        )
        rule = EvaluationRule(absent_class=absent)
    log(f"protocol: {rule.describe()}")
    return rule


def protocol_of(bundle: Bundle) -> Protocol:
    """The protocol that `rule_for_bundle` takes where none is asked for, without a word."""
    rule = bundle_rule(bundle)
    return EvaluationRule().make() if why_not_by_graph(rule, bundle) else rule.make()


def network_inputs(bundle: Bundle, images: Iterable[Path]) -> Iterator[NDArray]:
    """Per image what the network of a bundle sees by its protocol, (1, 3, H, W).

    Raises:
        DataError: an image that cannot be read, or that leaves nothing at the protocol's scale.
    """
    table = bundle.manifest.class_table if bundle.manifest else generic_table(MAX_CLASSES)
    engine = _InputsOnly(table.num_classes)
    parts = engine, bundle.preprocess(), bundle.postprocess(), table
    predictor = by_protocol(Predictor(*parts, bundle=bundle), protocol_of(bundle))
    for image in images:
        prepared = predictor.prepare(read_image(image, predictor.preprocess.orientation))
        predictor.run(prepared.tensor[None], [prepared.geometry])
        yield engine.last


class _InputsOnly(Engine):
    """Keeps what it is given, and returns zeros."""

    def __init__(self, num_classes: int):
        self._num_classes = num_classes
        self.last: NDArray = np.empty(0)

    def run(self, batch: NDArray) -> NDArray:
        self.last = batch
        return np.zeros((len(batch), self._num_classes, *batch.shape[2:]), np.float32)

    def describe(self) -> RuntimeReport:
        return RuntimeReport("none")


def by_its_rule(predictor: Predictor) -> Predictor:
    """The predictor of a bundle, run by the protocol in its manifest; see `rule_for_bundle`."""
    if predictor.bundle is None:
        return predictor
    return by_protocol(predictor, rule_for_bundle(predictor.bundle).make())
