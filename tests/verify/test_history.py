"""The history of an item: which events may follow which, and every way in which they may not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_events import event_after, signed
from make_shard import PRODUCER, Made, make_shard

from eocat.verify.dsse import parse_envelope
from eocat.verify.errors import Malformed
from eocat.verify.events import LaterStatement, format_event, parse_event
from eocat.verify.history import TRANSITIONS, BrokenHistory, History, Status, replay

EVENTS = ("REGISTER", "COPY", "UPDATE", "SUPERSEDE", "OBSOLETE", "WITHDRAW", "ATTEST")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_shard(tmp_path_factory.mktemp("history") / "scene")


@pytest.fixture(scope="module")
def create(made: Made) -> bytes:
    return made.attestation.read_bytes().rstrip(b"\n")


def history_of(envelopes: list[bytes]) -> History:
    parsed = [parse_envelope(data) for data in envelopes]
    return replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])


def after(create: bytes, *events: str) -> list[bytes]:
    envelopes = [create]
    for event in events:
        envelopes.append(signed(event_after(envelopes, event), PRODUCER))
    return envelopes


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((), Status.CREATED),
        (("REGISTER",), Status.ACTIVE),
        (("REGISTER", "COPY", "UPDATE", "ATTEST", "COPY"), Status.ACTIVE),
        (("REGISTER", "SUPERSEDE"), Status.SUPERSEDED),
        (("REGISTER", "OBSOLETE", "SUPERSEDE", "WITHDRAW"), Status.WITHDRAWN),
    ],
)
def test_a_history_ends_in_its_status(create: bytes, events: tuple[str, ...], status: Status) -> None:
    history = history_of(after(create, *events))
    assert (history.status, history.seq) == (status, len(events))
    assert history.successor == ("demo/next" if "SUPERSEDE" in events else None)


@settings(max_examples=60, deadline=None)
@given(events=st.lists(st.sampled_from(EVENTS), max_size=6))
def test_exactly_the_legal_orders_are_histories(create: bytes, events: list[str]) -> None:
    """A state machine of the test's own, held against the one under test."""
    status, legal = Status.CREATED, True
    for event in events:
        legal = legal and event in TRANSITIONS[status]
        status = TRANSITIONS[status].get(event) or status if legal else status
    try:
        found = history_of(after(create, *events))
    except BrokenHistory:
        assert not legal
    else:
        assert legal
        assert found.status is status


def test_attack_42_a_missing_middle_a_new_order_and_a_fork_break_it(create: bytes) -> None:
    whole = after(create, "REGISTER", "COPY", "UPDATE")
    fork = [*whole[:2], signed(event_after(whole[:2], "UPDATE", actor="another"), PRODUCER), whole[2]]
    wrong_prev = [create, signed(event_after([create], "REGISTER", prev="0" * 64), PRODUCER)]
    for envelopes in ([*whole[:2], whole[3]], [whole[0], whole[2], whole[1], whole[3]], fork, wrong_prev):
        with pytest.raises(BrokenHistory):
            history_of(envelopes)


def test_attack_43_another_items_event_breaks_it(create: bytes, tmp_path: Path) -> None:
    other = make_shard(tmp_path / "other", item_id="other").attestation.read_bytes().rstrip(b"\n")
    replayed = event_after([other], "REGISTER")
    chained = event_after([create], "REGISTER", item="s2/other")
    of_other_rows = event_after([create], "REGISTER") | {
        "subject": [{"name": "rows", "digest": {"sha256": "1" * 64}}]
    }
    for statement in (replayed, chained, of_other_rows):
        with pytest.raises(BrokenHistory, match="not the rows of s2/scene"):
            history_of([create, signed(statement, PRODUCER)])


def test_attack_44_illegal_transitions_break_it(create: bytes) -> None:
    for events in (("COPY",), ("REGISTER", "REGISTER"), ("REGISTER", "WITHDRAW", "COPY")):
        with pytest.raises(BrokenHistory, match="cannot follow where the item is"):
            history_of(after(create, *events))
    with pytest.raises(BrokenHistory, match="second CREATE"):
        history_of([create, create])
    with pytest.raises(BrokenHistory, match="not CREATE"):
        history_of(after(create, "REGISTER")[1:])


def test_an_update_may_move_the_item_but_not_its_files(create: bytes, made: Made) -> None:
    projection = made.statement["predicate"]["projection"]
    moved = projection | {"bbox": [1.0, 2.0, 3.0, 4.0]}
    held = after(create, "REGISTER")
    history = history_of([*held, signed(event_after(held, "UPDATE", projection=moved), PRODUCER)])
    assert history.projection.bbox == [1.0, 2.0, 3.0, 4.0]
    assert history.create.projection.bbox != history.projection.bbox
    for name, value in {"space": "0" * 64, "id": "other", "rows": projection["rows"] | {"count": 1}}.items():
        update = event_after(held, "UPDATE", projection=projection | {name: value})
        with pytest.raises(BrokenHistory, match=f"changes .*{name}"):
            history_of([*held, signed(update, PRODUCER)])


@pytest.mark.parametrize(
    "members",
    [
        {"seq": 0},
        {"prev": None},
        {"event": "RESURRECT"},
        {"extra": 1},
        {"reason": ""},
        {"log": 5},
        {"claimedAt": "2026-06-01 00:00:00"},
    ],
)
def test_a_statement_with_a_wrong_member_is_malformed(create: bytes, members: dict[str, Any]) -> None:
    envelope = parse_envelope(signed(event_after([create], "REGISTER", **members), PRODUCER))
    with pytest.raises(Malformed, match="statement"):
        parse_event(envelope.payload)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ({"rows": [0, 0]}, "ascending"),
        ({"rows": [1, 0]}, "ascending"),
        ({"rows": []}, "rows"),
        ({"modelDiffers": [4096]}, "not made again"),
        ({"worst": "1e-7 "}, "worst"),
        ({"worst": "nan"}, "worst"),
        ({"precision": "fp8"}, "precision"),
        ({"wanted": 0}, "wanted"),
        ({"seed": "00"}, "seed"),
        ({"environment": {"load": 0.5}}, "float"),
        ({"more": 1}, "more"),
    ],
)
def test_a_receipt_has_one_spelling(create: bytes, edit: dict[str, Any], fault: str) -> None:
    held = after(create, "REGISTER")
    statement = event_after(held, "ATTEST")
    statement["predicate"]["recompute"] |= edit
    with pytest.raises(Malformed, match=fault):
        parse_event(parse_envelope(signed(statement, PRODUCER)).payload)


def test_a_receipt_of_another_create_breaks_it(create: bytes) -> None:
    held = after(create, "REGISTER")
    other = signed(event_after(held, "ATTEST", create="00" * 32), PRODUCER)
    with pytest.raises(BrokenHistory, match="about another CREATE"):
        history_of([*held, other])
    assert len(history_of(after(create, "REGISTER", "ATTEST", "ATTEST")).receipts) == 2


def test_an_item_does_not_supersede_itself(create: bytes) -> None:
    held = after(create, "REGISTER")
    itself = signed(event_after(held, "SUPERSEDE", successor="s2/scene"), PRODUCER)
    with pytest.raises(Malformed, match="its own place"):
        parse_event(parse_envelope(itself).payload)


def test_a_reason_is_required_where_users_are_told_not_to_use(create: bytes) -> None:
    held = after(create, "REGISTER")
    for event in ("OBSOLETE", "WITHDRAW"):
        with pytest.raises(Malformed, match="reason"):
            parse_event(parse_envelope(signed(event_after(held, event, reason=None), PRODUCER)).payload)


def test_events_are_formatted_as_they_are_parsed(create: bytes) -> None:
    for data in after(create, "REGISTER", "COPY", "UPDATE", "ATTEST", "OBSOLETE", "SUPERSEDE", "WITHDRAW"):
        payload = parse_envelope(data).payload
        statement = parse_event(payload)
        assert format_event(statement) == payload
        assert isinstance(statement, LaterStatement) == (data != create)
