"""What a registration comes to, here or at a catalogue afar: one value for each folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from eocat.verify.errors import Malformed
from eocat.verify.report import PRECEDENCE

Status = Literal["registered", "already registered", "updated", "refused"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of one folder. reason: one sentence; exit_code: 0 unless refused."""

    folder: Path
    item: str | None  # collection/id, once a signed statement has named it
    status: Status
    rows: int = 0
    reason: str = ""
    exit_code: int = 0
    outcome: str | None = None  # of the verification, where that is what refused it

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "item": self.item,
            "status": self.status,
            "rows": self.rows,
            "outcome": self.outcome,
            "reason": self.reason or None,
            "exitCode": self.exit_code,
        }

    def to_text(self) -> str:
        detail = f"{self.outcome or ''} {self.reason}" if self.exit_code else f"{self.rows} rows"
        return f"{self.item or self.folder}  {self.status}  {detail.strip()}"


def read_admission(folder: Path, answer: dict[str, Any]) -> Admission:
    """What a catalogue's answer says about `folder`; Malformed if it says nothing of the kind."""
    given = {"exit_code" if name == "exitCode" else name: value for name, value in answer.items()}
    try:
        value = {**given, "folder": folder, "reason": given.get("reason") or ""}
        return TypeAdapter(Admission).validate_python(value)
    except ValidationError:
        raise Malformed("the catalogue's answer does not say what became of the item") from None


def exit_code(admissions: list[Admission]) -> int:
    """0 if all are in the catalogue, else the code of the gravest outcome."""
    codes = {admission.exit_code for admission in admissions} - {0}
    ranked = [outcome.value for outcome in PRECEDENCE if outcome.value in codes]
    return ranked[0] if ranked else max(codes, default=0)
