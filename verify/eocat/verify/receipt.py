"""The receipt of a recomputation: which rows, by which seed, and how they came out (docs/format.md, 7.2).

`eocat verify --receipt FILE` writes it unsigned, since this room has no keys; `eocat attest` signs it as the
event ATTEST of the item's history. Whoever reads it takes the auditor's word, and can check the draw.
"""

import platform
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from . import canonical
from .draw import draw_rows, seed_of
from .errors import UsageError
from .report import Report
from .statement import Create, Hex32, ItemPath, Plain, Strict, Text, Time, format_time, validated

MAX_ROWS = 4096
MAX_RECEIPT_BYTES = 1 << 19
STEP = "recompute"

Row = Annotated[int, Field(ge=0, le=1 << 32)]
Number = Annotated[str, Field(pattern=r"^(inf|[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?)$", max_length=24)]


class Recomputed(Strict):
    """wanted: K. checkpoint: the cosigned note that gave the seed, null: the auditor's own randomness.

    limit, worst: distances (7.1). sourceDiffers, modelDiffers: the rows that came out otherwise. at: by the
    auditor's own clock.
    """

    wanted: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    seed: Hex32
    checkpoint: Annotated[str, Field(min_length=1, max_length=1 << 16)] | None
    rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)]
    encoder: Text
    space: Hex32
    precision: Literal["exact", "fp32", "fp16", "bf16"]
    limit: Number
    worst: Number
    sourceDiffers: Annotated[list[Row], Field(max_length=MAX_ROWS)]  # noqa: N815
    modelDiffers: Annotated[list[Row], Field(max_length=MAX_ROWS)]  # noqa: N815
    environment: Plain
    at: Time

    @model_validator(mode="after")
    def _rows_agree(self) -> Self:
        for rows in (self.rows, self.sourceDiffers, self.modelDiffers):
            if rows != sorted(set(rows)):
                raise ValueError("rows are not in ascending order, or one stands twice")
        if not {*self.sourceDiffers, *self.modelDiffers} <= set(self.rows):
            raise ValueError("a row differs that was not made again")
        return self

    @property
    def is_clean(self) -> bool:
        return not self.sourceDiffers and not self.modelDiffers

    def fault(self, create: Create) -> str | None:
        """Why it cannot be a recomputation of that item; None if it can."""
        if (self.encoder, self.space) != (create.encoder.name, create.space):
            return "its encoder or space is not the item's"
        if self.checkpoint is not None and seed_of(self.checkpoint, create.item).hex() != self.seed:
            return "its seed does not follow from its checkpoint"
        if self.rows != draw_rows(bytes.fromhex(self.seed), create.rows.count, self.wanted):
            return "its rows are not those that its seed draws"
        return None

    def to_text(self) -> str:
        result = "all the same" if self.is_clean else ""
        if self.sourceDiffers:
            result = f"{len(self.sourceDiffers)} of other pixels than the source's"
        elif self.modelDiffers:
            result = f"{len(self.modelDiffers)} with another vector"
        made = f"{len(self.rows)} rows made again at {self.at}"
        return f"{made}: {result}, worst {self.worst} ({self.precision})"


class Receipt(Strict):
    """create: SHA-256 of the CREATE's payload."""

    type: Literal["eocat-receipt/v1"]
    item: ItemPath
    create: Hex32
    recompute: Recomputed


def parse_receipt(data: bytes) -> Receipt:
    value = canonical.parse_canonical(data, what="receipt", limit_bytes=MAX_RECEIPT_BYTES)
    return validated(Receipt, value, what="receipt")


def build_receipt(report: Report, now: datetime) -> bytes:
    """The receipt of a report whose recomputation compared rows; UsageError where it did not."""
    step = next((step for step in report.steps if step.name == STEP), None)
    if report.statement is None or step is None or "rows" not in step.facts:
        why = step.text if step else "the item was not judged so far"
        raise UsageError(f"there is no receipt of {report.target}: {why}")
    create = report.statement.predicate
    facts = {name: fact for name, fact in step.facts.items() if name != "cause"}
    recompute: dict[str, Any] = facts | {
        "encoder": create.encoder.name,
        "space": create.space,
        "environment": _environment(),
        "at": format_time(now.replace(microsecond=0)),
    }
    payload = canonical.encode(report.statement.model_dump(by_alias=True))
    value = {
        "type": "eocat-receipt/v1",
        "item": create.item,
        "create": sha256(payload).hexdigest(),
        "recompute": recompute,
    }
    data = canonical.encode(validated(Receipt, value, what="receipt").model_dump())
    parse_receipt(data)
    return data


def _environment() -> dict[str, str]:
    return {
        "eocat": version("eocat"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
