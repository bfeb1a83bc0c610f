"""The user's command as a child of the tests: `Eocat(home).run(…)`, and what its outputs must never hold."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLAIN = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f]*")  # text without control characters but line ends


@dataclass(frozen=True)
class Eocat:
    """`eocat` with a home folder of its own, in which there is the unencrypted key `k`."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def with_key(self) -> "Eocat":
        self.run("keys", "new", "k", "--no-passphrase")
        return self

    def start(self, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
        """It runs in a session of its own; both outputs are pipes unless `options` say otherwise."""
        command = [sys.executable, "-m", "eocat.edge", *map(str, arguments)]
        environment = {**os.environ, "EOCAT_HOME": str(self.home), **self.environment}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, env=environment, text=True, start_new_session=True, **pipes | options
        )

    def run(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        """Answer and notes of the command, which ends with `code`."""
        return ended(self.start(*arguments), code)


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    """Both outputs of a command that ends with `code`; no traceback, and nothing that moves a cursor."""
    answer, notes = process.communicate(timeout=300)
    assert process.returncode == code, notes
    assert "Traceback" not in notes
    assert PLAIN.fullmatch(answer + notes)
    return answer, notes
