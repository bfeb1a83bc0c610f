"""X.509 certificates and the two kinds of signature that Copernicus traces carry, read strictly.

RSA PKCS#1 v1.5 and ECDSA over SHA-256, both from `cryptography`; weak keys are refused when they are read.
A certificate is read whole, once, so that no lazily parsed part of it can fail later.
"""

import warnings
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import Malformed

MAX_BYTES: Final = 1 << 16
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MIN_RSA_EXPONENT: Final = 3
RSA, ECDSA = "RSA-SHA256", "ECDSA-SHA256"  # as traces spell them

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)  # over the certificate itself; no SHA-1
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    Warning,  # the library warns where it reads what RFC 5280 forbids
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What counts of a certificate. spki: SHA-256 hex of its SubjectPublicKeyInfo. names: common and DNS.

    start, end: its validity, both included, UTC. is_authority: whether it may issue others.
    """

    parsed: x509.Certificate
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    spki: str
    subject: str
    names: frozenset[str]
    start: datetime
    end: datetime
    is_authority: bool

    @property
    def algorithm(self) -> str:
        """What a signature by this key is called in a trace."""
        return RSA if isinstance(self.key, rsa.RSAPublicKey) else ECDSA

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's over SHA-256 of the message: PKCS#1 v1.5, or ECDSA in DER.

        ECDSA as two plain numbers (IEEE P1363) is another format and does not pass.
        """
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            else:
                self.key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def issued(self, leaf: "Certificate") -> bool:
        """Whether this authority itself signed `leaf`, which is no authority."""
        if not self.is_authority or leaf.is_authority:
            return False
        if not isinstance(leaf.parsed.signature_hash_algorithm, _HASHES):
            return False
        try:
            leaf.parsed.verify_directly_issued_by(self.parsed)
        except (ValueError, TypeError, InvalidSignature):  # other issuer, other kind of key, other signature
            return False
        return True


def parse_certificate(data: bytes) -> Certificate:
    """The certificate in DER; Malformed if it is not, is too long, or has a key that is weak or unknown."""
    if len(data) > MAX_BYTES:
        raise Malformed(f"certificate has {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _read(x509.load_der_x509_certificate(data), data)
    except _UNREADABLE as error:
        raise Malformed(f"certificate cannot be used: {error}") from None


def _read(parsed: x509.Certificate, data: bytes) -> Certificate:
    if parsed.public_bytes(Encoding.DER) != data:
        raise Malformed("certificate is not in DER's one spelling")
    key = _strong(parsed.public_key())
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    names = [str(name.value) for name in parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    is_authority = False
    for extension in parsed.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names += extension.value.get_values_for_type(x509.DNSName)
        elif isinstance(extension.value, x509.BasicConstraints):
            is_authority = extension.value.ca
        elif isinstance(extension.value, x509.UnrecognizedExtension) and extension.critical:
            raise Malformed(f"certificate has the unknown critical extension {extension.oid.dotted_string}")
    return Certificate(
        parsed=parsed,
        key=key,
        spki=sha256(spki).hexdigest(),
        subject=parsed.subject.rfc4514_string(),
        names=frozenset(names),
        start=parsed.not_valid_before_utc,
        end=parsed.not_valid_after_utc,
        is_authority=is_authority and _may_issue(parsed),
    )


def _strong(key: object) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    match key:
        case rsa.RSAPublicKey():
            exponent = key.public_numbers().e
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS or exponent < MIN_RSA_EXPONENT:
                raise Malformed(
                    f"certificate has an RSA key of {key.key_size} bits with exponent {exponent}, expected "
                    f"{MIN_RSA_BITS} to {MAX_RSA_BITS} bits and at least {MIN_RSA_EXPONENT}"
                )
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, _CURVES):
            return key
    raise Malformed("certificate has neither an RSA key nor one on P-256, P-384 or P-521")


def _may_issue(parsed: x509.Certificate) -> bool:
    try:
        return parsed.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True  # without the extension, RFC 5280 leaves all uses open
