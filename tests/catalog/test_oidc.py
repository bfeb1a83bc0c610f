"""Tokens of an identity provider: believed only from its keys, for us, now, and by a rule (attack 69)."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from catalogue import new_database
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from intake_world import taking
from log_world import LogWorld

from eocat.catalog.database import Database
from eocat.catalog.oidc import Provider, read_provider
from eocat.catalog.tokens import Denied
from eocat.verify.errors import ConfigError, Unavailable

ISSUER, AUDIENCE = "https://id.example.org", "https://catalogue.example.org"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(65537, 2048)
KEYS = {
    "keys": [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "r", "use": "sig"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key())) | {"kid": "e"},
        {"kty": "oct", "kid": "o", "k": base64.urlsafe_b64encode(b"0" * 32).decode()},
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(STRANGER.public_key())) | {"kid": "enc", "use": "enc"},
    ]
}
CONFIG = {
    "type": "eocat-oidc/v1",
    "issuer": ISSUER,
    "audience": AUDIENCE,
    "algorithms": ["RS256", "ES256"],
    "jwks": "keys.json",
    "rules": [
        {"claims": {"repository": "lab/demo", "ref": "refs/heads/main"}, "collections": ["demo"],
         "actions": ["register", "withdraw"]},
        {"claims": {"repository": "lab/demo"}, "collections": ["trial"], "actions": ["register"]},
    ],
}  # fmt: skip


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return configured(tmp_path)


def configured(home: Path, **changed: Any) -> Provider:
    (home / "keys.json").write_text(json.dumps(KEYS))
    (home / "oidc.json").write_text(json.dumps(CONFIG | changed))
    found = read_provider(home)
    assert found is not None
    return found


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:lab/demo", "iat": now, "exp": now + 300,
        "repository": "lab/demo", "ref": "refs/heads/main",
    }  # fmt: skip
    return {name: value for name, value in (given | changed).items() if value is not None}


def signed(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "r", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, {"kid": kid} if kid else {})


def test_a_rule_says_what_its_bearer_may_do(provider: Provider) -> None:
    grant = provider.grant(signed())
    assert (list(grant.collections), list(grant.actions)) == (["demo"], ["register", "withdraw"])
    assert grant.holder == f"repo:lab/demo of {ISSUER}"
    assert list(provider.grant(signed(EC_KEY, "ES256", "e", ref="refs/heads/x")).collections) == ["trial"]
    assert provider.grant(signed(aud=["other", AUDIENCE])).holder == grant.holder
    with pytest.raises(Denied, match="no rule") as denied:
        provider.grant(signed(repository="lab/other"))
    assert denied.value.known


def none_signed() -> str:
    return jwt.encode(claims(), None, "none", {"kid": "r"})  # type: ignore[arg-type]


def with_public_key_as_secret() -> str:
    """The classic: the provider's public key taken for an HMAC secret."""
    secret = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT", "kid": "r"}, claims())
    )
    import hashlib
    import hmac

    mac = hmac.new(secret, head + b"." + body, hashlib.sha256).digest()
    return (head + b"." + body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def edited() -> str:
    head, _, signature = signed().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(sub="root")).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


BAD: dict[str, Callable[[], str]] = {
    "alg none": none_signed,
    "alg none in capitals": lambda: none_signed().replace(
        none_signed().split(".")[0],
        base64.urlsafe_b64encode(b'{"alg":"NONE","kid":"r"}').rstrip(b"=").decode(),
    ),
    "public key as secret": with_public_key_as_secret,
    "secret key of the set": lambda: signed("0" * 32, "HS256", "o"),
    "payload edited": edited,
    "signature cut": lambda: signed().rpartition(".")[0] + ".",
    "other issuer": lambda: signed(iss="https://evil.example.org"),
    "issuer with a slash more": lambda: signed(iss=ISSUER + "/"),
    "no issuer": lambda: signed(iss=None),
    "other audience": lambda: signed(aud="https://another.example.org"),
    "no audience": lambda: signed(aud=None),
    "expired": lambda: signed(exp=int(time.time()) - 60),
    "never expires": lambda: signed(exp=None),
    "expires in a word": lambda: signed(exp="soon"),
    "not yet": lambda: signed(nbf=int(time.time()) + 600),
    "made in the future": lambda: signed(iat=int(time.time()) + 600),
    "no time": lambda: signed(iat=None),
    "no subject": lambda: signed(sub=None),
    "long subject": lambda: signed(sub="x" * 300),
    "a stranger's key": lambda: signed(STRANGER),
    "key for encryption": lambda: signed(STRANGER, kid="enc"),
    "unknown key id": lambda: signed(kid="x"),
    "no key id": lambda: signed(kid=None),
    "algorithm not allowed": lambda: signed(RSA_KEY, "RS512"),
    "algorithm of another key": lambda: signed(EC_KEY, "ES256", "r"),
    "too long": lambda: signed(sub="x" * 20_000),
    "not base64": lambda: "a.b.c",
}


@pytest.mark.parametrize("name", BAD)
def test_attack_69_what_proves_nothing_here_is_refused(provider: Provider, name: str) -> None:
    with pytest.raises(Denied, match="not valid here") as denied:
        provider.grant(BAD[name]())
    assert not denied.value.known


@pytest.mark.parametrize(
    "changed",
    [
        {"algorithms": ["HS256"]}, {"algorithms": ["none"]}, {"algorithms": []}, {"rules": []},
        {"jwks": "http://id.example.org/keys"}, {"jwks": "ftp://x"}, {"jwks": "nowhere.json"},
        {"rules": [{"claims": {}, "collections": ["*"], "actions": ["register"]}]},
        {"rules": [{"claims": {"a": "b"}, "collections": ["*"], "actions": ["everything"]}]},
        {"more": 1}, {"audience": ""},
    ],
)  # fmt: skip
def test_a_configuration_that_lets_too_much_in_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        configured(tmp_path, **changed)


@pytest.fixture
def keys_server() -> Iterator[tuple[str, list[str]]]:
    """A provider's key address on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(KEYS).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys", asked
        server.shutdown()
        thread.join()


def test_keys_are_fetched_once_and_unknown_ids_do_not_fetch_again(
    tmp_path: Path, keys_server: tuple[str, list[str]]
) -> None:
    provider = configured(tmp_path, jwks=keys_server[0])
    provider.grant(signed())
    for _ in range(5):
        with pytest.raises(Denied):
            provider.grant(signed(kid="made up"))
    provider.grant(signed())
    assert keys_server[1] == ["/keys"]


def test_without_keys_nobody_is_believed(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        configured(tmp_path, jwks="http://127.0.0.1:1/keys").grant(signed())


def test_over_http_the_identity_registers_what_is_signed(embedded: Database, tmp_path: Path) -> None:
    from eocat.catalog.intake_client import submit

    with new_database(embedded) as database:
        world = LogWorld(database, tmp_path / "out")
        with taking(world, configured(tmp_path)) as site:
            (done,) = submit(site.url, signed(), [world.write("a")])
            assert done.status == "registered"
            folder = world.write("b")
            assert site.open(folder, signed(repository="lab/other")).status_code == 403
            assert site.open(folder, signed(aud="other")).status_code == 401
            assert site.open(folder, site.token()).status_code == 201  # ours go on being valid
