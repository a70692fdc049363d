"""Golden cases: our networks against numbers that the original systems' own code computed.

The meta.json of a case describes its run. Its generated checkpoint is imported like a user's:
layout, key map, folding, strict loading.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.checkpoints.store import load_arrays_into
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
from paddleseg_ext.published.stdc import classifier_generation
from paddleseg_ext.published.systems import find_generation, recognise
from paddleseg_ext.registry import BACKBONES, MODELS, build

if TYPE_CHECKING:
    from paddle import nn

# The originals' float32 lies within 1.6e-5 of their float64; the smallest mistake that was tried
# (a norm's epsilon of 1e-6 for 1e-5) makes 1.3e-4.
NETWORK_TOLERANCE = 5e-5
LEAST_AGREEMENT = 0.999

# The cases of a checkout. An installed copy has none.
CHECKOUT_CASES = Path(__file__).resolve().parents[2] / "tests" / "golden"

# `arch` of a network case -> system and generation of its checkpoint.
ARCHITECTURES = {
    "cc_v1_head": ("coincheung", "v1"),
    "cc_v2_head": ("coincheung", "v2"),
    **{
        f"cc_{name}": ("coincheung", name)
        for name in ("v1_202107", "v1_202009", "v1_202008", "v1_2019abn", "v1_2019diss")
    },
    **{f"cc_{name}": ("coincheung", name) for name in ("v2_202009", "v2_202008")},
    "faceparsing": ("face_parsing", "face_parsing"),
    **{f"torchseg_{name}": ("torchseg", name) for name in ("r18", "r18speed", "x39", "x39speed")},
    **{
        f"{depth}_{case}": ("stdc", f"{depth}_{name}")
        for depth in ("stdc813", "stdc1446")
        for case, name in (("abn", "abn"), ("bn", "bn"), ("cls", "imagenet"))
    },
    **{f"dab_p{patch}": ("dabnet", f"r18_p{patch}") for patch in (1, 2, 4, 8, 16)},
    "dab_e": ("dabnet", "e"),
    **{f"mm_v1_{name}": ("mmseg", f"bisenetv1_{name}") for name in ("r18", "r50", "r101")},
    "mm_v2": ("mmseg", "bisenetv2"),
    **{f"mm_{name}": ("mmseg", name) for name in ("stdc1", "stdc2")},
    **{f"chen_cut{n}": ("stdc", f"stdc{n}_cutnet") for n in (813, 1446)},
    "chen_del813": ("stdc", "stdc813_delnet"),
    **{f"chen_dw{n}": ("stdc", f"stdc{n}_bn") for n in (813, 1446)},
    "tf_v2": ("tf2", "v2"),
    "tf_v1_xception": ("tf2", "v1_xception"),
}
# Arguments of the originals that are options of ours, by the same name.
SHARED_ARGUMENTS = ("use_boundary_2", "use_boundary_4", "use_boundary_8")

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class CaseResult:
    """Result of one case; `largest` is its largest difference, None where nothing was compared."""

    name: str
    status: str
    largest: float | None
    note: str = ""

    def line(self) -> str:
        """The result on one line."""
        largest = "-" if self.largest is None else f"{self.largest:.2e}"
        return f"{self.status:<8} {self.name:<32} {largest:>9}  {self.note}".rstrip()


def generation_of(case: GoldenCase) -> Generation | None:
    """The checkpoint layout of a network case; None if the network is unknown here."""
    architecture = ARCHITECTURES.get(case.meta.get("arch", ""))
    return find_generation(*architecture) if architecture else None


def build_network(case: GoldenCase, generation: Generation) -> "nn.Layer":
    """The network of a case with its generated weights imported, in eval mode."""
    state = make_state_dict(case)
    generation = recognise(state, generation.system, generation.name, case.name)
    if generation.part == "backbone":  # cases of classifiers compare the class logits too
        generation = classifier_generation(generation.name.removesuffix("_imagenet"))
    network = build_for(generation, _options(case))
    imported = generation.rename(state, case.name, network.state_dict())
    load_arrays_into(network, imported.arrays, case.name)
    network.eval()
    return network


def _options(case: GoldenCase) -> dict[str, Any]:
    """Constructor options that the case's arguments give and its architecture leaves open."""
    arguments = case.meta["source"]["args"]
    names = ("n_classes", "out_planes", "num_classes", "classes")
    num_classes = next(int(arguments[name]) for name in names if name in arguments)
    shared = {key: arguments[key] for key in SHARED_ARGUMENTS if key in arguments}
    if arguments.get("use_conv_last"):
        shared["backbone"] = {"conv_last": True}
    return {"num_classes": num_classes, **shared}


def build_for(generation: Generation, options: Mapping[str, Any]) -> "nn.Layer":
    """The network that a checkpoint layout belongs to, with fresh weights."""
    spec = {**copy.deepcopy(dict(generation.model)), **options}
    if "backbone" in spec:
        backbone = {**generation.model["backbone"], **options.get("backbone", {})}
        spec["backbone"] = build(BACKBONES, backbone, "model.backbone")
    return build(MODELS, spec, "model")


def run_network(case: GoldenCase) -> CaseResult:
    """Compare every output of a network case, within `NETWORK_TOLERANCE`, and its arg-max."""
    generation = generation_of(case)
    if generation is None:
        return CaseResult(case.name, SKIPPED, None, f"unknown network '{case.meta.get('arch')}'")
    return compare_outputs(case, run_heads(build_network(case, generation), case))


def run_heads(network: "nn.Layer", case: GoldenCase) -> dict[str, np.ndarray]:
    """Every output of a network for the input of a case, by the name that the case uses."""
    import paddle
    import paddle.nn.functional as F

    with paddle.no_grad():
        outputs = network.heads(paddle.to_tensor(make_input(case)))
        if "logits" in outputs:
            outputs["log_softmax"] = F.log_softmax(outputs["logits"], axis=1)
            outputs["prob"] = F.softmax(outputs["logits"], axis=1)
    return {name: value.numpy() for name, value in outputs.items()}


def compare_outputs(case: GoldenCase, outputs: Mapping[str, np.ndarray]) -> CaseResult:
    """Compare a network's outputs, by name, with those of the case."""
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


def run_generation(generation: Generation, directory: Path | None = None) -> list[CaseResult]:
    """Run the network cases of one checkpoint layout.

    Args:
        generation: the layout.
        directory: that contains the cases; by default the checkout's.

    Raises:
        UsageError: there is no such case in the folder, or at all, or the folder must be given.
    """
    layout = f"{generation.system} {generation.name}"
    if (generation.system, generation.name) not in ARCHITECTURES.values():
        raise UsageError(
            f"--verify: no golden case exists for {layout} (README.md says how its import was "
            "checked); import without --verify"
        )
    if directory is None and not CHECKOUT_CASES.is_dir():
        raise UsageError(
            "--verify: an installed copy has no golden cases; name a folder of cases (tests/golden "
            "of a checkout) with --golden_dir"
        )
    directory = directory or CHECKOUT_CASES
    cases = [read_case(path) for path in find_cases(directory)]
    cases = [c for c in cases if c.kind == "network" and generation_of(c) == generation]
    if not cases:
        raise UsageError(
            f"--verify: '{directory}' contains no golden case of {layout}; name the folder that "
            "does with --golden_dir"
        )
    return [run_network(case) for case in cases]
