"""What all tests share: the folder of real data, which stands beside the checkout where there is one."""

from pathlib import Path

import pytest

pytest_plugins = ["postgres_fixtures"]  # a real PostgreSQL, started for the first test that asks for it

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real imagery, products and vectors; the test is skipped, and says so, where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("NOT RUN: the real data (../shared/data) is not beside this checkout")
    return SHARED_DATA
