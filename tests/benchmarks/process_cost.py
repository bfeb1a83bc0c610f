"""What one process takes: for benchmarks that compare commands."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds of one process, wall and CPU (user and system), the most memory in MiB, and what it printed.

    Linux counts the memory of the process that started it, too, until it became another program.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    said: str


def run(command: Sequence[object]) -> Cost:
    """One process; RuntimeError with the end of what it said if it fails."""
    with tempfile.TemporaryFile("w+", errors="replace") as complaints:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began
        if process.returncode != 0:
            complaints.seek(0)
            told = (said + complaints.read())[-400:]
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {told}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)
