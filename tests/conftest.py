"""Fixtures that all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=5000)
settings.load_profile("quick")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Benchmark data beside the repository; the test is skipped without it."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("benchmark data are not here")
    return path
