"""Makes the vectors of log proofs, bundles and logged hits, for make_vectors.py (format.md, 8, 10, 11)."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from make_events import event_after, signed
from make_log import MadeLog, proof_bytes
from make_notes import LOG, W1, Signer
from make_shard import NOW, PRODUCER, Made, make_hit
from make_world import FEB, ITEM, MARCH, REGISTRAR, TODAY, World, fresh, trust_json, world_of

from eocat.verify.bundle import HEADER, Bundle, format_bundle, with_local_names
from eocat.verify.log.note import ED25519
from eocat.verify.statement import format_time

Vector = dict[str, Any]
Edit = Callable[[Vector], object]


def log_vectors(made: Made) -> Iterator[tuple[str, Vector]]:
    """`made`: a shard whose bytes follow no library's version."""
    world = world_of(made)  # seen in January
    made.attestation.write_bytes(b"".join(line + b"\n" for line in world.envelopes))
    world.log.publish(FEB)  # a larger tree: nothing new but its head map
    yield from log_proofs(world)
    yield from absences(world)
    yield from hits(world)
    yield from bundles(world)


def judged(kind: str, outcome: str, policy: Vector, **members: Any) -> Vector:
    return {"kind": kind, "policy": policy, "now": format_time(NOW), "outcome": outcome, **members}


def of_proof(world: World, proof: Vector, outcome: str = "VERIFIED", **more: Any) -> Vector:
    policy = more.pop("policy", trust_json())
    texts = [envelope.decode() for envelope in more.pop("envelopes", world.envelopes)]
    return judged("logproof", outcome, policy, envelopes=texts, logProof=proof, **more)


def log_proofs(world: World) -> Iterator[tuple[str, Vector]]:
    proof = fresh(world)
    january = ["2026-01-10T00:00:00Z"] * 2
    yield "good/logproof", of_proof(world, proof, witnessed=january)
    ended = trust_json(compromisedSince="2026-02-01T00:00:00Z")
    yield "good/logproof-key-ended-later", of_proof(world, proof, policy=ended, witnessed=january)
    size = world.log.published[-1].size
    later = fresh(world, shown=[size, size])
    february = ["2026-02-10T00:00:00Z"] * 2
    yield "good/logproof-first-left-out", of_proof(world, later, witnessed=february)
    yield "bad/logproof-first-left-out-key-ended", of_proof(world, later, "KEY_INVALID_AT_TIME", policy=ended)
    late = world_of(world.made, MARCH)
    yield (
        "bad/logproof-dated-back",
        of_proof(late, fresh(late), "KEY_INVALID_AT_TIME", policy=ended, envelopes=late.envelopes),
    )
    withdrawn = world_of(world.made)
    withdrawn.then("WITHDRAW", PRODUCER, reason="a wrong scene")
    withdrawn.log.publish(MARCH)
    held_back = fresh(withdrawn)
    held_back["events"].pop()
    held_back["checkpoints"].pop(-2)
    yield "bad/logproof-event-held-back", of_proof(world, held_back, "HISTORY_BROKEN")
    for name, (outcome, note) in other_notes(world).items():
        yield f"bad/logproof-{name}", of_proof(world, edited(proof, first_note(note)), outcome)
    for name, (outcome, edit) in LIES.items():
        yield f"bad/logproof-{name}", of_proof(world, edited(proof, edit), outcome)
    single = world.log.proof(ITEM, newest=world.log.cosign(size, TODAY, W1))
    yield "bad/logproof-no-quorum", of_proof(world, single, "UNTRUSTED")
    old = world.log.proof(ITEM, newest=world.log.cosign(size, "2026-06-30T11:00:00+00:00"))
    yield "bad/logproof-stale", of_proof(world, old, "STALE")


def edited(proof: Vector, edit: Edit) -> Vector:
    changed = copy.deepcopy(proof)
    edit(changed)
    return changed


def first_note(note: bytes) -> Edit:
    return lambda proof: proof["checkpoints"][0].update(note=note.decode())


def other_notes(world: World) -> dict[str, tuple[str, bytes]]:
    """What is shown in place of the older checkpoint."""
    early = "2025-06-01T00:00:00+00:00"
    foreign = MadeLog(Signer("other.example/log", ED25519, 2), world.log.entries[:2], dict(world.log.held))
    foreign.publish(early)
    fork = MadeLog(LOG, world.log.entries[1::-1], dict(world.log.held))
    fork.publish(early)
    forged = world.log.cosign(3, early).replace(b"\n3\n", b"\n4\n", 1)
    return {
        "other-log": ("UNTRUSTED", foreign.published[0].note),
        "older-fork": ("LOG_VIOLATION", fork.published[0].note),
        "older-forged": ("FORGED", forged),
    }


def swap(list_name: str) -> Edit:
    return lambda proof: proof[list_name].reverse()


LIES: dict[str, tuple[str, Edit]] = {
    "consistency-cut": ("LOG_VIOLATION", lambda p: p["checkpoints"][0]["path"].pop()),
    "consistency-of-the-newest": ("LOG_VIOLATION", lambda p: p["checkpoints"][1].update(path=["00" * 32])),
    "event-index": ("LOG_VIOLATION", lambda p: p["events"][0].update(index=2)),
    "event-path-cut": ("LOG_VIOLATION", lambda p: p["events"][0]["path"].pop()),
    "event-dropped": ("LOG_VIOLATION", lambda p: p["events"].pop()),
    "events-swapped": ("LOG_VIOLATION", swap("events")),
    "heads-index": ("LOG_VIOLATION", lambda p: p["heads"].update(index=2)),
    "heads-status": ("LOG_VIOLATION", lambda p: p["heads"]["item"].update(status="withdrawn")),
    "checkpoints-swapped": ("LOG_VIOLATION", swap("checkpoints")),
    "checkpoint-idle": ("MALFORMED", lambda p: p["checkpoints"].insert(0, p["checkpoints"][0])),
    "checkpoint-falling": ("MALFORMED", lambda p: p["events"][0].update(checkpoint=1)),
    "checkpoint-beyond": ("MALFORMED", lambda p: p["events"][1].update(checkpoint=2)),
    "member-more": ("MALFORMED", lambda p: p.update(extra=1)),
}


def absences(world: World) -> Iterator[tuple[str, Vector]]:
    """The log holds s2/scene alone."""
    newest = world.log.cosign(world.log.published[-1].size, TODAY)

    def of(
        path: str, outcome: str = "VERIFIED", shown: str | None = None, edit: Edit | None = None
    ) -> Vector:
        proof = world.log.absence(shown or path, newest=newest)
        if edit:
            edit(proof["heads"]["absent"])
        return judged("absence", outcome, trust_json(), item=path, absence=proof)

    yield "good/absence-of-an-item", of("s2/other")
    yield "good/absence-of-a-collection", of("s1/scene")
    yield "bad/absence-of-what-is-there", of("s2/scene", "LOG_VIOLATION", "s2/other")
    yield (
        "bad/absence-neighbour-left-out",
        of("s2/other", "LOG_VIOLATION", edit=lambda a: a.update(after=None)),
    )
    side = of("s2/other", "LOG_VIOLATION", edit=lambda a: a.update(before=a["after"], after=a["before"]))
    yield "bad/absence-other-side", side
    yield "bad/absence-name", of("s2/other", "MALFORMED", edit=lambda a: a["after"].update(name="../x"))


def hits(world: World) -> Iterator[tuple[str, Vector]]:
    def hit(**proof: Any) -> Vector:
        feature = make_hit(world.made, 2)
        feature["properties"]["eocat:proof"] |= proof
        return feature

    yield "good/hit-logged", judged("hit", "VERIFIED", trust_json(), hit=hit(log_proof=fresh(world)))
    yield "bad/hit-log-proof-left-out", judged("hit", "INCOMPLETE", trust_json(), hit=hit())
    yield "bad/hit-log-proof-null", judged("hit", "MALFORMED", trust_json(), hit=hit(log_proof=None))
    lie = edited(fresh(world), lambda p: p["events"][0].update(index=2))
    yield "bad/hit-log-proof-lies", judged("hit", "LOG_VIOLATION", trust_json(), hit=hit(log_proof=lie))


def bundles(world: World) -> Iterator[tuple[str, Vector]]:
    item = with_local_names((world.made.folder / "item.json").read_bytes())
    whole = Bundle(item, tuple(world.envelopes), proof_bytes(fresh(world)), traces={"scene": b"[]"})
    text = format_bundle(Bundle(item, whole.envelopes, whole.log_proof)).decode()

    def of(text: str, outcome: str = "VERIFIED") -> Vector:
        return judged("bundle", outcome, trust_json(), bundle=text)

    header, *lines = text.splitlines(keepends=True)
    yield "good/bundle", of(text)
    yield "good/bundle-unknown-line", of(header + lines[0] + '{"remark":"not read"}\n' + "".join(lines[1:]))
    twice = "".join([header, *lines[:3], lines[2], *lines[3:]])
    foreign = signed(event_after(world.envelopes, "COPY", item="s2/other"), REGISTRAR).decode()
    bad = {
        "header": ("MALFORMED", text.replace("bundle/v1", "bundle/v2")),
        "no-item": ("MALFORMED", header + "".join(lines[1:])),
        "two-items": ("MALFORMED", header + lines[0] + "".join(lines)),
        "order": ("MALFORMED", header + lines[1] + lines[0] + "".join(lines[2:])),
        "whitespace": ("MALFORMED", text.replace('{"item":', '{"item": ')),
        "no-last-newline": ("MALFORMED", text[:-1]),
        "empty-line": ("MALFORMED", text + "\n"),
        "two-members": ("MALFORMED", text[:-2] + ',"x":1}\n'),
        "traces-null": ("MALFORMED", text + '{"traces":{"content":null,"source":"scene"}}\n'),
        "event-twice": ("HISTORY_BROKEN", twice),
        "event-dropped": ("LOG_VIOLATION", "".join([header, *lines[:2], *lines[3:]])),
        "foreign-event": (
            "HISTORY_BROKEN", "".join([header, *lines[:3], f'{{"envelope":{foreign}}}\n', *lines[3:]])
        ),
        "item-edited": ("TAMPERED", text.replace("11.05", "11.06", 1)),
    }  # fmt: skip
    for name, (outcome, changed) in bad.items():
        assert changed.encode().startswith(HEADER) or name == "header"
        yield f"bad/bundle-{name}", of(changed, outcome)
