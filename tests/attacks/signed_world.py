"""What the attacks begin with: real signed items in a real log, cosigned, and the hits and policies to them.

    s2/alpha   CREATE, REGISTER │ COPY, UPDATE      active; the Item changes with the UPDATE
    s2/beta    CREATE, REGISTER                     active; other rows, the same producer
    s2/gamma   CREATE, REGISTER │ WITHDRAW          withdrawn since the second checkpoint
    s2/delta   CREATE, REGISTER │ SUPERSEDE         superseded since
    s2/alpha'  CREATE, REGISTER                     of a producer and a log that nobody trusts

`│`: the log's first checkpoint stands here, its second at the end. A `State` is an item as it may rightly be
shown: its files, its events and a log proof that were there together. No database and no network.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from make_events import event_after
from make_events import signed as signed_event
from make_notes import LOG, W1, W2, W3, Signer, cosigned
from make_shard import (
    MIRROR,
    PRODUCER,
    STRANGER,
    Key,
    Made,
    entry,
    make_hit,
    make_rows,
    make_shard,
    policy_json,
)
from trust_maker import ALICE, BOB, CAROL, DAVE, root_of

from eocat.verify import canonical
from eocat.verify.dsse import Envelope, format_envelope, parse_envelope
from eocat.verify.events import parse_event
from eocat.verify.history import replay
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.log.entry import entry_of, format_entry
from eocat.verify.log.heads import Head, HeadMap, Included, format_heads
from eocat.verify.log.note import ED25519, format_vkey
from eocat.verify.merkle import build_tiles, leaf_hash, tree_of
from eocat.verify.projection import project
from eocat.verify.root import POLICY_TYPE, format_root
from eocat.verify.trust_store import TrustStore

REGISTRAR = Key.from_seed("registrar")
WITNESSES = (W1, W2, W3)
OTHER_LOG = Signer("other.example/log", ED25519, 2)
QUORUM = 2
NAMES = (
    "item.json",
    "attestation.jsonl",
    "log-proof.json",
    "embeddings.parquet",
    "row-hashes.bin",
    "thumbnail.png",
)


@dataclass
class Log:
    """A log in memory: its entries, and each item's events as it has them."""

    signer: Signer
    time_s: int
    entries: list[bytes] = field(default_factory=list)
    events: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)  # item → (index, envelope)

    def append(self, envelope: bytes) -> None:
        logged = entry_of(envelope)
        self.events.setdefault(logged.path, []).append((len(self.entries), envelope))
        self.entries.append(format_entry(logged))

    def publish(self) -> "Published":
        """Close this size with its head map, and have it cosigned."""
        heads: dict[str, list[Head]] = {}
        for path, events in self.events.items():
            collection, item = path.split("/")
            parsed = [parse_envelope(envelope) for _, envelope in events]
            history = replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])
            heads.setdefault(collection, []).append(
                Head(item, history.seq, history.status.value, history.head)
            )
        head_map = HeadMap(heads)
        self.entries.append(format_heads(head_map.heads))
        tree = tree_of(build_tiles(b"".join(map(leaf_hash, self.entries))), len(self.entries))
        note = cosigned(
            Checkpoint(self.signer.name, tree.size, tree.root()), WITNESSES, self.time_s, self.signer
        )
        return Published(
            tree.size, note, head_map, [*self.entries], {k: [*v] for k, v in self.events.items()}
        )


@dataclass(frozen=True)
class Published:
    """A log at one of its checkpoints."""

    size: int
    note: bytes
    head_map: HeadMap
    entries: Sequence[bytes]
    events: dict[str, list[tuple[int, bytes]]]

    def prove(self, path: str) -> bytes:
        """The item's log proof document."""
        collection, item = path.split("/")
        tree = tree_of(build_tiles(b"".join(map(leaf_hash, self.entries))), self.size)
        outer, inner = (
            self.head_map.collections.prove(collection),
            self.head_map.items[collection].prove(item),
        )
        assert isinstance(outer, Included)
        assert isinstance(inner, Included)
        placed = {"index": self.size - 1, "path": _hex(tree.prove(self.size - 1))}
        return canonical.encode({
            "type": "eocat-logproof/v1",
            "checkpoint": self.note.decode(),
            "events": [{"index": at, "path": _hex(tree.prove(at))} for at, _ in self.events[path]],
            "heads": placed | {
                "collections": {"count": self.head_map.heads.collections, "root": self.head_map.heads.root},
                "collection": {"index": outer.index, "path": _hex(outer.path), "items": outer.leaf.items,
                               "root": outer.leaf.root},
                "item": {"index": inner.index, "path": _hex(inner.path), "seq": inner.leaf.seq,
                         "status": inner.leaf.status, "payload": inner.leaf.payload},
            },
        })  # fmt: skip


@dataclass(frozen=True)
class State:
    """An item as it stood at a checkpoint. files: name → bytes, log-proof.json among them."""

    name: str
    files: dict[str, bytes]
    active: bool

    @property
    def lines(self) -> list[bytes]:
        return self.files["attestation.jsonl"].splitlines()


@dataclass(frozen=True)
class World:
    """honest: what may verify if it is active. hostile: real signatures that the policies do not trust.

    logged: the policy that names log and witnesses, plain: the same without them; both as JSON bytes.
    trust: a trust folder whose second root's keys have signed the policy `logged`, by file name.
    """

    honest: list[State]
    hostile: list[State]
    hits: list[bytes]
    logged: bytes
    plain: bytes
    trust: dict[str, bytes]
    shards: dict[str, Made]


def make_world(folder: Path, now: datetime | None = None) -> World:
    """The world in `folder`, cosigned at the midnight (UTC) before `now`; the same bytes for the same day."""
    now = now or datetime.now(UTC)
    time_s = int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    counts = {"alpha": 5, "beta": 7, "gamma": 3, "delta": 4}
    shards = {
        name: make_shard(folder / "s2" / name, make_rows(count), item_id=name)
        for name, count in counts.items()
    }
    log = Log(LOG, time_s)
    for made in shards.values():
        _sign_next(made, "REGISTER", REGISTRAR, log=LOG.name)
    for made in shards.values():
        for line in made.attestation.read_bytes().splitlines():
            log.append(line)
    first = log.publish()
    early = {name: _state(f"{name} at {first.size}", made, first) for name, made in shards.items()}
    hits = [
        json.dumps(make_hit(made, row)).encode()
        for made in (shards["alpha"], shards["beta"])
        for row in (0, 2)
    ]
    for envelope in (
        _sign_next(shards["alpha"], "COPY", MIRROR),
        _update(shards["alpha"]),
        _sign_next(shards["gamma"], "WITHDRAW", PRODUCER),
        _sign_next(shards["delta"], "SUPERSEDE", PRODUCER, successor="s2/beta"),
    ):
        log.append(envelope)
    last = log.publish()
    late = {name: _state(f"{name} at {last.size}", made, last) for name, made in shards.items()}
    hits += [json.dumps(make_hit(shards["alpha"], row)).encode() for row in (1, 4)]
    return World(
        [*early.values(), *late.values()],
        [_stranger(folder, time_s)],
        hits,
        policy_bytes(logged=True),
        policy_bytes(logged=False),
        make_trust(folder / "trust", now),
        shards,
    )


def policy_bytes(*, logged: bool) -> bytes:
    entries = [
        entry(PRODUCER), entry(REGISTRAR, roles=["registrar"]), entry(MIRROR, roles=["mirror"]),
    ]  # fmt: skip
    for one in entries:
        one |= {"notBefore": "2020-01-01T00:00:00Z", "notAfter": "2100-01-01T00:00:00Z"}
    log = {"log": {"policy": log_policy(), "maxAgeHours": 48}} if logged else {}
    return json.dumps(policy_json(*entries, expires="2100-01-01T00:00:00Z", **log)).encode()


def make_trust(folder: Path, now: datetime) -> dict[str, bytes]:
    """Root 1 (pinned), root 2 with other keys, and the policy that those have signed."""
    expires = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=300)
    first = root_of(1, [ALICE, BOB, CAROL], 2, ALICE, BOB, expires=expires)
    second = root_of(2, [BOB, CAROL, DAVE], 2, ALICE, BOB, CAROL, DAVE, expires=expires)
    store = TrustStore(folder)
    store.pin(format_root(first))
    payload = canonical.encode(json.loads(policy_bytes(logged=True)))
    signatures = tuple(holder.sign(payload, POLICY_TYPE) for holder in (BOB, DAVE))
    policy = format_envelope(Envelope(payload, POLICY_TYPE, signatures))
    before = (folder / "memory.json").read_bytes()
    store.update([format_root(second), policy], now)
    names = ("1.root.json", "2.root.json", "policy.signed.json")
    return {name: (folder / name).read_bytes() for name in names} | {"memory.json": before}


def log_policy(log: Signer = LOG) -> str:
    lines = [f"log {format_vkey(log.key)}"]
    lines += [f"witness {each.name} {format_vkey(each.key)}" for each in WITNESSES]
    members = " ".join(each.name for each in WITNESSES)
    return "\n".join([*lines, f"group some {QUORUM} {members}", "quorum some", ""])


def _hex(nodes: Sequence[bytes]) -> list[str]:
    return [node.hex() for node in nodes]


def _state(name: str, made: Made, published: Published) -> State:
    held = [envelope for _, envelope in published.events[made.statement["predicate"]["item"]]]
    (made.folder / "log-proof.json").write_bytes(published.prove(made.statement["predicate"]["item"]))
    files = {name: (made.folder / name).read_bytes() for name in NAMES}
    parsed = [parse_envelope(envelope) for envelope in held]
    history = replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])
    return State(name, files, history.status.value == "active")


def _sign_next(made: Made, event: str, key: Key, **members: Any) -> bytes:
    """One more event of the item, in its folder; the envelope."""
    held = made.attestation.read_bytes().splitlines()
    envelope = signed_event(event_after(held, event, **members), key)
    made.attestation.write_bytes(b"".join(line + b"\n" for line in [*held, envelope]))
    return envelope


def _update(made: Made) -> bytes:
    item = made.item
    item["bbox"] = [10.5, 45.5, 11.25, 46.25]
    made.write_item(item)
    return _sign_next(made, "UPDATE", PRODUCER, projection=project(item).model_dump())


def _stranger(folder: Path, time_s: int) -> State:
    """The same item and rows by another producer, in another log under the same witnesses."""
    made = make_shard(folder / "stranger" / "alpha", item_id="alpha", signers=(STRANGER,))
    log = Log(OTHER_LOG, time_s)
    _sign_next(made, "REGISTER", STRANGER, log=OTHER_LOG.name)
    for line in made.attestation.read_bytes().splitlines():
        log.append(line)
    return _state("alpha of a stranger", made, log.publish())


def payload_of(line: bytes) -> bytes:
    """The payload of an envelope, read without the verifier."""
    return base64.b64decode(json.loads(line)["payload"])
