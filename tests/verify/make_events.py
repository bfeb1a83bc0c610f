"""Makes the events that follow a CREATE: signed envelopes, each naming the payload before it."""

from typing import Any

from make_shard import Key

from eocat.verify import canonical
from eocat.verify.draw import draw_rows, seed_of
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, format_envelope, parse_envelope
from eocat.verify.events import parse_event
from eocat.verify.statement import PREDICATE_TYPE, STATEMENT_TYPE, Create, Statement


def event_after(envelopes: list[bytes], event: str, /, **members: Any) -> dict[str, Any]:
    """The statement (JSON) of `event` after `envelopes`; a member given replaces the right one."""
    parsed = [parse_envelope(data) for data in envelopes]
    create = parse_event(parsed[0].payload)
    assert isinstance(create, Statement)
    own: dict[str, Any] = {
        "REGISTER": {"log": "example.org/log"},
        "COPY": {"location": "https://mirror.example/x"},
        "UPDATE": {"projection": create.predicate.projection.model_dump()},
        "SUPERSEDE": {"successor": "demo/next"},
        "ATTEST": {"create": parsed[0].payload_digest, "recompute": recomputed(create.predicate)},
    }.get(event, {})
    predicate = {
        "event": event,
        "item": create.predicate.item,
        "seq": len(envelopes),
        "prev": parsed[-1].payload_digest,
        "claimedAt": f"2026-06-0{min(len(envelopes), 9)}T00:00:00Z",
        "actor": "somebody",
        "reason": "it was time" if event in ("OBSOLETE", "WITHDRAW") else None,
        **own,
        **members,
    }
    return {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": [{"name": "rows", "digest": {"sha256": create.predicate.rows.root}}],
        "predicate": predicate,
    }


def recomputed(create: Create, wanted: int = 2, checkpoint: str | None = "a note\n") -> dict[str, Any]:
    """What an auditor found who made rows again: all the same."""
    seed = seed_of(checkpoint, create.item) if checkpoint else bytes(32)
    return {
        "wanted": wanted, "seed": seed.hex(), "checkpoint": checkpoint,
        "rows": draw_rows(seed, create.rows.count, wanted),
        "encoder": create.encoder.name, "space": create.space,
        "precision": "exact", "limit": "0", "worst": "0", "sourceDiffers": [], "modelDiffers": [],
        "environment": {"python": "3.11"}, "at": "2026-06-01T00:00:00Z",
    }  # fmt: skip


def signed(statement: dict[str, Any], *keys: Key) -> bytes:
    """The envelope of any statement, right or wrong."""
    payload = canonical.encode(statement)
    return format_envelope(Envelope(payload, PAYLOAD_TYPE, tuple(key.sign(payload) for key in keys)))
