"""Attacks 42 to 55 and 76, each to its exit code by the command: histories, log proofs, notes, witnesses."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fuzz import judge
from make_events import event_after, signed
from make_log import MadeLog, proof_bytes
from make_notes import LOG, W1, W2, W3, Signer, cosigned
from make_shard import MIRROR, PRODUCER, STRANGER
from shown import Edit, Shown, lines, log_proof, note
from signed_world import REGISTRAR

from eocat.verify.log.checkpoint import parse_checkpoint
from eocat.verify.log.note import COSIGNATURE, ED25519, format_vkey, parse_note

ZERO = "0" * 64


LONG_AGO = "2026-01-01T00:00:00+00:00"
TODAY = datetime.now(UTC).replace(microsecond=0).isoformat()


def shows(document: dict[str, Any]) -> Edit:
    """Another log proof in the place of the real one."""
    return lambda files: files.update({"log-proof.json": proof_bytes(document)})


def test_the_world_is_good_as_it_is(shown: Shown) -> None:
    for state in shown.world.honest:
        code = shown.of(state.name).code()
        assert code == (0 if state.active else 31 if "gamma" in state.name else 30), state.name


# --- history


def swap(found: list[bytes]) -> list[bytes]:
    return [found[0], found[2], found[1], found[3]]


BROKEN = {
    "a middle event removed": lambda found: [found[0], *found[2:]],
    "the CREATE removed": lambda found: found[1:],
    "reordered": swap,
    "an event twice": lambda found: [*found[:3], found[2], found[3]],
    "two events of one seq": lambda found: [
        *found, signed(event_after(found, "COPY", seq=3, prev=prev_of(found[3])), MIRROR)
    ],
    "prev edited and signed": lambda found: [*found, signed(event_after(found, "COPY", prev=ZERO), MIRROR)],
    "prev left out": lambda found: [*found, signed(event_after(found, "COPY", prev=None), MIRROR)],
}  # fmt: skip


def prev_of(line: bytes) -> str:
    prev: str = json.loads(base64.b64decode(json.loads(line)["payload"]))["predicate"]["prev"]
    return prev


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("logged", [True, False])
def test_attack_42_a_history_with_a_gap_a_fork_or_another_order(
    shown: Shown, name: str, logged: bool
) -> None:
    expected = 50 if name == "prev left out" else 24  # no later event can be signed without a prev
    trust = shown.world.logged if logged else shown.world.plain
    assert shown.code(lines(BROKEN[name]), policy=trust) == expected


def test_attack_43_an_event_of_another_item(shown: Shown) -> None:
    gamma, beta = (shown.of(f"{name} at last").state.lines for name in ("gamma", "beta"))
    for trust in (shown.world.logged, shown.world.plain):
        assert shown.code(lines(lambda found: [*found, gamma[2]]), policy=trust) == 24
        assert shown.code(lines(lambda found: [found[0], beta[1], *found[2:]]), policy=trust) == 24


def test_attack_43_the_whole_evidence_of_another_item(shown: Shown) -> None:
    """Its own proof, history and files: the Item is another's, and says so."""
    beta = shown.of("beta at last").state.files
    assert shown.code(lambda files: files.update({**beta, "item.json": files["item.json"]})) == 20


ILLEGAL: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "COPY after WITHDRAW": ("gamma at last", "COPY", "mirror", {}),
    "UPDATE after WITHDRAW": ("gamma at last", "UPDATE", "producer", {}),
    "SUPERSEDE after WITHDRAW": ("gamma at last", "SUPERSEDE", "producer", {"successor": "s2/beta"}),
    "UPDATE after SUPERSEDE": ("delta at last", "UPDATE", "producer", {}),
    "a second REGISTER": ("beta at last", "REGISTER", "registrar", {}),
    "a seq too far": ("beta at last", "COPY", "mirror", {"seq": 5}),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_attack_44_an_illegal_transition(shown: Shown, name: str) -> None:
    state, event, role, members = ILLEGAL[name]
    key = {"mirror": MIRROR, "producer": PRODUCER, "registrar": REGISTRAR}[role]
    one = shown.of(state)
    edit = lines(lambda found: [*found, signed(event_after(found, event, **members), key)])
    assert one.code(edit) == one.code(edit, policy=shown.world.plain) == 24


def test_attack_44_a_second_create(shown: Shown) -> None:
    again = lines(lambda found: [*found, found[0]])
    assert shown.code(again) == shown.code(again, policy=shown.world.plain) == 24


@pytest.mark.parametrize("name", ["gamma", "delta", "alpha"])
def test_attack_45_a_withheld_event_at_the_newest_checkpoint(shown: Shown, name: str) -> None:
    """Item and events of before, with what the log now proves: head map and events do not go together."""
    before, after = shown.of(f"{name} at first").state.files, shown.of(f"{name} at last").state.files

    def cut(value: Any) -> None:
        del value["events"][2:]
        used = [event["checkpoint"] for event in value["events"]]
        value["checkpoints"] = [one for at, one in enumerate(value["checkpoints"][:-1]) if at in used] + [
            value["checkpoints"][-1]
        ]

    def edit(files: dict[str, bytes]) -> None:
        files.update(before)
        files["log-proof.json"] = after["log-proof.json"]
        log_proof(cut)(files)

    assert shown.code(edit) == 24
    uncut = {**before, "log-proof.json": after["log-proof.json"]}
    assert (
        shown.code(lambda files: files.update(uncut)) == 25
    )  # the proof is about more events than are there


def test_attack_45_the_whole_older_view_ages(shown: Shown) -> None:
    log = MadeLog(LOG)
    log.add(*shown.of("gamma at first").state.lines)
    log.publish(LONG_AGO)
    assert shown.of("gamma at first").code(shows(log.proof("s2/gamma"))) == 26


def test_attack_46_a_new_create_for_a_withdrawn_item(shown: Shown) -> None:
    """Under a new key that nobody trusts, and under the producer's own: the head map knows better."""
    gamma = shown.of("gamma at last")
    create = json.loads(json.dumps(shown.world.shards["gamma"].statement))
    create["predicate"]["claimedAt"] = "2026-06-30T00:00:00Z"
    for key, expected in ((STRANGER, {24, 25}), (PRODUCER, {24, 25})):
        edit = lines(lambda found, key=key: [signed(create, key)])
        assert gamma.code(edit) in expected
    assert gamma.code(lines(lambda found: [signed(create, STRANGER)]), policy=shown.world.plain) == 22
    assert gamma.code(lines(lambda found: [*found, signed(create, PRODUCER)]), policy=shown.world.plain) == 24


# --- the log proof

LIES: dict[str, Any] = {
    "wrong root of the map": lambda d: d["heads"]["collections"].update(root=ZERO),
    "wrong index": lambda d: d["events"][0].update(index=d["events"][0]["index"] + 1),
    "index beyond the tree": lambda d: d["events"][-1].update(index=10_000),
    "path truncated": lambda d: d["events"][0]["path"].pop(),
    "path extended": lambda d: d["events"][0]["path"].append(ZERO),
    "empty path": lambda d: d["events"][0].update(path=[]),
    "another node": lambda d: d["events"][0]["path"].__setitem__(0, ZERO),
    "path turned round": lambda d: d["events"][0]["path"].reverse(),
    "the path of another event": lambda d: d["events"][0].update(path=d["events"][1]["path"]),
    "no consistency": lambda d: d["checkpoints"][0].update(path=[]),
    "another consistency": lambda d: d["checkpoints"][0]["path"].__setitem__(0, ZERO),
    "events of a tree that is too old": lambda d: [one.update(checkpoint=0) for one in d["events"]],
}


@pytest.mark.parametrize("name", LIES)
def test_attack_47_a_log_proof_that_lies(shown: Shown, name: str) -> None:
    assert shown.code(log_proof(LIES[name])) == 25


def test_attack_47_the_proof_of_another_item(shown: Shown) -> None:
    for other in ("beta at last", "gamma at last"):
        data = shown.of(other).state.files["log-proof.json"]
        assert shown.code(lambda files, data=data: files.update({"log-proof.json": data})) == 25


HEADS: dict[str, Any] = {
    "an older head map": lambda d: d["heads"].update(index=d["heads"]["index"] - 1),
    "of another status": lambda d: d["heads"]["item"].update(status="withdrawn"),
    "of another event": lambda d: d["heads"]["item"].update(payload=ZERO),
    "of an earlier event": lambda d: d["heads"]["item"].update(seq=1),
    "another place in the collection": lambda d: d["heads"]["item"].update(index=1),
    "a collection of fewer items": lambda d: d["heads"]["collection"].update(items=3),
    "another root of the collection": lambda d: d["heads"]["collection"].update(root=ZERO),
    "more collections": lambda d: d["heads"]["collections"].update(count=2),
}


@pytest.mark.parametrize("name", HEADS)
def test_attack_55_a_head_proof_that_lies(shown: Shown, name: str) -> None:
    assert shown.code(log_proof(HEADS[name])) == 25


def test_attack_55_the_head_of_before_under_the_newest_checkpoint(shown: Shown) -> None:
    old = json.loads(shown.of("alpha at first").state.files["log-proof.json"])["heads"]
    assert shown.code(log_proof(lambda d: d.update(heads=old))) == 25


# --- checkpoints


def size_as(text: str) -> Any:
    def change(found: str) -> str:
        head, size, rest = found.split("\n", 2)
        return "\n".join((head, text.format(size), rest))

    return change


MISSPELT: dict[str, Any] = {
    "07": size_as("0{}"), "+7": size_as("+{}"), "Unicode digits": size_as("\u0661\u0664"),
    "1_000": size_as("1_{}"), "huge": size_as("9" * 40), "negative": size_as("-{}"),
    "a space": size_as(" {}"), "hexadecimal": size_as("0x0e"),
    "a fraction": size_as("{}.0"), "no size": size_as(""),
    "no origin": lambda found: found.split("\n", 1)[1],
    "no root": lambda found: found.replace(found.split("\n")[2] + "\n", "", 1),
    "root of another length": lambda found: found.replace(found.split("\n")[2], "AAAA", 1),
    "an extra blank line": lambda found: found.replace("\n\n", "\n\n\n", 1),
    "CRLF": lambda found: found.replace("\n", "\r\n"),
    "a control character": lambda found: found.replace("\n", "\x07\n", 1),
    "no newline at the end": lambda found: found.rstrip("\n"),
    "no signatures": lambda found: found.split("\n\n")[0] + "\n\n",
    "a hyphen for the dash": lambda found: found.replace("\u2014", "-"),
    "spare bits": lambda found: found.replace("=\n", "A=\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSPELT)
@pytest.mark.parametrize("at", [0, -1], ids=["of an event", "the newest"])
def test_attack_48_a_checkpoint_in_a_second_spelling(shown: Shown, name: str, at: int) -> None:
    assert shown.code(note(MISSPELT[name], at)) == 50


def test_attack_48_another_text_under_the_same_signatures(shown: Shown) -> None:
    assert shown.code(note(size_as("1{}"))) == 21


def other_log(shown: Shown, log: Signer) -> Edit:
    made = MadeLog(log)
    made.add(*shown.state.lines)
    made.publish(TODAY)
    return shows(made.proof("s2/alpha"))


def test_attack_49_the_checkpoint_of_another_log_or_another_key(shown: Shown) -> None:
    """Another origin; the log's own name with another key, whose 4-byte id differs or collides."""
    assert shown.code(other_log(shown, Signer("other.example/log", ED25519, 2))) == 22
    assert shown.code(other_log(shown, Signer(LOG.name, ED25519, 77))) == 22
    assert shown.code(other_log(shown, LOG)) == 0  # the honest key over a log of its own is an honest log

    def collide(found: str) -> str:
        """The stranger's signature under the log's own key id."""
        parsed = parse_note(found.encode())
        return found.replace(line_of(found, 0), forged_line(parsed.text))

    assert shown.code(note(collide)) == 21


def line_of(found: str, number: int) -> str:
    return found.rpartition("\n\n")[2].splitlines()[number]


def forged_line(text: str) -> str:
    stranger = Signer(LOG.name, ED25519, 77)
    body = base64.b64encode(LOG.key.key_id + stranger.private.sign(text.encode())).decode()
    return f"\u2014 {LOG.name} {body}"


def test_attack_50_and_51_two_views_of_one_log(shown: Shown) -> None:
    """The log's key signs a fork of the same size and a longer one, beside an older checkpoint."""
    fork = MadeLog(LOG)
    fork.add(*shown.of("beta at last").state.lines, *shown.state.lines)
    fork.publish(TODAY)
    forked = fork.proof("s2/alpha")
    for size_is in ("another", "the same"):
        if size_is == "the same":
            while len(fork.entries) < 13:
                fork.entries.append(b"x")
            fork.publish(TODAY)
            forked = fork.proof("s2/alpha")

        def mix(value: Any, forked: Any = forked) -> None:
            value["checkpoints"][-1] = forked["checkpoints"][-1]
            value["heads"] = forked["heads"]

        assert shown.code(log_proof(mix)) == 25


def test_attack_54_a_valid_head_of_forty_days_ago(shown: Shown) -> None:
    log = MadeLog(LOG)
    log.add(*shown.state.lines)
    log.publish((datetime.now(UTC) - timedelta(days=40)).isoformat())
    assert shown.code(shows(log.proof("s2/alpha"))) == 26


# --- witnesses


def lone(*witnesses: Signer, time_s: int | None = None, repeat: int = 1) -> Any:
    """The newest note again, under the log and these witnesses alone."""

    def change(found: str) -> str:
        made = parse_checkpoint(parse_note(found.encode()).text)
        when = int(datetime.now(UTC).timestamp()) if time_s is None else time_s
        return cosigned(made, witnesses * repeat, when).decode()

    return change


def test_attack_53_fewer_witnesses_than_the_quorum(shown: Shown) -> None:
    assert shown.code(note(lone(W1, W2))) == 0
    assert shown.code(note(lone(W1))) == 22
    assert shown.code(note(lone())) == 22
    assert shown.code(note(lone(W1, repeat=5))) == 22  # one witness, five times


def test_attack_53_cosignatures_from_the_future_or_of_the_past(shown: Shown) -> None:
    now = int(datetime.now(UTC).timestamp())
    assert shown.code(note(lone(W1, W2, W3, time_s=now + 3600))) == 22
    assert shown.code(note(lone(W1, W2, W3, time_s=now - 49 * 3600))) == 26
    assert shown.code(note(lone(W1, W2, W3, time_s=2**63 - 1))) == 22


def test_attack_53_a_cosignature_over_another_size_or_time(shown: Shown) -> None:
    older = json.loads(shown.state.files["log-proof.json"])["checkpoints"][0]["note"]

    def transplant(found: str) -> str:
        kept = found.rpartition("\n\n")[0] + "\n\n" + line_of(found, 0)
        return "\n".join([kept, line_of(older, 1), line_of(older, 2), ""])

    assert shown.code(note(transplant)) == 21


def test_attack_53_one_key_under_two_names_is_refused_with_the_policy(shown: Shown) -> None:
    twin = Signer("twin.example", COSIGNATURE, W1.number)
    lines_ = [
        f"log {format_vkey(LOG.key)}",
        f"witness a {format_vkey(W1.key)}",
        f"witness b {format_vkey(twin.key)}",
    ]
    for tail in (["group q all a b", "quorum q", ""], ["group in 1 a", "group q 2 in a", "quorum q", ""]):
        policy = json.loads(shown.world.logged)
        policy["log"]["policy"] = "\n".join([*lines_, *tail])
        assert shown_policy(shown, policy) == "Malformed (exit 50)"


def shown_policy(shown: Shown, policy: dict[str, Any]) -> str:
    """What the command says of a policy that it cannot take."""
    (shown.folder / "bad.json").write_text(json.dumps(policy))
    [report] = judge([str(shown.folder)], trust=shown.folder / "bad.json")
    outcome: str = report["outcome"]
    return outcome


def test_attack_76_a_stolen_log_key_without_witnesses(shown: Shown) -> None:
    """A forked log that only its own key signed, and one that it cosigned itself."""
    fork = MadeLog(LOG)
    fork.add(*shown.state.lines)
    fork.publish(TODAY)
    document = fork.proof("s2/alpha")
    made = parse_checkpoint(parse_note(document["checkpoints"][-1]["note"].encode()).text)
    now = int(datetime.now(UTC).timestamp())
    itself = Signer("w1.example", COSIGNATURE, LOG.number)  # the log's key as a witness of W1's name
    for signers in ((), (W1,), (itself, Signer("w2.example", COSIGNATURE, LOG.number))):
        document["checkpoints"][-1]["note"] = cosigned(made, signers, now).decode()
        assert shown.code(shows(document)) == 22
