"""The log's word that it holds no event of an item, `eocat-absence/v1` (docs/format.md, section 10.7).

    1 the checkpoint's last entry is a head map
    2 the map holds no such collection, or it does and the collection holds no such item: the two leaves
      between which the name would stand are neighbours

A pure function of bytes. Whether the checkpoint is to be believed is asked as for an item that is there
(logged.py).
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from .. import canonical
from ..errors import Malformed
from ..evidence import MAX_LOG_PROOF_BYTES
from ..logged import check_age, check_checkpoints
from ..policy import LogTrust
from ..report import Outcome, Step
from ..statement import Identifier, Strict, validated
from .checkpoint import Checkpoint
from .heads import Absent, CollectionHeads, Head, Heads, Included, check_absent, check_included
from .item_proof import LogProofFailed, MappedCollection, MappedItem, MapRoot, Placed, check_heads_entry
from .quorum import parse_log_policy

ABSENCE_FORMAT = "eocat-absence/v1"


class NamedCollection(MappedCollection):
    name: Identifier

    @property
    def included(self) -> Included[CollectionHeads]:
        return Included(CollectionHeads(self.name, self.items, self.root), self.index, self.nodes)


class NamedItem(MappedItem):
    name: Identifier

    @property
    def included(self) -> Included[Head]:
        return Included(Head(self.name, self.seq, self.status, self.payload), self.index, self.nodes)


class NoCollection(Strict):
    """The neighbours of the collection's name; null beyond either end."""

    before: NamedCollection | None
    after: NamedCollection | None


class NoItem(Strict):
    """The collection, and in it the neighbours of the item's name; null beyond either end."""

    collection: MappedCollection
    before: NamedItem | None
    after: NamedItem | None


class AbsentHeads(Placed):
    collections: MapRoot
    absent: NoCollection | NoItem


class Absence(Strict):
    type: Literal["eocat-absence/v1"]
    checkpoint: Annotated[str, Field(min_length=1, max_length=1 << 16)]  # the newest, with its cosignatures
    heads: AbsentHeads


def parse_absence(data: bytes) -> Absence:
    """The document in JSON bytes; Malformed names the first field that is wrong."""
    value = canonical.parse(data, what="absence proof", limit_bytes=MAX_LOG_PROOF_BYTES)
    return validated(Absence, value, what="absence proof")


def format_absence(proof: Absence) -> bytes:
    """Canonical JSON bytes."""
    return canonical.encode(proof.model_dump())


def is_absence(data: bytes) -> bool:
    """Whether a log proof's JSON says that it is one of absence."""
    match canonical.parse(data, what="log proof", limit_bytes=MAX_LOG_PROOF_BYTES):
        case {"type": "eocat-absence/v1"}:
            return True
    return False


def check_absence(proof: Absence, collection: str, item: str, checkpoint: Checkpoint) -> None:
    """LogProofFailed unless the checkpoint's head map does not hold `collection/item`."""
    heads = proof.heads
    top = Heads(heads.collections.count, heads.collections.root)
    try:
        check_heads_entry(top, heads, checkpoint)  # 1
        match heads.absent:  # 2
            case NoCollection(before=before, after=after):
                check_absent(collection, _between(before, after), top.collections, top.root)
            case NoItem(collection=mapped, before=first, after=last):
                leaf = CollectionHeads(collection, mapped.items, mapped.root)
                check_included(Included(leaf, mapped.index, mapped.nodes), top.collections, top.root)
                check_absent(item, _between(first, last), mapped.items, mapped.root)
    except Malformed as error:  # neighbours that are none, a path of another shape than its tree's
        raise LogProofFailed(str(error)) from None


def _between(
    before: NamedCollection | NamedItem | None, after: NamedCollection | NamedItem | None
) -> Absent[Any]:
    return Absent(before.included if before else None, after.included if after else None)


def judge_absence(proof: bytes, collection: str, item: str, trust: LogTrust, now: datetime) -> Step:
    """Step 6 where the log is said to hold no event of an item; proof: its absence document."""
    policy = parse_log_policy(trust.policy.encode())
    try:
        document = parse_absence(proof)
        judged = policy.judge(document.checkpoint.encode(), now)
        if (failed := check_checkpoints([judged])) is not None:
            return failed
        check_absence(document, collection, item, judged.checkpoint)
    except Malformed as error:
        return Step("log", str(error), Outcome.MALFORMED)
    except LogProofFailed as error:
        return Step("log", str(error), error.outcome)
    size, origin = judged.checkpoint.size, judged.checkpoint.origin
    return check_age(f"no event of {collection}/{item} among {size} in {origin}", judged, policy, trust, now)
