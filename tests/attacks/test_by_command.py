"""Attacks 28, 35, 56 to 58 and 62 to 65, each to its exit code by the command.

Their variants, on the functions that refuse, are in tests/verify and tests/verify/lineage.
"""

import base64
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fuzz import judge
from lineage.make_trace import FILE, SUBJECT, edited, make_identity, make_trace, unsigned
from make_shard import PRODUCER, Made, leaves_of, make_rows, make_shard, policy_json, write_parquet
from trust_maker import Hybrid

from eocat.verify import content
from eocat.verify.digest import Digests, digest_bytes, digest_file
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope
from eocat.verify.edge import fetch
from eocat.verify.lineage.trace import Trace
from eocat.verify.merkle import build_tiles
from eocat.verify.statement import space_digest


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "scene")


def code(target: str | Path, folder: Path, **options: Any) -> int:
    """The exit code of `eocat verify TARGET`; `policy`: members of the policy."""
    trust = folder / "trust.json"
    trust.write_text(json.dumps(policy_json(*options.pop("keys", ()), **options.pop("policy", {}))))
    [report] = judge([str(target)], trust=trust, **options)
    found: int = report["exitCode"]
    return found


@pytest.mark.parametrize("key", ["embeddings", "row-hashes"])
def test_attacks_28_and_65_a_file_replaced_between_hashing_and_reading(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The fault is put where it would strike: as soon as the file's digest was found to be the signed one."""
    other = tmp_path / "other"
    rows = make_rows(5)[::-1]
    write_parquet(rows, other) if key == "embeddings" else other.write_bytes(build_tiles(leaves_of(rows)))

    def replaced_after(path: Path) -> Digests:
        found = digest_file(path)
        if path == made.file(key):
            path.write_bytes(other.read_bytes())
        return found

    assert code(made.folder, tmp_path) == 0
    monkeypatch.setattr(content, "digest_file", replaced_after)
    assert code(made.folder, tmp_path) == 20


def test_attack_35_a_half_of_a_hybrid_signature_is_stripped(made: Made, tmp_path: Path) -> None:
    hybrid = Hybrid.from_seed("hybrid")
    halves = hybrid.first.sign(made.payload), hybrid.sign_second(made.payload)
    for kept, expected in ((halves, 0), (halves[:1], 22), (halves[1:], 22)):
        made.write_envelope(Envelope(made.payload, PAYLOAD_TYPE, tuple(kept)))
        assert code(made.folder, tmp_path, keys=[hybrid.entry()]) == expected


# --- lineage: the source scene, its traces, the weights


@pytest.fixture
def sources(made: Made, tmp_path: Path) -> Path:
    """A folder for the sources of a statement whose scene is the product that make_trace traces."""
    file = {"name": SUBJECT.name, "sha256": FILE.sha256, "blake3": FILE.blake3, "size": FILE.size}
    made.statement["predicate"]["sources"][0]["files"] = [file]
    made.sign(PRODUCER)
    folder = tmp_path / "sources"
    folder.mkdir()
    return folder


def test_attack_56_another_scene_or_an_obsolete_one(made: Made, sources: Path, tmp_path: Path) -> None:
    (sources / SUBJECT.name).write_bytes(b"another product of that name")
    assert code(made.folder, tmp_path, sources=sources) == 40
    (sources / SUBJECT.name).unlink()
    write_traces(sources, make_trace(), make_trace(event="OBSOLETE", reason="wrong calibration"))
    assert code(made.folder, tmp_path, sources=sources, policy=cdse()) == 40


def cdse(**pin: Any) -> dict[str, Any]:
    return {"cdse": [make_identity().pin(**pin, certificateDates="ignored").model_dump()]}


def write_traces(sources: Path, *traces: Trace) -> None:
    (sources / "scene.traces.json").write_text(json.dumps([trace.model_dump() for trace in traces]))


TRACES: dict[str, tuple[Callable[[], list[Trace]], int]] = {
    "good": (lambda: [make_trace()], 0),
    "unsigned": (lambda: [unsigned(make_trace())], 10),
    "self-signed, with a claimed origin": (lambda: [make_trace(signer=make_identity("p256"))], 22),
    "origin rewritten": (lambda: [edited(make_trace(), origin="other@example.org")], 22),
    "size rewritten": (lambda: [edited(make_trace(), product_size=1)], 20),
    "inputs added later": (
        lambda: [edited(make_trace(), product_inputs=[{"name": "S2A_L0", "hash": "0" * 64}])], 20
    ),
    "one good among forged ones": (lambda: [make_trace(), edited(make_trace(), product_size=1)], 40),
    "obsolete, its reason rewritten": (
        lambda: [make_trace(), edited(make_trace(event="OBSOLETE", reason="bad"), obsolescence="fine")], 40
    ),
    "a deletion alone": (lambda: [make_trace(event="DELETE")], 40),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACES)
def test_attack_57_traces_that_prove_nothing(made: Made, sources: Path, tmp_path: Path, name: str) -> None:
    make, expected = TRACES[name]
    write_traces(sources, *make())
    assert code(made.folder, tmp_path, sources=sources, policy=cdse()) == expected


def test_attack_58_other_weights_and_a_pickle(made: Made, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "w.bin").write_bytes(b"other weights")
    assert code(made.folder, tmp_path, sources=sources) == 40
    data = pickle.dumps({"layer": [1.0, 2.0]})
    (sources / "w.bin").write_bytes(data)
    found = digest_bytes(data)
    signed = {"name": "w.bin", "sha256": found.sha256, "blake3": found.blake3, "size": found.size}
    made.statement["predicate"]["encoder"]["weights"] = [signed]
    predicate = made.statement["predicate"]
    item = made.item
    space = space_digest(predicate["encoder"]["config"], predicate["preprocess"], [found.sha256])
    item["properties"]["eocat:space"] = predicate["space"] = space
    made.write_item(item)
    made.redigest()
    made.sign(PRODUCER)
    assert code(made.folder, tmp_path) == 0, "whoever does not look at the weights sees nothing"
    assert code(made.folder, tmp_path, sources=sources) == 50


# --- files that are too much


def footer_of(body: bytes) -> bytes:
    return b"PAR1" + body + len(body).to_bytes(4, "little") + b"PAR1"


BOMBS: dict[str, Callable[[Made], bytes]] = {
    "an encrypted footer": lambda made: made.file("embeddings").read_bytes()[:-4] + b"PARE",
    "a list of 2^30 columns": lambda _: footer_of(
        b"\x15\x04\x19\x1c\x48\x01a\x00\x16\x02\x19\xfc\x80\x80\x80\x80\x04\x00"
    ),
    "half a million structs in each other": lambda _: footer_of(b"\x15\x04" + b"\x1c" * 500_000),
    "300,000 schema elements": lambda _: footer_of(
        b"\x15\x04\x19\xfc\xe0\xa7\x12" + b"\x48\x00\x00" * 300_000 + b"\x00"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_attack_63_a_shard_that_is_signed_and_a_bomb(made: Made, tmp_path: Path, name: str) -> None:
    made.file("embeddings").write_bytes(BOMBS[name](made))
    made.redigest("embeddings")
    made.sign(PRODUCER)
    assert code(made.folder, tmp_path) == 50


def test_attack_63_an_unknown_codec(made: Made, tmp_path: Path) -> None:
    write_parquet(made.rows, made.file("embeddings"), compression="gzip")
    made.redigest("embeddings")
    made.sign(PRODUCER)
    assert code(made.folder, tmp_path) == 50


# --- servers that mean harm

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Serves a shard's folder; `answers`: path → what it does instead."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                self.asked.append(handler.path)
                if answer := self.answers.get(handler.path):
                    answer(handler)
                    return
                path = folder / handler.path.lstrip("/")
                handler.send_response(200 if path.is_file() else 404)
                handler.end_headers()
                if path.is_file():
                    handler.wfile.write(path.read_bytes())

            def log_message(self, *args: Any) -> None:
                """Keep the tests' output clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(made: Made) -> Iterator[Server]:
    running = Server(made.folder)
    yield running
    running.http.shutdown()
    running.http.server_close()


def redirect(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


def body(data: bytes, repeat: int = 1, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        for _ in range(repeat):
            handler.wfile.write(data)

    return answer


PRIVATE = [
    "http://127.0.0.1:1/x", "http://[::1]/x", "http://[::ffff:10.0.0.1]/x", "http://169.254.169.254/x",
    "http://2130706433/x", "http://0177.0.0.1/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/",
]  # fmt: skip


def test_attack_62_nobody_is_sent_anywhere_else(made: Made, server: Server, tmp_path: Path) -> None:
    address = f"{server.url}/item.json"
    assert code(address, tmp_path) == 0
    for path in ("/item.json", "/attestation.jsonl", "/row-hashes.bin"):
        for to in PRIVATE:
            server.answers = {path: redirect(to)}
            assert code(address, tmp_path) == 60, (path, to)
    server.answers = {}
    honest = made.item
    for key in ("thumbnail", "attestation"):
        for href in PRIVATE:
            item = json.loads(json.dumps(honest))
            item["assets"][key]["href"] = href
            made.write_item(item)
            assert code(address, tmp_path) == 60, (key, href)
    for address in ("http://user:secret@127.0.0.1/x", "http://[::1"):
        assert code(address, tmp_path) == 50, address
    assert "/etc/passwd" not in server.asked


def test_attack_64_bodies_without_end_slow_or_compressed(
    made: Made, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{server.url}/item.json"
    server.answers = {"/item.json": body(b" " * 65_536, 10_000)}
    assert code(address, tmp_path) == 50
    server.answers = {"/thumbnail.png": body(b"\0" * 65_536, 10_000)}
    assert code(address, tmp_path) == 20, "cut after the signed size, and then another file"
    packed = base64.b64decode("H4sIAAAAAAACA0tMTEoGAMJBJDUEAAAA")
    server.answers = {"/item.json": body(packed, Content_Encoding="gzip")}
    assert code(address, tmp_path) == 50
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.2)

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(600):
            if stopped.wait(0.05):
                return
            handler.wfile.write(b" ")

    stopped = threading.Event()
    server.answers = {"/item.json": trickle}
    try:
        assert code(address, tmp_path) == 60
    finally:
        stopped.set()
