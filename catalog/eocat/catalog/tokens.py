"""Who may write over HTTP: grants, and the tokens that carry them (docs/operations.md).

    HOME/tokens/<id>.json   one token: its name, scope and times, and the SHA-256 of its secret

A token is `eocat_<id>_<secret>`. The secret is 32 random bytes, so a plain digest of it cannot be guessed
back: no salt, no slow hash. It is shown once, when it is made. A token alone writes nothing: what it brings
must also be signed by a key that the operator's policy trusts (intake.py).
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from eocat.verify import canonical
from eocat.verify.errors import ConfigError, EocatError, UsageError
from eocat.verify.evidence import read_limited
from eocat.verify.statement import Hex32, Identifier, Strict, Text, Time, format_time, parse_time, validated

from .durable import replace_file

ANY = "*"
ACTIONS = ("register", "update", "supersede", "obsolete", "withdraw", "copy")
MAX_TOKEN_BYTES = 16 << 10
MAX_DAYS = 3_650

_TOKEN = re.compile(r"eocat_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")

Action = Literal["register", "update", "supersede", "obsolete", "withdraw", "copy"]
Collections = Annotated[list[Identifier | Literal["*"]], Field(min_length=1, max_length=1024)]
Actions = Annotated[list[Action], Field(min_length=1)]


class Denied(EocatError):
    """Whoever asks may not do this. known: the credentials are good, but not for this (403, not 401)."""

    exit_code = 5

    def __init__(self, message: str, *, known: bool) -> None:
        super().__init__(message)
        self.known = known


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may write. holder: names the token or identity in logs, and owns what it uploads."""

    holder: str
    collections: Collection[str]
    actions: Collection[str]

    def check(self, collection: str, actions: Collection[str]) -> None:
        """Raise Denied unless all `actions` are granted in `collection`."""
        if ANY not in self.collections and collection not in self.collections:
            raise Denied(f"{self.holder} may not write to the collection {collection}", known=True)
        if missing := sorted(set(actions) - set(self.actions)):
            raise Denied(f"{self.holder} may not {missing[0]} in {collection}", known=True)


class TokenFile(Strict):
    """What is kept of a token."""

    type: Literal["eocat-token/v1"]
    name: Text
    sha256: Hex32  # of the whole token's text
    collections: Collections
    actions: Actions
    created: Time
    expires: Time
    revoked: Time | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is kept under `id`."""

    id: str
    file: TokenFile

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        if self.file.revoked is not None:
            return "revoked"
        return "valid" if now < parse_time(self.file.expires) else "expired"


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The tokens of one home. Every look reads the file, so that a revocation counts at once."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "tokens"

    def new(
        self, name: str, collections: Sequence[str], actions: Sequence[str], days: int, now: datetime
    ) -> str:
        """The text of a new token, which is kept nowhere; UsageError for a scope that is none."""
        if not 1 <= days <= MAX_DAYS:
            raise UsageError(f"a token lives 1 to {MAX_DAYS} days, not {days}")
        id_ = secrets.token_hex(8)
        text = f"eocat_{id_}_{secrets.token_urlsafe(32)}"
        document = {
            "type": "eocat-token/v1",
            "name": name,
            "sha256": _digest(text),
            "collections": sorted(set(collections)),
            "actions": [action for action in ACTIONS if action in actions],
            "created": format_time(now.replace(microsecond=0)),
            "expires": format_time(now.replace(microsecond=0) + timedelta(days=days)),
            "revoked": None,
        }
        if unknown := sorted(set(actions) - set(ACTIONS)):
            raise UsageError(f"{unknown[0]!r} is no action", hint=f"one of {', '.join(ACTIONS)}")
        try:
            file = validated(TokenFile, document, what="token")
        except EocatError as error:
            raise UsageError(str(error)) from None
        self._write(Token(id_, file))
        return text

    def list(self) -> list[Token]:
        """All tokens, oldest first."""
        return sorted(self._all(), key=lambda token: (token.file.created, token.id))

    def revoke(self, id_: str, now: datetime) -> Token:
        """Make a token useless from now on; UsageError if there is none of this id."""
        token = self._read(id_) if re.fullmatch(r"[0-9a-f]{16}", id_) else None
        if token is None:
            raise UsageError(f"there is no token {id_}", hint="eocat token list shows them")
        if token.file.revoked is None:
            revoked = token.file.model_copy(update={"revoked": format_time(now.replace(microsecond=0))})
            token = Token(id_, revoked)
            self._write(token)
        return token

    def grant(self, text: str, now: datetime) -> Grant:
        """What the bearer of this token may do; Denied if it is none, expired or revoked.

        The sentence is the same for all three: a stranger learns nothing from it.
        """
        parts = _TOKEN.fullmatch(text)
        token = self._read(parts[1]) if parts else None
        if (
            token is None
            or not hmac.compare_digest(token.file.sha256, _digest(text))
            or token.state(now) != "valid"
        ):
            raise Denied("the token is not valid here", known=False)
        return Grant(f"token {token.id} ({token.file.name})", token.file.collections, token.file.actions)

    def _all(self) -> Iterator[Token]:
        for path in sorted(self.folder.glob("*.json")):
            if (token := self._read(path.stem)) is not None:
                yield token

    def _read(self, id_: str) -> Token | None:
        path = self.folder / f"{id_}.json"
        if not path.exists():
            return None
        value = canonical.parse(read_limited(path, MAX_TOKEN_BYTES), what=str(path))
        return Token(id_, validated(TokenFile, value, what=str(path)))

    def _write(self, token: Token) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"tokens cannot be kept in {self.folder}: {error.strerror}") from None
        data = canonical.encode(token.file.model_dump()) + b"\n"
        replace_file(self.folder / f"{token.id}.json", data, mode=0o600)


def read_token(path: Path) -> str:
    """The token in a file, or on standard input for `-`; ConfigError if there is none."""
    try:
        with os.fdopen(0, closefd=False) if str(path) == "-" else path.open() as stream:
            text = stream.read(MAX_TOKEN_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}") from None
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", text):
        raise ConfigError(
            f"{path} holds no token", hint="one line, as 'eocat token new' or your identity provider gives it"
        )
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
