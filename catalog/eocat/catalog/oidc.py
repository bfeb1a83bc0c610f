"""Identities of another party as grants: JSON Web Tokens of an OpenID provider (RFC 7519, RFC 8725).

A CI job or a person then needs no secret of ours. HOME/oidc.json names one issuer and our audience, which
algorithms its keys may use, where its keys are, and rules: the first whose claims a token has says what it
may do. What is not said is refused. `none` and shared secrets (HS256) are no algorithms here.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import jwt
from pydantic import Field

from eocat.verify import canonical
from eocat.verify.edge.fetch import fetch_bytes
from eocat.verify.errors import ConfigError, EocatError, Malformed, Unavailable
from eocat.verify.evidence import read_limited
from eocat.verify.statement import Strict, Text, validated

from .tokens import Actions, Collections, Denied, Grant

OIDC_FILE = "oidc.json"
MAX_JWT_BYTES = 16 << 10
MAX_KEYS_BYTES = 1 << 20
LEEWAY_S = 30  # between the provider's clock and ours
KEYS_LIVE_S, RETRY_S = 600, 30  # an unknown key id is looked for again, but not at every request

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Rule(Strict):
    """claims: each must be in the token with exactly this value."""

    claims: Annotated[dict[Text, Text], Field(min_length=1, max_length=32)]
    collections: Collections
    actions: Actions


class OidcConfig(Strict):
    type: Literal["eocat-oidc/v1"]
    issuer: Annotated[str, Field(min_length=1, max_length=256)]
    audience: Text
    algorithms: Annotated[list[Algorithm], Field(min_length=1)]
    jwks: Text  # an https address, or a file beside the configuration
    rules: Annotated[list[Rule], Field(min_length=1, max_length=1024)]


@dataclass
class Provider:
    """An issuer whose tokens are believed. fetch: where its keys come from."""

    config: OidcConfig
    fetch: Callable[[], bytes]
    _keys: dict[str, jwt.PyJWK] = field(default_factory=dict)
    _fetched_s: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def grant(self, token: str) -> Grant:
        """What the bearer of this JWT may do; Denied if it proves nothing here, Unavailable without keys."""
        claims = self._claims(token)
        holder = f"{claims['sub']} of {self.config.issuer}"
        for rule in self.config.rules:  # the first that fits: scopes of two never add up
            if all(claims.get(name) == value for name, value in rule.claims.items()):
                return Grant(holder, rule.collections, rule.actions)
        raise Denied(f"{holder} has no rule that lets it write", known=True)

    def _claims(self, token: str) -> dict[str, Any]:
        refused = Denied("the token is not valid here", known=False)
        if len(token) > MAX_JWT_BYTES:
            raise refused
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid"))
            if key is None or header.get("alg") not in self.config.algorithms:
                raise refused
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(self.config.algorithms),
                audience=self.config.audience,
                issuer=self.config.issuer,
                leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "sub", "exp", "iat"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise refused from None
        if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 256:
            raise refused
        return claims

    def _key(self, key_id: Any) -> jwt.PyJWK | None:
        """The provider's key of this id; its keys are fetched again when they are old or lack it."""
        if not isinstance(key_id, str):
            return None
        with self._lock:
            age_s = time.monotonic() - self._fetched_s
            if age_s > KEYS_LIVE_S or (key_id not in self._keys and age_s > RETRY_S):
                self._fetched_s = time.monotonic()
                self._keys = parse_keys(self.fetch())
            return self._keys.get(key_id)


def parse_keys(data: bytes) -> dict[str, jwt.PyJWK]:
    """The signing keys of a JWK set by id; keys of other kinds, or without an id, are left out."""
    value = canonical.parse(data, what="the provider's keys", limit_bytes=MAX_KEYS_BYTES)
    members = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(members, list):
        raise Unavailable("the provider's keys are no JWK set")
    keys: dict[str, jwt.PyJWK] = {}
    for member in members:
        if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if member.get("use", "sig") != "sig" or not isinstance(member.get("kid"), str):
            continue
        try:
            key = jwt.PyJWK(member)
        except jwt.PyJWTError:
            continue
        if member["kid"] in keys:
            raise Unavailable(f"the provider has two keys of the id {member['kid'][:80]!r}")
        keys[member["kid"]] = key
    return keys


def read_provider(home: Path) -> Provider | None:
    """The provider that HOME/oidc.json names, or None where there is no such file; ConfigError."""
    path = home / OIDC_FILE
    if not path.exists():
        return None
    try:
        config = validated(
            OidcConfig, canonical.parse(read_limited(path, MAX_KEYS_BYTES), what=str(path)), what=str(path)
        )
        address = urlsplit(config.jwks)
    except (Malformed, Unavailable, ValueError) as error:
        raise ConfigError(str(error), hint="docs/operations.md shows such a file") from None
    if address.scheme == "https" or (address.scheme == "http" and _is_loopback(address.hostname)):
        return Provider(config, lambda: fetch_bytes(config.jwks, MAX_KEYS_BYTES))
    if "://" in config.jwks:
        raise ConfigError(f"{path}: jwks is neither an https address nor a file", hint="use https")
    keys = path.parent / config.jwks
    try:
        parse_keys(read_limited(keys, MAX_KEYS_BYTES))
    except EocatError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Provider(config, lambda: read_limited(keys, MAX_KEYS_BYTES))


def _is_loopback(host: str | None) -> bool:
    return host in ("127.0.0.1", "::1", "localhost")


def is_jwt(token: str) -> bool:
    """Whether a bearer token has the form of a JWT, as none of ours has."""
    parts = token.split(".")
    return len(parts) == 3 and not token.startswith("eocat_") and all(parts[:2])
