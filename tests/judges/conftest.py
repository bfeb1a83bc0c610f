"""Says at the end of a run which outside judges were heard: an absent one must not go unnoticed."""

from collections import Counter, defaultdict
from pathlib import PurePath

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            path = PurePath(report.nodeid.partition("::")[0])
            if path.parent.name == "judges":
                found[path.stem.removeprefix("test_")][outcome] += 1
    for name, counts in sorted(found.items()):
        heard = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        terminalreporter.write_line(f"judge {name}: {heard.replace('skipped', 'NOT RUN')}")
