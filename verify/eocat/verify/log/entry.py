"""Entries of the transparency log: one for each signed event, in one spelling (docs/format.md, section 10).

    eocat-entry/v1
    <collection>/<item>
    <seq>
    <EVENT>
    <SHA-256 of the payload>
    <SHA-256 of the envelope>

An entry names an event, it does not repeat it: envelopes are static files under their digest. The log's
other entries are head maps (heads.py). The hash of a leaf is RFC 6962's over the bytes of the entry.
"""

import hashlib
import re
from dataclasses import dataclass

from ..dsse import parse_envelope
from ..errors import Malformed
from ..events import parse_event

ENTRY_FORMAT = "eocat-entry/v1"
MAX_ENTRY_BYTES = 512
MAX_SEQ = 1 << 31

_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ENTRY = re.compile(
    rf"{ENTRY_FORMAT}\n({_ID})/({_ID})\n(0|[1-9][0-9]{{0,9}})\n([A-Z]{{1,16}})\n([0-9a-f]{{64}})\n([0-9a-f]{{64}})\n"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as the log names it. payload, envelope: SHA-256 in hex."""

    collection: str
    item: str
    seq: int
    event: str
    payload: str
    envelope: str

    @property
    def path(self) -> str:
        """`<collection>/<item>`, as the statement's `item` has it."""
        return f"{self.collection}/{self.item}"


def format_entry(entry: Entry) -> bytes:
    """The bytes of the entry; Malformed if they would not be read again."""
    lines = (ENTRY_FORMAT, entry.path, entry.seq, entry.event, entry.payload, entry.envelope)
    data = "".join(f"{line}\n" for line in lines).encode()
    parse_entry(data)
    return data


def parse_entry(data: bytes) -> Entry:
    """The entry in `data`; Malformed for any spelling that `format_entry` would not print."""
    if len(data) > MAX_ENTRY_BYTES:
        raise Malformed(f"log entry has {len(data)} bytes, at most {MAX_ENTRY_BYTES} are read")
    match = _ENTRY.fullmatch(data.decode("ascii", "replace"))
    if match is None:
        raise Malformed(f"log entry is not an {ENTRY_FORMAT}: {data[:60]!r}")
    collection, item, seq, event, payload, envelope = match.groups()
    if int(seq) > MAX_SEQ:
        raise Malformed(f"log entry has seq {seq}, at most {MAX_SEQ} is read")
    return Entry(collection, item, int(seq), event, payload, envelope)


def entry_of(envelope: bytes) -> Entry:
    """The entry that the log must hold for an envelope; Malformed if that holds no readable event."""
    parsed = parse_envelope(envelope)
    event = parse_event(parsed.payload).predicate
    collection, item = event.item.split("/")
    digest = hashlib.sha256(envelope).hexdigest()
    return Entry(collection, item, event.seq, event.event, parsed.payload_digest, digest)
