"""Fixtures of the comparisons with the original systems."""

from pathlib import Path
from types import ModuleType

import pytest

from .golden_inputs import load_generator


@pytest.fixture(scope="session")
def generator(shared_dir: Path) -> ModuleType:
    """The generator of the inputs of the golden cases beside the project."""
    return load_generator(shared_dir / "golden")
