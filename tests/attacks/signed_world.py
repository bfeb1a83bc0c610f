"""What the attacks begin with: real signed items in a real log, cosigned, and the hits and policies to them.

    s2/alpha   CREATE, REGISTER │ COPY, UPDATE      active; the Item changes with the UPDATE
    s2/beta    CREATE, REGISTER                     active; other rows, the same producer
    s2/gamma   CREATE, REGISTER │ WITHDRAW          withdrawn since the second checkpoint
    s2/delta   CREATE, REGISTER │ SUPERSEDE         superseded since
    s2/alpha'  CREATE, REGISTER                     of a producer and a log that nobody trusts

`│`: the log's first checkpoint stands here, its second at the end. A `State` is an item as it may rightly be
shown: its files, its events and a log proof that were there together. No database and no network.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from make_events import event_after
from make_events import signed as signed_event
from make_log import MadeLog, log_trust, proof_bytes
from make_notes import LOG, Signer
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
from eocat.verify.bundle import format_bundle
from eocat.verify.dsse import Envelope, format_envelope, parse_envelope
from eocat.verify.edge.bundling import bundle_of
from eocat.verify.events import parse_event
from eocat.verify.evidence import read_folder
from eocat.verify.history import replay
from eocat.verify.hit import with_log_proof
from eocat.verify.log.note import ED25519
from eocat.verify.projection import project
from eocat.verify.root import POLICY_TYPE, format_root
from eocat.verify.trust_store import TrustStore

REGISTRAR = Key.from_seed("registrar")
OTHER_LOG = Signer("other.example/log", ED25519, 2)
NAMES = (
    "item.json",
    "attestation.jsonl",
    "log-proof.json",
    "embeddings.parquet",
    "row-hashes.bin",
    "thumbnail.png",
)


@dataclass(frozen=True)
class State:
    """An item as it stood at a checkpoint. files: name → bytes, the log proof among them."""

    name: str
    files: dict[str, bytes]
    bundle: bytes
    active: bool

    @property
    def lines(self) -> list[bytes]:
        return self.files["attestation.jsonl"].splitlines()


@dataclass(frozen=True)
class World:
    """honest: what may verify if it is active. hostile: real signatures that the policies do not trust.

    logged: the policy that names log and witnesses, plain: the same without them; both as JSON bytes.
    notes: every cosigned checkpoint of the trusted log. trust: a trust folder, by file name; the keys of its
    second root have signed the policy `logged`.
    """

    honest: list[State]
    hostile: list[State]
    hits: list[bytes]
    logged: bytes
    plain: bytes
    trust: dict[str, bytes]
    shards: dict[str, Made]
    notes: list[str]


def make_world(folder: Path, now: datetime | None = None) -> World:
    """The world in `folder`, cosigned at the midnight (UTC) before `now`; the same bytes for the same day."""
    now = (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    earlier, today = (now - timedelta(days=30)).isoformat(), now.isoformat()
    counts = {"alpha": 5, "beta": 7, "gamma": 3, "delta": 4}
    shards = {
        name: make_shard(folder / "s2" / name, make_rows(count), item_id=name)
        for name, count in counts.items()
    }
    log = MadeLog(LOG)
    for made in shards.values():
        sign_next(made, "REGISTER", REGISTRAR, log=LOG.name)
        log.add(*made.attestation.read_bytes().splitlines())
    log.publish(earlier)
    again = log.cosign(len(log.entries), today)  # as a log whose witnesses come back every day
    early = [_state(f"{name} at first", made, log, newest=again) for name, made in shards.items()]
    hits = [_hit(shards[name], row) for name in ("alpha", "beta") for row in (0, 2)]
    log.add(
        sign_next(shards["alpha"], "COPY", MIRROR),
        _update(shards["alpha"]),
        sign_next(shards["gamma"], "WITHDRAW", PRODUCER),
        sign_next(shards["delta"], "SUPERSEDE", PRODUCER, successor="s2/beta"),
    )
    log.publish(today)
    late = [_state(f"{name} at last", made, log) for name, made in shards.items()]
    hits += [_hit(shards["alpha"], row) for row in (1, 4)]
    return World(
        [*early, *late],
        [_stranger(folder, today)],
        hits,
        policy_bytes(logged=True),
        policy_bytes(logged=False),
        make_trust(folder / "trust", now),
        shards,
        [note.decode() for note in (again, *(one.note for one in log.published))],
    )


def policy_bytes(*, logged: bool) -> bytes:
    entries = [
        entry(PRODUCER), entry(REGISTRAR, roles=["registrar"]), entry(MIRROR, roles=["mirror"]),
    ]  # fmt: skip
    for one in entries:
        one |= {"notBefore": "2020-01-01T00:00:00Z", "notAfter": "2100-01-01T00:00:00Z"}
    log = {"log": log_trust(LOG, 48)} if logged else {}
    return json.dumps(policy_json(*entries, expires="2100-01-01T00:00:00Z", **log)).encode()


def make_trust(folder: Path, now: datetime) -> dict[str, bytes]:
    """Root 1 (pinned), root 2 with other keys, and the policy that those have signed."""
    expires = now + timedelta(days=300)
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


def _state(name: str, made: Made, log: MadeLog, newest: bytes | None = None) -> State:
    path = made.statement["predicate"]["item"]
    (made.folder / "log-proof.json").write_bytes(proof_bytes(log.proof(path, newest=newest)))
    files = {name: (made.folder / name).read_bytes() for name in NAMES}
    parsed = [parse_envelope(line) for line in files["attestation.jsonl"].splitlines()]
    history = replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])
    bundle = format_bundle(bundle_of(read_folder(made.folder), None, TrustStore(made.folder / "no-trust")))
    return State(name, files, bundle, history.status.value == "active")


def _hit(made: Made, row: int) -> bytes:
    """A saved hit with the log proof that lies in the item's folder."""
    proof = json.loads((made.folder / "log-proof.json").read_bytes())
    hit = with_log_proof(make_hit(made, row), proof)
    assert hit is not None
    return json.dumps(hit).encode()


def sign_next(made: Made, event: str, key: Key, **members: Any) -> bytes:
    """One more event of the item, in its folder; the envelope."""
    held = made.attestation.read_bytes().splitlines()
    envelope = signed_event(event_after(held, event, **members), key)
    made.attestation.write_bytes(b"".join(line + b"\n" for line in [*held, envelope]))
    return envelope


def _update(made: Made) -> bytes:
    item = made.item
    item["bbox"] = [10.5, 45.5, 11.25, 46.25]
    made.write_item(item)
    return sign_next(made, "UPDATE", PRODUCER, projection=project(item).model_dump())


def _stranger(folder: Path, today: str) -> State:
    """The same item and rows by another producer, in another log under the same witnesses."""
    made = make_shard(folder / "stranger" / "alpha", item_id="alpha", signers=(STRANGER,))
    log = MadeLog(OTHER_LOG)
    sign_next(made, "REGISTER", STRANGER, log=OTHER_LOG.name)
    log.add(*made.attestation.read_bytes().splitlines())
    log.publish(today)
    return _state("alpha of a stranger", made, log)
