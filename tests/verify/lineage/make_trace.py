"""Makes Copernicus traces, with keys and certificates of its own: good ones, for tests to spoil.

The private keys live here, in the tests; the verifier sees what a signer gives back.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from eocat.verify.certificate import parse_certificate
from eocat.verify.digest import digest_bytes
from eocat.verify.lineage.cdse import Subject
from eocat.verify.lineage.export import SignedMessage, sign_trace
from eocat.verify.lineage.trace import Content, Event, Input, Product, Trace, parse_traces
from eocat.verify.pins import KeyPin

START = datetime(2023, 5, 16, tzinfo=UTC)
NOW = datetime(2023, 8, 1, tzinfo=UTC)
ORIGIN = "archive@example.org"
NAME = "S2A_MSIL1C_20230420T100021_N0509_R122_T33UVP_20230420T120027.SAFE"
BYTES = b"the product, as it was downloaded"
FILE = digest_bytes(BYTES)
SUBJECT = Subject(f"{NAME}.zip", FILE.size, {"BLAKE3": FILE.blake3, "SHA256": FILE.sha256})

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def make_key(kind: str) -> PrivateKey:
    """A key, made once for all tests: "rsa", "rsa-1024", "p256", "p224", or another "rsa-…"."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, 1024 if kind == "rsa-1024" else 2048)
    return ec.generate_private_key(ec.SECP224R1() if kind == "p224" else ec.SECP256R1())


@dataclass(frozen=True)
class Identity:
    """A key with its certificate (DER): what an archive signs its traces with."""

    key: PrivateKey
    certificate: bytes

    def __call__(self, message: bytes) -> SignedMessage:
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            return SignedMessage("RSA-SHA256", self.certificate, signature)
        signature = self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        return SignedMessage("ECDSA-SHA256", self.certificate, signature)

    def pin(self, **other: Any) -> KeyPin:
        spki = parse_certificate(self.certificate).spki
        dates = {"notBefore": "2023-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"}
        return KeyPin(**{"name": "archive", "spki": spki, "origins": [ORIGIN]} | dates | other)


def make_certificate(
    key: PrivateKey,
    name: str = "trace.example.org",
    *,
    issuer: Identity | None = None,
    days: int = 365,
    authority: bool = False,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    """An X.509 certificate in DER, self-signed unless there is an issuer, valid from START."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by = x509.load_der_x509_certificate(issuer.certificate).subject if issuer else subject
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=by,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=START,
        not_valid_after=START + timedelta(days=days),
    ).add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    signing = issuer.key if issuer else key
    return builder.sign(signing, digest or hashes.SHA256()).public_bytes(Encoding.DER)


@cache
def make_identity(kind: str = "rsa") -> Identity:
    return Identity(make_key(kind), make_certificate(make_key(kind)))


def make_product(**other: Any) -> Product:
    return Product(**{"name": SUBJECT.name, "hash": FILE.blake3, "size": FILE.size} | other)


def full_product() -> Product:
    """One with contents and inputs, one of them with an empty hash, as the service has them."""
    files = [
        Content(path=f"{NAME}/{name}", hash=digest_bytes(name.encode()).blake3) for name in ("b", "a & o")
    ]
    return make_product(contents=files, inputs=[Input(name="S2A_L0", hash="")])


def make_trace(
    product: Product | None = None,
    event: Event = "CREATE",
    signer: Identity | None = None,
    *,
    reason: str | None = None,
    **other: Any,
) -> Trace:
    """A trace as the service answers it; `other`: fields of the answer to have otherwise."""
    registration = sign_trace(product or make_product(), event, signer or make_identity(), reason=reason)
    answer = {"timestamp": "2023-06-19T02:19:24.020063Z", "origin": ORIGIN, "id": "7374c9be"} | other
    return reparsed(registration.model_dump() | answer)


def unsigned(trace: Trace) -> Trace:
    empty = dict.fromkeys(("algorithm", "certificate", "message", "signature"), "")
    return reparsed(trace.model_dump() | {"signature": empty})


def edited(trace: Trace, **fields: Any) -> Trace:
    """The trace with fields rewritten after it was signed; fields of the product by `product_…`."""
    value = trace.model_dump()
    for name, field in fields.items():
        place = value["product"] if name.startswith("product_") else value
        place[name.removeprefix("product_")] = field
    return reparsed(value)


def reparsed(value: dict[str, Any]) -> Trace:
    (trace,) = parse_traces(json.dumps([value]).encode())
    return trace
