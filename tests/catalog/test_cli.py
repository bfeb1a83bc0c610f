"""The catalogue's commands as a user runs them, from up to down, each in a process of its own."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from shard_maker import DrawnEncoder, new_signer, policy_for, square, write_shard

from eocat.catalog import serving
from eocat.verify.canonical import encode


@dataclass
class Runner:
    """Runs `eocat …` with a home of its own; PORT stands for the service's port."""

    home: Path
    port: int

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            self._command(arguments), capture_output=True, text=True, check=False, env=self._environment(),
            timeout=120,
        )  # fmt: skip
        assert ran.returncode == code, f"{arguments}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command in the foreground, which ends by itself when it is asked to."""
        process = subprocess.Popen(
            self._command(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self._environment(),
        )  # fmt: skip
        try:
            yield process
            process.terminate()
            _, errors = process.communicate(timeout=30)
            assert "Traceback" not in errors, errors
        finally:
            process.kill()
            process.communicate()

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [
            sys.executable,
            "-m",
            "eocat.edge",
            *(str(self.port) if a == "PORT" else a for a in arguments),
        ]

    def _environment(self) -> dict[str, str]:
        return {
            "EOCAT_HOME": str(self.home),
            "EOCAT_API": f"http://127.0.0.1:{self.port}",
            "PATH": "/usr/bin:/bin",
        }


@pytest.fixture
def run(short_home: Path) -> Iterator[Runner]:
    """What was started there is stopped afterwards."""
    yield Runner(short_home, free_port())
    serving.stop(short_home)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def test_the_whole_way(run: Runner, tmp_path: Path) -> None:
    signer, encoder = new_signer(), DrawnEncoder(dimension=8)
    out, policy = tmp_path / "out", tmp_path / "policy.json"
    folder = write_shard(out, "demo", "s1", signer=signer, encoder=encoder)
    write_shard(out, "demo", "s2", signer=signer, encoder=encoder, seed=2, west=20)
    policy.write_bytes(encode(policy_for(signer).model_dump()))

    up = json.loads(run("up", "--port", "PORT", "--json").stdout)
    assert up["database"] == "embedded"
    assert run("up", "--port", "PORT").stdout == f"{up['url']}\n"  # the second time it is there already

    assert run("register", str(out), "--trust", str(policy)).stdout.count("registered  60 rows") == 2
    again = json.loads(run("register", str(out), "--trust", str(policy), "--json").stdout)
    assert {one["status"] for one in again} == {"already registered"}

    found = json.loads(run("search", "--bbox", "10,45,12,47", "-c", "demo", "--json").stdout)
    assert [item["id"] for item in found["features"]] == ["s1"]
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": square(19, 45, 3)}))
    table = run("search", "-c", "demo", "--intersects", str(area), "--csv").stdout.splitlines()
    assert [line.split(",")[0] for line in table] == ["item", "demo/s2"]
    ordered = run("search", "-c", "demo", "--sortby", "-id").stdout
    assert [line.split("\t")[0] for line in ordered.splitlines()] == ["demo/s2", "demo/s1"]
    tables = tmp_path / "items.parquet", tmp_path / "hits.parquet"
    assert run("search", "-c", "demo", "--parquet", str(tables[0])).stdout == ""
    assert run("similar", "demo/s1#0", "--intersects", str(area), "--parquet", str(tables[1])).stdout == ""
    assert sorted(pq.read_table(tables[0])["id"].to_pylist()) == ["s1", "s2"]
    assert set(pq.read_table(tables[1])["item"].to_pylist()) == {"s2"}
    assert run("search", "-c", "demo", "--filter", "platform = 'sentinel-2a'").stdout.count("demo/s") == 2

    hit = tmp_path / "hit.json"
    lines = run("similar", "demo/s1#3", "--limit", "5", "--save", str(hit)).stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].split("\t")[2] == "demo/s1#3"
    assert "VERIFIED" in run("verify", str(hit), "--trust", str(policy)).stdout
    assert "VERIFIED" in run("verify", "demo/s2", "--trust", str(policy), "--api", up["url"]).stdout

    vector = tmp_path / "vector.npy"
    first = json.loads(run("similar", "11.005,46.005", "--limit", "1", "--json").stdout)
    assert first["features"][0]["properties"]["row"] == 0
    np.save(vector, np.ones(8))
    assert len(run("similar", str(vector), "--exact", "--limit", "7").stdout.splitlines()) == 7

    events = json.loads(run("history", "demo/s1", "--json").stdout)
    assert [(event["seq"], event["event"]) for event in events] == [(0, "CREATE"), (1, "REGISTER")]
    assert events[0]["actor"] == "Example Publisher"

    register_from_afar(run, tmp_path, policy, write_shard(out, "demo", "s3", signer=signer, encoder=encoder))

    data = bytearray((folder / "embeddings.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "embeddings.parquet").write_bytes(data)
    assert "TAMPERED" in run("register", str(folder), "--trust", str(policy), code=20).stdout
    assert "TAMPERED" in run("verify", "demo/s1", "--trust", str(policy), "--api", up["url"], code=20).stdout

    for arguments, code, sentence in (
        (("similar", "demo/s1#900"), 2, "no row 900"),
        (("similar", "nonsense"), 2, "numbers with commas"),
        (("search", "--filter", "cloudiness < 3"), 2, "cloudiness"),
        (("history", "demo/absent"), 2, "no history"),
        (("search", "--bbox", "1,2,3,4", "--intersects", str(area)), 2, "exclude each other"),
        (("search", "--intersects", str(policy)), 3, "holds no GeoJSON geometry"),
        (("search", "--intersects", str(tmp_path / "nothing")), 60, "cannot be read"),
        (("search", "--parquet", str(tmp_path)), 5, "cannot be written"),
        (("register", str(tmp_path / "nowhere"), "--trust", str(policy)), 3, "no finished shard"),
        (("register", str(out), "--trust", str(tmp_path / "nothing.json")), 5, "cannot be read"),
        (("serve", "--port", "PORT"), 5, "cannot be listened on"),
    ):
        ran = run(*arguments, code=code)
        assert ran.stdout == ""
        assert ran.stderr.startswith("eocat: error: ")
        assert sentence in ran.stderr

    assert run("down").stdout == "stopped\n"
    assert run("down").stdout == "nothing was running\n"
    assert "cannot be reached" in run("similar", "demo/s1#3", code=60).stderr


def register_from_afar(run: Runner, tmp_path: Path, policy: Path, folder: Path) -> None:
    """The writing side as its operator starts it, and a publisher with a token."""
    token, port = tmp_path / "token", free_port()
    made = run("token", "new", "lab", "-c", "demo", "--days", "1")
    token.write_text(made.stdout)
    assert made.stderr.startswith("give it to the publisher")
    arguments = ["serve", "--writes", "--port", str(port), "--trust", str(policy)]
    with run.started(*arguments) as intake:
        assert intake.stderr.readline() == f"taking registrations at http://127.0.0.1:{port}\n"
        api = ("--api", f"http://127.0.0.1:{port}", "--token-file", str(token))
        assert run("register", str(folder), *api).stdout == "demo/s3  registered  60 rows\n"
        assert "runs already" in run("up", "--port", "1", code=5).stderr
        [(id_, name, state, *_)] = [line.split("\t") for line in run("token", "list").stdout.splitlines()]
        assert (name, state) == ("lab", "valid")
        assert run("token", "revoke", id_).stdout == f"{id_}  revoked  lab\n"
        refused = run("register", str(folder), *api, code=5)
        assert "does not accept the token" in refused.stderr
    assert token.read_text().strip() not in run("token", "list", "--json").stdout
    for arguments, code, sentence in (
        (["register", str(folder), "--api", "http://example.org"], 2, "go together"),
        (["register", str(folder), "--api", "http://example.org", "--token-file", str(token)], 2, "show the"),
        (["register", str(folder), *api, "--trust", str(policy)], 2, "not yours to choose"),
        (["token", "new", "lab", "-c", "../x"], 2, "collections"),
        (["token", "new", "lab", "-c", "x", "--action", "delete"], 2, "is no action"),
        (["token", "revoke", "../x"], 2, "there is no token"),
        (["serve", "--trust", str(policy)], 2, "goes with --writes"),
    ):
        assert sentence in run(*arguments, code=code).stderr


def test_a_taken_port_is_named(run: Runner) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = str(server.getsockname()[1])
        ran = run("serve", "--port", port, code=5)
    assert f"port {port} of 127.0.0.1 cannot be listened on" in ran.stderr
    assert "hint: choose another with --port" in ran.stderr
