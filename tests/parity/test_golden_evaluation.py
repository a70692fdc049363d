"""The evaluation protocols against numbers made by the original evaluators."""

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


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_protocol_equals_the_original(case: str, shared_dir: Path, generator: ModuleType) -> None:
    outcome = run_case(shared_dir / "golden" / f"eval_{case}", generator)
    assert outcome.different_pixels <= outcome.allowed_pixels, outcome
    assert outcome.passed, outcome
    print(outcome)
