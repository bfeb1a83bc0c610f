"""Makes a logged item: a shard's folder, its events, and a log whose witnesses sign at chosen times."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from make_events import event_after, signed
from make_log import MadeLog, log_trust, proof_bytes
from make_notes import LOG, Signer
from make_shard import NOW, PRODUCER, Key, Made, entry, make_shard, policy_json

from eocat.verify.check import check
from eocat.verify.evidence import read_folder
from eocat.verify.policy import Policy, parse_policy
from eocat.verify.report import Report

REGISTRAR = Key.from_seed("registrar")
CURATOR = Key.from_seed("curator")
ITEM = "s2/scene"

JAN, FEB, MARCH = "2026-01-10T00:00:00+00:00", "2026-02-10T00:00:00+00:00", "2026-03-10T00:00:00+00:00"
TODAY = "2026-07-01T11:30:00+00:00"  # half an hour before NOW


def trust_json(log: Signer = LOG, **producer: Any) -> dict[str, Any]:
    entries = [
        entry(PRODUCER, **producer),
        entry(REGISTRAR, roles=["registrar"]),
        entry(CURATOR, roles=["curator"]),
    ]
    return policy_json(*entries, log=log_trust(log))


def trust(log: Signer = LOG, **producer: Any) -> Policy:
    """A policy that asks for two of three witnesses of the log; producer: members of the producer's key."""
    return parse_policy(json.dumps(trust_json(log, **producer)).encode())


@dataclass
class World:
    made: Made
    envelopes: list[bytes]
    log: MadeLog

    def judge(self, trusted: Policy, proof: dict[str, Any] | None = None, **options: Any) -> Report:
        evidence = replace(
            read_folder(self.made.folder),
            envelopes=tuple(self.envelopes),
            log_proof=proof_bytes(proof or self.log.proof(ITEM)),
        )
        return check(evidence, trusted, now=NOW, **options)

    def then(self, event: str, key: Key, **members: Any) -> None:
        self.envelopes.append(signed(event_after(self.envelopes, event, **members), key))
        self.log.add(self.envelopes[-1])


def make_world(folder: Path, *, logged: str = JAN) -> World:
    """An item, created and registered; witnesses saw both in `logged`."""
    return world_of(make_shard(folder), logged)


def world_of(made: Made, logged: str = JAN) -> World:
    envelopes = made.attestation.read_bytes().splitlines()[:1]
    world = World(made, envelopes, MadeLog())
    world.log.add(*envelopes)
    world.then("REGISTER", REGISTRAR)
    world.log.publish(logged)
    return world


def fresh(world: World, **options: Any) -> dict[str, Any]:
    """The log proof with the newest checkpoint cosigned again today."""
    newest = world.log.cosign(world.log.published[-1].size, TODAY)
    return world.log.proof(ITEM, newest=newest, **options)
