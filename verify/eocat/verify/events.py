"""The events of an item after its CREATE, each a signed statement on the same rows (docs/format.md, 3).

REGISTER   registrar           a catalogue admitted the item; `log` is the origin of its log
COPY       mirror              another place holds the same files; `location` says where
UPDATE     producer, curator   the Item's metadata changed, its files did not; `projection` is the new one
SUPERSEDE  producer, curator   `successor` takes its place
OBSOLETE   producer, curator   out of date, for `reason`
WITHDRAW   producer, curator   not to be used, for `reason`; the last event there can be
ATTEST     auditor             some rows were made again from the source: `recompute` says how it came out
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from . import canonical
from .receipt import Recomputed
from .statement import (
    MAX_STATEMENT_BYTES,
    Event,
    Hex32,
    ItemPath,
    Projection,
    RootDigest,
    Statement,
    Strict,
    Text,
    validated,
)


class _Later(Event):
    @model_validator(mode="after")
    def _follows(self) -> Self:
        if self.seq == 0 or self.prev is None:
            raise ValueError(
                f"an event after the CREATE has a seq above 0 and a prev, here {self.seq}, {self.prev}"
            )
        return self


class Register(_Later):
    event: Literal["REGISTER"]
    log: Text


class Copy(_Later):
    event: Literal["COPY"]
    location: Text


class Update(_Later):
    event: Literal["UPDATE"]
    projection: Projection


class Supersede(_Later):
    event: Literal["SUPERSEDE"]
    successor: ItemPath

    @model_validator(mode="after")
    def _another(self) -> Self:
        if self.successor == self.item:
            raise ValueError("an item cannot take its own place")
        return self


class Obsolete(_Later):
    event: Literal["OBSOLETE"]
    reason: Text


class Withdraw(_Later):
    event: Literal["WITHDRAW"]
    reason: Text


class Attest(_Later):
    event: Literal["ATTEST"]
    create: Hex32  # SHA-256 of the CREATE's payload
    recompute: Recomputed


class RowsSubject(Strict):
    name: Literal["rows"]
    digest: RootDigest


Later = Annotated[
    Register | Copy | Update | Supersede | Obsolete | Withdraw | Attest, Field(discriminator="event")
]


class LaterStatement(Strict):
    """A statement about an item that exists: its only subject is the row root."""

    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[RowsSubject], Field(min_length=1, max_length=1)]
    predicateType: Literal["urn:eocat:event:v1"]  # noqa: N815
    predicate: Later

    @property
    def root(self) -> str:
        return self.subject[0].digest.sha256


AnyStatement = Statement | LaterStatement


def parse_event(payload: bytes) -> AnyStatement:
    """The statement of any event, in canonical form and strict in every field."""
    value = canonical.parse_canonical(payload, what="statement", limit_bytes=MAX_STATEMENT_BYTES)
    match value:
        case {"predicate": {"event": "CREATE"}}:
            return validated(Statement, value, what="statement")
    return validated(LaterStatement, value, what="statement")


def format_event(statement: AnyStatement) -> bytes:
    """The canonical bytes to sign; Malformed if they would not be read again."""
    payload = canonical.encode(statement.model_dump(by_alias=True))
    parse_event(payload)
    return payload
