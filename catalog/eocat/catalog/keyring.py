"""The private keys of a catalogue, and of a witness: the only module of this room that touches any.

    HOME/catalogue-keys/log.pem        signs checkpoints; log.vkey: its C2SP verifier key, with its name
    HOME/catalogue-keys/registrar.pem  signs REGISTER; registrar.pub: its public key, for a trust policy
    HOME/witness/witness.pem           cosigns checkpoints of other parties' logs; witness.vkey: likewise

Ed25519, PKCS#8, mode 0600; not encrypted, since a service has nobody to ask for a passphrase. They are made
once, at the first `eocat up`, `eocat register` or `eocat log witness`, and never replaced: who follows the
log, or counts on the witness, has its key pinned.
"""

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, format_envelope, pae
from eocat.verify.errors import ConfigError, Malformed
from eocat.verify.events import LaterStatement, format_event
from eocat.verify.keys import PublicKey, format_key
from eocat.verify.log.cosignature import cosigned_message, format_cosignature
from eocat.verify.log.note import (
    COSIGNATURE,
    ED25519,
    Note,
    VerifierKey,
    format_note,
    format_vkey,
    parse_vkey,
)
from eocat.verify.log.note import Signature as NoteSignature

from .durable import fsync_folder, write_aside

ORIGIN_VARIABLE = "EOCAT_LOG_ORIGIN"
REGISTRAR = "registrar"


@dataclass(frozen=True, slots=True)
class Keyring:
    """What the catalogue signs with. verifier: the log's key under the log's name, which is its origin."""

    verifier: VerifierKey
    registrar: PublicKey
    _log: Ed25519PrivateKey
    _registrar: Ed25519PrivateKey

    @property
    def origin(self) -> str:
        return self.verifier.name

    def sign_note(self, text: str) -> bytes:
        """The text as a note that the log signed."""
        line = NoteSignature(self.origin, self.verifier.key_id, self._log.sign(text.encode()))
        return format_note(Note(text, (line,)))

    def sign_event(self, statement: LaterStatement) -> bytes:
        """The envelope of an event that the registrar signed."""
        payload = format_event(statement)
        raw = self._registrar.sign(pae(PAYLOAD_TYPE, payload))
        return format_envelope(Envelope(payload, PAYLOAD_TYPE, (Signature(self.registrar.key_id, raw),)))


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """What a witness cosigns with, under its name. Whether it may is `witness.py`'s to decide."""

    verifier: VerifierKey
    _key: Ed25519PrivateKey

    def cosign(self, text: str, time_s: int) -> NoteSignature:
        """The cosignature, at a POSIX time, over a checkpoint's text."""
        body = format_cosignature(time_s, self._key.sign(cosigned_message(time_s, text)))
        return NoteSignature(self.verifier.name, self.verifier.key_id, body)


def keys_folder(home: Path) -> Path:
    return home / "catalogue-keys"


def ensure_keyring(home: Path, environ: Mapping[str, str] = os.environ) -> Keyring:
    """The keys of this home, made if they are not there; ConfigError if they cannot be used."""
    folder = keys_folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("log", REGISTRAR):
            if not (folder / f"{name}.pem").exists():
                key = Ed25519PrivateKey.generate()
                pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                _create(folder / f"{name}.pem", pem, 0o600)
        if not (folder / "log.vkey").exists():
            verifier = VerifierKey(_new_origin(environ), ED25519, _public(_read_key(folder / "log.pem")))
            _create(folder / "log.vkey", f"{format_vkey(verifier)}\n".encode(), 0o644)
        if not (folder / f"{REGISTRAR}.pub").exists():
            public = format_key(_public(_read_key(folder / f"{REGISTRAR}.pem")))
            _create(folder / f"{REGISTRAR}.pub", f"{public} {REGISTRAR}\n".encode(), 0o644)
    except OSError as error:
        raise ConfigError(f"the catalogue's keys cannot be kept in {folder}: {error.strerror}") from None
    return read_keyring(home)


def read_keyring(home: Path) -> Keyring:
    """The keys of this home; ConfigError if one is missing, open to others, or not the one its name says."""
    folder = keys_folder(home)
    log, registrar = (_read_key(folder / f"{name}.pem") for name in ("log", REGISTRAR))
    verifier = read_verifier(home)
    if verifier.public != _public(log):
        raise ConfigError(
            f"{folder / 'log.vkey'} is not of the key beside it", hint="restore both from a backup"
        )
    return Keyring(verifier, _public(registrar), log, registrar)


def read_verifier(home: Path) -> VerifierKey:
    """The log's name and public key, which anyone may read."""
    return _read_vkey(keys_folder(home) / "log.vkey", "eocat up makes it")


def witness_folder(home: Path) -> Path:
    return home / "witness"


def ensure_witness_key(home: Path, name: str | None = None) -> WitnessKey:
    """The witness's key of this home, made if it is not there, then under `name` (default: HOST/witness).

    Raises ConfigError if it cannot be used, or has another name already.
    """
    pem, vkey = (witness_folder(home) / f"witness.{kind}" for kind in ("pem", "vkey"))
    try:
        if not pem.exists():
            fresh = Ed25519PrivateKey.generate()
            _create(pem, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        key = _read_key(pem)
        if not vkey.exists():
            try:
                made = VerifierKey(name or _name_here("witness"), COSIGNATURE, _public(key))
            except Malformed as error:
                raise ConfigError(f"{name!r} cannot name a witness: {error}") from None
            _create(vkey, f"{format_vkey(made)}\n".encode(), 0o644)
    except OSError as error:
        raise ConfigError(f"the witness's key cannot be kept in {pem.parent}: {error.strerror}") from None
    verifier = _read_vkey(vkey, "eocat log witness makes it")
    if (verifier.public, verifier.kind) != (_public(key), COSIGNATURE):
        raise ConfigError(f"{vkey} is not of the key beside it", hint="restore both from a backup")
    if name not in (None, verifier.name):
        raise ConfigError(
            f"the witness in {pem.parent} is {verifier.name}, not {name}", hint="leave out --name"
        )
    return WitnessKey(verifier, key)


def _read_vkey(path: Path, hint: str) -> VerifierKey:
    try:
        return parse_vkey(path.read_text("utf-8").removesuffix("\n"))
    except OSError as error:
        raise ConfigError(f"the key {path} cannot be read: {error.strerror}", hint=hint) from None
    except (Malformed, UnicodeDecodeError) as error:
        raise ConfigError(f"the key {path} cannot be used: {error}") from None


def _new_origin(environ: Mapping[str, str]) -> str:
    """The log's name for good: EOCAT_LOG_ORIGIN, else `<host name>/log`, as the specification suggests."""
    if given := environ.get(ORIGIN_VARIABLE):
        if not re.fullmatch(r"[!-*,-~]{1,255}", given):
            raise ConfigError(
                f"{ORIGIN_VARIABLE} is {given[:80]!r}, which cannot name a log",
                hint="take the log's address without its scheme, such as example.org/log",
            )
        return given
    return _name_here("log")


def _name_here(role: str) -> str:
    """`<host name>/<role>`: a name as the specifications suggest it."""
    host = socket.gethostname().lower()
    return f"{host if re.fullmatch(r'[a-z0-9][a-z0-9.-]{0,200}', host) else 'eocat'}/{role}"


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"key file {path} can be read by others", hint=f"chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(
            f"key file {path} cannot be read: {error.strerror}", hint="eocat up makes the catalogue's keys"
        ) from None
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"key file {path} is no unencrypted PKCS#8 key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key file {path} is no Ed25519 key")
    return key


def _public(key: Ed25519PrivateKey) -> PublicKey:
    return PublicKey(key.public_key().public_bytes_raw())


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole and durable, or leave the one that another process was faster to make."""
    temporary = write_aside(path, data, mode)
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    fsync_folder(path.parent)
