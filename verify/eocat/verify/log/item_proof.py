"""The log proof of an item, `eocat-logproof/v1`: its events are in the log, and none is held back.

    1 the newest checkpoint's tree begins with the tree of every older one that is shown
    2 every event's entry leads to the root of its checkpoint, each after the one before
    3 the newest checkpoint's last entry is a head map; it holds the item's collection, and that the item
    4 the item's head there is the last event that was shown

An older checkpoint is there for its cosignatures: they say by when the events in it had been seen. Each event
with its checkpoint is a C2SP tlog-proof (proof.py); many share one. A pure function of bytes: whether a
checkpoint is to be believed (log key, witnesses, age) is for `quorum.py`, whether the events are a history
for `eocat.verify.history`. docs/format.md, section 10.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .. import canonical
from ..errors import Malformed
from ..evidence import MAX_LOG_PROOF_BYTES
from ..history import Status
from ..merkle import MAX_SIZE, check_consistency, leaf_hash, root_from_path
from ..report import Outcome
from ..statement import Hex32, Strict, validated
from .checkpoint import Checkpoint
from .entry import Entry, format_entry
from .heads import CollectionHeads, Head, Heads, Included, check_included, format_heads

LOG_PROOF_FORMAT = "eocat-logproof/v1"
MAX_EVENTS = 1024

Index = Annotated[int, Field(ge=0, lt=MAX_SIZE)]
Hashes = Annotated[list[Hex32], Field(max_length=64)]


class _Proven(Strict):
    path: Hashes

    @property
    def nodes(self) -> tuple[bytes, ...]:
        return tuple(bytes.fromhex(node) for node in self.path)


class Placed(_Proven):
    """A leaf's place in its tree, and the path that leads from it to the root."""

    index: Index


class Seen(_Proven):
    """A checkpoint with its cosignatures; path: that the newest one's tree begins with this one's."""

    note: Annotated[str, Field(min_length=1, max_length=1 << 16)]


class LoggedEvent(Placed):
    """Where the log holds an event, in which checkpoint's tree. Its place in the list says which event."""

    checkpoint: Annotated[int, Field(ge=0, le=MAX_EVENTS)]


class MapRoot(Strict):
    count: Index
    root: Hex32


class MappedCollection(Placed):
    items: Index
    root: Hex32


class MappedItem(Placed):
    seq: Annotated[int, Field(ge=0, le=1 << 31)]
    status: Literal["active", "superseded", "obsolete", "withdrawn"]
    payload: Hex32


class HeadProof(Placed):
    """The head map at `index`, the checkpoint's last entry, down to the item."""

    collections: MapRoot
    collection: MappedCollection
    item: MappedItem


class ItemProof(Strict):
    type: Literal["eocat-logproof/v1"]
    checkpoints: Annotated[list[Seen], Field(min_length=1, max_length=MAX_EVENTS + 1)]  # the last: the newest
    events: Annotated[list[LoggedEvent], Field(min_length=1, max_length=MAX_EVENTS)]
    heads: HeadProof

    @model_validator(mode="after")
    def _every_checkpoint_is_of_use(self) -> Self:
        """The events name the checkpoints in order, and each older one is named."""
        named = [event.checkpoint for event in self.events]
        last = len(self.checkpoints) - 1
        if named != sorted(named) or {*named, last} != set(range(last + 1)):
            raise ValueError(f"the events name the checkpoints {named} of {last + 1}, each in order")
        return self


class LogProofFailed(Exception):
    """Why a log proof does not hold; outcome: LOG_VIOLATION, or HISTORY_BROKEN where events are held back."""

    def __init__(self, reason: str, outcome: Outcome = Outcome.LOG_VIOLATION) -> None:
        super().__init__(reason)
        self.outcome = outcome


def parse_item_proof(data: bytes) -> ItemProof:
    """The document in JSON bytes; Malformed names the first field that is wrong."""
    value = canonical.parse(data, what="log proof", limit_bytes=MAX_LOG_PROOF_BYTES)
    return validated(ItemProof, value, what="log proof")


def format_item_proof(proof: ItemProof) -> bytes:
    """Canonical JSON bytes."""
    return canonical.encode(proof.model_dump())


def check_log_proof(
    proof: ItemProof, events: Sequence[Entry], status: Status, checkpoints: Sequence[Checkpoint]
) -> None:
    """LogProofFailed says which of the four steps fails.

    events: what the item's envelopes say (`entry_of`), in order of seq. status: of the replayed history.
    checkpoints: of `proof.checkpoints`, which the caller has judged.
    """
    newest = checkpoints[-1]
    try:
        _check_checkpoints(proof, checkpoints)  # 1
        _check_events(proof, events, checkpoints)  # 2
        _check_map(proof, events[-1], newest)  # 3
    except Malformed as error:  # a path of another shape than its tree's
        raise LogProofFailed(str(error)) from None
    _check_head(proof.heads.item, events[-1], status)  # 4


def _check_checkpoints(proof: ItemProof, checkpoints: Sequence[Checkpoint]) -> None:
    """One log, which only ever grew: else an event could be dated by a tree that it was never in."""
    newest = checkpoints[-1]
    for shown, one in zip(proof.checkpoints, checkpoints, strict=True):
        if one.origin != newest.origin:
            raise LogProofFailed(f"a checkpoint of {one.origin} is shown for the log {newest.origin}")
        if not check_consistency(one.size, one.root, newest.size, newest.root, shown.nodes):
            raise LogProofFailed(
                f"the tree of size {newest.size} does not begin with the one of size {one.size} that is shown"
            )


def _check_events(proof: ItemProof, events: Sequence[Entry], checkpoints: Sequence[Checkpoint]) -> None:
    if len(proof.events) != len(events):
        raise LogProofFailed(f"the log proof is about {len(proof.events)} events, the item has {len(events)}")
    last = -1
    for placed, event in zip(proof.events, events, strict=True):
        what = f"{event.event} {event.seq} of {event.path}"
        if placed.index <= last:
            raise LogProofFailed(f"{what} stands at {placed.index} of the log, before the event it follows")
        _check_entry(what, format_entry(event), placed, checkpoints[placed.checkpoint])
        last = placed.index


def _check_map(proof: ItemProof, event: Entry, checkpoint: Checkpoint) -> None:
    heads = proof.heads
    top = Heads(heads.collections.count, heads.collections.root)
    check_heads_entry(top, heads, checkpoint)
    collection = CollectionHeads(event.collection, heads.collection.items, heads.collection.root)
    item = Head(event.item, heads.item.seq, heads.item.status, heads.item.payload)
    check_included(
        Included(collection, heads.collection.index, heads.collection.nodes), top.collections, top.root
    )
    check_included(Included(item, heads.item.index, heads.item.nodes), collection.items, collection.root)


def check_heads_entry(heads: Heads, placed: Placed, checkpoint: Checkpoint) -> None:
    """LogProofFailed unless the checkpoint's last entry says what `heads` says."""
    if placed.index != checkpoint.size - 1:
        raise LogProofFailed(
            f"the head map shown is entry {placed.index}, the newest is {checkpoint.size - 1}: it is stale"
        )
    _check_entry("the head map", format_heads(heads), placed, checkpoint)


def _check_head(head: MappedItem, event: Entry, status: Status) -> None:
    if head.seq > event.seq:
        raise LogProofFailed(
            f"the log knows event {head.seq} of {event.path} ({head.status}), shown are up to {event.seq}",
            Outcome.HISTORY_BROKEN,
        )
    if (head.seq, head.payload) != (event.seq, event.payload):
        raise LogProofFailed(f"the head map has another event {head.seq} of {event.path} than what is shown")
    if head.status != status.value:
        raise LogProofFailed(
            f"the head map says that {event.path} is {head.status}, its events make it {status.value}"
        )


def _check_entry(what: str, entry: bytes, placed: Placed, checkpoint: Checkpoint) -> None:
    found = root_from_path(leaf_hash(entry), placed.index, checkpoint.size, placed.nodes)
    if found != checkpoint.root:
        raise LogProofFailed(
            f"{what} at {placed.index} of {checkpoint.size} does not lead to the checkpoint's root"
        )
