"""The evaluation protocols against numbers made by the original evaluators."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from .golden_evaluation import run_case

CASES = [
    "cc_msf",
    "cc_ss",
    "cc_ssc",
    "mmseg_slide",
    "mmseg_whole",
    "stdc_050",
    "torchseg_slide",
]


@pytest.fixture(scope="module")
def fixture_module(shared_dir: Path) -> ModuleType:
    path = shared_dir / "golden" / "fixture.py"
    spec = importlib.util.spec_from_file_location("golden_fixture", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_protocol_equals_the_original(
    case: str, shared_dir: Path, fixture_module: ModuleType
) -> None:
    outcome = run_case(shared_dir / "golden" / f"eval_{case}", fixture_module)
    assert outcome.different_pixels <= outcome.allowed_pixels, outcome
    assert outcome.passed, outcome
    print(outcome)
