"""Makes a whole log: entries, head maps, checkpoints that witnesses cosign at chosen times, log proofs.

A log of the tests' own, so that a witness's clock can show what a test needs. What the catalogue makes of the
same formats is in tests/catalog and tests/walk.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from make_notes import LOG, W1, W2, W3, Signer, cosigned

from eocat.verify import canonical
from eocat.verify.dsse import parse_envelope
from eocat.verify.events import parse_event
from eocat.verify.history import Status, replay
from eocat.verify.log.absence import ABSENCE_FORMAT
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.log.entry import entry_of, format_entry
from eocat.verify.log.heads import Absent, Head, HeadMap, Included, format_heads
from eocat.verify.log.item_proof import LOG_PROOF_FORMAT
from eocat.verify.log.note import format_vkey
from eocat.verify.merkle import Tree, build_tiles, leaf_hash, tree_of

WITNESSES = (W1, W2, W3)


def log_trust(log: Signer = LOG, max_age_hours: int = 24) -> dict[str, Any]:
    """`log` of a policy: this log, and two of three witnesses."""
    lines = [f"log {format_vkey(log.key)}"]
    lines += [f"witness w{number} {format_vkey(one.key)}" for number, one in enumerate(WITNESSES, 1)]
    text = "\n".join([*lines, "group q 2 w1 w2 w3", "quorum q", ""])
    return {"policy": text, "maxAgeHours": max_age_hours}


def posix(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def hexes(path: Sequence[bytes]) -> list[str]:
    return [node.hex() for node in path]


def neighbours(absent: Absent[Any]) -> dict[str, Any]:
    return {
        side: one and {"index": one.index, "path": hexes(one.path), **asdict(one.leaf)}
        for side, one in (("before", absent.before), ("after", absent.after))
    }


@dataclass
class Published:
    """A size of the log with its map, and the note that was published for it first."""

    size: int
    heads: HeadMap
    note: bytes
    quorum: bool


@dataclass
class MadeLog:
    """The entries so far, and what was published of them."""

    signer: Signer = LOG
    entries: list[bytes] = field(default_factory=list)
    held: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)  # item → (index, envelope)
    published: list[Published] = field(default_factory=list)

    def add(self, *envelopes: bytes) -> None:
        for envelope in envelopes:
            entry = entry_of(envelope)
            self.held.setdefault(entry.path, []).append((len(self.entries), envelope))
            self.entries.append(format_entry(entry))

    def publish(self, time: str, *witnesses: Signer) -> int:
        """Close the batch with a head map and have it cosigned (by all three by default); the size."""
        heads: dict[str, list[Head]] = {}
        for path, events in self.held.items():
            collection, item = path.split("/")
            seq, status, payload = self._head([envelope for _, envelope in events])
            heads.setdefault(collection, []).append(Head(item, seq, status, payload))
        made = HeadMap(heads)
        self.entries.append(format_heads(made.heads))
        signers = witnesses or WITNESSES
        note = self.cosign(len(self.entries), time, *signers)
        self.published.append(Published(len(self.entries), made, note, len(signers) > 1))
        return len(self.entries)

    def cosign(self, size: int, time: str, *witnesses: Signer) -> bytes:
        """The checkpoint of a size, cosigned (again) at `time`."""
        checkpoint = Checkpoint(self.signer.name, size, self.tree(size).root())
        return cosigned(checkpoint, witnesses or WITNESSES, posix(time), self.signer)

    def tree(self, size: int) -> Tree:
        return tree_of(build_tiles(b"".join(map(leaf_hash, self.entries[:size]))), size)

    def proof(
        self, path: str, *, newest: bytes | None = None, shown: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """The log proof (JSON) of an item: each event in the first checkpoint with a quorum that holds it.

        newest: the newest checkpoint's note, where it has been cosigned again. shown: the sizes of the
        checkpoints to show for the events, instead of the first ones.
        """
        last = self.published[-1]
        indexes = [index for index, _ in self.held[path] if index < last.size]
        notes = {one.size: one.note for one in self.published}
        firsts = [
            next((one.size for one in self.published if one.size > index and one.quorum), last.size)
            for index in indexes
        ]
        sizes = list(shown if shown is not None else firsts)
        chain = [(size, notes[size]) for size in sorted(set(sizes))]
        if chain[-1] != (last.size, newest or last.note):
            chain.append((last.size, newest or last.note))
        numbers = {size: number for number, (size, _) in reversed(list(enumerate(chain)))}
        tree = self.tree(last.size)
        return {
            "type": LOG_PROOF_FORMAT,
            "checkpoints": [
                {
                    "note": note.decode(),
                    "path": hexes(tree.prove_consistency(size)) if size < last.size else [],
                }
                for size, note in chain
            ],
            "events": [
                {"checkpoint": numbers[size], "index": index, "path": hexes(self.tree(size).prove(index))}
                for size, index in zip(sizes, indexes, strict=True)
            ],
            "heads": self._heads(path, last),
        }

    def _heads(self, path: str, last: Published) -> dict[str, Any]:
        collection, item = path.split("/")
        outer, inner = last.heads.collections.prove(collection), last.heads.items[collection].prove(item)
        assert isinstance(outer, Included)
        assert isinstance(inner, Included)
        return {
            "index": last.size - 1,
            "path": hexes(self.tree(last.size).prove(last.size - 1)),
            "collections": {"count": last.heads.heads.collections, "root": last.heads.heads.root},
            "collection": {
                "index": outer.index, "path": hexes(outer.path), "items": outer.leaf.items,
                "root": outer.leaf.root,
            },
            "item": {
                "index": inner.index, "path": hexes(inner.path), "seq": inner.leaf.seq,
                "status": inner.leaf.status, "payload": inner.leaf.payload,
            },
        }  # fmt: skip

    def absence(self, path: str, *, newest: bytes | None = None) -> dict[str, Any]:
        """The absence document (JSON) of an item that the log does not hold."""
        collection, item = path.split("/")
        last = self.published[-1]
        outer = last.heads.collections.prove(collection)
        if isinstance(outer, Included):
            inner = last.heads.items[collection].prove(item)
            assert isinstance(inner, Absent)
            mapped = {"index": outer.index, "path": hexes(outer.path), "items": outer.leaf.items}
            absent = {"collection": mapped | {"root": outer.leaf.root}, **neighbours(inner)}
        else:
            absent = neighbours(outer)
        return {
            "type": ABSENCE_FORMAT,
            "checkpoint": (newest or last.note).decode(),
            "heads": {
                "index": last.size - 1,
                "path": hexes(self.tree(last.size).prove(last.size - 1)),
                "collections": {"count": last.heads.heads.collections, "root": last.heads.heads.root},
                "absent": absent,
            },
        }

    @staticmethod
    def _head(envelopes: list[bytes]) -> tuple[int, str, str]:
        parsed = [parse_envelope(data) for data in envelopes]
        history = replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])
        status = "active" if history.status is Status.CREATED else history.status.value
        return history.seq, status, history.head


def proof_bytes(document: dict[str, Any]) -> bytes:
    return canonical.encode(document)
