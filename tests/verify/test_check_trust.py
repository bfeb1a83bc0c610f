"""check.py on a shard's folder: envelopes, JSON, statement and keys (attacks 17 to 41)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged import (
    FORGED,
    MALFORMED,
    TAMPERED,
    UNTRUSTED,
    VERIFIED,
    envelope,
    outcome,
    step,
)
from make_shard import (
    MIRROR,
    NOW,
    PRODUCER,
    SECOND,
    STRANGER,
    Made,
    entry,
    leaves_of,
    make_rows,
    make_shard,
    policy,
    write_parquet,
)

from eocat.verify.check import check
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, pae
from eocat.verify.evidence import read_folder
from eocat.verify.merkle import build_tiles
from eocat.verify.report import Outcome


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "s2" / "scene")


# --- 17 to 22: DSSE


def test_attack_17_an_edited_payload(made: Made) -> None:
    payload = made.payload.replace(b"CC0-1.0", b"MIT-1.0")
    assert payload != made.payload
    made.write_envelope(envelope(made, payload=payload))
    assert outcome(made) is FORGED


@pytest.mark.parametrize(
    "kind", ["application/json", PAYLOAD_TYPE + " ", PAYLOAD_TYPE[:-1], "28 " + PAYLOAD_TYPE, ""]
)
def test_attack_17_an_edited_payload_type(made: Made, kind: str) -> None:
    made.write_envelope(envelope(made, kind=kind))
    assert outcome(made) is FORGED


def test_attack_17_lengths_in_characters_instead_of_bytes(made: Made) -> None:
    made.statement["predicate"]["actor"] = "Übung"
    payload = made.payload
    message = b"DSSEv1 28 " + PAYLOAD_TYPE.encode() + b" %d " % len(payload.decode()) + payload
    assert message != pae(PAYLOAD_TYPE, payload)
    signature = Signature(PRODUCER.public.key_id, PRODUCER.private.sign(message))
    made.write_envelope(Envelope(payload, PAYLOAD_TYPE, (signature,)))
    assert outcome(made) is FORGED
    made.sign(PRODUCER)
    assert outcome(made) is VERIFIED


def test_attack_18_another_type_of_document_signed_by_the_same_key(made: Made) -> None:
    kind = "application/vnd.example+json"
    made.write_envelope(Envelope(made.payload, kind, (PRODUCER.sign(made.payload, kind),)))
    assert outcome(made) is MALFORMED
    for payload in (b"{}", b'{"_type":"https://in-toto.io/Statement/v1"}', b"[]"):
        made.write_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),)))
        assert outcome(made) is MALFORMED


def test_attack_19_no_garbage_and_too_many_signatures(made: Made) -> None:
    made.write_envelope(replace(envelope(made), signatures=()))
    assert outcome(made) is MALFORMED
    for raw in (b"", bytes(64), b"garbage"):
        made.write_envelope(replace(envelope(made), signatures=(Signature(PRODUCER.public.key_id, raw),)))
        assert outcome(made) is FORGED
    good = PRODUCER.sign(made.payload)
    made.write_envelope(replace(envelope(made), signatures=(good, *[STRANGER.sign(made.payload)] * 15)))
    assert outcome(made) is VERIFIED
    made.write_envelope(replace(envelope(made), signatures=(good,) * 17))
    assert outcome(made) is MALFORMED


def test_attack_20_a_keyid_that_points_to_another_key(made: Made) -> None:
    raw = PRODUCER.sign(made.payload).raw
    made.write_envelope(replace(envelope(made), signatures=(Signature(SECOND.public.key_id, raw),)))
    assert outcome(made, entry(PRODUCER), entry(SECOND)) is FORGED
    assert outcome(made) is UNTRUSTED  # a key that this policy does not know
    for key_id in ("producer", "../../keys/producer.pub", PRODUCER.public.key_id.upper()):
        made.write_envelope(replace(envelope(made), signatures=(Signature(key_id, raw),)))
        assert outcome(made) is UNTRUSTED


def test_attack_20_a_missing_keyid(made: Made) -> None:
    made.write_envelope(replace(envelope(made), signatures=(Signature("", PRODUCER.sign(made.payload).raw),)))
    assert outcome(made) is UNTRUSTED


@pytest.mark.parametrize("member", ["payload", "sig"])
def test_attack_21_base64_in_a_second_spelling(made: Made, member: str) -> None:
    while len(made.payload) % 3 != 1:  # so that padding and spare bits exist
        made.statement["predicate"]["actor"] += "x"
    made.sign(PRODUCER)
    value = json.loads(made.attestation.read_bytes())
    place = value if member == "payload" else value["signatures"][0]
    text = place[member]
    assert text.endswith("==")
    spare = chr(ord(text[-3]) + 1)
    for wrong in (
        text[:-2],
        text[:-1],
        text[:-3] + spare + "==",
        text + "\n",
        text[:8] + "\n" + text[8:],
        text + "!",
        "-_" + text[2:],
    ):
        place[member] = wrong
        made.attestation.write_bytes(json.dumps(value, separators=(",", ":")).encode() + b"\n")
        assert outcome(made) is MALFORMED
    place[member] = text
    made.attestation.write_bytes(json.dumps(value, separators=(",", ":")).encode() + b"\n")
    assert outcome(made) is VERIFIED


def test_attack_22_a_key_twice_in_the_json(made: Made) -> None:
    line = made.attestation.read_bytes()
    made.attestation.write_bytes(line[:-2] + b',"payloadType":"x"}\n')
    assert outcome(made) is MALFORMED
    payload = made.payload[:-1] + b',"_type":"https://in-toto.io/Statement/v1"}'
    made.write_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),)))
    assert outcome(made) is MALFORMED
    made.attestation.write_bytes(line)
    item = (made.folder / "item.json").read_bytes()
    (made.folder / "item.json").write_bytes(item[:-1] + b', "id": "scene"}')
    assert outcome(made) is MALFORMED


# --- 23 to 25: JSON, in each of the three places that take some


def hostile(place: str, made: Made, value: str) -> Outcome:
    """The outcome with `value` put in as raw JSON text, signed where signing is possible."""
    if place == "item":
        text = json.dumps(made.item)[:-1] + f', "x": {value}}}'
        (made.folder / "item.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    elif place == "payload":
        payload = made.payload[:-1] + f',"x":{value}}}'.encode("utf-8", "surrogatepass")
        made.write_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),)))
    else:
        line = made.attestation.read_bytes()[:-2] + f',"x":{value}}}\n'.encode("utf-8", "surrogatepass")
        made.attestation.write_bytes(line)
    return outcome(made)


@pytest.mark.parametrize("place", ["item", "payload", "envelope"])
@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "1e999", "9007199254740993", '"\\ud800"', '"\\u0000"', '"\ud800"', '"e\u0301"',
     "\ufeff1", "[" * 100_000, "[" * 100 + "]" * 100, '"' + "x" * 3_000_000 + '"',
     "{" + '"":{},' * 9 + '"":{}}'],
    ids=["NaN", "Infinity", "1e999", "2^53+1", "surrogate", "NUL", "raw surrogate", "NFD", "BOM",
         "100k deep", "100 deep", "3 MB string", "empty keys"],
)  # fmt: skip
def test_attack_23_and_24_hostile_json(made: Made, place: str, value: str) -> None:
    assert hostile(place, made, value) is MALFORMED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_attack_23_another_encoding_of_the_item(made: Made, encoding: str) -> None:
    path = made.folder / "item.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert outcome(made) is MALFORMED


def test_attack_23_nfc_and_nfd_twins_of_an_asset(made: Made) -> None:
    item = made.item
    item["assets"]["e\u0301"] = item["assets"]["\u00e9"] = item["assets"]["thumbnail"]
    made.write_item(item)
    assert outcome(made) is MALFORMED


def test_attack_25_a_payload_that_is_equal_and_not_canonical(made: Made) -> None:
    loose = json.dumps(made.statement).encode()
    reordered = json.dumps(dict(reversed(made.statement.items())), separators=(",", ":")).encode()
    for payload in (loose, reordered, made.payload + b"\n"):
        made.write_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),)))
        assert outcome(made) is MALFORMED
        made.write_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(made.payload),)))
        assert outcome(made) is MALFORMED


# --- 26 to 28: statement


@pytest.mark.parametrize(
    ("member", "value"),
    [("_type", "https://in-toto.io/Statement/v0.1"), ("_type", "x"), ("predicateType", "urn:eocat:event:v0"),
     ("predicateType", "urn:eocat:event:v2"), ("predicateType", "https://slsa.dev/provenance/v1")],
)  # fmt: skip
def test_attack_26_another_type_or_version(made: Made, member: str, value: str) -> None:
    made.statement[member] = value
    made.sign(PRODUCER)
    assert outcome(made) is MALFORMED


def test_attack_27_subjects_reordered_added_or_weak(made: Made) -> None:
    good = made.statement["subject"]
    for subjects in (
        good[::-1], good[:1], good[1:], [*good, {"name": "zz", "digest": good[0]["digest"]}],
        [{"name": s["name"], "digest": {"sha1": "00" * 20}} for s in good],
        [{"name": s["name"], "digest": {"sha256": s["digest"]["sha256"][:32]}} for s in good],
    ):  # fmt: skip
        made.statement["subject"] = subjects
        made.sign(PRODUCER)
        assert outcome(made) is MALFORMED


@pytest.mark.parametrize("key", ["embeddings", "row-hashes", "thumbnail"])
@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_attack_27_every_subject_counts_and_both_its_digests(made: Made, key: str, algorithm: str) -> None:
    for subject in made.statement["subject"]:
        if subject["name"] == key:
            subject["digest"][algorithm] = "00" * 32
    if algorithm == "sha256":
        made.statement["predicate"]["projection"]["assets"][key]["sha256"] = "00" * 32
    made.sign(PRODUCER)
    assert outcome(made) is TAMPERED


def test_attack_27_a_signed_size_that_is_not_the_files(made: Made) -> None:
    item = made.item
    item["assets"]["thumbnail"]["file:size"] += 1
    made.write_item(item)
    made.statement["predicate"]["projection"]["assets"]["thumbnail"]["size"] += 1
    made.sign(PRODUCER)
    assert outcome(made) is TAMPERED


class Swapping(Mapping[str, Path]):
    """Paths that lead elsewhere from the second look on: a file replaced between hashing and reading."""

    def __init__(self, first: Mapping[str, Path], later: Mapping[str, Path]) -> None:
        self.first, self.later, self.seen = first, later, set[str]()

    def __getitem__(self, key: str) -> Path:
        if key in self.seen:
            return self.later[key]
        self.seen.add(key)
        return self.first[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.first)

    def __len__(self) -> int:
        return len(self.first)


def test_attack_28_and_65_a_file_replaced_between_hashing_and_reading(made: Made, tmp_path: Path) -> None:
    evidence = read_folder(made.folder)
    for name, content in (("embeddings", None), ("row-hashes", build_tiles(leaves_of(make_rows(5)[::-1])))):
        other = tmp_path / name
        write_parquet(made.rows[::-1], other) if content is None else other.write_bytes(content)
        files = Swapping(evidence.files, {**evidence.files, name: other})
        report = check(replace(evidence, files=files), policy(), now=NOW)
        assert report.outcome is TAMPERED


def test_attack_28_the_report_holds_the_statement_that_was_verified(made: Made) -> None:
    evidence = read_folder(made.folder)
    made.attestation.write_bytes(b"replaced after it was read\n")
    report = check(evidence, policy(), now=NOW)
    assert report.outcome is VERIFIED
    assert report.statement is not None
    assert report.statement.predicate.rows.root == made.statement["predicate"]["rows"]["root"]


# --- 29, 30, 36, 41: keys and policy


def test_attack_29_an_unknown_key(made: Made) -> None:
    made.sign(STRANGER)
    report = made.check()
    assert (report.outcome, report.level) == (UNTRUSTED, 1)
    assert STRANGER.public.key_id[:16] in step(report, "signature")


def test_attack_29_a_key_of_another_role_or_collection(made: Made) -> None:
    made.sign(MIRROR)
    assert outcome(made, entry(MIRROR, roles=["mirror", "registrar", "curator"])) is UNTRUSTED
    assert outcome(made, entry(MIRROR, collections=["s1", "s2x", "S2"])) is UNTRUSTED
    assert outcome(made, entry(MIRROR)) is VERIFIED
    assert outcome(made, entry(MIRROR, collections=["*"])) is VERIFIED


def test_attack_30_a_threshold_counts_keys_not_signatures(made: Made) -> None:
    trust = policy(entry(PRODUCER), entry(SECOND), thresholds={"producer": 2})
    good = PRODUCER.sign(made.payload)
    for signatures in (
        (good,),
        (good, good),
        (good, replace(good, key_id=STRANGER.public.key_id)),
        (good, replace(good, key_id="")),
    ):
        made.write_envelope(replace(envelope(made), signatures=signatures))
        assert made.check(trust).outcome is UNTRUSTED
    made.sign(PRODUCER)
    stolen = replace(good, key_id=SECOND.public.key_id)
    made.write_envelope(replace(envelope(made), signatures=(good, stolen)))
    assert made.check(trust).outcome is FORGED
    made.sign(PRODUCER, SECOND)
    assert made.check(trust).outcome is VERIFIED


def test_attack_30_a_threshold_counts_keys_of_the_role_and_in_time(made: Made) -> None:
    made.sign(PRODUCER, SECOND)
    two = {"thresholds": {"producer": 2}}
    assert made.check(policy(entry(PRODUCER), entry(SECOND, collections=["s1"]), **two)).outcome is UNTRUSTED
    late = policy(entry(PRODUCER), entry(SECOND, notAfter="2026-01-01T00:00:00Z"), **two)
    report = made.check(late)
    assert report.outcome is Outcome.KEY_INVALID_AT_TIME
    assert "second" in step(report, "signature")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"notAfter": "2026-07-01T12:00:00Z"}, Outcome.KEY_INVALID_AT_TIME),
        ({"notAfter": "2026-07-01T12:00:01Z"}, VERIFIED),
        ({"notBefore": "2026-07-01T12:00:01Z"}, Outcome.KEY_INVALID_AT_TIME),
        ({"notBefore": "2026-07-01T12:00:00Z"}, VERIFIED),
        ({"compromisedSince": "2026-06-01T00:00:00Z"}, Outcome.KEY_INVALID_AT_TIME),
        ({"compromisedSince": "2026-08-01T00:00:00Z"}, VERIFIED),
    ],
)
def test_attack_36_a_key_that_is_expired_retired_or_not_yet_valid(
    made: Made, members: dict[str, Any], expected: Outcome
) -> None:
    assert outcome(made, entry(PRODUCER, **members)) is expected


def test_attack_36_a_claimed_time_moves_no_key_into_its_validity(made: Made) -> None:
    made.statement["predicate"]["claimedAt"] = "2025-06-01T00:00:00Z"
    made.sign(PRODUCER)
    assert outcome(made, entry(PRODUCER, notAfter="2026-01-01T00:00:00Z")) is Outcome.KEY_INVALID_AT_TIME


def test_an_expired_policy_is_stale(made: Made) -> None:
    assert made.check(policy(expires="2026-07-01T12:00:00Z")).outcome is Outcome.STALE


def test_attack_41_a_policy_or_key_beside_the_item_is_not_trusted(made: Made) -> None:
    made.sign(STRANGER)
    for name in ("policy.json", "trust.json", "stranger.pub", "trust/policy.json"):
        path = made.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"keys": [entry(STRANGER)]}))
    assert outcome(made) is UNTRUSTED
