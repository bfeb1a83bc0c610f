"""log/quorum.py: the log policy, its quorum, and what witnesses' times are worth."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_notes import LOG, NOW_S, ORIGIN, W1, W2, W3, Signer, checkpoint, cosigned, note_of
from published_notes import PUBLIC, PUBLIC_LOG, PUBLIC_WITNESSES

from eocat.verify.errors import Malformed
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint
from eocat.verify.log.note import COSIGNATURE, ED25519, Signature, format_vkey
from eocat.verify.log.quorum import (
    CLOCK_SKEW_S,
    MAX_POLICY_BYTES,
    Group,
    Log,
    LogPolicy,
    Witness,
    format_log_policy,
    parse_log_policy,
)

NOW = datetime.fromtimestamp(NOW_S, UTC)
LOG_LINE, L1, L2, L3 = (
    f"log {format_vkey(LOG.key)}\n",
    *(f"witness W{n} {format_vkey(w.key)}\n" for n, w in enumerate((W1, W2, W3), 1)),
)
WITNESSES = L1 + L2 + L3
TWO_OF_THREE = parse_log_policy(f"{LOG_LINE}{WITNESSES}group G 2 W1 W2 W3\nquorum G\n".encode())


def test_two_of_three_witnesses() -> None:
    judged = TWO_OF_THREE.judge(cosigned(checkpoint(), [W1, W3]), NOW)
    assert judged.checkpoint == checkpoint()
    assert judged.log_key_ok
    assert judged.quorum_met
    assert judged.witnesses == {"W1": NOW, "W3": NOW}
    assert judged.as_of == judged.existed_by == NOW
    assert judged.forged == judged.early == ()
    alone = TWO_OF_THREE.judge(cosigned(checkpoint(), [W1]), NOW)
    assert alone.log_key_ok
    assert not alone.quorum_met
    assert alone.as_of is alone.existed_by is None


def test_the_public_witness_network_meets_a_policy_of_its_keys() -> None:
    log = Log(PUBLIC_LOG)
    witnesses = tuple(Witness(f"W{number}", key) for number, key in enumerate(PUBLIC_WITNESSES))
    policy = LogPolicy((log,), witnesses, (Group("G", 4, ("W0", "W1", "W2", "W3")),), "G")
    judged = policy.judge(PUBLIC.encode(), NOW)
    assert judged.log_key_ok
    assert judged.quorum_met
    assert judged.as_of == datetime.fromtimestamp(1779573024, UTC)


def test_nested_groups_of_the_specifications_example() -> None:
    signers = {name: Signer(f"{name}.example", COSIGNATURE, 50 + at) for at, name in enumerate("abcdef")}
    lines = "".join(f"witness {name} {format_vkey(signer.key)}\n" for name, signer in signers.items())
    policy = parse_log_policy(
        f"{LOG_LINE}{lines}group X 2 a b c\ngroup Y any d e f\ngroup X-and-Y all X Y\n".encode()
        + b"quorum X-and-Y\n"
    )
    for cosigners, met in {
        "abd": True,
        "bcf": True,
        "abc": False,
        "def": False,
        "ad": False,
        "": False,
    }.items():
        judged = policy.judge(cosigned(checkpoint(), [signers[name] for name in cosigners]), NOW)
        assert judged.quorum_met == met, cosigners


def test_no_witness_is_needed_where_the_policy_asks_for_none() -> None:
    policy = parse_log_policy(f"{LOG_LINE}quorum none\n".encode())
    judged = policy.judge(cosigned(checkpoint(), [W1]), NOW)
    assert judged.log_key_ok
    assert judged.quorum_met
    assert judged.witnesses == {}
    assert judged.as_of is judged.existed_by is None  # nobody that counts has told the time


def test_attack_49_the_checkpoint_of_another_log() -> None:
    """A listed log under an origin that is not its own; and a stranger under the right one."""
    other = Signer("other.example", ED25519, 2)
    policy = parse_log_policy(f"{LOG_LINE}log {format_vkey(other.key)}\nquorum none\n".encode())
    assert not policy.judge(cosigned(checkpoint(), [], log=other), NOW).log_key_ok
    stranger = Signer(ORIGIN, ED25519, 3)
    judged = policy.judge(cosigned(checkpoint(), [], log=stranger), NOW)
    assert not judged.log_key_ok
    assert judged.forged == ()


def test_attack_49_a_key_with_the_logs_own_name_and_key_id() -> None:
    mine, theirs = Signer(ORIGIN, ED25519, 34616), Signer(ORIGIN, ED25519, 41169)
    assert mine.key.key_id == theirs.key.key_id
    policy = parse_log_policy(f"log {format_vkey(mine.key)}\nquorum none\n".encode())
    judged = policy.judge(cosigned(checkpoint(), [], log=theirs), NOW)
    assert not judged.log_key_ok
    assert judged.forged == (ORIGIN,)
    assert policy.judge(cosigned(checkpoint(), [], log=mine), NOW).log_key_ok


def test_attack_51_both_sides_of_a_split_view_are_kept_as_evidence() -> None:
    """A log and a dishonest quorum sign two trees of one size: each passes alone, together they convict."""
    one, two = (TWO_OF_THREE.judge(cosigned(checkpoint(7, fork), [W1, W2]), NOW) for fork in ("", "other"))
    assert one.log_key_ok
    assert two.log_key_ok
    assert one.quorum_met
    assert two.quorum_met
    assert one.checkpoint.contradicts(two.checkpoint)


@pytest.mark.parametrize("other", [checkpoint(8), checkpoint(6), checkpoint(7, fork="other")])
def test_attack_53_cosignatures_of_another_tree(other: Checkpoint) -> None:
    text = format_checkpoint(checkpoint())
    moved = [witness.sign(format_checkpoint(other)) for witness in (W1, W2)]
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), LOG.sign(text), *moved), NOW)
    assert judged.log_key_ok
    assert not judged.quorum_met
    assert judged.forged == (W1.name, W2.name)


def test_attack_53_a_cosignature_at_another_time_than_was_signed() -> None:
    text = format_checkpoint(checkpoint())
    line = W1.sign(text, NOW_S - 40 * 86400)
    fresh = Signature(line.name, line.key_id, NOW_S.to_bytes(8, "big") + line.body[8:])
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), LOG.sign(text), fresh, W2.sign(text)), NOW)
    assert not judged.quorum_met
    assert judged.forged == (W1.name,)


@pytest.mark.parametrize("ahead_s", [CLOCK_SKEW_S + 1, 10 * 365 * 86400, 2**62])
def test_attack_53_a_cosignature_from_the_future(ahead_s: int) -> None:
    judged = TWO_OF_THREE.judge(cosigned(checkpoint(), [W1, W2], NOW_S + ahead_s), NOW)
    assert not judged.quorum_met
    assert judged.early == ("W1", "W2")
    assert judged.witnesses == {}
    assert judged.forged == ()


def test_a_witness_whose_clock_is_a_little_fast_counts() -> None:
    assert TWO_OF_THREE.judge(cosigned(checkpoint(), [W1, W2], NOW_S + CLOCK_SKEW_S), NOW).quorum_met


def test_attack_53_a_witness_that_signs_twice_counts_once() -> None:
    text = format_checkpoint(checkpoint())
    lines = [W1.sign(text, NOW_S - age) for age in (0, 0, 60, 120)]
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), LOG.sign(text), *lines), NOW)
    assert judged.witnesses == {"W1": NOW}
    assert not judged.quorum_met


def test_attack_53_one_key_under_two_names() -> None:
    twin = Signer("twin.example", COSIGNATURE, W1.number)
    with pytest.raises(Malformed, match="another line"):
        parse_log_policy(f"{LOG_LINE}{L1}witness W9 {format_vkey(twin.key)}\nquorum W1\n".encode())
    with pytest.raises(Malformed, match="another line"):
        parse_log_policy(f"{LOG_LINE}{L1}witness W9 {format_vkey(W1.key)}\nquorum W1\n".encode())
    judged = parse_log_policy(f"{LOG_LINE}{L1}{L2}group G all W1 W2\nquorum G\n".encode()).judge(
        cosigned(checkpoint(), [W1, twin]), NOW
    )
    assert not judged.quorum_met  # an unlisted name adds nothing


def test_attack_53_a_log_is_not_its_own_witness() -> None:
    own = Signer("w.example", COSIGNATURE, LOG.number)
    with pytest.raises(Malformed, match="another line"):
        parse_log_policy(f"{LOG_LINE}witness W {format_vkey(own.key)}\nquorum W\n".encode())
    twice = Signer("log2.example", ED25519, LOG.number)
    with pytest.raises(Malformed, match="another line"):
        parse_log_policy(f"{LOG_LINE}log {format_vkey(twice.key)}\nquorum none\n".encode())


@pytest.mark.parametrize(
    "groups",
    [
        "group A any W1\ngroup B any W1\ngroup G 2 A B\nquorum G\n",  # one witness through two groups
        "group A any W1 W2\ngroup G 2 A W1 W2\nquorum G\n",  # in a group and beside it
        "group G 2 W1 W1\nquorum G\n",
        "group A any W1\ngroup B any A\ngroup G 2 A B\nquorum G\n",  # a group twice
        "group G 1 G\nquorum G\n",  # itself
        "group A any B\ngroup B any A\nquorum A\n",  # a circle
        "group G any none\nquorum G\n",
    ],
)
def test_attack_53_nested_groups_that_would_count_one_witness_twice(groups: str) -> None:
    with pytest.raises(Malformed):
        parse_log_policy(f"{LOG_LINE}{WITNESSES}{groups}".encode())


def test_attack_54_a_frozen_head_is_as_old_as_its_quorum() -> None:
    """40 days old and valid: the age is shown, for the caller to compare with the policy's maximum."""
    judged = TWO_OF_THREE.judge(cosigned(checkpoint(), [W1, W2], NOW_S - 40 * 86400), NOW)
    assert judged.quorum_met
    assert judged.as_of is not None
    assert NOW - judged.as_of == timedelta(days=40)


def test_attack_54_one_dishonest_witness_cannot_thaw_a_frozen_head() -> None:
    """Nor back-date a tree, behind which a key's misuse would hide: it takes a quorum for both."""
    text, old = format_checkpoint(checkpoint()), NOW_S - 40 * 86400
    lines = [W1.sign(text, old), W2.sign(text, old), W3.sign(text, NOW_S)]
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), LOG.sign(text), *lines), NOW)
    assert judged.witnesses["W3"] == NOW
    assert judged.as_of == judged.existed_by == NOW - timedelta(days=40)
    lines = [W1.sign(text, NOW_S), W2.sign(text, NOW_S), W3.sign(text, old)]
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), LOG.sign(text), *lines), NOW)
    assert judged.as_of == judged.existed_by == NOW
    both = TWO_OF_THREE.judge(note_of(checkpoint(), *(lines[1:]), W3.sign(text)), NOW)
    assert both.as_of == both.existed_by == NOW  # W3 says both times: neither moves without a second witness


def test_a_witness_that_cosigned_again_renews_the_head_and_keeps_its_age() -> None:
    text, old = format_checkpoint(checkpoint()), NOW_S - 3600
    lines = [witness.sign(text, time_s) for witness in (W1, W2) for time_s in (NOW_S, old)]
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), LOG.sign(text), *lines), NOW)
    assert judged.as_of == NOW
    assert judged.existed_by == NOW - timedelta(hours=1)


def test_attack_76_a_stolen_log_key_alone_convinces_nobody() -> None:
    """A forked tree under the log's own key: the witnesses refuse, and their lines cannot be moved over."""
    forked = checkpoint(9, fork="stolen")
    alone = TWO_OF_THREE.judge(cosigned(forked, []), NOW)
    assert alone.log_key_ok
    assert not alone.quorum_met
    honest = format_checkpoint(checkpoint(9))
    lines = (LOG.sign(format_checkpoint(forked)), W1.sign(honest), W2.sign(honest))
    moved = TWO_OF_THREE.judge(note_of(forked, *lines), NOW)
    assert moved.log_key_ok
    assert not moved.quorum_met
    assert moved.forged == (W1.name, W2.name)
    accomplice = TWO_OF_THREE.judge(cosigned(forked, [W3]), NOW)
    assert not accomplice.quorum_met
    strangers = [Signer("w1.example", COSIGNATURE, 70), Signer("w2.example", COSIGNATURE, 71)]
    assert not TWO_OF_THREE.judge(cosigned(forked, strangers), NOW).quorum_met


def test_a_quorum_without_the_log_is_no_log_key() -> None:
    text = format_checkpoint(checkpoint())
    judged = TWO_OF_THREE.judge(note_of(checkpoint(), W1.sign(text), W2.sign(text)), NOW)
    assert judged.quorum_met
    assert not judged.log_key_ok


def test_the_log_key_survives_one_forged_line_beside_a_valid_one() -> None:
    """Both are told; to refuse the note, as the specification recommends, is the caller's."""
    text = format_checkpoint(checkpoint())
    forged = Signature(LOG.name, LOG.key.key_id, bytes(64))
    judged = TWO_OF_THREE.judge(
        note_of(checkpoint(), LOG.sign(text), forged, W1.sign(text), W2.sign(text)), NOW
    )
    assert judged.log_key_ok
    assert judged.forged == (ORIGIN,)


@pytest.mark.parametrize(
    "data", [b"", b"no note\n", cosigned(checkpoint(), [W1]).replace(b"\n7\n", b"\n07\n")]
)
def test_attack_48_what_is_no_checkpoint_is_not_judged(data: bytes) -> None:
    with pytest.raises(Malformed):
        TWO_OF_THREE.judge(data, NOW)


def test_comments_white_space_and_addresses_are_read() -> None:
    policy = parse_log_policy(
        b"# a comment\n \t# another \xff one\n\n \t\n"
        + f"  log\t{format_vkey(LOG.key)}  https://log.example/\n{L1}quorum \t W1 \t\n".encode()
    )
    assert policy.logs == (Log(LOG.key, "https://log.example/"),)
    assert policy.quorum == "W1"
    assert parse_log_policy(b"quorum none\n") == LogPolicy((), (), (), "none")


def test_order_does_not_matter_but_for_names_that_are_used() -> None:
    policy = parse_log_policy(f"{L2}{L1}group G any W1\nquorum G\n{L3}{LOG_LINE}".encode())
    assert [witness.name for witness in policy.witnesses] == ["W2", "W1", "W3"]


G = "group G 2 W1 W2 W3\n"
BAD = {
    "no quorum": LOG_LINE + WITNESSES,
    "two quorums": f"{LOG_LINE}quorum none\nquorum none\n",
    "quorum of two": f"{WITNESSES}quorum W1 W2\n",
    "unknown quorum": f"{WITNESSES}quorum W4\n",
    "quorum before its witness": f"quorum W1\n{L1}",
    "group before its witness": f"{L1}group G all W1 W2\n{L2}quorum G\n",
    "quorum before its group": f"{WITNESSES}quorum G\n{G}",
    "name twice": f"{L1}{L2.replace('W2', 'W1')}quorum W1\n",
    "group named as a witness": f"{WITNESSES}group W1 any W2\nquorum W1\n",
    "witness named none": f"{L1.replace('W1', 'none')}quorum none\n",
    "group named none": f"{L1}group none any W1\nquorum none\n",
    "empty group": f"{L1}group G any\nquorum G\n",
    "threshold 0": f"{WITNESSES}group G 0 W1\nquorum G\n",
    "threshold above members": f"{WITNESSES}group G 4 W1 W2 W3\nquorum G\n",
    **{
        f"threshold {k!r}": f"{WITNESSES}group G {k} W1 W2 W3\nquorum G\n"
        for k in ("02", "+2", "-1", "2_0", "٢", "ALL", "Any", "2.0", "9" * 5000)
    },
    "unknown keyword": "monitor x\nquorum none\n",
    "keyword in capitals": f"{LOG_LINE}QUORUM none\n",
    "comment at the end of a line": f"{LOG_LINE}quorum none # why\n",
    "log without a key": "log\nquorum none\n",
    "log with two addresses": f"{LOG_LINE[:-1]} a b\nquorum none\n",
    "witness without a key": "witness W1\nquorum none\n",
    "witness key as log": f"log {format_vkey(W1.key)}\nquorum none\n",
    "log key as witness": f"witness W {format_vkey(LOG.key)}\nquorum W\n",
    "CRLF": f"{LOG_LINE}quorum none\n".replace("\n", "\r\n"),
    "no last newline": "quorum none",
    "no newline after the last comment": "quorum none\n#x",
    "empty": "",
    "NUL": "quorum none\0\n",
    "DEL": "# \x7f\nquorum none\n",
    "form feed between fields": "quorum\fnone\n",
    "no-break space between fields": "quorum\u00a0none\n",
    "too long": f"#{'x' * MAX_POLICY_BYTES}\nquorum none\n",
}


@pytest.mark.parametrize("defect", BAD)
def test_a_bad_policy_is_refused(defect: str) -> None:
    with pytest.raises(Malformed):
        parse_log_policy(BAD[defect].encode())


def test_names_are_octets_and_those_that_look_alike_are_two() -> None:
    kelvin = f"{L1.replace('W1', 'K')}{L2.replace('W2', chr(0x212A))}group G all K {chr(0x212A)}\nquorum G\n"
    assert [witness.name for witness in parse_log_policy(kelvin.encode()).witnesses] == ["K", "\u212a"]
    with pytest.raises(Malformed, match="UTF-8"):
        parse_log_policy(L1.encode().replace(b"W1", b"\xff") + b"quorum none\n")


def test_the_specifications_least_of_32_of_each_is_read() -> None:
    signers = [
        Signer(f"s{number}", COSIGNATURE if number < 32 else ED25519, 1000 + number) for number in range(64)
    ]
    logs = "".join(f"log {format_vkey(signer.key)}\n" for signer in signers[32:])
    witnesses = "".join(
        f"witness w{at} {format_vkey(signer.key)}\n" for at, signer in enumerate(signers[:32])
    )
    groups = "".join(f"group g{at} any w{at}{f' g{at - 1}' if at else ''}\n" for at in range(32))
    policy = parse_log_policy(f"{logs}{witnesses}{groups}quorum g31\n".encode())
    assert policy.met_by({"w0"})
    assert not policy.met_by(set())


def test_a_policy_of_more_than_64_groups_is_refused() -> None:
    """Before a chain of them could be followed."""
    chain = "".join(f"group g{at} any {f'g{at - 1}' if at else 'W1'}\n" for at in range(65))
    with pytest.raises(Malformed, match="more than 64"):
        parse_log_policy(f"{L1}{chain}quorum g64\n".encode())
    assert parse_log_policy(f"{L1}{chain.replace('group g64 any g63', '#')}quorum g63\n".encode()).met_by(
        {"W1"}
    )


@pytest.mark.parametrize("url", ["", "a b", "a\n", "\t"])
def test_an_address_that_could_not_be_read_is_not_kept(url: str) -> None:
    with pytest.raises(Malformed, match="address"):
        LogPolicy((Log(LOG.key, url),), (), (), "none")


POOL = [Signer(f"p{number}.example", COSIGNATURE, 200 + number) for number in range(5)]


@st.composite
def policies(draw: st.DrawFn) -> LogPolicy:
    count = draw(st.integers(1, 5))
    urls = st.none() | st.sampled_from(["https://w.example/", "x"])
    witnesses = tuple(Witness(f"w{at}", POOL[at].key, draw(urls)) for at in range(count))
    free, groups = [witness.name for witness in witnesses], list[Group]()
    for at in range(draw(st.integers(0, 3))):
        members = free[: draw(st.integers(1, len(free)))]
        groups.append(Group(f"g{at}", draw(st.integers(1, len(members))), tuple(members)))
        free = [*free[len(members) :], f"g{at}"]
    logs = draw(st.sampled_from([(), (Log(LOG.key),), (Log(LOG.key, "u"),)]))
    names = [each.name for each in (*witnesses, *groups)]
    return LogPolicy(logs, witnesses, tuple(groups), draw(st.sampled_from(["none", *names])))


@given(policies())
def test_what_is_formatted_is_parsed(policy: LogPolicy) -> None:
    assert parse_log_policy(format_log_policy(policy)) == policy


@given(policies(), st.sets(st.sampled_from([f"w{at}" for at in range(5)])), st.sampled_from(range(5)))
def test_one_more_witness_never_loses_a_quorum(policy: LogPolicy, cosigned: set[str], more: int) -> None:
    if policy.met_by(cosigned):
        assert policy.met_by(cosigned | {f"w{more}"})
