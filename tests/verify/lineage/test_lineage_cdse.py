"""cdse.py and trace.py: what a Copernicus trace proves, and the attacks that its own client lets through."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha3_256, sha256
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lineage.make_trace import (
    FILE,
    NAME,
    NOW,
    ORIGIN,
    START,
    SUBJECT,
    Identity,
    edited,
    full_product,
    make_certificate,
    make_identity,
    make_key,
    make_product,
    make_trace,
    reparsed,
    unsigned,
)

from eocat.verify.certificate import Certificate, parse_certificate
from eocat.verify.errors import Malformed
from eocat.verify.lineage.cdse import ProductVerdict, Subject, judge_product, judge_trace, signature_fault
from eocat.verify.lineage.trace import MAX_TRACES, Content, Input, Trace, parse_traces, signed_message
from eocat.verify.pins import AuthorityPin, Pin
from eocat.verify.report import Outcome

PINS = [make_identity().pin()]
STRANGER = make_identity("rsa-2")
HALF = {"algorithm": "", "certificate": "", "message": "m", "signature": ""}


def judged(*traces: Trace, pins: list[Pin] | None = None, moment: datetime = NOW) -> ProductVerdict:
    return judge_product(traces, SUBJECT, PINS if pins is None else pins, moment)


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("event", ["CREATE", "COPY"])
def test_an_authentic_trace_of_the_file_passes(kind: str, event: str) -> None:
    identity = make_identity(kind)
    for product in (make_product(), full_product(), make_product(contents=[], inputs=[])):
        trace = make_trace(product, event, identity)
        verdict = judged(trace, pins=[identity.pin()])
        assert verdict.outcome is None, verdict.text
        assert verdict.traces[0].signer == "archive"


def test_the_signed_message_is_the_clients_own_spelling() -> None:
    """Order contents, hash, inputs, name, size, event; absent members absent; Go's escapes of & < >."""
    assert signed_message(make_product(), "CREATE") == (
        f'{{"hash":"{FILE.blake3}","name":"{NAME}.zip","size":33,"event":"CREATE"}}'
    )
    files = [Content(path="a/b & c é", hash="0" * 64), Content(path="a/a", hash="1" * 64)]
    product = make_product(contents=files, inputs=[Input(name="i", hash="")])
    assert signed_message(product, "COPY") == (
        f'{{"contents":[{{"hash":"{"0" * 64}","path":"a/b \\u0026 c é"}},'
        f'{{"hash":"{"1" * 64}","path":"a/a"}}],"hash":"{FILE.blake3}",'
        f'"inputs":[{{"hash":"","name":"i"}}],"name":"{NAME}.zip","size":33,"event":"COPY"}}'
    )
    assert '"contents":[]' in signed_message(make_product(contents=[]), "COPY")


def test_unsigned_fields_are_called_so_and_have_no_say() -> None:
    trace = make_trace()
    assert set(trace.unsigned) == {"origin", "timestamp", "hash_algorithm", "obsolescence", "id"}
    for change in ({"id": "other"}, {"hash_algorithm": "SHA3"}, {"timestamp": "2023-05-17T00:00:00Z"}):
        other = edited(trace, **change)
        assert judged(other).outcome is None
        assert other.digest == trace.digest


def test_attack_57_self_signed_certificate_with_a_claimed_origin() -> None:
    verdict = judged(make_trace(signer=STRANGER, origin=ORIGIN))
    assert verdict.outcome is Outcome.UNTRUSTED
    assert judged(make_trace(), pins=[]).outcome is Outcome.UNTRUSTED


def test_attack_57_unsigned_trace() -> None:
    assert judged(unsigned(make_trace())).outcome is Outcome.UNSIGNED


def test_attack_57_unsigned_trace_whose_contents_list_the_hash() -> None:
    product = make_product(hash="0" * 64, contents=[Content(path=SUBJECT.name, hash=FILE.blake3)])
    assert judged(unsigned(make_trace(product))).outcome is Outcome.UNSIGNED


def test_attack_57_origin_rewritten_after_signing() -> None:
    verdict = judged(edited(make_trace(), origin="other@example.org"))
    assert verdict.outcome is Outcome.UNTRUSTED
    assert "unsigned" in verdict.text


def test_attack_57_timestamp_rewritten_after_signing() -> None:
    """Into the future it contradicts the trusted time; into the past it changes nothing at all."""
    trace = make_trace()
    assert judged(edited(trace, timestamp="2023-08-01T00:00:01Z")).outcome is Outcome.LINEAGE_FAILED
    for moment in (NOW, START - timedelta(days=1), START + timedelta(days=400)):
        early = edited(trace, timestamp="2001-01-01T00:00:00Z")
        assert judged(early, moment=moment).outcome is judged(make_trace(timestamp="2001-01-01T00:00:00Z"),
            moment=moment).outcome  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"product_inputs": [{"name": "S2A_L0", "hash": "0" * 64}]},
        {"product_contents": [{"path": "a/b", "hash": "0" * 64}]},
        {"product_contents": []},
        {"product_name": "other.zip"},
        {"product_size": 34},
        {"product_hash": "0" * 64},
        {"event": "COPY"},
    ],
)
def test_attack_57_message_does_not_sign_what_the_trace_shows(change: dict[str, object]) -> None:
    assert judged(edited(make_trace(), **change)).outcome is Outcome.TAMPERED


def test_attack_57_message_signs_only_hash_and_event_and_inputs_are_added_later() -> None:
    identity, trace = make_identity(), make_trace()
    message = json.dumps({"hash": FILE.blake3, "event": "CREATE"}, separators=(",", ":"))
    signature = base64.b64encode(identity(message.encode()).signature).decode()
    value = trace.model_dump()
    value["signature"] |= {"message": message, "signature": signature}
    value["product"]["inputs"] = [{"name": "S2A_L0", "hash": "0" * 64}]
    assert judged(reparsed(value)).outcome is Outcome.TAMPERED


def test_attack_57_contents_in_another_order_are_another_message() -> None:
    trace = make_trace(full_product())
    assert trace.product.contents is not None
    assert judged(trace).outcome is None
    turned = [content.model_dump() for content in reversed(trace.product.contents)]
    assert judged(edited(trace, product_contents=turned)).outcome is Outcome.TAMPERED


def test_attack_57_one_valid_trace_among_forged_ones() -> None:
    good = make_trace()
    forged = edited(make_trace(event="COPY"), signature=good.signature.model_dump() | {
        "message": make_trace(event="COPY").message})  # fmt: skip
    for bad in (forged, edited(good, product_size=1), make_trace(signer=STRANGER, event="COPY")):
        assert judged(good, bad).outcome is Outcome.LINEAGE_FAILED
        assert judged(bad, good).outcome is Outcome.LINEAGE_FAILED
    assert judged(forged).outcome is Outcome.FORGED


def test_unsigned_traces_and_strangers_under_their_own_name_are_noted_and_prove_nothing() -> None:
    """An unsigned OBSOLETE makes the service's own client refuse a good product."""
    good = make_trace()
    verdict = judged(
        good,
        unsigned(make_trace(event="OBSOLETE", reason="bad")),
        make_trace(signer=STRANGER, event="COPY", origin="mirror@example.net"),
    )
    assert verdict.outcome is None
    assert len(verdict.notices) == 2


def test_attack_57_expired_certificate_with_a_back_dated_server_time() -> None:
    late = START + timedelta(days=366)
    trace = edited(make_trace(), timestamp="2023-06-01T00:00:00Z")
    assert judged(trace, moment=late).outcome is Outcome.UNTRUSTED
    assert judged(trace, moment=START - timedelta(seconds=1)).outcome is Outcome.UNTRUSTED
    assert judged(trace, moment=START + timedelta(days=365)).outcome is None


def test_attack_57_expired_certificate_with_its_own_dates_rewritten() -> None:
    """Nobody's signature covers a certificate whose key is pinned: the pin's own dates are the limit."""
    late = START + timedelta(days=500)
    longer = make_certificate(make_key("rsa"), days=4000)
    trace = spoiled(make_identity(), certificate=base64.b64encode(longer).decode())
    pin = make_identity().pin(notAfter="2024-05-15T00:00:00Z")
    assert judged(trace, pins=[pin]).outcome is None
    assert judged(trace, pins=[pin], moment=late).outcome is Outcome.UNTRUSTED


def test_a_user_may_trust_a_pinned_key_beyond_its_certificate() -> None:
    """The service has traces that were registered a month after their certificate had ended."""
    late = START + timedelta(days=400)
    trace = make_trace(timestamp="2024-06-19T00:00:00Z")
    assert judged(trace, moment=late).outcome is Outcome.UNTRUSTED
    assert judged(trace, pins=[make_identity().pin(certificateDates="ignored")], moment=late).outcome is None
    for dates in ({"notAfter": "2024-06-19T00:00:00Z"}, {"notBefore": "2024-06-20T00:00:00Z"}):
        pin = make_identity().pin(certificateDates="ignored", **dates)
        assert judged(trace, pins=[pin], moment=late).outcome is Outcome.UNTRUSTED


def test_attack_57_obsolete_with_its_reason_rewritten_or_removed() -> None:
    obsolete = make_trace(event="OBSOLETE", reason="wrong calibration")
    for trace in (
        obsolete,
        edited(obsolete, obsolescence="safe to use"),
        edited(obsolete, obsolescence=None),
    ):
        verdict = judged(make_trace(), trace)
        assert verdict.outcome is Outcome.LINEAGE_FAILED
        assert "safe to use" not in verdict.text
    assert judged(obsolete).outcome is Outcome.LINEAGE_FAILED


def test_attack_57_obsolete_by_a_key_that_has_ended_since_still_warns() -> None:
    first, second = make_identity(), make_identity("p256")
    pins: list[Pin] = [first.pin(notAfter="2023-07-01T00:00:00Z"), second.pin(name="next")]
    good = make_trace(signer=second)
    assert judged(good, make_trace(event="COPY"), pins=pins).outcome is None
    assert judged(good, make_trace(event="OBSOLETE"), pins=pins).outcome is Outcome.LINEAGE_FAILED


def test_attack_57_obsolete_withheld_that_an_earlier_answer_had() -> None:
    create, obsolete = make_trace(), make_trace(event="OBSOLETE")
    seen = {create.digest, obsolete.digest}
    withheld = judge_product([create], SUBJECT, PINS, NOW, seen=seen)
    assert withheld.outcome is Outcome.LINEAGE_FAILED
    assert "withheld" in withheld.text
    assert judge_product([create], SUBJECT, PINS, NOW, seen={create.digest}).outcome is None


def test_a_delete_alone_and_no_trace_at_all_prove_nothing() -> None:
    assert judged(make_trace(event="DELETE")).outcome is Outcome.LINEAGE_FAILED
    assert judged(make_trace(), make_trace(event="DELETE")).outcome is None
    assert judged().outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize(
    "other",
    [
        {"name": "S2A_MSIL1C_20230420T100021_N0500_R122_T33UVP_20240801T000000.SAFE.zip"},
        {"hash": "0" * 64},
        {"size": 0},
    ],
)
def test_attack_56_trace_of_another_baseline_or_with_another_hash(other: dict[str, object]) -> None:
    assert judged(make_trace(make_product(**other))).outcome is Outcome.LINEAGE_FAILED


def test_attack_56_a_file_inside_the_product_is_known_by_path_and_hash_together() -> None:
    """The service's own client takes a file if its hash equals that of any content."""
    trace = make_trace(full_product())
    assert trace.product.contents is not None
    first, second = trace.product.contents

    def outcome(name: str, digest: str) -> Outcome | None:
        return judge_product([trace], Subject(name, 1, {"BLAKE3": digest}), PINS, NOW).outcome

    assert outcome(first.path, first.hash) is None
    assert outcome(first.path, second.hash) is Outcome.LINEAGE_FAILED
    assert outcome("elsewhere/a", first.hash) is Outcome.LINEAGE_FAILED


def test_an_authority_vouches_for_one_subject_that_it_issued_itself() -> None:
    root = Identity(make_key("rsa-ca"), make_certificate(make_key("rsa-ca"), "An Authority", authority=True))
    leaf = Identity(make_key("p256"), make_certificate(make_key("p256"), issuer=root))
    pin = AuthorityPin(
        name="authority",
        certificate=base64.b64encode(root.certificate).decode(),
        subject="trace.example.org",
        origins=[ORIGIN],
    )
    assert judged(make_trace(signer=leaf), pins=[pin]).outcome is None
    assert judged(make_trace(signer=make_identity("p256")), pins=[pin]).outcome is Outcome.UNTRUSTED
    anybody = Identity(make_key("p256"), make_certificate(make_key("p256"), "evil.example.org", issuer=root))
    assert judged(make_trace(signer=anybody), pins=[pin]).outcome is Outcome.UNTRUSTED
    twin_key = make_key("rsa-2")
    twin = Identity(twin_key, make_certificate(twin_key, "An Authority", authority=True))
    by_twin = Identity(make_key("p256"), make_certificate(make_key("p256"), issuer=twin))
    assert judged(make_trace(signer=by_twin), pins=[pin]).outcome is Outcome.UNTRUSTED
    sub = Identity(make_key("p256"), make_certificate(make_key("p256"), issuer=root, authority=True))
    assert judged(make_trace(signer=sub), pins=[pin]).outcome is Outcome.UNTRUSTED
    assert (
        judged(make_trace(signer=leaf), pins=[pin], moment=START - timedelta(1)).outcome is Outcome.UNTRUSTED
    )
    with pytest.raises(ValueError, match="not an authority's"):
        AuthorityPin(
            name="x", certificate=base64.b64encode(leaf.certificate).decode(), subject="x", origins=[ORIGIN]
        )


def test_attack_33_p1363_signature_is_not_taken_for_der() -> None:
    identity = make_identity("p256")
    trace = make_trace(signer=identity)
    numbers = decode_dss_signature(trace.signature.raw)
    plain = b"".join(number.to_bytes(32, "big") for number in numbers)
    confused = edited(
        trace, signature=trace.signature.model_dump() | {"signature": base64.b64encode(plain).decode()}
    )
    assert judged(confused, pins=[identity.pin()]).outcome is Outcome.FORGED


def spoiled(identity: Identity, **signature: str) -> Trace:
    """A trace by a key that no signer would be let to use."""
    value = make_trace().model_dump()
    signed = identity(value["signature"]["message"].encode())
    value["signature"] |= {
        "algorithm": signed.algorithm,
        "certificate": base64.b64encode(identity.certificate).decode(),
        "signature": base64.b64encode(signed.signature).decode(),
    } | signature
    return reparsed(value)


@pytest.mark.parametrize("kind", ["rsa-1024", "p224"])
def test_attack_33_weak_key_is_refused(kind: str) -> None:
    trace = spoiled(Identity(make_key(kind), make_certificate(make_key(kind))))
    verdict = judge_trace(trace, PINS, NOW)
    assert verdict.outcome is Outcome.FORGED
    assert "key" in verdict.text


def test_attack_33_rsa_with_exponent_1_is_refused() -> None:
    """With e = 1 the signature is the padded digest itself: anyone can write it."""
    trace = spoiled(make_identity(), certificate=base64.b64encode(with_exponent_1()).decode())
    verdict = judge_trace(trace, PINS, NOW)
    assert verdict.outcome is Outcome.FORGED
    assert "e must be" in verdict.text


def with_exponent_1() -> bytes:
    """The RSA identity's certificate in sound DER, but for its exponent (and so its own signature)."""
    data = bytearray(make_identity().certificate)
    place = data.index(b"\x02\x03\x01\x00\x01")
    at = 0
    while at < place:  # shorten every element that encloses the exponent, skip those beside it
        if data[at + 1] == 0x82:
            head, length = 4, int.from_bytes(data[at + 2 : at + 4], "big")
        else:
            head, length = 2, data[at + 1]
        if at + head + length <= place:
            at += head + length
            continue
        data[at + 2 : at + 4] = (length - 2).to_bytes(2, "big")
        at += head + (data[at] == 0x03)  # a bit string begins with its count of spare bits
    data[place : place + 5] = b"\x02\x01\x01"
    return bytes(data)


def test_attack_34_the_algorithm_named_must_be_that_of_the_certificates_key() -> None:
    trace = spoiled(make_identity(), algorithm="ECDSA-SHA256")
    assert judge_trace(trace, PINS, NOW).outcome is Outcome.FORGED
    trace = spoiled(make_identity("p256"), algorithm="RSA-SHA256")
    assert judge_trace(trace, [make_identity("p256").pin()], NOW).outcome is Outcome.FORGED


def test_attack_57_signature_over_another_digest_or_padding_is_forged() -> None:
    key = make_key("rsa")
    assert isinstance(key, rsa.RSAPrivateKey)
    message = make_trace().message.encode()
    others = [
        key.sign(message, padding.PKCS1v15(), hashes.SHA512()),
        key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        key.sign(message.lower(), padding.PKCS1v15(), hashes.SHA256()),
    ]
    for signature in others:
        trace = spoiled(make_identity(), signature=base64.b64encode(signature).decode())
        assert judge_trace(trace, PINS, NOW).outcome is Outcome.FORGED


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"more": 1}, "more"),
        ({"event": "create"}, "event"),
        ({"hash_algorithm": "blake3"}, "hash_algorithm"),
        ({"hash_algorithm": "MD5"}, "hash_algorithm"),
        ({"timestamp": "2023-06-19 02:19:24"}, "RFC 3339"),
        ({"timestamp": "2023-06-31T02:19:24Z"}, "day"),
        ({"obsolescence": "no reason"}, "obsolescence"),
        ({"product_hash": FILE.blake3.upper()}, "hash"),
        ({"product_hash": FILE.blake3[:-1]}, "hash"),
        ({"product_size": -1}, "size"),
        ({"product_size": 1.5}, "size"),
        ({"product_size": True}, "size"),
        ({"product_name": "../x.zip"}, "leads elsewhere"),
        ({"product_name": "/etc/passwd"}, "absolute"),
        ({"product_contents": [{"path": "a", "hash": "0" * 64}] * 2}, "twice"),
        ({"product_contents": [{"path": "a/../../b", "hash": "0" * 64}]}, "leads elsewhere"),
        ({"product_contents": [{"path": "a", "hash": ""}]}, "hash"),
        (
            {"signature": {"algorithm": "", "certificate": "", "message": "m", "signature": ""}},
            "none of them",
        ),
        ({"signature": {}}, "signature"),
        ({"signature": None}, "signature"),
    ],
)
def test_a_trace_is_read_strictly(change: dict[str, object], match: str) -> None:
    with pytest.raises(Malformed, match=match):
        edited(make_trace(), **change)


def test_second_spellings_of_base64_and_json_are_refused() -> None:
    trace = make_trace()
    data = json.dumps(trace.model_dump()).encode()
    assert parse_traces(data) == (trace,)
    for bad in (
        data[:-1] + b',"event":"CREATE"}',
        data.replace(b"==", b"=").replace(b'"size": 33', b'"size": NaN'),
        b"[" + b",".join([data] * (MAX_TRACES + 1)) + b"]",
        b"[" * 100_000,
        data.decode().encode("utf-16"),
        b"null",
        b"3",
    ):
        with pytest.raises(Malformed):
            parse_traces(bad)
    for text in (trace.signature.signature + "\n", trace.signature.signature.rstrip("="), "-_-_"):
        with pytest.raises(Malformed, match="base64"):
            edited(trace, signature=trace.signature.model_dump() | {"signature": text})


def test_the_services_known_hashes_are_ours(shared_data: Path) -> None:
    """The values that the service's own client is tested with."""
    folder = shared_data / "cdse_trace"
    known = json.loads((folder / "expected_hashes.json").read_text())
    found = known["string_abcd1234"]
    text = b"abcd1234"
    assert found["BLAKE3"] == blake3(text).hexdigest()
    assert found["SHA256"] == sha256(text).hexdigest()
    assert found["SHA3-256"] == sha3_256(text).hexdigest()
    for name, digest in known["BLAKE3 of archive members (zip and tar)"].items():
        assert blake3((folder / "test-data" / name).read_bytes()).hexdigest() == digest


def test_traces_have_the_members_that_the_services_openapi_names(shared_data: Path) -> None:
    path = shared_data / "cdse_trace" / "api-spec" / "cdas-traceability.json"
    schemas = json.loads(path.read_text())["components"]["schemas"]
    trace = make_trace(full_product()).model_dump()
    assert trace.keys() == schemas["Trace"]["properties"].keys()
    assert trace["product"].keys() == schemas["Product"]["properties"].keys()
    assert trace["signature"].keys() == schemas["Signature"]["properties"].keys()
    assert trace["product"]["contents"][0].keys() == schemas["Content"]["properties"].keys()
    assert trace["product"]["inputs"][0].keys() == schemas["Input"]["properties"].keys()


def test_wycheproof_ecdsa_vectors(shared_data: Path) -> None:
    """Every invalid P-256 signature is refused and every valid one taken, in DER, over SHA-256."""
    path = shared_data / "crypto_vectors" / "ecdsa_secp256r1_sha256_test.json"
    checked = 0
    for group in json.loads(path.read_text())["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        certificate = verifier(key)
        for test in group["tests"]:
            valid = certificate.verifies(bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
            assert valid == (test["result"] == "valid"), test["comment"]
            checked += 1
    assert checked == 484


def verifier(key: ec.EllipticCurvePublicKey) -> Certificate:
    """The certificate of P-256's test identity with another key in it: only its `verifies` is asked."""
    return replace(parse_certificate(make_identity("p256").certificate), key=key)


def test_the_example_certificate_of_the_openapi_is_read_and_untrusted(shared_data: Path) -> None:
    path = shared_data / "cdse_trace" / "api-spec" / "cdas-traceability.json"
    schema = json.loads(path.read_text())["components"]["schemas"]["Signature"]["properties"]
    found = parse_certificate(base64.b64decode(schema["certificate"]["example"]))
    assert found.names == {"cloudflight.io"}
    assert found.end == datetime(2024, 3, 28, 16, 50, 47, tzinfo=UTC)
    assert signature_fault(spoiled(make_identity("p256"), certificate=schema["certificate"]["example"]))
