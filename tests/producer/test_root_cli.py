"""`eocat root` and hybrid keys, by their holders' commands; the verifier's commands take the files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eocat.producer.signer import KeyFile, key_names, new_key, read_key, sign_payload
from eocat.verify.errors import ConfigError
from eocat.verify.keys import parse_key


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The holders' machine, with the keys a, b and c; also the working folder."""
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "offline"))
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        new_key(name, None)
    return tmp_path


def eocat(*arguments: object, code: int = 0, **variables: str) -> str:
    """Run it; stdout if it ends with 0, else stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "eocat.edge", *map(str, arguments)],
        env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_root_and_its_policy_from_new_to_rotated(offline: Path) -> None:
    user = {"EOCAT_HOME": str(offline / "user")}
    eocat("root", "new", "a", "b", "c", "--threshold", 2, "--days", 400)
    eocat("root", "sign", "1.root.json", "--key", "a")
    assert "1 of the 2" in eocat("trust", "pin", "1.root.json", code=22, **user)
    eocat("root", "sign", "1.root.json", "--key", "b")
    eocat("trust", "pin", "1.root.json", **user)

    eocat("trust", "init", "c", "--collection", "coasts", "--out", "policy.json")
    eocat("root", "sign", "policy.json", "--key", "a")
    assert "1 of the 2" in eocat("trust", "update", "policy.signed.json", code=22, **user)
    assert "exists already" in eocat("root", "sign", "policy.json", "--key", "b", code=5)
    eocat("root", "sign", "policy.signed.json", "--key", "c")
    assert "c  producer for coasts" in eocat("trust", "update", "policy.signed.json", **user)

    eocat(
        "root",
        "rotate",
        "1.root.json",
        "--key",
        "b",
        "--key",
        "c",
        "--policy-key",
        "c",
        "--policy-threshold",
        1,
    )
    eocat("root", "sign", "2.root.json", "--key", "b")
    assert "1 of the 2" in eocat("trust", "update", "2.root.json", code=22, **user)
    eocat("root", "sign", "2.root.json", "--key", "c")
    assert "root version 2" in eocat("trust", "update", ".", **user)
    assert "older" in eocat("trust", "update", "1.root.json", code=26, **user)


def test_what_is_no_root_and_no_policy_is_not_signed(offline: Path) -> None:
    (offline / "x.json").write_text('{"type": "something"}')
    assert "is no trust root and no policy" in eocat("root", "sign", "x.json", "--key", "a", code=2)
    assert (offline / "x.json").read_text() == '{"type": "something"}'
    (offline / "x.json").write_text('{"payload": "", "payloadType": "x", "signatures": []}')
    eocat("root", "sign", "x.json", "--key", "a", code=50)


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_hybrid_key_is_read_as_it_was_made(offline: Path, passphrase: bytes | None) -> None:
    made = new_key("h", passphrase, ml_dsa=True)
    folder = offline / "offline" / "keys"
    assert {path.stat().st_mode & 0o777 for path in folder.glob("h.*pem")} == {0o600}
    assert key_names() == ["a", "b", "c", "h"]
    read = read_key("h", passphrase)
    assert (read.public, read.partner) == (made.public, made.partner)
    lines = (folder / "h.pub").read_text().splitlines()
    assert [parse_key(line.removesuffix(" h")) for line in lines] == [made.public, made.partner]
    with pytest.raises(ConfigError, match="exists already"):
        new_key("h", passphrase, ml_dsa=True)


def test_a_hybrid_key_signs_with_both_halves() -> None:
    signer = KeyFile.generate("h", ml_dsa=True)
    assert signer.partner is not None
    envelope = sign_payload(b"{}", signer, "text/plain")
    halves = {key.key_id: key for key in (signer.public, signer.partner)}
    assert envelope.verdicts(halves) == dict.fromkeys(halves, True)


def test_another_key_in_the_partners_place_is_refused(offline: Path) -> None:
    folder = offline / "offline" / "keys"
    (folder / "a.ml-dsa-44.pem").write_bytes((folder / "b.pem").read_bytes())
    (folder / "a.ml-dsa-44.pem").chmod(0o600)
    with pytest.raises(ConfigError, match="is no ML-DSA-44 key"):
        read_key("a", None)


def test_a_policy_asks_for_both_halves_of_a_hybrid_key(offline: Path) -> None:
    eocat("keys", "new", "h", "--ml-dsa", "--no-passphrase")
    eocat("trust", "init", "h", "--collection", "coasts")
    [ed25519, ml_dsa] = [
        line.removeprefix("key id ") for line in eocat("keys", "show", "h").splitlines()[1::2]
    ]
    assert f"{ed25519} + {ml_dsa}" in eocat("trust", "show")
