"""What of an artefact may differ from what was signed and still be VERIFIED: the fuzzer's judge.

Written without the verifier, from docs/format.md: a second opinion, not the same one twice.

    files              nothing
    item.json          everything but the members of the projection (section 4); of those a number's spelling,
                       an RFC 3339 time's, and the order of roles
    attestation.jsonl  with a log policy nothing; without one an older prefix of the events, with an Item that
                       fits it, signatures of unknown keys beside the right one, and REGISTER and COPY at all
    log-proof.json     JSON spelling; which of the real signatures on its text a checkpoint has, if the log's
                       own and (on the newest) a quorum's are there; which of two checkpoints of one text an
                       event names
    trust folder       the signatures of a root or policy beyond the threshold
    bundle             lines of unknown kinds; roots, policy and source evidence in it
    hit                every member but id, geometry, place, times and the proof; row_count and vector may be
                       absent
"""

import base64
import hashlib
import io
import json
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq
import rfc8785
from make_notes import LOG
from signed_world import State, World

Files = dict[str, bytes]
QUORUM = 2  # of three witnesses: make_log.log_trust
ENDS = {"SUPERSEDE", "OBSOLETE", "WITHDRAW"}
FILES = {"embeddings": "embeddings.parquet", "row-hashes": "row-hashes.bin", "thumbnail": "thumbnail.png"}
LEAF_COLUMNS = ["id", "geometry", "start_datetime", "end_datetime", "input_digest", "embedding"]


def folder_is_allowed(
    files: dict[str, bytes], world: World, *, logged: bool, rows_only: bool = False
) -> bool:
    """Whether a folder that verified is, as far as anything is signed, one of the world's states."""
    return any(_is_state(files, state, world, logged=logged, rows_only=rows_only) for state in world.honest)


def _is_state(files: Files, state: State, world: World, *, logged: bool, rows_only: bool) -> bool:
    for name in ("row-hashes.bin", "thumbnail.png", "embeddings.parquet"):
        if files[name] != state.files[name] and not (
            rows_only and name == "embeddings.parquet" and same_rows(files[name], state.files[name])
        ):
            return False
    found, signed = (of_content(each["attestation.jsonl"]) for each in (files, state.files))
    if found != signed[: len(found)]:
        return False
    events = [json.loads(payload)["predicate"] for payload in found]
    shown = next(event["projection"] for event in reversed(events) if "projection" in event)
    if {event["event"] for event in events} & ENDS or signed_view(files["item.json"]) != projected_view(
        shown
    ):
        return False
    return not logged or (
        files["attestation.jsonl"] == state.files["attestation.jsonl"]
        and log_proof_is_allowed(files["log-proof.json"], state.files["log-proof.json"], world)
    )


def same_rows(data: bytes, signed: bytes) -> bool:
    """Whether two Parquet files hold the same rows in all that a leaf covers."""
    left, right = (pq.read_table(io.BytesIO(each), columns=LEAF_COLUMNS) for each in (data, signed))
    return bool(left.cast(right.schema).equals(right))


def signed_view(item: bytes) -> Any:
    """The members of an Item that are signed, in one spelling."""
    value = json.loads(item)
    properties = value["properties"]
    assets = {
        key: (
            asset["file:checksum"].removeprefix("1220"),
            asset["file:size"],
            asset["type"],
            sorted(asset["roles"]),
        )
        for key, asset in value["assets"].items()
        if key != "attestation"
    }
    rows = [
        properties[name] for name in ("table:row_count", "eocat:row_root", "eocat:dtype", "eocat:dimension")
    ]
    return [
        value["id"], value["collection"], value["geometry"], value["bbox"], _times(properties), assets, rows,
        properties["eocat:space"],
    ]  # fmt: skip


def projected_view(projection: Any) -> Any:
    """The same of a signed projection."""
    assets = {
        key: (asset["sha256"], asset["size"], asset["type"], sorted(asset["roles"]))
        for key, asset in projection["assets"].items()
    }
    rows = [projection["rows"][name] for name in ("count", "root", "dtype", "dimension")]
    return [
        projection["id"], projection["collection"], projection["geometry"], projection["bbox"],
        _times(projection), assets, rows, projection["space"],
    ]  # fmt: skip


def _times(members: Any) -> list[Any]:
    return [
        members.get(name) and datetime.fromisoformat(members[name].upper()).timestamp()
        for name in ("datetime", "start_datetime", "end_datetime")
    ]


def payloads(attestation: bytes) -> list[bytes]:
    return [base64.b64decode(json.loads(line)["payload"]) for line in attestation.splitlines()]


def of_content(attestation: bytes) -> list[bytes]:
    """The payloads that say something of the item: without a log anyone may sign a REGISTER or COPY."""
    events = [(json.loads(payload)["predicate"]["event"], payload) for payload in payloads(attestation)]
    return [payload for event, payload in events if event not in ("REGISTER", "COPY")]


def log_proof_is_allowed(data: bytes, signed: bytes, world: World) -> bool:
    found, right = json.loads(data), json.loads(signed)
    notes = [one["note"] for one in found["checkpoints"]]
    last = len(notes) - 1
    return bool(_log_view(found) == _log_view(right)) and all(
        note_is_allowed(note, world, quorum=QUORUM if number == last else 0)
        for number, note in enumerate(notes)
    )


def _log_view(document: Any) -> Any:
    """A log proof with a checkpoint's text for its number and signatures: two of one text are one."""
    texts = [one["note"].rpartition("\n\n")[0] for one in document["checkpoints"]]
    events = [(texts[event.pop("checkpoint")], event) for event in document["events"]]
    paths = {
        json.dumps([text, {**one, "note": None}], sort_keys=True)
        for one, text in zip(document["checkpoints"], texts, strict=True)
    }
    return [{**document, "events": None, "checkpoints": None}, events, paths]


def note_is_allowed(note: str, world: World, quorum: int) -> bool:
    """Whether log and witnesses signed that text: the lines are of notes with it, of a quorum of names."""
    text, _, lines = note.rpartition("\n\n")
    signed = [each.rpartition("\n\n") for each in world.notes]
    known = {line for same, _, right in signed if same == text for line in right.splitlines()}
    names = {line.split(" ")[1] for line in known & set(lines.splitlines())}
    return LOG.name in names and len(names - {LOG.name}) >= quorum


def bundle_is_allowed(data: bytes, world: World) -> bool:
    """Whether a bundle that verified beside the right files holds one of the world's states."""
    header, *lines = data.splitlines()
    held: dict[str, list[bytes]] = {}
    for line in lines:
        [(kind, document)] = json.loads(line).items()
        held.setdefault(kind, []).append(rfc8785.dumps(document))
    documents = {
        "item.json": held["item"][0],
        "attestation.jsonl": b"".join(line + b"\n" for line in held["envelope"]),
        "log-proof.json": held["logProof"][0],
    }
    return header == b'{"bundle":"eocat-bundle/v1"}' and any(
        _is_state(state.files | documents, state, world, logged=True, rows_only=False)
        for state in world.honest
    )


def hit_is_allowed(data: bytes, world: World, *, logged: bool) -> bool:
    """Whether a hit that verified shows, in all that is signed, one of the world's."""
    return any(_hit_view(json.loads(data), json.loads(hit), world, logged) for hit in world.hits)


def _hit_view(found: Any, signed: Any, world: World, logged: bool) -> bool:
    right, shown = signed["properties"], found["properties"]
    for name in ("collection", "item", "row", "datetime", "start_datetime", "end_datetime"):
        if shown.get(name) != right.get(name) or isinstance(shown.get(name), bool):
            return False
    if shown.get("row_count") is not None and shown["row_count"] != _count_of(right):
        return False
    if shown.get("vector") is not None and shown["vector"] != _vector_of(right):
        return False
    proof, signed_proof = shown["eocat:proof"], right["eocat:proof"]
    events, right_events = (
        of_content(b"\n".join(rfc8785.dumps(envelope) for envelope in each["envelopes"]))
        for each in (proof, signed_proof)
    )
    return (
        (found["id"], found["geometry"]) == (signed["id"], signed["geometry"])
        and (proof["leaf"], proof["path"]) == (signed_proof["leaf"], signed_proof["path"])
        and proof.keys() <= signed_proof.keys()
        and events == right_events[: len(events)]
        and (not logged or _is_whole(proof, signed_proof, world))
    )


def _is_whole(proof: Any, signed: Any, world: World) -> bool:
    """Whether a hit has all envelopes as they were logged, and their log proof: by value, -0.0 is 0."""
    found, right = (rfc8785.dumps(each["log_proof"]) for each in (proof, signed))
    return bool(proof["envelopes"] == signed["envelopes"]) and log_proof_is_allowed(found, right, world)


def _count_of(properties: Any) -> int:
    payload = json.loads(base64.b64decode(properties["eocat:proof"]["envelopes"][0]["payload"]))
    return int(payload["predicate"]["rows"]["count"])


def _vector_of(properties: Any) -> list[float]:
    import numpy as np

    leaf = properties["eocat:proof"]["leaf"]
    values: list[float] = np.frombuffer(base64.b64decode(leaf["vector"]), leaf["dtype"]).tolist()
    return values


def statement_is_true(files: dict[str, bytes]) -> bool:
    """Whether files and Item are those that a statement names, whatever else its producer signed in it."""
    [payload] = payloads(files["attestation.jsonl"])
    statement = json.loads(payload)
    digests = {subject["name"]: subject["digest"] for subject in statement["subject"]}
    for key, name in FILES.items():
        if digests[key]["sha256"] != hashlib.sha256(files[name]).hexdigest():
            return False
    shown = projected_view(statement["predicate"]["projection"])
    return digests.keys() == FILES.keys() | {"rows"} and signed_view(files["item.json"]) == shown


def trust_is_allowed(files: dict[str, bytes], world: World) -> bool:
    """Whether roots and signed policy say what was signed; signatures may be fewer or in another order."""
    for name, signed in world.trust.items():
        member = "payload" if name == "policy.signed.json" else "signed"
        if name != "memory.json" and json.loads(files[name])[member] != json.loads(signed)[member]:
            return False
    return True
