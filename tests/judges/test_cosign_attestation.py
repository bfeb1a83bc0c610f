"""Sigstore's cosign judges our envelopes: DSSE, in-toto, every subject's digest; a key file, no network."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from debian_judges import judge
from make_shard import PRODUCER, STRANGER, Key, Made, make_shard

from eocat.verify.statement import PREDICATE_TYPE

Ask = Callable[..., bool]


@pytest.fixture(scope="module")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    program = judge("cosign")
    folder = tmp_path_factory.mktemp("cosign")

    def ask(file: Path, envelope: bytes, key: Key = PRODUCER) -> bool:
        """Whether cosign says that `file` is a subject of the envelope, which `key` has signed."""
        pem = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "key.pem").write_bytes(pem)
        (folder / "envelope.json").write_bytes(envelope)
        command = [program, "verify-blob-attestation", "--key", folder / "key.pem", "--type", PREDICATE_TYPE,
                   "--signature", folder / "envelope.json", "--insecure-ignore-tlog", file]  # fmt: skip
        ran = subprocess.run(
            command, env={"HOME": str(folder)}, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0 or "Error: " in ran.stderr, ran.stderr
        return ran.returncode == 0 and "Verified OK" in ran.stderr

    return ask


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_shard(tmp_path_factory.mktemp("made") / "scene")


@pytest.mark.parametrize("key", ["embeddings", "row-hashes", "thumbnail"])
def test_cosign_verifies_every_file_of_our_statement(cosign: Ask, made: Made, key: str) -> None:
    assert cosign(made.file(key), made.attestation.read_bytes())


def test_cosign_refuses_what_we_refuse(cosign: Ask, made: Made, tmp_path: Path) -> None:
    line, file = made.attestation.read_bytes(), made.file("embeddings")
    assert not cosign(file, line, STRANGER)
    assert not cosign(made.folder / "item.json", line), "a file that is no subject"
    value = json.loads(line)
    payload = base64.b64decode(value["payload"]).replace(b'"producer"', b'"somebody"')
    edited = json.dumps(value | {"payload": base64.b64encode(payload).decode()}).encode()
    assert payload != base64.b64decode(value["payload"])
    assert not cosign(file, edited)
    assert not cosign(file, json.dumps(value | {"payloadType": "application/json"}).encode())
    (tmp_path / "flipped").write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    assert not cosign(tmp_path / "flipped", line)
