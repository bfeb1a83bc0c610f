"""Bytes flipped, cut and doubled: a parser answers, or refuses with Malformed, and nothing else."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lineage.make_product import make_zip, manifest
from lineage.make_trace import NOW, SUBJECT, full_product, make_identity, make_trace

from eocat.verify.certificate import parse_certificate
from eocat.verify.errors import Malformed
from eocat.verify.lineage.cdse import judge_product
from eocat.verify.lineage.manifest import Manifest, parse_manifest
from eocat.verify.lineage.paths import check_path
from eocat.verify.lineage.product import open_product
from eocat.verify.lineage.safe import check_product
from eocat.verify.lineage.trace import Content, Product, Trace, parse_traces, signed_message

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
IDENTITY = make_identity()
TRACES = json.dumps([make_trace(full_product()).model_dump()]).encode()


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with one to three bytes changed, or a part of it dropped or doubled."""
    spoiled = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(spoiled) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "drop", "double", "cut"])):
            case "flip":
                spoiled[place] ^= 1 << draw(st.integers(0, 7))
            case "set":
                spoiled[place] = draw(st.sampled_from(b'\x00\xff"<>&{}[]\\/.,0189-'))
            case "drop":
                del spoiled[place : place + draw(st.integers(1, 40))]
            case "double":
                spoiled[place:place] = spoiled[place : place + draw(st.integers(1, 40))]
            case "cut":
                del spoiled[place:]
        if not spoiled:
            break
    return bytes(spoiled)


@SETTINGS
@given(data=mutated(TRACES))
def test_a_mutated_trace_is_refused_or_says_what_was_signed(data: bytes) -> None:
    try:
        traces = parse_traces(data)
    except Malformed:
        return
    verdict = judge_product(traces, SUBJECT, [IDENTITY.pin()], NOW)
    if verdict.outcome is None:  # then nothing that was signed has changed
        (original,) = parse_traces(TRACES)
        assert {t.digest for t in traces if t.is_signed} == {original.digest}


@SETTINGS
@given(data=mutated(make_identity("p256").certificate))
def test_a_mutated_certificate_is_refused_or_read_whole(data: bytes) -> None:
    """In a trace it is at worst a fault, never an error."""
    value = make_trace(signer=make_identity("p256")).model_dump()
    value["signature"]["certificate"] = base64.b64encode(data).decode()
    if not data:
        return
    (trace,) = parse_traces(json.dumps([value]).encode())
    judge_product([trace], SUBJECT, [make_identity("p256").pin()], NOW)
    try:
        certificate = parse_certificate(data)
    except Malformed:
        return
    assert certificate.algorithm in ("RSA-SHA256", "ECDSA-SHA256")


def _manifest_or_none(data: bytes) -> Manifest | None:
    try:
        return parse_manifest(data)
    except Malformed:
        return None


@SETTINGS
@given(data=mutated(manifest()))
def test_a_mutated_manifest_is_refused_or_strict(data: bytes) -> None:
    parsed = _manifest_or_none(data)
    for entry in parsed.entries if parsed else ():
        assert check_path(entry.name, what="x") == entry.name
        assert len(entry.digest) in (32, 64)
        assert entry.digest == entry.digest.lower()


@SETTINGS
@given(draw=st.data())
def test_the_real_manifests_mutated(draw: st.DataObject, shared_data: Path) -> None:
    for path in sorted((shared_data / "safe_provenance").glob("*.SAFE/manifest.safe")):
        _manifest_or_none(draw.draw(mutated(path.read_bytes())))


@SETTINGS
@given(draw=st.data())
def test_a_mutated_zip_is_refused_or_judged(draw: st.DataObject, tmp_path: Path) -> None:
    path = make_zip(
        tmp_path, {"MTD_MSIL1C.xml": b"<metadata/>"}, manifest({"MTD_MSIL1C.xml": b"<metadata/>"})
    )
    path.write_bytes(draw.draw(mutated(path.read_bytes())))
    try:
        report = check_product(path)
    except Malformed:
        return
    with open_product(path) as product:
        assert report.product == product.root


@SETTINGS
@given(st.binary(max_size=2000))
def test_any_bytes_at_all(data: bytes) -> None:
    for parse in (parse_manifest, parse_traces, parse_certificate):
        with pytest.raises(Malformed):
            parse(data)


PLAIN = st.characters(codec="utf-8", exclude_characters='/\\:%"<>|?*. ', categories=["L", "N", "P", "S"])
NAMES = st.text(PLAIN, min_size=1, max_size=40)


@SETTINGS
@given(st.lists(NAMES, max_size=5, unique=True), st.integers(0, 2**53 - 1), st.booleans())
def test_the_signed_message_is_one_to_one(names: list[str], size: int, absent: bool) -> None:
    """Read as JSON it says what the product says, and no two products share it."""
    try:
        contents = None if absent else [Content(path=name, hash="0" * 64) for name in names]
    except ValueError:
        return  # not NFC, too long
    product = Product(contents=contents, hash="1" * 64, name="n", size=size)
    message = signed_message(product, "CREATE")
    assert not set("<>&") & set(message)
    value = json.loads(message)
    assert value.pop("event") == "CREATE"
    assert Product.model_validate(value) == product
    assert isinstance(make_trace(product), Trace)
