"""Private keys: the one module of this room that touches them (the other is the catalogue's log).

A key file is PKCS#8 PEM, encrypted unless asked otherwise, mode 0600. Beside it stands `NAME.pub`, one line
`ed25519:<base64> <name>`, which is what a verifier's policy takes.
"""

import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
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
from eocat.verify.home import home
from eocat.verify.keys import PublicKey, format_key
from eocat.verify.statement import Statement, format_statement


class Signer(Protocol):
    """What signs: a key file here, an agent or a hardware key as well."""

    @property
    def name(self) -> str: ...

    @property
    def public(self) -> PublicKey: ...

    def sign(self, message: bytes) -> bytes: ...


class KeyFile:
    """A signer with an Ed25519 private key, as key files hold it."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> "KeyFile":
        """A fresh key, in memory only."""
        return cls(name, Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def sign_statement(statement: Statement, signer: Signer) -> Envelope:
    """The envelope of `statement`, signed by `signer`."""
    payload = format_statement(statement)
    signature = Signature(signer.public.key_id, signer.sign(pae(PAYLOAD_TYPE, payload)))
    return Envelope(payload, PAYLOAD_TYPE, (signature,))


def keys_folder() -> Path:
    return home() / "keys"


def new_key(name: str, passphrase: bytes | None) -> KeyFile:
    """A fresh key in the keys folder, encrypted unless `passphrase` is None. None is ever replaced."""
    private, public = _paths(name)
    signer = KeyFile.generate(name)
    protection: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    )
    pem = signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    try:
        private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(pem)
        public.write_text(f"{format_key(signer.public)} {name}\n", "utf-8")
    except FileExistsError:
        raise ConfigError(f"key {name} exists already: {private}", hint="choose another name") from None
    except OSError as error:
        raise ConfigError(f"key {name} cannot be written to {private}: {error.strerror}") from None
    return signer


def read_key(name: str, passphrase: bytes | None) -> KeyFile:
    """The key `name` of the keys folder; ConfigError says what is wrong and what to do."""
    private, _ = _paths(name)
    try:
        if private.stat().st_mode & 0o077:
            raise ConfigError(f"key file {private} can be read by others", hint=f"chmod 600 {private}")
        key = load_pem_private_key(private.read_bytes(), passphrase)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no key {name} in {private.parent}", hint=f"eocat keys new {name}"
        ) from None
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
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key {name} is no Ed25519 key", hint="eocat keys new makes one")
    return KeyFile(name, key)


def is_encrypted(name: str) -> bool:
    """Whether the key file asks for a passphrase (False too where there is no such key)."""
    private, _ = _paths(name)
    return private.is_file() and b"ENCRYPTED" in private.read_bytes()[:64]


def key_names() -> list[str]:
    """Names of the keys in the keys folder, sorted."""
    return sorted(path.stem for path in keys_folder().glob("*.pem"))


def public_key_path(name: str) -> Path:
    return _paths(name)[1]


def _paths(name: str) -> tuple[Path, Path]:
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise ConfigError(f"key name {name[:64]!r} is not 1 to 64 letters, digits, '-' or '_'")
    return keys_folder() / f"{name}.pem", keys_folder() / f"{name}.pub"
