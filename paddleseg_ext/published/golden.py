"""Golden cases: our networks against numbers that the original systems' own code computed.

A case is run by its meta.json alone. Its generated checkpoint goes the way a user's goes: layout,
key map, folding, strict loading.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.published.generation import Generation
from paddleseg_ext.published.golden_data import (
    GoldenCase,
    find_cases,
    make_input,
    make_state_dict,
    read_case,
    stored_part,
)
from paddleseg_ext.published.mapping import rename
from paddleseg_ext.published.stdc import classifier_generation
from paddleseg_ext.published.systems import find_generation, recognise

if TYPE_CHECKING:
    from paddle import nn

# The originals' float32 lies within 1.6e-5 of their float64; the smallest mistake that was tried
# (a norm's epsilon of 1e-6 for 1e-5) makes 1.3e-4.
NETWORK_TOLERANCE = 5e-5
LEAST_AGREEMENT = 0.999

# `arch` of a network case -> system and generation of its checkpoint.
ARCHITECTURES = {
    "cc_v1_head": ("coincheung", "v1"),
    "cc_v1_202107": ("coincheung", "v1_202107"),
    "cc_v1_202009": ("coincheung", "v1_202009"),
    "cc_v1_202008": ("coincheung", "v1_202008"),
    "cc_v1_2019abn": ("coincheung", "v1_2019abn"),
    "cc_v1_2019diss": ("coincheung", "v1_2019diss"),
    "faceparsing": ("face_parsing", "face_parsing"),
    "torchseg_r18": ("torchseg", "r18"),
    "torchseg_r18speed": ("torchseg", "r18speed"),
    "torchseg_x39": ("torchseg", "x39"),
    "torchseg_x39speed": ("torchseg", "x39speed"),
    "cc_v2_head": ("coincheung", "v2"),
    "cc_v2_202009": ("coincheung", "v2_202009"),
    "cc_v2_202008": ("coincheung", "v2_202008"),
    "stdc813_abn": ("stdc", "stdc813_abn"),
    "stdc813_bn": ("stdc", "stdc813_bn"),
    "stdc813_cls": ("stdc", "stdc813_imagenet"),
    "stdc1446_abn": ("stdc", "stdc1446_abn"),
    "stdc1446_bn": ("stdc", "stdc1446_bn"),
    "stdc1446_cls": ("stdc", "stdc1446_imagenet"),
    "dab_p1": ("dabnet", "r18_p1"),
    "dab_p2": ("dabnet", "r18_p2"),
    "dab_p4": ("dabnet", "r18_p4"),
    "dab_p8": ("dabnet", "r18_p8"),
    "dab_p16": ("dabnet", "r18_p16"),
    "dab_e": ("dabnet", "e"),
}
# Arguments of the originals that are options of ours, by the same name.
SHARED_ARGUMENTS = ("use_boundary_2", "use_boundary_4", "use_boundary_8")

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class CaseResult:
    """What a case came to. `largest` is its largest difference, None where nothing was compared."""

    name: str
    status: str
    largest: float | None
    note: str = ""

    def line(self) -> str:
        """The case on one line."""
        largest = "-" if self.largest is None else f"{self.largest:.2e}"
        return f"{self.status:<8} {self.name:<32} {largest:>9}  {self.note}".rstrip()


def generation_of(case: GoldenCase) -> Generation | None:
    """The checkpoint layout of a network case; None where the network is not known here."""
    architecture = ARCHITECTURES.get(case.meta.get("arch", ""))
    return find_generation(*architecture) if architecture else None


def build_network(case: GoldenCase, generation: Generation) -> "nn.Layer":
    """The network of a case with its generated weights, through the importer, in eval mode."""
    from paddleseg_ext.checkpoints.store import load_arrays_into

    state = make_state_dict(case)
    generation = recognise(state, generation.system, generation.name, case.name)
    if generation.part == "backbone":  # cases of classifiers compare the class logits too
        generation = classifier_generation(generation.name.removesuffix("_imagenet"))
    network = build_for(generation, _options(case))
    imported = rename(state, generation.rules, case.name, wanted=network.state_dict())
    load_arrays_into(network, imported.arrays, case.name)
    network.eval()
    return network


def _options(case: GoldenCase) -> dict[str, Any]:
    """Constructor options that a case's arguments state and its architecture leaves open."""
    arguments = case.meta["source"]["args"]
    class_counts = [
        arguments[k] for k in ("n_classes", "out_planes", "num_classes") if k in arguments
    ]
    shared = {key: arguments[key] for key in SHARED_ARGUMENTS if key in arguments}
    if arguments.get("use_conv_last"):
        shared["backbone"] = {"conv_last": True}
    return {"num_classes": int(class_counts[0]), **shared}


def build_for(generation: Generation, options: Mapping[str, Any]) -> "nn.Layer":
    """The network that a checkpoint layout belongs to, with fresh weights."""
    from paddleseg_ext.registry import BACKBONES, MODELS, build

    spec = {**copy.deepcopy(dict(generation.model)), **options}
    if "backbone" in spec:
        backbone = {**generation.model["backbone"], **options.get("backbone", {})}
        spec["backbone"] = build(BACKBONES, backbone, "model.backbone")
    return build(MODELS, spec, "model")


def run_network(case: GoldenCase) -> CaseResult:
    """Every output of a network case within `NETWORK_TOLERANCE`, its arg-max in agreement."""
    import paddle
    import paddle.nn.functional as F

    generation = generation_of(case)
    if generation is None:
        return CaseResult(case.name, SKIPPED, None, f"unknown network '{case.meta.get('arch')}'")
    network = build_network(case, generation)
    with paddle.no_grad():
        outputs = network.heads(paddle.to_tensor(make_input(case)))
        if "logits" in outputs:
            outputs["log_softmax"] = F.log_softmax(outputs["logits"], axis=1)
    return compare_outputs(case, {name: value.numpy() for name, value in outputs.items()})


def compare_outputs(case: GoldenCase, outputs: Mapping[str, np.ndarray]) -> CaseResult:
    """A network's outputs by name against the case's."""
    worst, problems = 0.0, []
    for spec in case.meta["outputs"]:
        name = spec["name"]
        if name not in outputs:
            problems.append(f"{name} is missing")
        elif list(outputs[name].shape) != spec["shape"]:
            problems.append(f"{name} is {list(outputs[name].shape)} instead of {spec['shape']}")
        else:
            difference = np.abs(stored_part(outputs[name]) - case.expected[name]).max()
            worst = max(worst, float(difference))
            if not difference <= NETWORK_TOLERANCE:
                problems.append(f"{name} differs by {difference:.2e}")
    note = ""
    if "argmax" in case.expected and not problems:
        agreement = float(np.mean(outputs["logits"].argmax(axis=1) == case.expected["argmax"]))
        note = f"arg-max agreement {agreement:.4%}"
        if agreement < LEAST_AGREEMENT:
            problems.append(note)
    return CaseResult(case.name, FAILED if problems else PASSED, worst, "; ".join(problems) or note)


def run_generation(directory: Path, generation: Generation) -> list[CaseResult]:
    """The network cases under `directory` that belong to one checkpoint layout.

    Raises:
        UsageError: there is none, here or at all.
    """
    if (generation.system, generation.name) not in ARCHITECTURES.values():
        raise UsageError(
            f"--verify: no golden case exists for {generation.system} {generation.name} (README.md "
            "says how its import was checked); import without --verify"
        )
    results = []
    for path in find_cases(directory):
        case = read_case(path)
        if case.kind == "network" and generation_of(case) == generation:
            results.append(run_network(case))
    if not results:
        raise UsageError(
            f"--verify: '{directory}' holds no golden case of {generation.system} "
            f"{generation.name}; give the folder that does with --golden_dir"
        )
    return results
