"""What follows a CREATE: signed events of a registered item enter by the same door, in order, by right."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from catalogue import counts, fetch_all, new_database, running
from log_world import LogWorld
from shard_maker import new_signer, policy_for
from stac_validation import StacSchemas

from eocat.catalog.database import Database
from eocat.catalog.keyring import read_keyring
from eocat.producer.signer import KeyFile, sign_statement
from eocat.verify.dsse import format_envelope, parse_envelope
from eocat.verify.events import parse_event
from eocat.verify.history import Status
from eocat.verify.log.entry import entry_of
from eocat.verify.log.item_proof import LogProofFailed, check_log_proof, parse_item_proof
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome
from eocat.verify.statement import format_time


@pytest.fixture
def world(embedded: Database, tmp_path: Path) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        yield LogWorld(database, tmp_path / "out")


def item(world: LogWorld, name: str) -> dict[str, Any]:
    document: dict[str, Any] = fetch_all(world.database, "SELECT pgstac.get_item(%s, 'demo')", name)[0][0]
    return document


def events(world: LogWorld, name: str) -> list[str]:
    return [parse_event(parse_envelope(one).payload).predicate.event for one in world.held(name)]


def append(folder: Path, *envelopes: bytes) -> Path:
    """Write the lines of an attestation as they are."""
    (folder / "attestation.jsonl").write_bytes(b"".join(line + b"\n" for line in envelopes))
    return folder


def signed(world: LogWorld, name: str, event: str, signer: KeyFile | None = None, **members: Any) -> bytes:
    """An event that may be wrong: `members` replace what would be right."""
    last = parse_envelope(world.held(name)[-1])
    value = json.loads(last.payload)
    right = {
        "item": f"demo/{name}", "seq": len(world.held(name)), "prev": last.payload_digest, "event": event,
        "claimedAt": "2026-11-20T00:00:00Z", "actor": "Example", "reason": "a reason",
    }  # fmt: skip
    value["predicate"] = right | members
    statement = parse_event(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    return format_envelope(sign_statement(statement, signer or world.signer))


def test_an_update_replaces_the_signed_members(world: LogWorld) -> None:
    world.add("s1")
    before = counts(world.database)
    admission = world.register(
        world.update(
            "s1", "a title", start_datetime="2024-01-01T00:00:00Z", end_datetime="2024-01-02T00:00:00Z"
        )
    )
    assert (admission.status, admission.exit_code) == ("updated", 0), admission.reason
    assert events(world, "s1") == ["CREATE", "REGISTER", "UPDATE"]
    shown = item(world, "s1")["properties"]
    assert shown["start_datetime"] == "2024-01-01T00:00:00Z"
    assert shown["eocat:status"] == "active"
    assert shown["title"] != "a title"  # nobody signed it
    assert counts(world.database) == before | {"event": 3}
    assert world.register(world.out / "demo" / "s1").status == "already registered"
    assert world.entries()[-2:] == [(3, "s1", 2), (4, None, None)]


def test_superseded_items_point_at_each_other(world: LogWorld, shared_data: Path) -> None:
    """Whichever of the two came first; and the documents stay valid STAC."""
    for name in ("s1", "s2"):
        world.add(name)
    world.register(world.sign("s1", "SUPERSEDE", successor="demo/s2", reason="better weights"))
    world.register(world.sign("s2", "SUPERSEDE", successor="demo/s3"))
    world.add("s3")
    for older, newer in (("s1", "s2"), ("s2", "s3")):
        shown = item(world, older)
        assert shown["properties"]["deprecated"] is True
        assert shown["properties"]["eocat:status"] == "superseded"
        links = [(link["rel"], link["href"]) for link in shown["links"]]
        assert ("successor-version", f"collections/demo/items/{newer}") in links
        links = [(link["rel"], link["href"]) for link in item(world, newer)["links"]]
        assert ("predecessor-version", f"collections/demo/items/{older}") in links
    assert "deprecated" not in item(world, "s3")["properties"]
    schemas = StacSchemas(shared_data / "stac_schemas")
    with running(world.database) as url:
        for name in ("s1", "s2", "s3"):
            served = requests.get(f"{url}/collections/demo/items/{name}", timeout=30).json()
            assert schemas.errors(served) == []
            for link in served["links"]:
                if link["rel"].endswith("-version"):
                    assert requests.get(link["href"], timeout=30).json()["type"] == "Feature"


def test_an_obsolete_item_is_deprecated_and_still_found(world: LogWorld) -> None:
    world.add("s1")
    assert world.register(world.sign("s1", "OBSOLETE", reason="old weights")).status == "updated"
    assert item(world, "s1")["properties"]["deprecated"] is True
    with running(world.database) as url:
        answer = requests.get(f"{url}/search/similar?like=demo/s1/0&limit=1", timeout=30).json()
    assert [hit["properties"]["eocat:status"] for hit in answer["features"]] == ["obsolete"]


def test_attack_74_a_withdrawn_item_leaves_the_search_and_keeps_its_history(world: LogWorld) -> None:
    world.add("s1")
    world.add("s2", seed=2)
    admission = world.register(world.sign("s1", "WITHDRAW", reason="wrong scene"))
    assert (admission.status, admission.exit_code) == ("updated", 0), admission.reason
    with running(world.database) as url:
        found = requests.post(
            f"{url}/search/similar", json={"like": {"collection": "demo", "item": "s2", "row": 0}}, timeout=30
        ).json()
        assert {hit["properties"]["item"] for hit in found["features"]} == {"s2"}
        assert found["candidates"] == 6
        for path in ("search/similar?like=demo/s1/0", "collections/demo/items/s1/rows/0/proof"):
            assert requests.get(f"{url}/{path}", timeout=30).status_code == 404
        served = requests.get(f"{url}/collections/demo/items/s1", timeout=30).json()
        assert served["properties"]["eocat:status"] == "withdrawn"
        assert served["properties"]["deprecated"] is True
        lines = requests.get(served["assets"]["attestation"]["href"], timeout=30).content.splitlines()
        proof = parse_item_proof(
            requests.get(f"{url}/collections/demo/items/s1/log-proof", timeout=30).content
        )
    logged = [entry_of(line) for line in lines]
    assert [one.event for one in logged] == ["CREATE", "REGISTER", "WITHDRAW"]
    check_log_proof(proof, logged, Status.WITHDRAWN, [world.checkpoint()])
    assert (proof.heads.item.seq, proof.heads.item.status) == (2, "withdrawn")
    shortened = proof.model_copy(update={"events": proof.events[:2]})  # attack 45: without the last event
    with pytest.raises(LogProofFailed) as failed:
        check_log_proof(shortened, logged[:2], Status.ACTIVE, [world.checkpoint()])
    assert failed.value.outcome is Outcome.HISTORY_BROKEN


def test_a_withdrawn_item_that_was_deleted_does_not_come_back(world: LogWorld) -> None:
    """Its folder of before the WITHDRAW is registered again, and its rows stay out of every search."""
    folder = world.write("s1")
    world.register(folder)
    before = world.in_folder("s1")
    world.register(world.sign("s1", "WITHDRAW", reason="wrong scene"))
    with world.database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        connection.execute("SELECT pgstac.delete_item('s1', 'demo')")
    world.register(append(folder, *before))
    assert item(world, "s1")["properties"]["eocat:status"] == "withdrawn"
    assert counts(world.database)["chip"] == 0


def test_attack_46_a_withdrawn_item_is_not_resurrected(world: LogWorld) -> None:
    """Neither by a new CREATE of its own key or another trusted one, nor by an event after the last."""
    folder = world.add("s1").folder
    world.register(world.sign("s1", "WITHDRAW", reason="wrong scene"))
    before, log = counts(world.database), world.checkpoint()
    other = LogWorld(world.database, world.out.parent / "other", new_signer("second"))
    again = other.write("s1", seed=9)
    refused = world.register(again, policy_for(world.signer, other.signer))
    assert (refused.exit_code, refused.outcome) == (24, "HISTORY_BROKEN")
    assert world.register(again).exit_code == 22  # by a key that nobody trusts
    late = signed(world, "s1", "SUPERSEDE", reason=None, successor="demo/s2")
    refused = world.register(append(folder, *world.held("s1"), late))
    assert (refused.exit_code, refused.outcome) == (24, "HISTORY_BROKEN")
    assert (counts(world.database), world.checkpoint()) == (before, log)


def test_attack_42_a_history_that_is_no_history_is_refused(world: LogWorld) -> None:
    """A middle event removed, two in the wrong order, another prev, two events with one seq."""
    folder = world.add("s1").folder
    world.register(world.sign("s1", "OBSOLETE", reason="old"))
    create, register, obsolete = world.held("s1")
    fork = world.held("s1")[:2]
    for lines in (
        [create, obsolete],
        [create, obsolete, register],
        [register, create],
        [create, register, obsolete, obsolete],
        [create, register, signed(world, "s1", "WITHDRAW", seq=2)],
        [*fork, signed(world, "s1", "WITHDRAW", seq=2, prev=parse_envelope(register).payload_digest)],
        [create, register, obsolete, signed(world, "s1", "WITHDRAW", seq=4)],
        [create, register, obsolete, signed(world, "s1", "WITHDRAW", prev="0" * 64)],
    ):
        refused = world.register(append(folder, *lines))
        assert (refused.exit_code, refused.outcome) == (24, "HISTORY_BROKEN"), refused.reason
        assert world.held("s1") == [create, register, obsolete]


def test_attack_43_another_items_event_is_refused(world: LogWorld) -> None:
    folder = world.add("s1").folder
    world.add("s2")
    theirs = signed(world, "s2", "WITHDRAW")
    refused = world.register(append(folder, *world.held("s1"), theirs))
    assert (refused.exit_code, refused.outcome) == (24, "HISTORY_BROKEN")
    assert events(world, "s1") == ["CREATE", "REGISTER"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("WITHDRAW", {"event": "COPY", "location": "https://mirror.example"}),
        ("WITHDRAW", {"event": "WITHDRAW", "reason": "again"}),
        ("OBSOLETE", {"event": "OBSOLETE", "reason": "again"}),
        ("OBSOLETE", {"event": "REGISTER", "log": "example.org/log"}),
    ],
    ids=["COPY after WITHDRAW", "WITHDRAW twice", "OBSOLETE twice", "REGISTER twice"],
)
def test_attack_44_an_illegal_transition_is_refused(
    world: LogWorld, first: str, then: dict[str, Any]
) -> None:
    folder = world.add("s1").folder
    world.register(world.sign("s1", first, reason="a reason"))
    event = signed(world, "s1", **({"reason": None} | then))
    refused = world.register(append(folder, *world.held("s1"), event))
    assert (refused.exit_code, refused.outcome) == (24, "HISTORY_BROKEN")
    assert events(world, "s1") == ["CREATE", "REGISTER", first]


def with_roles(world: LogWorld, *others: tuple[KeyFile, str]) -> Policy:
    """The producer's policy, and keys of other roles."""
    policy = policy_for(world.signer, *(key for key, _ in others))
    roles = {world.signer.name: "producer", **{key.name: role for key, role in others}}
    keys = [key.model_copy(update={"roles": [roles[key.name]]}) for key in policy.keys]
    return policy.model_copy(update={"keys": keys})


@pytest.mark.parametrize(
    ("event", "role", "code"),
    [
        ("OBSOLETE", "curator", 0),
        ("OBSOLETE", "mirror", 22),
        ("OBSOLETE", "registrar", 22),
        ("COPY", "mirror", 0),
        ("COPY", "curator", 22),
    ],
)
def test_an_event_needs_a_key_of_its_role(world: LogWorld, event: str, role: str, code: int) -> None:
    folder = world.add("s1").folder
    other = new_signer("other")
    members = {"reason": None, "location": "https://mirror.example"} if event == "COPY" else {}
    line = signed(world, "s1", event, other, **members)
    admission = world.register(append(folder, *world.held("s1"), line), with_roles(world, (other, role)))
    assert admission.exit_code == code, admission.reason
    assert len(world.held("s1")) == (3 if code == 0 else 2)


def test_an_unknown_or_invalid_signature_is_refused(world: LogWorld) -> None:
    folder = world.add("s1").folder
    line = signed(world, "s1", "WITHDRAW", new_signer("stranger"))
    assert world.register(append(folder, *world.held("s1"), line)).exit_code == 22
    good = parse_envelope(signed(world, "s1", "WITHDRAW"))
    signature = good.signatures[0]
    raw = bytes([signature.raw[0] ^ 1]) + signature.raw[1:]
    bad = type(good)(good.payload, good.payload_type, (type(signature)(signature.key_id, raw),))
    refused = world.register(append(folder, *world.held("s1"), format_envelope(bad)))
    assert (refused.exit_code, refused.outcome) == (21, "FORGED")
    assert events(world, "s1") == ["CREATE", "REGISTER"]


def test_attack_42_a_forged_register_does_not_stand_in_for_the_registrars(world: LogWorld) -> None:
    """A producer writes its own REGISTER before the catalogue has seen the item."""
    world.add("s0")  # for a REGISTER to copy the shape of
    folder = world.write("s1")
    create = world.in_folder("s1")[0]
    value = json.loads(parse_envelope(world.held("s0")[1]).payload)
    statement = json.loads(parse_envelope(create).payload)
    value["subject"][0]["digest"]["sha256"] = statement["predicate"]["rows"]["root"]
    value["predicate"] |= {"item": "demo/s1", "prev": parse_envelope(create).payload_digest}
    own = parse_event(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    line = format_envelope(sign_statement(own, world.signer))
    refused = world.register(append(folder, create, line))
    assert (refused.exit_code, refused.outcome) == (22, "UNTRUSTED")
    assert world.held("s1") == []


def test_a_history_of_another_catalogue_goes_on_here(embedded: Database, world: LogWorld) -> None:
    """An item that another registrar admitted keeps its REGISTER, if the policy trusts that registrar."""
    folder = world.add("s1").folder
    append(folder, *world.held("s1"))
    registrar = KeyFile("registrar", read_keyring(world.home)._registrar)
    with new_database(embedded) as other:
        there = LogWorld(other, world.out, world.signer)
        assert there.register(folder).exit_code == 22
        assert there.register(folder, with_roles(world, (registrar, "registrar"))).status == "registered"
        assert there.held("s1") == world.held("s1")
        assert there.entries() == [(0, None, None), (1, "s1", 0), (2, "s1", 1), (3, None, None)]


def test_what_is_over_elsewhere_is_not_admitted_here(embedded: Database, world: LogWorld) -> None:
    world.add("s1")
    folder = world.sign("s1", "WITHDRAW", reason="wrong scene")
    with new_database(embedded) as other:
        there = LogWorld(other, world.out, world.signer)
        refused = there.register(folder)
        assert (refused.exit_code, refused.outcome) == (31, "WITHDRAWN")
        assert counts(other)["event"] == 0


def test_an_item_of_before_the_log_is_registered_when_it_is_seen_again(world: LogWorld) -> None:
    """As the first release left it: a CREATE, no REGISTER, nothing in the log."""
    folder = world.add("s1").folder
    with world.database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        for table in ("log_checkpoint", "log_tree", "log_collection", "log_entry"):
            connection.execute(f"DELETE FROM eocat.{table}")
        connection.execute("DELETE FROM eocat.event WHERE seq = 1")
    (world.home / "log" / "checkpoint").unlink()
    for path in (world.home / "log" / "tile").rglob("*.p"):
        for tile in path.iterdir():
            tile.unlink()
    assert world.register(folder).status == "updated"
    assert events(world, "s1") == ["CREATE", "REGISTER"]
    assert world.entries() == [(0, "s1", 0), (1, "s1", 1), (2, None, None)]


@pytest.mark.parametrize("end", ["retiredAt", "compromisedSince", "notAfter"])
def test_a_key_that_has_ended_keeps_nobody_from_withdrawing_what_it_signed(world: LogWorld, end: str) -> None:
    """The producer's key is stolen: a curator's withdraws, and nothing new by the stolen one is admitted."""
    world.add("s1")
    time.sleep(1.1)
    curator = new_signer()
    now = format_time(datetime.now(UTC).replace(microsecond=0))
    old = world.policy
    ended = old.keys[0].model_copy(update={end: now})
    roles = {"roles": ["curator"], "name": "curator"}
    other = policy_for(curator).keys[0].model_copy(update=roles)
    policy = old.model_copy(update={"keys": [ended, other]})
    assert world.register(world.write("s2"), policy).outcome == "KEY_INVALID_AT_TIME"
    assert world.register(world.out / "demo" / "s1", policy).status == "already registered"
    late = world.sign("s1", "OBSOLETE", reason="signed by the thief")
    assert world.register(late, policy).outcome == "KEY_INVALID_AT_TIME"
    done = world.register(world.sign("s1", "WITHDRAW", curator, reason="the key was stolen"), policy)
    assert (done.status, done.reason) == ("updated", "")
    assert events(world, "s1") == ["CREATE", "REGISTER", "WITHDRAW"]
