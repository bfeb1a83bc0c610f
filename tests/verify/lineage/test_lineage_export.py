"""export.py: traces of our own, in the service's format, signed by someone who keeps the key."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lineage.make_trace import full_product, make_identity, make_product, make_trace

from eocat.verify.errors import Malformed
from eocat.verify.lineage.export import SignedMessage, format_registrations, sign_trace
from eocat.verify.lineage.trace import MAX_TRACES, Registration
from eocat.verify.statement import validated

EVENTS = ("CREATE", "COPY", "DELETE", "OBSOLETE")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_each_event_is_written_in_the_services_format_and_read_again(event: str, kind: str) -> None:
    reason = "replaced" if event == "OBSOLETE" else None
    trace = sign_trace(full_product(), event, make_identity(kind), reason=reason)
    (written,) = json.loads(format_registrations([trace]))
    assert list(written) == [name for name in Registration.model_fields if written.get(name) is not None]
    assert ("obsolescence" in written) == (event == "OBSOLETE")
    assert validated(Registration, written, what="trace") == trace
    assert written["signature"]["message"].endswith(f'"event":"{event}"}}')


def test_contents_are_put_in_one_order() -> None:
    trace = sign_trace(full_product(), "CREATE", make_identity())
    assert trace.product.contents is not None
    paths = [content.path for content in trace.product.contents]
    assert paths == sorted(paths)
    turned = full_product().model_copy(update={"contents": trace.product.contents[::-1]})
    assert sign_trace(turned, "CREATE", make_identity()).message == trace.message


def test_openssl_verifies_what_we_export(tmp_path: Path) -> None:
    """As the service's documentation tells its users to."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("NOT RUN: openssl is not installed")
    for kind in ("rsa", "p256"):
        trace = sign_trace(full_product(), "CREATE", make_identity(kind))
        certificate = x509.load_der_x509_certificate(trace.signature.certificate_der)
        pem = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "key.pem").write_bytes(pem)
        (tmp_path / "data.sig").write_bytes(trace.signature.raw)
        (tmp_path / "data.txt").write_text(trace.signature.message)
        command = [openssl, "dgst", "-sha256", "-verify", "key.pem", "-signature", "data.sig", "data.txt"]
        assert (
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout == b"Verified OK\n"
        )


def test_a_signer_that_signs_something_else_is_caught() -> None:
    identity = make_identity()

    def other_message(message: bytes) -> SignedMessage:
        return identity(message + b" ")

    def other_name(message: bytes) -> SignedMessage:
        return replace(identity(message), algorithm="ECDSA-SHA256")

    def other_certificate(message: bytes) -> SignedMessage:
        return replace(identity(message), certificate=make_identity("rsa-2").certificate)

    for signer in (other_message, other_name, other_certificate):
        with pytest.raises(Malformed, match="cannot be registered"):
            sign_trace(make_product(), "CREATE", signer)


def test_a_reason_goes_with_obsolete_alone() -> None:
    with pytest.raises(Malformed, match="reason for obsolescence"):
        sign_trace(make_product(), "CREATE", make_identity(), reason="no")


def test_what_the_service_would_refuse_is_not_written() -> None:
    trace, copy = make_trace(), make_trace(event="COPY")
    with pytest.raises(Malformed, match="1 to 50"):
        format_registrations([])
    with pytest.raises(Malformed, match="1 to 50"):
        format_registrations([trace] * (MAX_TRACES + 1))
    with pytest.raises(Malformed, match="events"):
        format_registrations([trace, copy])
    with pytest.raises(Malformed, match="one product hash"):
        format_registrations([trace, trace])
