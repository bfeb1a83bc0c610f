"""What all tests share: the real data, where it stands beside the checkout, and who judged from outside."""

from collections import Counter, defaultdict
from pathlib import Path, PurePath

import pytest

pytest_plugins = ["postgres_fixtures"]  # a real PostgreSQL, started for the first test that asks for it

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real imagery, products and vectors; the test is skipped, and says so, where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("NOT RUN: the real data (../shared/data) is not beside this checkout")
    return SHARED_DATA


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which outside judges were heard: an absent one must not go unnoticed."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            path = PurePath(report.nodeid.partition("::")[0])
            if path.parent.name == "judges":
                found[path.stem.removeprefix("test_")][outcome] += 1
    for name, counts in sorted(found.items()):
        heard = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        terminalreporter.write_line(f"judge {name}: {heard.replace('skipped', 'NOT RUN')}")
