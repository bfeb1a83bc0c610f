"""keys.py: Ed25519 as Wycheproof judges it, and no key under which one signature fits many messages."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from make_shard import PRODUCER

from eocat.verify.errors import Malformed
from eocat.verify.keys import PublicKey, decode_base64, format_key, parse_key

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493

LOW_ORDER = {  # the eight points whose order divides 8, in canonical encoding
    "neutral": (1).to_bytes(32, "little"),
    "order 2": (P - 1).to_bytes(32, "little"),
    "order 4": bytes(32),
    "order 4, negative": (1 << 255).to_bytes(32, "little"),
    "order 8 a": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "order 8 b": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    "order 8 c": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "order 8 d": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
}


def test_wycheproof_agrees_on_every_signature(shared_data: Path) -> None:
    document = json.loads((shared_data / "crypto_vectors" / "ed25519_test.json").read_bytes())
    judged = 0
    for group in document["testGroups"]:
        key = PublicKey(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            valid = key.verifies(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            assert valid == (case["result"] == "valid"), case
            judged += 1
    assert judged == document["numberOfTests"] == 151


@pytest.mark.parametrize("name", LOW_ORDER)
def test_attack_32_a_low_order_key_is_refused(name: str) -> None:
    with pytest.raises(Malformed, match=r"low-order|canonical"):
        PublicKey(LOW_ORDER[name])


def test_the_library_alone_would_accept_one_signature_for_many_messages() -> None:
    """The danger that the refusal is for: R = neutral, S = 0 under the neutral key."""
    neutral = Ed25519PublicKey.from_public_bytes(LOW_ORDER["neutral"])
    for message in (b"one", b"two", b"three"):
        neutral.verify(LOW_ORDER["neutral"] + bytes(32), message)  # raises if it is invalid: it does not


@pytest.mark.parametrize("y", [P, P + 1, P + 3, 2**255 - 1])
def test_attack_32_a_key_in_a_second_encoding_is_refused(y: int) -> None:
    for sign in (0, 1 << 255):
        with pytest.raises(Malformed, match="canonical"):
            PublicKey((y | sign).to_bytes(32, "little"))


def test_bytes_that_are_no_point_are_refused() -> None:
    with pytest.raises(Malformed, match="curve point"):
        PublicKey((2).to_bytes(32, "little"))
    for size in (0, 31, 33, 64):
        with pytest.raises(Malformed, match="bytes"):
            PublicKey(bytes(size))


def test_attack_33_a_malleated_signature_is_invalid() -> None:
    """Attack 33: S + L signs the same message under a library that does not compare S with L."""
    signature = PRODUCER.private.sign(b"message")
    s = int.from_bytes(signature[32:], "little") + L
    assert PRODUCER.public.verifies(signature, b"message")
    assert not PRODUCER.public.verifies(signature[:32] + s.to_bytes(32, "little"), b"message")


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(64), bytes(65), bytes(2420)])
def test_a_signature_of_any_bytes_is_invalid_not_an_error(signature: bytes) -> None:
    assert not PRODUCER.public.verifies(signature, b"message")


def test_a_key_id_is_derived_from_algorithm_and_key() -> None:
    key = parse_key("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")  # RFC 8032, test 1
    assert key.key_id == hashlib.sha256(b"ed25519:" + key.raw).hexdigest()
    assert key.key_id != PublicKey(PRODUCER.public.raw).key_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519",
        "ed25519:",
        "ED25519:{}",
        "ed25519: {}",
        "ml-dsa-44:{}",
        "ecdsa:{}",
        "{}",
        "ed25519:{}\n",
    ],
)
def test_a_key_in_another_spelling_is_refused(text: str) -> None:
    encoded = base64.b64encode(PRODUCER.public.raw).decode()
    assert parse_key(f"ed25519:{encoded}") == PRODUCER.public
    with pytest.raises(Malformed):
        parse_key(text.format(encoded))


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        ("AQJ=", "spare bits that are not zero"),
        ("AQI", "no padding"),
        ("AQI==", "too much padding"),
        ("_-8=", "the URL alphabet"),
        ("AQI=\n", "a newline"),
        (" AQI=", "a space"),
        ("AQ\nI=", "a newline inside"),
        ("AQI=AQI=", "padding inside"),
        ("AQI=!", "junk"),
        ("ÄQI=", "not ASCII"),
    ],
)
def test_base64_in_a_second_spelling_is_refused(text: str, defect: str) -> None:
    with pytest.raises(Malformed, match="base64"):
        decode_base64(text, what=defect)
    assert decode_base64("AQI=", what="good") == b"\x01\x02"


@given(st.binary(max_size=48))
def test_base64_has_one_spelling(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text, what="data") == data


@given(st.binary(min_size=32, max_size=32))
def test_every_real_key_is_accepted_and_round_trips(seed: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key = PublicKey(private.public_key().public_bytes_raw())
    assert parse_key(format_key(key)) == key
    assert key.verifies(private.sign(seed), seed)
    assert not key.verifies(private.sign(seed), seed + b"!")
