"""An item's signed history: what the catalogue holds, and what a folder's envelopes add to it.

Events only ever follow the stored ones. A folder may hold fewer (it is older) or more (they are admitted, if
they are in order and signed by keys that the operator's policy allows); anything else is a fork and refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from eocat.verify.authenticity import check_signatures
from eocat.verify.dsse import parse_envelope
from eocat.verify.events import AnyStatement, LaterStatement, parse_event
from eocat.verify.history import ROLES, BrokenHistory, History, replay
from eocat.verify.policy import Policy
from eocat.verify.report import Step
from eocat.verify.statement import PREDICATE_TYPE, ROWS, STATEMENT_TYPE, format_time, validated

from .keyring import Keyring
from .log_store import append_pending
from .partitions import Connection


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """An event with the very bytes that were signed. payload: their SHA-256 in hex."""

    envelope: bytes
    payload: str
    statement: AnyStatement

    @property
    def seq(self) -> int:
        return self.statement.predicate.seq

    @property
    def name(self) -> str:
        return self.statement.predicate.event


def read_event(envelope: bytes) -> SignedEvent:
    """The event in an envelope; Malformed if there is none. Who signed it is not looked at."""
    parsed = parse_envelope(envelope)
    return SignedEvent(envelope, parsed.payload_digest, parse_event(parsed.payload))


def stored_events(connection: Connection, collection: str, item: str) -> list[SignedEvent]:
    """The history that the catalogue holds, in order; empty for an item that it never admitted."""
    rows = connection.execute(
        "SELECT envelope FROM eocat.event WHERE collection = %s AND item_id = %s ORDER BY seq",
        [collection, item],
    )
    return [read_event(bytes(row[0])) for row in rows]


def replayed(events: Sequence[SignedEvent]) -> History:
    """What the events come to; BrokenHistory if they are no history."""
    return replay([(event.payload, event.statement) for event in events])


def new_events(stored: Sequence[SignedEvent], given: Sequence[SignedEvent]) -> list[SignedEvent]:
    """The given events after the stored ones; BrokenHistory where the two are not one history."""
    for known, event in zip(stored, given, strict=False):
        if known.payload != event.payload:
            raise BrokenHistory(
                f"event {event.seq} is not the {known.name} {known.seq} that the catalogue holds: a fork"
            )
    return list(given[len(stored) :])


def times_seen(connection: Connection, envelopes: Sequence[bytes]) -> list[datetime]:
    """When this catalogue recorded the first of the events, as many as it holds.

    A key that has ended since was judged then: it must not keep out what another key says of the item now.
    """
    payloads = [bytes.fromhex(parse_envelope(envelope).payload_digest) for envelope in envelopes]
    known: dict[bytes, datetime] = dict(
        connection.execute(
            "SELECT payload_sha256, recorded_at FROM eocat.event WHERE payload_sha256 = ANY (%s)", [payloads]
        ).fetchall()
    )
    return [known[payload] for payload in takewhile(known.__contains__, payloads)]


def refusal(event: SignedEvent, policy: Policy, now: datetime) -> Step | None:
    """Why an event is not admitted: no key of a role that may sign it; None if it is."""
    envelope = parse_envelope(event.envelope)
    collection = event.statement.predicate.item.split("/")[0]
    steps = [check_signatures(envelope, policy, role, collection, now) for role in ROLES[event.name]]
    return None if any(step.outcome is None for step in steps) else steps[0]


def register_event(history: History, keyring: Keyring, now: datetime) -> SignedEvent:
    """The REGISTER by which this catalogue admits an item that has only been created."""
    predicate = {
        "item": history.create.item,
        "seq": history.seq + 1,
        "prev": history.head,
        "claimedAt": format_time(now.replace(microsecond=0)),
        "actor": keyring.origin,
        "reason": None,
        "event": "REGISTER",
        "log": keyring.origin,
    }
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": ROWS, "digest": {"sha256": history.create.rows.root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    return read_event(keyring.sign_event(validated(LaterStatement, statement, what="REGISTER")))


def append_events(
    connection: Connection, collection: str, item: str, stored: int, events: Sequence[SignedEvent]
) -> None:
    """Commit the events after the first `stored`, and queue for the log all that it does not know yet."""
    connection.cursor().executemany(
        """INSERT INTO eocat.event (collection, item_id, seq, event, payload_sha256, envelope)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        [
            (collection, item, event.seq, event.name, bytes.fromhex(event.payload), event.envelope)
            for event in events[stored:]
        ],
    )
    statuses = [(event.seq, replayed(events[: event.seq + 1]).status.value) for event in events]
    append_pending(connection, collection, item, statuses)
