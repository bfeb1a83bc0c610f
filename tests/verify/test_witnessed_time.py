"""Each event is judged at the time at which witnesses had first seen it (attacks 36 to 38, 45, 49 to 51, 53).

A log of the tests' own, whose witnesses sign at chosen times; tests/walk/test_levels.py has the real one.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from make_events import signed
from make_log import MadeLog, log_trust, posix, proof_bytes
from make_notes import LOG, W1, W2, W3, Signer
from make_shard import NOW, PRODUCER, STRANGER, make_shard
from make_world import CURATOR, FEB, ITEM, JAN, MARCH, TODAY, World, fresh, make_world, trust

from eocat.verify.authenticity import check_envelopes
from eocat.verify.log.note import COSIGNATURE, ED25519, Note, format_note
from eocat.verify.report import Outcome


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Seen in January; another item in February; nothing since, but cosigned again today."""
    world = make_world(tmp_path / "scene")
    other = make_shard(tmp_path / "other", item_id="other")
    world.log.add(*other.attestation.read_bytes().splitlines())
    world.log.publish(FEB)
    return world


ENDS = ["notAfter", "retiredAt", "compromisedSince"]


@pytest.mark.parametrize("end", ENDS)
def test_attack_36_37_an_old_signature_stays_good_when_its_key_ends_later(world: World, end: str) -> None:
    report = world.judge(trust(**{end: "2026-02-01T00:00:00Z"}), fresh(world))
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
    (step,) = [step.text for step in report.steps if step.name == "log"]
    assert "#1 of 5 in log.example/eocat, seen 2026-01-10T00:00:00Z, 3/3 witnesses, age 30 min" in step


@pytest.mark.parametrize("end", ENDS)
def test_attack_38_what_was_dated_back_and_logged_late_is_refused(tmp_path: Path, end: str) -> None:
    """The thief claims January; witnesses saw it in March."""
    world = make_world(tmp_path / "scene", logged=MARCH)
    assert world.made.statement["predicate"]["claimedAt"] == "2026-01-01T00:00:00Z"
    report = world.judge(trust(**{end: "2026-02-01T00:00:00Z"}), fresh(world))
    assert report.outcome is Outcome.KEY_INVALID_AT_TIME, report.to_text()


def test_attack_36_a_key_whose_time_had_not_begun(world: World) -> None:
    assert (
        world.judge(trust(notBefore="2026-02-01T00:00:00Z"), fresh(world)).outcome
        is Outcome.KEY_INVALID_AT_TIME
    )


def test_without_the_older_checkpoint_the_newest_one_dates_the_events(world: World) -> None:
    """Errs on the side of refusal: whoever shows less makes nothing older."""
    size = world.log.published[-1].size
    proof = fresh(world, shown=[size, size])
    assert world.judge(trust(), proof).outcome is Outcome.VERIFIED
    ended = trust(notAfter="2026-02-01T00:00:00Z")
    assert world.judge(ended, proof).outcome is Outcome.KEY_INVALID_AT_TIME


def test_each_event_is_judged_at_its_own_time(world: World) -> None:
    """The CREATE of January is good, whether or not the key still was in March when it signed again."""
    world.then("SUPERSEDE", PRODUCER, successor="s2/next")
    world.log.publish(MARCH)
    ended = trust(notAfter="2026-02-20T00:00:00Z")
    assert world.judge(ended, fresh(world)).outcome is Outcome.KEY_INVALID_AT_TIME
    later = trust(notAfter="2026-03-20T00:00:00Z")
    assert world.judge(later, fresh(world)).outcome is Outcome.SUPERSEDED


def test_another_key_may_sign_what_follows_when_the_producers_has_ended(world: World) -> None:
    world.then("WITHDRAW", CURATOR, reason="the key was stolen")
    world.log.publish(MARCH)
    report = world.judge(trust(compromisedSince="2026-02-01T00:00:00Z"), fresh(world))
    assert report.outcome is Outcome.WITHDRAWN, report.to_text()


def test_events_share_one_checkpoint_and_later_ones_have_their_own(world: World) -> None:
    assert [one["checkpoint"] for one in fresh(world)["events"]] == [0, 0]
    world.then("SUPERSEDE", PRODUCER, successor="s2/next")
    world.log.publish(MARCH)
    proof = fresh(world)
    assert [one["checkpoint"] for one in proof["events"]] == [0, 0, 1]
    assert len(proof["checkpoints"]) == 3, "March's as it was first, and as it was cosigned today"


def test_a_checkpoint_without_the_readers_quorum_says_nothing(tmp_path: Path) -> None:
    """One of three witnesses in January: by the reader's policy the event was seen in March."""
    world = make_world(tmp_path / "scene", logged=JAN)
    world.log.published[-1] = replace(
        world.log.published[-1], note=world.log.cosign(world.log.published[-1].size, JAN, W1)
    )
    other = make_shard(tmp_path / "other", item_id="other")
    world.log.add(*other.attestation.read_bytes().splitlines())
    world.log.publish(MARCH)
    proof = fresh(world)
    assert len(proof["checkpoints"]) == 2
    assert world.judge(trust(), proof).outcome is Outcome.VERIFIED
    ended = trust(notAfter="2026-02-01T00:00:00Z")
    assert world.judge(ended, proof).outcome is Outcome.KEY_INVALID_AT_TIME


def test_a_later_tree_dates_what_it_holds(world: World) -> None:
    """A witness's clock ran back between two checkpoints: no event is later than one that follows it."""
    early = world.log.cosign(world.log.published[0].size, FEB)
    world.log.published[0] = replace(world.log.published[0], note=early)
    world.log.published[1] = replace(world.log.published[1], note=world.log.cosign(5, JAN))
    proof = world.log.proof(ITEM, newest=world.log.cosign(5, TODAY))
    proof["checkpoints"].insert(1, {"note": world.log.cosign(5, JAN).decode(), "path": []})
    proof["events"][1] |= {"checkpoint": 1, "path": [node.hex() for node in world.log.tree(5).prove(1)]}
    del proof["checkpoints"][2:]
    proof["checkpoints"].append({"note": world.log.cosign(5, TODAY).decode(), "path": []})
    trusted = trust(notAfter="2026-02-01T00:00:00Z")
    assert world.judge(trusted, proof).outcome is Outcome.VERIFIED


# --- What an attacker shows instead


def test_attack_49_an_older_checkpoint_of_another_log_dates_nothing(world: World, tmp_path: Path) -> None:
    """The thief runs a log of his own, with witnesses that cosign every log, and had it start early."""
    other = Signer("other.example/log", ED25519, 2)
    foreign = MadeLog(other, list(world.log.entries[:2]))
    foreign.held = {ITEM: world.log.held[ITEM]}
    foreign.publish("2025-06-01T00:00:00+00:00")
    proof = fresh(world)
    proof["checkpoints"][0] |= {"note": foreign.published[0].note.decode()}
    assert world.judge(trust(), proof).outcome is Outcome.UNTRUSTED, "the policy does not name it"
    both = log_trust()
    both["policy"] = log_trust(other)["policy"].split("\n")[0] + "\n" + both["policy"]
    listed = trust().model_copy(update={"log": type(trust().log).model_validate(both)})
    assert world.judge(listed, proof).outcome is Outcome.LOG_VIOLATION, "nor does a log vouch for another"


def test_attack_51_an_older_fork_of_the_same_log_is_a_violation(world: World) -> None:
    """Even if a quorum had cosigned it: the newest tree does not begin with it."""
    fork = MadeLog(LOG, list(world.log.entries[:2]))
    fork.held = {ITEM: world.log.held[ITEM]}
    fork.entries.insert(0, fork.entries[1])
    del fork.entries[2]
    fork.publish("2025-06-01T00:00:00+00:00")
    proof = fresh(world)
    proof["checkpoints"][0]["note"] = fork.published[0].note.decode()
    assert world.judge(trust(), proof).outcome is Outcome.LOG_VIOLATION


def test_attack_50_a_tree_that_the_newest_does_not_begin_with(world: World) -> None:
    for path in ([], ["00" * 32], fresh(world)["checkpoints"][0]["path"][:-1]):
        proof = fresh(world)
        proof["checkpoints"][0]["path"] = path
        assert world.judge(trust(), proof).outcome is Outcome.LOG_VIOLATION


def test_attack_38_an_older_checkpoint_that_does_not_hold_the_event(tmp_path: Path) -> None:
    """The thief's statement was logged in March; he shows January's checkpoint for it."""
    world = make_world(tmp_path / "scene")
    other = make_shard(tmp_path / "other", item_id="other")
    late = signed(other.statement, PRODUCER)
    world.log.add(late)
    world.log.publish(MARCH)
    proof = fresh(world)
    # the tree of January with the path of an entry that was in it, and an index beyond it
    foreign = {"checkpoint": 0, "index": 3, "path": proof["events"][0]["path"]}
    alone = MadeLog(LOG, world.log.entries, {"s2/other": [(3, late)]}, world.log.published)
    wrong = alone.proof("s2/other", newest=world.log.cosign(5, TODAY))
    wrong["checkpoints"].insert(0, proof["checkpoints"][0])
    wrong["events"] = [foreign]
    wrong["checkpoints"] = [wrong["checkpoints"][0], wrong["checkpoints"][-1]]
    trusted = trust(notAfter="2026-02-01T00:00:00Z")
    judged = check_envelopes((late,), trusted, NOW, proof_bytes(wrong))
    assert judged.log.outcome is Outcome.LOG_VIOLATION, judged.log.text


def test_attack_53_a_forged_cosignature_on_an_older_checkpoint(world: World) -> None:
    proof = fresh(world)
    note = world.log.cosign(3, "2025-06-01T00:00:00+00:00")
    text = note.replace(b"\n3\n", b"\n4\n", 1).decode()
    proof["checkpoints"][0]["note"] = text
    assert world.judge(trust(), proof).outcome is Outcome.FORGED


def test_attack_53_no_single_witness_moves_an_event_back(tmp_path: Path) -> None:
    """One witness dates its cosignature back to before the key was stolen; a quorum is two."""
    world = make_world(tmp_path / "scene", logged=MARCH)
    size = world.log.published[0].size
    honest = world.log.cosign(size, MARCH, W2, W3)
    bent = world.log.cosign(size, "2026-01-01T00:00:00+00:00", W1)
    note = honest + bent[bent.rindex("— ".encode()) :]
    world.log.published[0] = replace(world.log.published[0], note=note)
    stolen = trust(compromisedSince="2026-02-01T00:00:00Z")
    assert world.judge(stolen, fresh(world)).outcome is Outcome.KEY_INVALID_AT_TIME


@pytest.mark.parametrize(
    "numbers", [[1, 0], [0, 2], [1, 1], [2, 2]], ids=["falling", "one unused", "first unused", "beyond"]
)
def test_checkpoints_are_named_in_order_and_none_is_idle(world: World, numbers: list[int]) -> None:
    world.then("SUPERSEDE", PRODUCER, successor="s2/next")
    world.log.publish(MARCH)
    proof = fresh(world)
    proof["checkpoints"] = proof["checkpoints"][:1] * 2 + proof["checkpoints"][-1:]
    for event, number in zip(proof["events"], [*numbers, 1], strict=False):
        event["checkpoint"] = number
    assert world.judge(trust(), proof).outcome is Outcome.MALFORMED


def test_a_strangers_event_is_untrusted_whenever_it_was_seen(world: World) -> None:
    world.then("WITHDRAW", STRANGER, reason="mischief")
    world.log.publish(MARCH)
    assert world.judge(trust(), fresh(world)).outcome is Outcome.UNTRUSTED


def test_the_proof_of_many_events_stays_small(world: World) -> None:
    """Events that were logged together share their checkpoint; a proof of 60 is far below its limit."""
    for number in range(58):
        world.then("COPY", CURATOR, location=f"https://mirror.example/{number}")
    world.log.publish(MARCH)
    size = len(json.dumps(fresh(world)))
    assert size < 60 * 700 + 4000, size


def test_attack_60_lines_of_no_account_do_not_choose_the_rows_that_are_made_again(world: World) -> None:
    """Who shows the log proof appends strangers' signatures, or turns the lines: the seed stays."""

    def seed(note: str) -> str | None:
        proof = fresh(world)
        proof["checkpoints"][-1]["note"] = note
        return check_envelopes(tuple(world.envelopes), trust(), NOW, proof_bytes(proof)).checkpoint

    good = fresh(world)["checkpoints"][-1]["note"]
    text, _, lines = good.partition("\n\n")
    own = lines.splitlines(keepends=True)
    stranger = Signer("stranger.example", COSIGNATURE, 99).sign(text + "\n", posix(TODAY))
    more = format_note(Note(text + "\n", (stranger,))).decode().partition("\n\n")[2]
    first = seed(good)
    assert first is not None
    again = format_note(Note(text + "\n", (LOG.sign(text + "\n"),))).decode().partition("\n\n")[2]
    for other in (good + more, f"{text}\n\n{''.join(own[::-1])}", good + own[1], good + again):
        assert seed(other) == first
    assert seed(f"{text}\n\n{''.join(own[:3])}") != first, "another quorum is another note"
