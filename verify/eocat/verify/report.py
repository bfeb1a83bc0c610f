"""What a verification found: outcomes with their exit codes, steps, levels, and the two ways to show them.

Design of provenance, section 9. An outcome's name and code never change; where several steps failed, the
one that stands first in `PRECEDENCE` is the report's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from .statement import Statement, format_time


class Outcome(Enum):
    """Name → exit code."""

    VERIFIED = 0
    UNSIGNED = 10
    INCOMPLETE = 11
    TAMPERED = 20
    FORGED = 21
    UNTRUSTED = 22
    KEY_INVALID_AT_TIME = 23
    HISTORY_BROKEN = 24
    LOG_VIOLATION = 25
    STALE = 26
    SUPERSEDED = 30
    WITHDRAWN = 31
    LINEAGE_FAILED = 40
    RECOMPUTE_MISMATCH = 41
    RECOMPUTE_INCONCLUSIVE = 42
    MALFORMED = 50
    UNAVAILABLE = 60


PRECEDENCE = tuple(
    Outcome(code) for code in (50, 21, 20, 25, 24, 23, 22, 31, 30, 26, 40, 41, 42, 60, 11, 10, 0)
)  # fmt: skip

HIGHEST_LEVEL = 5
NOT_PROVEN = "search completeness; that upstream imagery is true beyond its own trace"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the report. `outcome` None: passed; `checked` False: not looked at, and `text` says why.

    facts: what a program may ask of the step, under names of docs/format.md, section 7.
    """

    name: str
    text: str
    outcome: Outcome | None = None
    checked: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        return "--" if not self.checked else "ok" if self.outcome is None else "FAILED"


@dataclass(frozen=True, slots=True)
class Report:
    """The result for one target. `level`: the highest level whose steps all passed, 0 if none."""

    target: str
    as_of: datetime
    required: int
    level: int
    steps: tuple[Step, ...]
    statement: Statement | None = field(
        default=None, repr=False
    )  # what was verified: use this, never parse again

    @property
    def outcome(self) -> Outcome:
        failed = {step.outcome for step in self.steps if step.outcome is not None}
        if not failed:
            return Outcome.VERIFIED if self.level >= self.required else Outcome.INCOMPLETE
        return next(outcome for outcome in PRECEDENCE if outcome in failed)

    def to_json(self) -> dict[str, Any]:
        """The same facts as the text, under stable names."""
        return {
            "target": self.target,
            "outcome": self.outcome.name,
            "exitCode": self.outcome.value,
            "level": self.level,
            "requiredLevel": self.required,
            "asOf": format_time(self.as_of.replace(microsecond=0)),
            "steps": [
                {
                    "name": step.name,
                    "result": "not-checked"
                    if not step.checked
                    else "ok"
                    if step.outcome is None
                    else "failed",
                    "outcome": step.outcome.name if step.outcome else None,
                    "text": step.text,
                    **({"facts": dict(step.facts)} if step.facts else {}),
                }
                for step in self.steps
            ],
            "notProven": NOT_PROVEN,
        }

    def to_text(self) -> str:
        level = f"  L{self.level} of {HIGHEST_LEVEL}" if self.outcome is Outcome.VERIFIED else ""
        if self.outcome is Outcome.INCOMPLETE:
            level = f"  L{self.level}, L{self.required} required"
        as_of = format_time(self.as_of.replace(microsecond=0))
        target = self.target.replace("\n", "\\n")  # a name must not write a line of its own
        lines = [f"{target}  {self.outcome.name}{level}  as of {as_of}"]
        lines += [f" {step.name:<10} {step.mark:<6} {step.text}" for step in self.steps]
        return "\n".join([*lines, f" not proven: {NOT_PROVEN}"])
