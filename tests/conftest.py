"""What several tests need."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data beside the project; a user's clone has none, and such tests skip."""
    directory = PROJECT.parent / "shared"
    if not (directory / "golden").is_dir():
        pytest.skip("needs the reference data beside the project")
    return directory
