"""Private keys: the one module of this room that touches them (the other is the catalogue's log).

A key file is PKCS#8 PEM, encrypted unless asked otherwise, mode 0600. Beside it stands `NAME.pub`, one line
`ed25519:<base64> <name>`, which is what a verifier's policy takes. A key may have an ML-DSA-44 partner, which
signs whatever it signs: `NAME.ml-dsa-44.pem`, and a second line `ml-dsa-44:<base64> <name>`.

Traces in the Copernicus format want X.509: `NAME.trace.pem` is an ECDSA key on P-256, `NAME.trace.crt` its
certificate, self-signed, since what counts of it is the key that others pin.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, pae
from eocat.verify.errors import ConfigError
from eocat.verify.events import AnyStatement, format_event
from eocat.verify.home import home
from eocat.verify.keys import PublicKey, format_key, no_ml_dsa
from eocat.verify.lineage.export import SignedMessage

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey


class Signer(Protocol):
    """What signs: a key file here, an agent or a hardware key as well."""

    @property
    def name(self) -> str: ...

    @property
    def public(self) -> PublicKey: ...

    @property
    def partner(self) -> PublicKey | None:
        """The ML-DSA-44 key of the same identity, if it has one."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature of `public`."""
        ...

    def sign_as_partner(self, message: bytes) -> bytes:
        """The signature of `partner`; called only if there is one."""
        ...


class KeyFile:
    """A signer with an Ed25519 private key, and perhaps an ML-DSA-44 one, as key files hold them."""

    def __init__(self, name: str, key: Ed25519PrivateKey, partner: "MLDSA44PrivateKey | None" = None) -> None:
        self.name = name
        self._key = key
        self._partner = partner
        self.public = PublicKey(key.public_key().public_bytes_raw())
        self.partner = PublicKey(partner.public_key().public_bytes_raw(), "ml-dsa-44") if partner else None

    @classmethod
    def generate(cls, name: str, *, ml_dsa: bool = False) -> "KeyFile":
        """A fresh key, in memory only; with a partner if `ml_dsa`, MissingExtra if the library has none."""
        return cls(name, Ed25519PrivateKey.generate(), _generate_ml_dsa() if ml_dsa else None)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def sign_as_partner(self, message: bytes) -> bytes:
        if self._partner is None:
            raise ConfigError(
                f"key {self.name} has no ML-DSA-44 partner", hint="eocat keys new NAME --ml-dsa"
            )
        return self._partner.sign(message)


@dataclass(frozen=True, slots=True)
class TraceKey:
    """What signs traces (a `Signer` of eocat.verify.lineage.export). certificate: DER."""

    name: str
    _key: ec.EllipticCurvePrivateKey
    certificate: bytes

    def __call__(self, message: bytes) -> SignedMessage:
        signature = self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return SignedMessage("ECDSA-SHA256", self.certificate, signature)


def sign_statement(statement: AnyStatement, signer: Signer) -> Envelope:
    """The envelope of `statement`, signed by `signer`, and by its partner if it has one."""
    return sign_payload(format_event(statement), signer, PAYLOAD_TYPE)


def sign_payload(payload: bytes, signer: Signer, payload_type: str) -> Envelope:
    """The envelope of a payload of any type."""
    message = pae(payload_type, payload)
    signatures = [Signature(signer.public.key_id, signer.sign(message))]
    if signer.partner:
        signatures.append(Signature(signer.partner.key_id, signer.sign_as_partner(message)))
    return Envelope(payload, payload_type, tuple(signatures))


def keys_folder() -> Path:
    return home() / "keys"


def new_key(name: str, passphrase: bytes | None, *, ml_dsa: bool = False) -> KeyFile:
    """A fresh key in the keys folder, encrypted unless `passphrase` is None. None is ever replaced."""
    private, public = _paths(name)
    signer = KeyFile.generate(name, ml_dsa=ml_dsa)
    protection: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    )
    files = {private: signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)}
    if signer._partner:
        pem = signer._partner.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
        files = {
            _partner_path(private): pem,
            **files,
        }  # first, so that a key is never there without its partner
    halves = [half for half in (signer.public, signer.partner) if half]
    files[public] = "".join(f"{format_key(half)} {name}\n" for half in halves).encode()
    _write_new(name, files)
    return signer


def _write_new(name: str, files: Mapping[Path, bytes]) -> None:
    """Write files into the keys folder, all or none, *.pem with mode 0600; ConfigError if one is there."""
    written: list[Path] = []
    try:
        keys_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, data in files.items():
            mode = 0o600 if path.suffix == ".pem" else 0o644
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(path)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
    except OSError as error:
        for path in written:  # half a key would keep its name from a whole one
            path.unlink()
        if isinstance(error, FileExistsError):
            raise ConfigError(
                f"key {name} exists already: {error.filename}", hint="choose another name"
            ) from None
        raise ConfigError(
            f"key {name} cannot be written to {keys_folder()}: {error.strerror}",
            hint="check EOCAT_HOME, its rights and free space; no part of the key is there",
        ) from None


def read_key(name: str, passphrase: bytes | None) -> KeyFile:
    """The key `name` of the keys folder, with its partner; ConfigError says what is wrong and what to do."""
    private, _ = _paths(name)
    key = _read_private(name, private, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key {name} is no Ed25519 key", hint="eocat keys new makes one")
    if not _partner_path(private).exists():
        return KeyFile(name, key)
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
    except ImportError:
        raise no_ml_dsa() from None
    partner = _read_private(name, _partner_path(private), passphrase)
    if not isinstance(partner, MLDSA44PrivateKey):
        raise ConfigError(
            f"{_partner_path(private)} is no ML-DSA-44 key", hint="eocat keys new NAME --ml-dsa makes one"
        )
    return KeyFile(name, key, partner)


def _read_private(
    name: str, path: Path, passphrase: bytes | None, *, make: str = "eocat keys new"
) -> PrivateKeyTypes:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"key file {path} can be read by others", hint=f"chmod 600 {path}")
        return load_pem_private_key(path.read_bytes(), passphrase)
    except FileNotFoundError:
        raise ConfigError(f"there is no key {name} in {path.parent}", hint=f"{make} {name}") from None
    except OSError as error:
        raise ConfigError(f"key {name} cannot be read: {error.strerror}") from None
    except TypeError:
        wanted = (
            "needs a passphrase" if passphrase is None else "is not encrypted, but a passphrase was given"
        )
        raise ConfigError(f"key {name} {wanted}", hint="set or unset EOCAT_KEY_PASSPHRASE") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"key {name} cannot be decrypted or is no PKCS#8 key", hint="check the passphrase"
        ) from None


def _generate_ml_dsa() -> "MLDSA44PrivateKey":
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

        return MLDSA44PrivateKey.generate()
    except (ImportError, UnsupportedAlgorithm):
        raise no_ml_dsa() from None


def new_trace_key(name: str, passphrase: bytes | None, *, days: int = 365) -> TraceKey:
    """A fresh key for traces with a certificate of `days`, in the keys folder. None is ever replaced."""
    private, certificate = _trace_paths(name)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC).replace(microsecond=0)
    signed = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), start, start + timedelta(days)
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    _write_new(name, {private: pem, certificate: signed.public_bytes(Encoding.PEM)})
    return TraceKey(name, key, signed.public_bytes(Encoding.DER))


def read_trace_key(name: str, passphrase: bytes | None) -> TraceKey:
    """The key for traces `name`; ConfigError says what is wrong and what to do."""
    private, path = _trace_paths(name)
    key = _read_private(name, private, passphrase, make="eocat trace key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"key {name} is no ECDSA key", hint=f"eocat trace key {name}")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"certificate {path} cannot be read", hint=f"eocat trace key {name}") from None
    return TraceKey(name, key, certificate.public_bytes(Encoding.DER))


def is_encrypted(name: str, *, trace: bool = False) -> bool:
    """Whether the key file asks for a passphrase (False too where there is no such key)."""
    private, _ = _trace_paths(name) if trace else _paths(name)
    return private.is_file() and b"ENCRYPTED" in private.read_bytes()[:64]


def key_names() -> list[str]:
    """Names of the keys in the keys folder, sorted."""
    return sorted(path.stem for path in keys_folder().glob("*.pem") if "." not in path.stem)


def public_key_path(name: str) -> Path:
    return _paths(name)[1]


def _partner_path(private: Path) -> Path:
    return private.with_suffix(".ml-dsa-44.pem")


def _trace_paths(name: str) -> tuple[Path, Path]:
    private, _ = _paths(name)
    return private.with_suffix(".trace.pem"), private.with_suffix(".trace.crt")


def _paths(name: str) -> tuple[Path, Path]:
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise ConfigError(f"key name {name[:64]!r} is not 1 to 64 letters, digits, '-' or '_'")
    return keys_folder() / f"{name}.pem", keys_folder() / f"{name}.pub"
