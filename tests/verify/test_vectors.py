"""The committed test vectors are what their maker makes, and this verifier agrees with every one."""

import importlib.util
import json
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eocat.verify import canonical
from eocat.verify.authenticity import check_envelopes
from eocat.verify.bundle import evidence_of, parse_bundle
from eocat.verify.check import check
from eocat.verify.closeness import CAPS, band_of
from eocat.verify.errors import Malformed
from eocat.verify.geometry import format_wkb
from eocat.verify.history import Status
from eocat.verify.hit import check_hit
from eocat.verify.keys import parse_key
from eocat.verify.log import absence
from eocat.verify.logged import check_logged
from eocat.verify.merkle import build_tiles, leaf_hash, root_from_path, tree_of
from eocat.verify.policy import parse_policy
from eocat.verify.projection import differences, project
from eocat.verify.report import PRECEDENCE, Outcome, Step
from eocat.verify.row import Row, encode_row, pixels_digest
from eocat.verify.statement import Projection, format_time, space_digest, validated

FOLDER = Path(__file__).resolve().parents[1] / "vectors"
FILES = sorted([*FOLDER.glob("good/*.json"), *FOLDER.glob("bad/*.json")])

Vector = dict[str, Any]


def judge_row(vector: Vector) -> Outcome:
    given = vector["input"]
    row = Row(
        given["id"], format_wkb(given["geometry"]), given["start_us"], given["end_us"],
        bytes.fromhex(given["input_digest"]), given["dtype"], bytes.fromhex(given["vector"]),
    )  # fmt: skip
    assert row.geometry.hex() == vector["wkb"]
    assert encode_row(row).hex() == vector["leaf"]
    assert leaf_hash(encode_row(row)).hex() == vector["leafHash"]
    return Outcome.VERIFIED


def judge_pixels(vector: Vector) -> Outcome:
    array = np.array(vector["values"], vector["dtype"]).reshape(vector["shape"])
    assert pixels_digest(array).hex() == vector["digest"]
    return Outcome.VERIFIED


def judge_tree(vector: Vector) -> Outcome:
    size, root = vector["size"], bytes.fromhex(vector["root"])
    file = build_tiles(b"".join(leaf_hash(b"%d" % index) for index in range(size)))
    assert (len(file), sha256(file).hexdigest()) == (vector["fileBytes"], vector["fileSha256"])
    tree = tree_of(file, size)
    assert tree.root() == root
    for proof in vector["proofs"]:
        path = tuple(bytes.fromhex(node) for node in proof["path"])
        assert tree.prove(proof["index"]) == path
        assert root_from_path(bytes.fromhex(proof["leafHash"]), proof["index"], size, path) == root
    return Outcome.VERIFIED


def judge_proof(vector: Vector) -> Outcome:
    """A path of another shape than the signed tree's is no proof: for a row that is tampering."""
    path = tuple(bytes.fromhex(node) for node in vector["path"])
    try:
        root = root_from_path(bytes.fromhex(vector["leafHash"]), vector["index"], vector["size"], path)
    except Malformed:
        return Outcome.TAMPERED
    return Outcome.VERIFIED if root.hex() == vector["root"] else Outcome.TAMPERED


def judge_key(vector: Vector) -> Outcome:
    assert parse_key(vector["key"]).key_id == vector["keyId"]
    return Outcome.VERIFIED


def judge_space(vector: Vector) -> Outcome:
    assert space_digest(vector["config"], vector["preprocess"], vector["weights"]) == vector["space"]
    return Outcome.VERIFIED


def judge_envelope(vector: Vector) -> Outcome:
    policy = parse_policy(json.dumps(vector["policy"]).encode())
    trust = check_envelopes((vector["envelope"].encode(),), policy, datetime.fromisoformat(vector["now"]))
    found = {step.outcome for step in (trust.signature, trust.history) if step.outcome}
    return next((outcome for outcome in PRECEDENCE if outcome in found), Outcome.VERIFIED)


def judge_item(vector: Vector) -> Outcome:
    signed = validated(Projection, vector["projection"], what="projection")
    names = differences(signed, project(vector["item"]))
    assert names == vector["differences"]
    return Outcome.TAMPERED if names else Outcome.VERIFIED


def judge_hit(vector: Vector) -> Outcome:
    policy = parse_policy(json.dumps(vector["policy"]).encode())
    now = datetime.fromisoformat(vector["now"])
    return check_hit(json.dumps(vector["hit"]).encode(), policy, target="hit", now=now).outcome


def judge_closeness(vector: Vector) -> Outcome:
    band = band_of(vector["tolerance"], CAPS | vector["tolerances"])
    if band is None:
        return Outcome.RECOMPUTE_INCONCLUSIVE
    signed = np.frombuffer(bytes.fromhex(vector["signed"]), np.dtype(vector["dtype"]).newbyteorder("<"))
    passes = band.passes(signed, bytes.fromhex(vector["made"]))
    return Outcome.VERIFIED if passes else Outcome.RECOMPUTE_MISMATCH


def judge_logproof(vector: Vector) -> Outcome:
    """Steps 1, 2 and 6, and by when each event had been seen."""
    policy, now = parse_policy(json.dumps(vector["policy"]).encode()), datetime.fromisoformat(vector["now"])
    envelopes = tuple(text.encode() for text in vector["envelopes"])
    proof = canonical.encode(vector["logProof"])
    trust = check_envelopes(envelopes, policy, now, proof)
    if "witnessed" in vector:
        seen = check_logged(proof, envelopes, Status.ACTIVE, policy.log, now).seen
        assert [format_time(time) for time in seen] == vector["witnessed"]
    return worst_of([trust.signature, trust.history, trust.log])


def judge_absence(vector: Vector) -> Outcome:
    policy, now = parse_policy(json.dumps(vector["policy"]).encode()), datetime.fromisoformat(vector["now"])
    assert policy.log is not None
    step = absence.judge_absence(
        canonical.encode(vector["absence"]), *vector["item"].split("/"), policy.log, now
    )
    return step.outcome or Outcome.VERIFIED


def judge_bundle(vector: Vector) -> Outcome:
    """All that can be said without the data files: steps 1, 2, 3 and 6."""
    policy, now = parse_policy(json.dumps(vector["policy"]).encode()), datetime.fromisoformat(vector["now"])
    evidence = evidence_of(parse_bundle(vector["bundle"].encode()), "bundle", None)
    return worst_of(list(check(evidence, policy, now=now).steps))


def worst_of(steps: list[Step]) -> Outcome:
    failed = {step.outcome for step in steps}
    return next((outcome for outcome in PRECEDENCE if outcome in failed), Outcome.VERIFIED)


def judge_history(vector: Vector) -> Outcome:
    policy = parse_policy(json.dumps(vector["policy"]).encode())
    envelopes = tuple(text.encode() for text in vector["envelopes"])
    trust = check_envelopes(envelopes, policy, datetime.fromisoformat(vector["now"]))
    steps = [step for step in (trust.signature, trust.history, trust.receipts) if step]
    found = {step.outcome for step in steps if step.outcome}
    return next((outcome for outcome in PRECEDENCE if outcome in found), Outcome.VERIFIED)


JUDGES: dict[str, Callable[[Vector], Outcome]] = {
    "row": judge_row, "pixels": judge_pixels, "tree": judge_tree, "proof": judge_proof, "key": judge_key,
    "space": judge_space, "envelope": judge_envelope, "item": judge_item, "hit": judge_hit,
    "logproof": judge_logproof, "bundle": judge_bundle, "absence": judge_absence,
    "closeness": judge_closeness, "history": judge_history,
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_this_verifier_agrees_with_the_vector(file: Path) -> None:
    vector = json.loads(file.read_bytes())
    try:
        outcome = JUDGES[vector["kind"]](vector)
    except Malformed:
        outcome = Outcome.MALFORMED
    assert outcome.name == vector["outcome"]
    assert (file.parent.name == "good") == (outcome is Outcome.VERIFIED)


def test_the_committed_vectors_are_what_their_maker_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    made = {f"{name}.json": maker.text_of(vector) for name, vector in maker.vectors()}
    committed = {f"{file.parent.name}/{file.name}": file.read_text("utf-8") for file in FILES}
    assert made == committed


def test_the_statement_that_the_specification_prints_is_the_vectors() -> None:
    document = (FOLDER.parents[1] / "docs" / "format.md").read_text("utf-8")
    printed = document.split("```json\n")[1].split("```")[0]
    payload = json.loads((FOLDER / "good" / "envelope.json").read_bytes())["payload"]
    assert json.loads(printed) == json.loads(payload)
