"""policy.py: given by the user, strict, and unable to say what could be misread."""

import base64
import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from make_shard import MIRROR, PRODUCER, SECOND, entry, policy, policy_json
from test_keys import LOW_ORDER

from eocat.verify.canonical import encode
from eocat.verify.errors import ConfigError, Malformed
from eocat.verify.policy import parse_policy, read_policy


def refuses(match: str, **members: Any) -> None:
    with pytest.raises(Malformed, match=match):
        policy(entry(PRODUCER), entry(SECOND), **members)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_policy_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(policy_json(), indent=2))
    assert read_policy(path) == policy()


def test_a_policy_that_is_not_there_is_a_matter_of_setting_up(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            read_policy(path)
        assert caught.value.hint is not None
        assert "--trust" in caught.value.hint


@pytest.mark.parametrize("threshold", [0, -1, True, False, 1.0, 1.5, 17, "2", None])
def test_attack_31_a_threshold_is_a_whole_number_that_can_be_met(threshold: Any) -> None:
    refuses("thresholds", thresholds={"producer": threshold})


def test_attack_31_a_threshold_above_the_number_of_keys_is_refused() -> None:
    assert policy(entry(PRODUCER), entry(SECOND), thresholds={"producer": 2}).threshold("producer") == 2
    refuses("above its number of keys", thresholds={"producer": 3})
    refuses("above its number of keys", thresholds={"mirror": 1})
    refuses("thresholds", thresholds={"owner": 1})


@pytest.mark.parametrize("name", LOW_ORDER)
def test_attack_32_a_low_order_key_is_refused(name: str) -> None:
    key = "ed25519:" + base64.b64encode(LOW_ORDER[name]).decode()
    with pytest.raises(Malformed, match=r"low-order|canonical"):
        policy(entry(PRODUCER, key=key))


def test_attack_30_one_key_under_two_names_is_refused() -> None:
    with pytest.raises(Malformed, match="stands twice"):
        policy(entry(PRODUCER), entry(PRODUCER, name="another"), thresholds={"producer": 2})


BAD_MEMBERS: list[dict[str, Any]] = [
    {"type": "eocat-policy/v2"}, {"version": 0}, {"version": True}, {"version": 1.0}, {"version": 1 << 32},
    {"expires": "2030-01-01"}, {"expires": None}, {"keys": None}, {"keys": {}}, {"extra": 1},
    {"thresholds": None},
]  # fmt: skip
BAD_ENTRIES: list[dict[str, Any]] = [
    {"name": ""}, {"key": "x"}, {"key": PRODUCER.public.raw.hex()}, {"roles": []}, {"roles": ["owner"]},
    {"roles": "producer"}, {"collections": []}, {"collections": ["s2/*"]}, {"collections": ["**"]},
    {"collections": [""]}, {"collections": ["ѕ2"]}, {"notBefore": None}, {"notAfter": "2030"},
    {"compromisedSince": ""}, {"keyid": "00" * 32}, {"notAfter": "2030-01-01T00:00:00+00:00"},
]  # fmt: skip


@pytest.mark.parametrize("members", BAD_MEMBERS, ids=str)
def test_another_policy_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="^policy"):
        policy(**members)


@pytest.mark.parametrize("members", BAD_ENTRIES, ids=str)
def test_another_key_entry_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="^policy"):
        policy(entry(PRODUCER, **members))


@pytest.mark.parametrize("member", [*policy_json()])
def test_no_member_of_a_policy_may_be_left_out(member: str) -> None:
    value = policy_json()
    del value[member]
    with pytest.raises(Malformed, match=member):
        parse_policy(encode(value))


@pytest.mark.parametrize("member", [*entry(PRODUCER)])
def test_no_member_of_a_key_entry_may_be_left_out(member: str) -> None:
    value = deepcopy(entry(PRODUCER))
    del value[member]
    with pytest.raises(Malformed, match=member):
        policy(value)


def test_a_key_twice_in_the_json_is_refused() -> None:
    data = encode(policy_json())[:-1] + b',"version":2}'
    with pytest.raises(Malformed, match="twice"):
        parse_policy(data)


def test_a_key_may_do_what_its_entry_says_and_nothing_else() -> None:
    mirror = policy(entry(MIRROR, roles=["mirror"], collections=["s2", "s1"])).keys[0]
    assert mirror.may("mirror", "s1")
    assert not mirror.may("producer", "s1")
    assert not mirror.may("mirror", "s3")
    assert not mirror.may("mirror", "*")
    assert policy(entry(MIRROR, collections=["*"])).keys[0].may("producer", "anything")


def test_a_key_is_valid_from_its_first_moment_to_before_its_last() -> None:
    key = policy(entry(PRODUCER, notBefore="2024-01-01T00:00:00Z", notAfter="2025-01-01T00:00:00Z")).keys[0]
    assert key.valid_at(moment("2024-01-01T00:00:00"))
    assert key.valid_at(moment("2024-12-31T23:59:59.999999"))
    assert not key.valid_at(moment("2023-12-31T23:59:59.999999"))
    assert not key.valid_at(moment("2025-01-01T00:00:00"))


def test_a_compromised_key_is_valid_before_its_compromise_only() -> None:
    key = policy(entry(PRODUCER, compromisedSince="2026-01-01T00:00:00Z")).keys[0]
    assert key.valid_at(moment("2025-12-31T23:59:59"))
    assert not key.valid_at(moment("2026-01-01T00:00:00"))
