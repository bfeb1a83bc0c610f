"""`eocat trace`: own items as products of the Copernicus format; the key stays with the signer."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_evidence import produced

from eocat.producer.output import Produced
from eocat.producer.sequel import append_event
from eocat.producer.signer import KeyFile, new_trace_key, read_trace_key
from eocat.producer.synthetic import write_scene
from eocat.producer.traces import export_traces
from eocat.verify.certificate import parse_certificate
from eocat.verify.digest import digest_file
from eocat.verify.errors import ConfigError, InputError, UsageError
from eocat.verify.evidence import read_envelopes
from eocat.verify.lineage.cdse import Subject, judge_product
from eocat.verify.lineage.trace import Trace, parse_traces
from eocat.verify.pins import KeyPin


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Produced, KeyFile]:
    folder = tmp_path_factory.mktemp("traces")
    return produced(write_scene(folder / "coast.tif", seed=1, size=128), folder / "out")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path))


def answered(body: bytes) -> tuple[Trace, ...]:
    """As the service answers once it holds them."""
    own = {"timestamp": "2026-06-19T02:19:24Z", "origin": "us@example.org", "id": "1"}
    return parse_traces(json.dumps([trace | own for trace in json.loads(body)]).encode())


def pin_of(spki: str) -> KeyPin:
    return KeyPin(
        name="us", spki=spki, origins=["us@example.org"],
        notBefore="2026-01-01T00:00:00Z", notAfter="2036-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize("event", ["CREATE", "COPY", "DELETE"])
def test_a_shards_trace_is_authentic_under_the_pinned_key(made: tuple[Produced, KeyFile], event: Any) -> None:
    shard = made[0]
    key = new_trace_key("archive", None)
    body, _ = export_traces([shard.folder], event, read_trace_key("archive", None))
    (trace,) = answered(body)
    assert (trace.event, trace.product.name) == (event, "c/coast/embeddings.parquet")
    assert [given.name for given in trace.product.inputs or ()] == ["coast.tif"]
    found = digest_file(shard.folder / "embeddings.parquet")
    subject = Subject(trace.product.name, found.size, {"BLAKE3": found.blake3})
    pins = [pin_of(parse_certificate(key.certificate).spki)]
    verdict = judge_product([trace], subject, pins, datetime.now(UTC))
    assert (verdict.outcome is None) == (event != "DELETE"), verdict.text
    assert verdict.traces[0].outcome is None


def test_an_obsolete_needs_a_history_that_says_so(made: tuple[Produced, KeyFile]) -> None:
    key = new_trace_key("archive", None)
    with pytest.raises(UsageError, match="is created, its trace cannot be OBSOLETE"):
        export_traces([made[0].folder], "OBSOLETE", key)
    with pytest.raises(UsageError, match="has no reason"):
        export_traces([made[0].folder], "CREATE", key, reason="why not")


def test_an_obsolete_items_trace_has_the_reason_of_its_history(
    made: tuple[Produced, KeyFile], tmp_path: Path
) -> None:
    folder = copied(made[0].folder, tmp_path)
    for event in ({"event": "REGISTER", "log": "log.example"}, {"event": "OBSOLETE", "reason": "clouds"}):
        append_event(folder, read_envelopes(folder / "attestation.jsonl"), event, made[1], actor="p")
    body, _ = export_traces([folder], "OBSOLETE", new_trace_key("archive", None))
    (trace,) = answered(body)
    assert (trace.event, trace.obsolescence) == ("OBSOLETE", "clouds")


def copied(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_a_file_that_is_not_the_signed_one_is_not_traced(
    made: tuple[Produced, KeyFile], tmp_path: Path
) -> None:
    copy = copied(made[0].folder, tmp_path)
    data = bytearray((copy / "embeddings.parquet").read_bytes())
    data[99] ^= 1
    (copy / "embeddings.parquet").write_bytes(data)
    with pytest.raises(InputError, match="is not the signed file"):
        export_traces([copy], "CREATE", new_trace_key("archive", None))


def test_keys_are_private_and_none_is_replaced(tmp_path: Path) -> None:
    new_trace_key("archive", b"secret")
    path = tmp_path / "keys" / "archive.trace.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        new_trace_key("archive", None)
    with pytest.raises(ConfigError, match="needs a passphrase"):
        read_trace_key("archive", None)
    with pytest.raises(ConfigError, match="there is no key"):
        read_trace_key("another", None)


def test_the_commands(made: tuple[Produced, KeyFile], tmp_path: Path) -> None:
    def eocat(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "eocat.edge", "trace", *map(str, arguments)],
            env=os.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = json.loads(eocat("key", "archive", "--no-passphrase", "--json"))
    assert len(told["spki"]) == 64
    out = tmp_path / "traces.json"
    assert eocat("export", made[0].folder, "--key", "archive", "--out", out).startswith("CREATE  c/coast/")
    (trace,) = answered(out.read_bytes())
    assert parse_certificate(trace.signature.certificate_der).spki == told["spki"]
