"""Levels 3 to 5 with nothing feigned: a real log, two real witnesses, a policy that asks for both."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logged_world import Logged, policy_of, with_weights
from witnesses import served
from world import can_unshare

from eocat.catalog.renewal import renew
from eocat.producer.encoders import Encoder
from eocat.producer.encoders import bank as banks
from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import find_scenes
from eocat.producer.synthetic import write_scene
from eocat.verify.authenticity import check_envelopes
from eocat.verify.check import check
from eocat.verify.draw import draw_rows
from eocat.verify.edge.fetch import fetch_envelopes
from eocat.verify.errors import UsageError
from eocat.verify.evidence import read_folder
from eocat.verify.log.entry import entry_of, format_entry
from eocat.verify.log.item_proof import parse_item_proof
from eocat.verify.log.note import format_note, parse_note
from eocat.verify.log.proof import check_inclusion, parse_proof
from eocat.verify.log.quorum import parse_log_policy
from eocat.verify.policy import draft_policy, parse_policy
from eocat.verify.report import Outcome
from eocat.verify.statement import format_time


def test_a_registered_item_reaches_level_three(logged: Logged) -> None:
    report = logged.judge("first")
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
    (step,) = [step for step in report.steps if step.name == "log"]
    assert "2/2 witnesses, age 0 min (at most 24 h)" in step.text


def test_with_scenes_and_weights_at_hand_it_reaches_level_four(logged: Logged, tmp_path: Path) -> None:
    report = logged.judge("first", sources=logged.scenes)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), "the weights are not at hand"
    report = logged.judge("first", sources=with_weights(logged, tmp_path / "sources"))
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 4), report.to_text()


def test_rows_made_again_bit_for_bit_reach_level_five(logged: Logged, tmp_path: Path) -> None:
    sources = with_weights(logged, tmp_path / "sources")
    report = logged.judge("first", sources=sources, recompute=59)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 5), report.to_text()
    assert "4 rows made again from the source, bit for bit the same" in report.to_text()


def test_attack_59_and_60_a_poisoned_vector_by_the_command(logged: Logged, tmp_path: Path) -> None:
    """A dishonest producer with a trusted key: everything but the recomputation is in order."""

    class Poisoner:
        def __init__(self, honest: Encoder) -> None:
            self.honest = honest

        def __getattr__(self, name: str) -> Any:
            return getattr(self.honest, name)

        def encode(self, pixels: Any, *, offset: int) -> Any:
            vectors = self.honest.encode(pixels, offset=offset)
            vectors[-1, 0] = np.nextafter(vectors[-1, 0], np.float16(1))
            return vectors

    sources = with_weights(logged, tmp_path / "sources")
    (scene,) = find_scenes([sources / "first.tif"])
    honest = prepare_run([scene], publisher="p", collection="coasts", out=tmp_path, chip_size=64)
    run = replace(honest, encoder=Poisoner(honest.encoder))
    shard = produce_scene(scene, run, logged.signer)
    policy = parse_policy(draft_policy({"p": logged.signer.public}, ["*"], datetime.now(UTC), 1))
    evidence, now = read_folder(shard.folder), datetime.now(UTC)
    assert check(evidence, policy, now=now, sources=sources).outcome is Outcome.VERIFIED
    report = check(evidence, policy, now=now, sources=sources, recompute=59)
    assert report.outcome is Outcome.RECOMPUTE_MISMATCH, report.to_text()
    assert "same pixels, another vector" in report.to_text()
    trust = tmp_path / "policy.json"
    trust.write_text(policy.model_dump_json(by_alias=True))
    command = ["verify", shard.folder, "--trust", trust, "--sources", sources]
    eocat(*command, cwd=tmp_path)
    eocat(*command, "--recompute", 59, cwd=tmp_path, code=41)
    eocat(*command[:4], "--recompute", 59, cwd=tmp_path, code=42)  # attack 60: they are not served


def test_attack_60_sources_that_are_not_served_leave_it_inconclusive(logged: Logged, tmp_path: Path) -> None:
    assert logged.judge("first", recompute=5).outcome is Outcome.RECOMPUTE_INCONCLUSIVE
    assert logged.judge("first", sources=tmp_path, recompute=5).outcome is Outcome.RECOMPUTE_INCONCLUSIVE


def test_the_seed_is_of_the_newest_cosigned_checkpoint(logged: Logged) -> None:
    """Nobody chooses the rows: not the producer, and not who verifies either."""
    evidence = logged.gather("first")
    assert evidence.envelopes is not None
    assert evidence.log_proof is not None
    trust = check_envelopes(evidence.envelopes, logged.policy, datetime.now(UTC), evidence.log_proof)
    note = parse_note(parse_item_proof(evidence.log_proof).checkpoints[-1].note.encode())
    assert trust.checkpoint is not None
    cosigned = [line for line in note.signatures if line.name != logged.keyring.origin]
    assert set(parse_note(trust.checkpoint.encode()).signatures) == set(cosigned)
    unlogged = check_envelopes(evidence.envelopes, logged.policy, datetime.now(UTC))
    assert unlogged.checkpoint is None


def test_rows_are_drawn_by_the_seed_without_repeats() -> None:
    drawn = draw_rows(b"seed", 1000, 59)
    assert len(set(drawn)) == 59
    assert drawn == draw_rows(b"seed", 1000, 59) != draw_rows(b"other", 1000, 59)
    assert draw_rows(b"seed", 3, 59) == [0, 1, 2]


def test_attack_56_another_scene_under_the_same_name_fails_the_lineage(
    logged: Logged, tmp_path: Path
) -> None:
    write_scene(tmp_path / "first.tif", seed=99, size=128)
    report = logged.judge("first", sources=tmp_path)
    assert report.outcome is Outcome.LINEAGE_FAILED, report.to_text()


def test_attack_58_other_weights_under_the_same_name_fail_the_lineage(logged: Logged, tmp_path: Path) -> None:
    (weights,) = Path(banks.__file__).parent.glob("banks/exact-s2-l2a-*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    (tmp_path / weights.name).write_bytes(data)
    assert logged.judge("first", sources=tmp_path).outcome is Outcome.LINEAGE_FAILED


def test_attack_46_an_item_that_was_never_registered(logged: Logged, tmp_path: Path) -> None:
    """The catalogue has none, and its log proves that it never had; without that, nothing would."""
    trust = tmp_path / "policy.json"
    trust.write_text(logged.policy.model_dump_json(by_alias=True))
    for name in ("coasts/nothing", "coasts/aaa", "elsewhere/first"):
        ran = eocat("verify", name, "--api", logged.url, "--trust", trust, cwd=tmp_path, code=60)
        assert f"log        ok     no event of {name} among" in ran, ran


def test_without_a_log_proof_it_is_incomplete(logged: Logged) -> None:
    """A server that withholds the proof cannot pass for one that has it."""
    evidence = replace(logged.gather("first"), log_proof=None)
    report = check(evidence, logged.policy, now=datetime.now(UTC))
    assert (report.outcome, report.level) == (Outcome.INCOMPLETE, 2), report.to_text()


def test_attack_29_a_registrar_that_the_policy_does_not_name(logged: Logged) -> None:
    stranger = KeyFile.generate("stranger").public
    policy = policy_of(logged.keyring, logged.signer, stranger, *logged.witnesses)
    assert logged.judge("first", policy).outcome is Outcome.UNTRUSTED


def test_attack_47_a_proof_of_another_item_is_a_log_violation(logged: Logged) -> None:
    other = logged.gather("third").log_proof
    evidence = replace(logged.gather("first"), log_proof=other)
    assert check(evidence, logged.policy, now=datetime.now(UTC)).outcome is Outcome.LOG_VIOLATION


def test_attack_54_an_old_checkpoint_is_stale(logged: Logged) -> None:
    assert logged.judge("first", days=0.9).outcome is Outcome.VERIFIED
    assert logged.judge("first", days=1.1).outcome is Outcome.STALE


def test_attack_36_an_expired_policy_is_stale_whatever_the_witnesses_saw(logged: Logged) -> None:
    """The policy's own end counts by the verifier's clock; the log would still be fresh enough."""
    assert logged.policy.log is not None
    log = logged.policy.log.model_copy(update={"maxAgeHours": 24 * 30})
    policy = logged.policy.model_copy(update={"log": log})
    assert logged.judge("first", policy, days=2).outcome is Outcome.VERIFIED
    assert logged.judge("first", policy, days=4).outcome is Outcome.STALE


def test_attack_76_a_checkpoint_that_the_log_alone_signed_is_untrusted(
    logged: Logged, tmp_path: Path
) -> None:
    """The policy asks for a witness that never cosigned."""
    with served(tmp_path / "w2", [logged.keyring.verifier], "w2.example") as silent:
        policy = policy_of(logged.keyring, logged.signer, logged.keyring.registrar, silent)
        assert logged.judge("first", policy).outcome is Outcome.UNTRUSTED


def test_attack_36_37_a_key_that_ends_leaves_what_witnesses_saw_before(logged: Logged) -> None:
    """The log goes on and is cosigned again; the item keeps the time at which it was first seen."""
    proof = parse_item_proof(logged.gather("first").log_proof or b"")
    assert logged.policy.log is not None
    quorum = parse_log_policy(logged.policy.log.policy.encode())
    seen = quorum.judge(proof.checkpoints[0].note.encode(), datetime.now(UTC)).existed_by
    assert seen is not None
    time.sleep(max(0.0, 2.1 - (datetime.now(UTC) - seen).total_seconds()))
    assert renew(logged.database).quorum_met
    end = format_time(seen + timedelta(seconds=1))
    for ended in ("retiredAt", "compromisedSince", "notAfter"):
        keys = [key.model_copy(update={ended: end} if key.name == "p" else {}) for key in logged.policy.keys]
        policy = logged.policy.model_copy(update={"keys": keys})
        report = logged.judge("first", policy)
        assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
        alone = replace(logged.gather("first"), log_proof=None)
        assert check(alone, policy, now=datetime.now(UTC)).outcome is Outcome.KEY_INVALID_AT_TIME


def test_a_bundle_reaches_level_three_where_there_is_no_network(logged: Logged, tmp_path: Path) -> None:
    """Made from the catalogue's answers; judged in a namespace without routes, with the producer's files."""
    address = f"{logged.url}/collections/coasts/items/first"
    trust = tmp_path / "policy.json"
    trust.write_text(logged.policy.model_dump_json(by_alias=True))
    eocat("bundle", address, "-o", tmp_path / "first.eocat", cwd=tmp_path)
    offline = ["unshare", "--net", "--map-root-user"] if can_unshare() else []
    for files, code, level in (([], 11, 0), (["--files", logged.shards[0].folder], 0, 3)):
        ran = eocat(
            "verify", "first.eocat", *files, "--trust", trust, "--json", cwd=tmp_path, code=code, by=offline
        )
        (report,) = json.loads(ran)
        assert (report["exitCode"], report["level"]) == (code, level), ran


def test_fetch_brings_a_folder_that_reaches_level_three(logged: Logged, tmp_path: Path) -> None:
    """A new one; then the producer's own, which lacked the registrar's event and the log proof."""
    address = f"{logged.url}/collections/coasts/items/third"
    trust = tmp_path / "policy.json"
    trust.write_text(logged.policy.model_dump_json(by_alias=True))
    own = tmp_path / "own"
    shutil.copytree(logged.shards[2].folder, own)
    assert check(read_folder(own), logged.policy, now=datetime.now(UTC)).level == 2
    for folder in (tmp_path / "new", own):
        eocat("fetch", address, folder, "--trust", trust, cwd=tmp_path)
        report = check(read_folder(folder), logged.policy, now=datetime.now(UTC))
        assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
    (part,) = (tmp_path / "new").glob("embeddings*")
    data = part.read_bytes()
    part.unlink()
    assert report.statement is not None
    digest = report.statement.files["embeddings"].sha256
    (tmp_path / "new" / f".{part.name}.{digest[:16]}.part").write_bytes(data[: len(data) // 2])
    eocat("fetch", address, tmp_path / "new", "--trust", trust, cwd=tmp_path)
    assert part.read_bytes() == data, "the real service resumes by range"


def test_a_row_is_proven_by_ranges_and_a_saved_hit_offline_both_at_level_three(
    logged: Logged, tmp_path: Path
) -> None:
    trust = tmp_path / "policy.json"
    trust.write_text(logged.policy.model_dump_json(by_alias=True))
    address = f"{logged.url}/collections/coasts/items/first"
    eocat("prove", f"{address}#3", "-o", "proven.json", "--trust", trust, cwd=tmp_path)
    eocat(
        "similar", "coasts/first#3", "--limit", 1, "--save", "found.json", "--api", logged.url, cwd=tmp_path
    )
    offline = ["unshare", "--net", "--map-root-user"] if can_unshare() else []
    for name in ("proven.json", "found.json"):
        hit = json.loads((tmp_path / name).read_bytes())
        assert (hit["properties"]["item"], hit["properties"]["row"]) == ("first", 3)
        ran = eocat("verify", name, "--trust", trust, "--json", cwd=tmp_path, by=offline)
        (report,) = json.loads(ran)
        assert (report["outcome"], report["level"]) == ("VERIFIED", 3), ran


def test_every_event_has_a_tlog_proof_that_others_can_check(logged: Logged, tmp_path: Path) -> None:
    address = f"{logged.url}/collections/coasts/items/first"
    assert logged.policy.log is not None
    policy = parse_log_policy(logged.policy.log.policy.encode())
    for seq, envelope in enumerate(fetch_envelopes(address)):
        ran = eocat("log", "proof", address, "--event", seq, cwd=tmp_path)
        proof = parse_proof(ran.encode())
        assert proof.extra == format_entry(entry_of(envelope))
        assert check_inclusion(proof, proof.extra)
        assert policy.judge(format_note(proof.note), datetime.now(UTC)).quorum_met


def eocat(*arguments: object, cwd: Path, code: int = 0, by: Sequence[str] = ()) -> str:
    """What a command of its own process answers, which must end with `code`."""
    command = [*by, sys.executable, "-m", "eocat.edge", *map(str, arguments)]
    environment = {**os.environ, "EOCAT_HOME": str(cwd / "home")}
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout


def test_without_witnesses_in_the_policy_level_three_is_not_reached(logged: Logged) -> None:
    policy = policy_of(logged.keyring, logged.signer, logged.keyring.registrar)
    report = logged.judge("first", policy)
    assert (report.outcome, report.level) == (Outcome.INCOMPLETE, 2), report.to_text()


def test_attack_45_superseded_and_withdrawn_items_say_so_and_cannot_be_held_back(logged: Logged) -> None:
    second = logged.shards[1]
    before = logged.gather("second")
    logged.then(second, event="SUPERSEDE", successor="coasts/third", reason="a better mask")
    report = logged.judge("second")
    assert report.outcome is Outcome.SUPERSEDED, report.to_text()
    assert "superseded by coasts/third" in report.to_text()

    withheld = replace(logged.gather("second"), envelopes=before.envelopes, item=before.item)
    assert check(withheld, logged.policy, now=datetime.now(UTC)).outcome in (
        Outcome.HISTORY_BROKEN,
        Outcome.LOG_VIOLATION,
    )
    rolled_back = check(before, logged.policy, now=datetime.now(UTC) + timedelta(days=1.1))
    assert rolled_back.outcome is Outcome.STALE, "the whole old view ages"

    logged.then(second, event="WITHDRAW", reason="the scene was a wrong one")
    report = logged.judge("second")
    assert report.outcome is Outcome.WITHDRAWN, report.to_text()
    assert "the scene was a wrong one" in report.to_text()
    with pytest.raises(UsageError, match="cannot follow where the item is withdrawn"):
        logged.then(second, event="COPY", location="https://mirror.example/second")
    assert logged.judge("first").level == 3, "the others are as they were"
