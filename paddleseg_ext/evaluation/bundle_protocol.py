"""The protocol that a bundle is run by: that of its manifest, where its graph can be run so."""

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.protocols import DEFAULT_PROTOCOL, EvaluationRule

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


def by_its_rule(predictor: Predictor) -> Predictor:
    """The predictor of a bundle, run by the protocol in its manifest; see `rule_for_bundle`."""
    if predictor.bundle is None:
        return predictor
    return by_protocol(predictor, rule_for_bundle(predictor.bundle).make())
