"""sigsum-witness, a live C2SP witness by others, cosigns our log, and refuses a rollback and a split view.

Our own client asks it (eocat.catalog.cosign), and our own quorum judges what it answers.
"""

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from debian_judges import judge
from make_notes import Signer
from witnesses import DrawnLog, free_port

from eocat.catalog.cosign import Asked, Witnesses
from eocat.catalog.log_files import LogFolder
from eocat.verify.keys import PublicKey
from eocat.verify.log.note import (
    COSIGNATURE,
    ED25519,
    Note,
    VerifierKey,
    format_note,
    format_vkey,
    parse_note,
)
from eocat.verify.log.quorum import parse_log_policy

NUMBER = 21  # of the log's key
RAW = Signer("x", ED25519, NUMBER).key.public.raw
ORIGIN = f"sigsum.org/v1/tree/{hashlib.sha256(RAW).hexdigest()}"  # the one that it serves for this key
LOG = DrawnLog(origin=ORIGIN, number=NUMBER)
FORK = DrawnLog(content="another", origin=ORIGIN, number=NUMBER)


@dataclass(frozen=True)
class Judge:
    url: str
    key: VerifierKey

    def ask(self, log: DrawnLog, size: int, folder: Path) -> Asked:
        """What our client gets for a checkpoint of `log`, whose tiles are in `folder`."""
        log.write_tiles(LogFolder(folder), size)
        policy = parse_log_policy(
            f"log {format_vkey(LOG.key)}\nwitness s {format_vkey(self.key)} {self.url}\nquorum s\n".encode()
        )
        [asked] = Witnesses(policy, LOG.key, LogFolder(folder)).ask(log.note(size))
        if asked.signature:
            own = parse_note(log.note(size))
            full = format_note(Note(own.text, (*own.signatures, asked.signature)))
            LogFolder(folder).write_checkpoint(full)
            judged = policy.judge(full, datetime.now(UTC))
            assert judged.quorum_met
            assert not judged.forged
        return asked


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Judge]:
    program = judge("sigsum-witness")
    private = Ed25519PrivateKey.generate()
    (tmp_path / "witness").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    (tmp_path / "witness").chmod(0o600)
    log_key = LOG.signer.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    (tmp_path / "log.pub").write_bytes(log_key + b" log\n")
    public = private.public_key().public_bytes_raw()
    # Its key's name is made of the key, as its logs' origins are.
    name = f"sigsum.org/v1/witness/{hashlib.sha256(public).hexdigest()}"
    port = free_port()
    with subprocess.Popen(
        [program, "-k", tmp_path / "witness", "--log-key", tmp_path / "log.pub", "--state-file",
         tmp_path / "state", f"127.0.0.1:{port}"],
        env={**os.environ, "GODEBUG": "httpmuxgo121=0"}, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield Judge(f"http://127.0.0.1:{port}", VerifierKey(name, COSIGNATURE, PublicKey(public)))
        finally:
            process.kill()


def test_it_cosigns_our_growing_log_and_our_quorum_takes_its_lines(witness: Judge, tmp_path: Path) -> None:
    for size in (1, 2, 7, 256, 300):
        asked = witness.ask(LOG, size, tmp_path / "log")
        assert asked.outcome == "cosigned", asked


def test_it_refuses_a_rollback_and_a_split_view(witness: Judge, tmp_path: Path) -> None:
    assert witness.ask(LOG, 20, tmp_path / "log").outcome == "cosigned"
    assert witness.ask(LOG, 10, tmp_path / "older").outcome == "refused"
    for size in (20, 30):
        asked = witness.ask(FORK, size, tmp_path / f"fork-{size}")
        assert asked.outcome == "refused", asked
    assert witness.ask(LOG, 30, tmp_path / "log").outcome == "cosigned"


def test_it_refuses_proofs_that_do_not_hold(witness: Judge, tmp_path: Path) -> None:
    assert witness.ask(LOG, 20, tmp_path / "log").outcome == "cosigned"
    for proof in ([bytes(32)] * 3, []):
        body = LOG.request(20, 30, proof=proof)
        assert requests.post(f"{witness.url}/add-checkpoint", data=body, timeout=30).status_code in (400, 422)
    stranger = DrawnLog(origin=ORIGIN, number=99).request(20, 30)
    assert requests.post(f"{witness.url}/add-checkpoint", data=stranger, timeout=30).status_code == 403
