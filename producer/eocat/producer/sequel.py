"""What follows a CREATE: the next signed event of an item that a catalogue holds.

The history so far comes from the catalogue, since the registrar signs in it too. It is replayed before
anything is signed, and must begin with the CREATE of the folder at hand. The new event is appended to the
folder's attestation file; `eocat register` brings it to the catalogue, which judges it once more.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eocat.verify import canonical
from eocat.verify.dsse import format_envelope, parse_envelope
from eocat.verify.errors import ConfigError, InputError, UsageError
from eocat.verify.events import LaterStatement, parse_event
from eocat.verify.evidence import ITEM_FILE, LOG_PROOF_FILE, read_envelopes, read_limited
from eocat.verify.history import BrokenHistory, History, replay
from eocat.verify.projection import ATTESTATION, project
from eocat.verify.statement import PREDICATE_TYPE, ROWS, STATEMENT_TYPE, format_time, validated

from .documents import file_name
from .signer import Signer, sign_statement


def append_event(
    folder: Path, held: Sequence[bytes], event: dict[str, Any], signer: Signer, *, actor: str
) -> LaterStatement:
    """Sign the event that follows `held` (the catalogue's envelopes of the item) and append it in `folder`.

    event: `event` and its own members, such as {"event": "SUPERSEDE", "successor": …, "reason": …}.
    Raises UsageError where the rules do not allow it, InputError where folder and catalogue disagree.
    """
    path = folder / file_name(ATTESTATION)
    own = read_envelopes(path)
    if not held or held[0] != own[0]:
        raise InputError(
            f"the catalogue's history does not begin with the CREATE of {folder}",
            hint="register the folder first, and name the catalogue with --api",
        )
    history = history_of(held)
    statement = _next(history, event, actor)
    try:
        history.then("", statement)
    except BrokenHistory as error:
        raise UsageError(str(error)) from None
    envelope = format_envelope(sign_statement(statement, signer))
    temporary = path.with_name(f".{path.name}")
    try:
        (folder / LOG_PROOF_FILE).unlink(missing_ok=True)  # it is of the shorter history
        temporary.write_bytes(b"".join(line + b"\n" for line in (*held, envelope)))
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return statement


def history_of(envelopes: Sequence[bytes]) -> History:
    """The history that the envelopes tell, their signatures not looked at; InputError if it is none."""
    parsed = [parse_envelope(data) for data in envelopes]
    try:
        return replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])
    except BrokenHistory as error:
        raise InputError(f"the catalogue's history is broken: {error}") from None


def projection_in(folder: Path) -> dict[str, Any]:
    """The projection of the Item in `folder` as it stands now: what an UPDATE signs."""
    item = canonical.parse(read_limited(folder / ITEM_FILE, canonical.MAX_BYTES), what=ITEM_FILE)
    return project(item).model_dump()


def _next(history: History, event: dict[str, Any], actor: str) -> LaterStatement:
    predicate = {
        "reason": None,
        **event,
        "item": history.create.item,
        "seq": history.seq + 1,
        "prev": history.head,
        "claimedAt": format_time(datetime.now(UTC).replace(microsecond=0)),
        "actor": actor,
    }
    value = {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": [{"name": ROWS, "digest": {"sha256": history.create.rows.root}}],
        "predicate": predicate,
    }
    return validated(LaterStatement, value, what=event["event"])
