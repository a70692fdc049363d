"""Our networks against numbers of the original systems, eager and deployed."""

from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.published.golden import (
    ARCHITECTURES,
    NETWORK_TOLERANCE,
    PASSED,
    build_network,
    compare_outputs,
    generation_of,
    run_heads,
    run_network,
)
from paddleseg_ext.published.golden_data import GoldenCase, find_cases, make_input, read_case

from .golden_parts import PARTS
from .run_golden import run_network_or_part

COMMITTED = Path(__file__).resolve().parents[1] / "golden"
CASES = find_cases(COMMITTED)

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("directory", CASES, ids=[d.name for d in CASES])
def test_network_equals_the_original(directory: Path) -> None:
    result = run_network(read_case(directory))
    assert result.status == PASSED, result.line()
    assert result.largest is not None
    assert 0 < result.largest <= NETWORK_TOLERANCE


@pytest.mark.slow
def test_every_network_case_beside_the_project(shared_dir: Path) -> None:
    directories = [*find_cases(shared_dir / "golden"), *find_cases(shared_dir / "golden_more")]
    cases = [case for case in map(read_case, directories) if case.kind == "network"]
    assert {case.meta["arch"] for case in cases} <= {*ARCHITECTURES, *PARTS}
    failed = [r.line() for r in map(run_network_or_part, cases) if r.status != PASSED]
    assert not failed


def deployed_logits(network, images: np.ndarray, directory: Path, onednn: bool) -> np.ndarray:
    """The main head through an exported graph and Paddle Inference."""
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.export.tracing import GRAPH_NAME, trace
    from paddleseg_ext.images.labels import generic_table
    from paddleseg_ext.inference.bundle import read_bundle, write_deploy_yaml
    from paddleseg_ext.inference.engines.paddle_inference import PaddleInference
    from paddleseg_ext.inference.manifest import Manifest
    from paddleseg_ext.inference.runtime import RuntimeSpec

    if not (directory / "deploy.yaml").exists():
        options = ExportOptions(directory, (-1, 3, -1, -1), "none")
        trace(network, options, directory / GRAPH_NAME)
        manifest = Manifest(type(network).__name__, generic_table(19))
        write_deploy_yaml(directory, [], list(options.input_shape), "none", manifest)
    bundle = read_bundle(directory)
    return PaddleInference(bundle, RuntimeSpec("paddle_onednn" if onednn else "paddle")).run(images)


@pytest.mark.parametrize("directory", CASES, ids=[d.name for d in CASES])
def test_deployed_network_equals_the_original(directory: Path, tmp_path: Path) -> None:
    case = read_case(directory)
    generation = generation_of(case)
    assert generation is not None
    network = build_network(case, generation)
    main = next(spec for spec in case.meta["outputs"] if spec["name"] == "logits")
    images = make_input(case)
    if main["shape"][2:] != list(images.shape[2:]):
        pytest.skip("the original's logits have another size than the image")
    only_main = {"outputs": [main], "case": case.name}
    for onednn in (False, True):
        logits = deployed_logits(network, images, tmp_path, onednn)
        result = compare_outputs(
            GoldenCase(directory, only_main, [], case.expected), {"logits": logits}
        )
        assert result.status == PASSED, f"oneDNN {onednn}: {result.line()}"


def test_a_mistake_is_seen() -> None:
    """The negative control: a norm's epsilon of 1e-6, the smallest mistake that was tried."""
    from paddle import nn

    case = read_case(CASES[-1])
    generation = generation_of(case)
    assert generation is not None
    network = build_network(case, generation)
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._epsilon = 1e-6
    assert compare_outputs(case, run_heads(network, case)).status != PASSED
