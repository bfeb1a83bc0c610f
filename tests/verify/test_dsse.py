"""dsse.py: one spelling of an envelope, byte lengths in what is signed, and who signed it."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_shard import PRODUCER, SECOND, STRANGER, Key

from eocat.verify.canonical import encode
from eocat.verify.dsse import (
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    format_envelope,
    pae,
    parse_envelope,
)
from eocat.verify.errors import Malformed
from eocat.verify.keys import PublicKey

PAYLOAD = '{"a":"é"}'.encode()


def known(*keys: Key) -> dict[str, PublicKey]:
    return {key.public.key_id: key.public for key in keys}


def signed(*keys: Key) -> Envelope:
    return Envelope(PAYLOAD, PAYLOAD_TYPE, tuple(key.sign(PAYLOAD) for key in keys))


def as_json(envelope: Envelope) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(format_envelope(envelope))
    return value


def test_pae_is_the_specifications_example() -> None:
    """DSSE 1.0.2, protocol.md."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_not_characters() -> None:
    assert pae("é", "ü".encode()) == "DSSEv1 2 é 2 ü".encode()
    assert pae("a", b"1 b") != pae("a 3 1", b"b")


def test_each_known_signer_has_a_verdict() -> None:
    envelope = signed(PRODUCER, STRANGER)
    assert envelope.verdicts(known(PRODUCER, SECOND)) == {PRODUCER.public.key_id: True}
    assert envelope.verdicts(known(PRODUCER, STRANGER)) == {
        PRODUCER.public.key_id: True, STRANGER.public.key_id: True,
    }  # fmt: skip


@pytest.mark.parametrize("payload", [PAYLOAD + b" ", PAYLOAD[:-1], b"", PAYLOAD.replace(b"a", b"b")])
def test_another_payload_makes_the_signature_invalid(payload: bytes) -> None:
    envelope = Envelope(payload, PAYLOAD_TYPE, signed(PRODUCER).signatures)
    assert envelope.verdicts(known(PRODUCER)) == {PRODUCER.public.key_id: False}


def test_another_payload_type_makes_the_signature_invalid() -> None:
    envelope = Envelope(PAYLOAD, PAYLOAD_TYPE + "x", signed(PRODUCER).signatures)
    assert envelope.verdicts(known(PRODUCER)) == {PRODUCER.public.key_id: False}


def test_one_invalid_signature_of_a_key_spoils_its_valid_one() -> None:
    good = PRODUCER.sign(PAYLOAD)
    for signatures in ((good, Signature(good.key_id, bytes(64))), (Signature(good.key_id, bytes(64)), good)):
        assert Envelope(PAYLOAD, PAYLOAD_TYPE, signatures).verdicts(known(PRODUCER)) == {good.key_id: False}


@pytest.mark.parametrize("key_id", ["", "producer", "../keys/producer.pub", "x" * 128])
def test_a_key_id_is_a_hint_and_never_finds_a_key_by_another_name(key_id: str) -> None:
    envelope = Envelope(PAYLOAD, PAYLOAD_TYPE, (Signature(key_id, PRODUCER.sign(PAYLOAD).raw),))
    assert envelope.verdicts(known(PRODUCER)) == {}


def edited(**members: Any) -> dict[str, Any]:
    return {**as_json(signed(PRODUCER)), **members}


def signature(**members: Any) -> dict[str, Any]:
    return edited(signatures=[{**as_json(signed(PRODUCER))["signatures"][0], **members}])


@pytest.mark.parametrize(
    "value",
    [
        [], "x", None, 5, {},
        edited(signatures=[]),
        edited(signatures=None),
        edited(signatures=as_json(signed(PRODUCER))["signatures"] * (MAX_SIGNATURES + 1)),
        edited(extra=1),
        edited(payload=5),
        edited(payloadType=None),
        edited(signatures=["x"]),
        signature(extra=1),
        signature(keyid=""),
        signature(keyid=None),
        signature(keyid="x" * 129),
        signature(sig=None),
        signature(sig="AQJ="),
        signature(sig=signed(PRODUCER).signatures[0].raw.hex() + "=="),
        edited(payload=base64.urlsafe_b64encode(b"\xff\xef").decode()),
        edited(payload="AQI"),
        edited(payload="AQI=\n"),
    ],
)  # fmt: skip
def test_another_shape_of_envelope_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        parse_envelope(encode(value))


def test_another_spelling_of_the_same_envelope_is_refused() -> None:
    good = format_envelope(signed(PRODUCER))
    assert parse_envelope(good) == signed(PRODUCER)
    reordered = json.dumps(dict(reversed(json.loads(good).items())), separators=(",", ":")).encode()
    twice = good[:-1] + b',"payloadType":"application/vnd.in-toto+json"}'
    for bad in (good + b"\n", b" " + good, json.dumps(json.loads(good)).encode(), reordered, twice, b""):
        with pytest.raises(Malformed):
            parse_envelope(bad)


@given(
    st.binary(max_size=64),
    st.lists(st.tuples(st.sampled_from(["", "a", "é"]), st.binary(max_size=70)), min_size=1, max_size=4),
)
def test_what_is_formatted_is_parsed(payload: bytes, signatures: list[tuple[str, bytes]]) -> None:
    envelope = Envelope(payload, PAYLOAD_TYPE, tuple(Signature(*one) for one in signatures))
    assert parse_envelope(format_envelope(envelope)) == envelope
