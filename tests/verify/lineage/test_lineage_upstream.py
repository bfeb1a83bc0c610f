"""upstream.py, service.py and `eocat source`: products without a shard, and the service over real HTTP."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from lineage.make_product import BAND_NAME, FILES, ROOT, make_folder, make_zip
from lineage.make_trace import ORIGIN, make_identity, make_trace, unsigned

from eocat.verify.digest import digest_bytes, digest_file
from eocat.verify.edge.service import fetch_traces
from eocat.verify.errors import Malformed, Unavailable, UsageError
from eocat.verify.lineage.trace import MAX_BYTES, Content, Product, Trace
from eocat.verify.lineage.upstream import UpstreamReport, check_upstream, look_beside
from eocat.verify.pins import Pin
from eocat.verify.report import Outcome

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PIN = make_identity().pin(certificateDates="ignored")


def judged(path: Path, *pins: Pin) -> UpstreamReport:
    return check_upstream(look_beside(path, None, None), lambda: pins, NOW)


def eocat(tmp_path: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "eocat.edge", "source", *map(str, arguments)],
        env={**os.environ, "EOCAT_HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "counts", "outcome"),
    [
        ("S1A_IW_GRDH_1SDV_*.zip", "9 ok, 0 differs, 2 missing, 10 unlisted by MD5", Outcome.UNAVAILABLE),
        ("S2A_MSIL1C_*.zip", "45 ok, 14 differs, 0 missing, 5 unlisted by SHA3", Outcome.LINEAGE_FAILED),
        ("S2A_MSIL2A_*157.SAFE", "2 ok, 0 differs, 84 missing, 1 unlisted by SHA3", Outcome.UNAVAILABLE),
        ("S2A_MSIL2A_*158.SAFE", "0 ok, 2 differs, 84 missing, 1 unlisted by SHA3", Outcome.LINEAGE_FAILED),
    ],
)
def test_real_products_give_the_counts_of_their_data_sheet(
    shared_data: Path, name: str, counts: str, outcome: Outcome
) -> None:
    (path,) = (shared_data / "safe_provenance").glob(name)
    report = judged(path)
    assert report.outcome is outcome
    assert counts in report.to_text()
    shown = [line for line in report.to_text().splitlines() if line.startswith("            ")]
    assert len(shown) == sum(part["verdict"] != "ok" for part in report.findings[0].parts)


def test_the_command_says_the_same_in_text_and_json(shared_data: Path, tmp_path: Path) -> None:
    (emptied,) = (shared_data / "safe_provenance").glob("S2A_MSIL1C_*.zip")
    (item,) = (shared_data / "cdse_stac").glob("S2A*.json")
    done = eocat(tmp_path, "check", emptied, item, "--json")
    assert done.returncode == 50, done.stderr
    product, stac = json.loads(done.stdout)
    assert (product["outcome"], product["exitCode"]) == ("LINEAGE_FAILED", 40)
    verdicts = [part["verdict"] for part in product["steps"][0]["parts"]]
    assert (verdicts.count("ok"), verdicts.count("differs"), verdicts.count("unlisted")) == (45, 14, 5)
    assert stac["outcome"] == "MALFORMED", "the real Item's malformed multihashes are refused as such"
    malformed = [part for part in stac["steps"][1]["parts"] if part["verdict"] == "malformed"]
    assert len(malformed) == 4
    assert all("MD5 before 32 bytes" in part["text"] for part in malformed)

    done = eocat(tmp_path, "check", emptied)
    assert done.returncode == 40
    assert done.stdout.splitlines()[0].endswith("LINEAGE_FAILED")
    assert "B01.jp2  has 0 bytes, listed with 3740571" in done.stdout


def test_a_whole_product_with_nothing_beside_it_is_verified(tmp_path: Path) -> None:
    assert judged(make_zip(tmp_path)).outcome is Outcome.VERIFIED
    assert judged(make_folder(tmp_path)).outcome is Outcome.VERIFIED


def test_a_file_with_nothing_to_hold_it_against_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"band")
    report = judged(tmp_path / "a.tif")
    assert report.outcome is Outcome.INCOMPLETE
    assert [finding.step.checked for finding in report.findings] == [False] * 3


def trace_of(path: Path, **other: Any) -> Trace:
    found = digest_file(path)
    return make_trace(Product(name=path.name, hash=found.blake3, size=found.size), **other)


def write_traces(path: Path, *traces: Trace) -> None:
    name = path.name.removesuffix(".zip").removesuffix(".SAFE")
    path.with_name(f"{name}.traces.json").write_text(json.dumps([trace.model_dump() for trace in traces]))


def test_traces_beside_a_product_are_judged_under_the_pins(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    write_traces(path, trace_of(path))
    report = judged(path, PIN)
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    (part,) = report.findings[2].parts
    assert (part["signer"], part["unsigned"]["origin"]) == ("archive", ORIGIN)
    assert judged(path).outcome is Outcome.UNTRUSTED, "nobody is pinned"
    write_traces(path, trace_of(path), trace_of(path, event="OBSOLETE"))
    assert judged(path, PIN).outcome is Outcome.LINEAGE_FAILED
    write_traces(path, unsigned(trace_of(path)))
    assert judged(path, PIN).outcome is Outcome.UNSIGNED


def test_traces_of_an_unpacked_product_must_name_each_file(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    names = {**FILES, "manifest.safe": (root / "manifest.safe").read_bytes()}
    contents = [
        Content(path=f"{ROOT}/{name}", hash=digest_bytes(data).blake3) for name, data in names.items()
    ]
    write_traces(root, make_trace(Product(name=f"{ROOT}.zip", hash="0" * 64, size=1, contents=contents)))
    assert judged(root, PIN).outcome is Outcome.VERIFIED
    (root / "added.xml").write_bytes(b"<added/>")
    report = judged(root, PIN)
    assert report.outcome is Outcome.LINEAGE_FAILED
    assert "lists no" in report.to_text()


def test_attack_61_a_hostile_zip_is_malformed(tmp_path: Path) -> None:
    path = make_zip(tmp_path, FILES, None, (f"{ROOT}/../../etc/passwd", b"x"))
    assert judged(path).outcome is Outcome.MALFORMED


def test_attack_67_names_write_no_line_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a\nb  VERIFIED").write_bytes(b"x")
    done = eocat(tmp_path, "check", tmp_path / "a\nb  VERIFIED")
    assert (done.returncode, len(done.stdout.splitlines())) == (11, 4)


class Service:
    """The traceability service: its two searches over `held`, in the shapes of its OpenAPI."""

    def __init__(self, held: list[Trace]) -> None:
        self.held, self.answers = held, {}  # type: list[Trace], dict[str, Callable[[Any], None]]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if answer := outer.answers.get(self.path):
                    answer(self)
                    return
                kind, _, value = unquote(self.path).removeprefix("/api/v1/traces/").partition("/")
                found = [t for t in outer.held if value == getattr(t.product, kind)]
                self.reply(200, json.dumps([t.model_dump(exclude_none=True) for t in found]).encode())

            def reply(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, text in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
                """Keep stderr quiet."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that stops reading is what these tests are about."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/api"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "in").mkdir()
    served = Service([trace_of(make_zip(tmp_path / "in")), trace_of(make_zip(tmp_path / "in"), event="COPY")])
    yield served
    served.http.shutdown()
    served.http.server_close()


def test_traces_are_fetched_by_name_and_by_hash_and_kept_as_they_came(
    service: Service, tmp_path: Path
) -> None:
    product = service.held[0].product
    by_name, traces = fetch_traces(product.name, service=service.url)
    by_hash, _ = fetch_traces(product.hash, service=f"{service.url}/")
    assert by_name == by_hash
    assert traces == tuple(service.held)
    path = tmp_path / "in" / f"{ROOT}.zip"
    out = path.with_name(f"{ROOT.removesuffix('.SAFE')}.traces.json")
    done = eocat(tmp_path, "traces", product.name, "--service", service.url, "--out", out)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["CREATE", "COPY"]
    assert out.read_bytes() == by_name
    assert judged(path, PIN).outcome is Outcome.VERIFIED


def test_what_the_service_does_not_hold_is_unavailable(service: Service) -> None:
    with pytest.raises(Unavailable, match="has no trace of S2A_none"):
        fetch_traces("S2A_none.SAFE.zip", service=service.url)
    with pytest.raises(Unavailable, match="cannot be reached"):
        fetch_traces("S2A_none.SAFE.zip", service="http://127.0.0.1:9")
    with pytest.raises(UsageError):
        fetch_traces("", service=service.url)


@pytest.mark.parametrize("name", ["../validate", "a/../b", "a?x=1", "a%2fb"])
def test_attack_61_a_name_cannot_lead_elsewhere(service: Service, name: str) -> None:
    with pytest.raises(Malformed):
        fetch_traces(name, service=service.url)


@pytest.mark.parametrize(
    ("answer", "fault", "text"),
    [
        (lambda h: h.reply(302, b"", Location="http://169.254.169.254/"), Unavailable, "redirects"),
        (lambda h: h.reply(422, b'{"detail": []}'), Unavailable, "answered 422"),
        (lambda h: h.reply(200, b"[" + b" " * MAX_BYTES + b"]"), Malformed, "more than"),
        (lambda h: h.reply(200, b"[]", **{"Content-Length": "9"}), Unavailable, "broke off"),
        (lambda h: h.reply(200, b'[{"id": 1, "id": 2}]'), Malformed, "id"),
        (lambda h: h.reply(200, b'{"detail": "none"}'), Malformed, "trace 0"),
        (lambda h: h.reply(200, b"<html>"), Malformed, "traces"),
        (lambda h: h.reply(200, json.dumps([{}] * 51).encode()), Malformed, "51 traces"),
    ],
)
def test_attack_62_and_64_answers_that_are_none_are_refused(
    service: Service, answer: Callable[[Any], None], fault: type[Exception], text: str
) -> None:
    service.answers["/api/v1/traces/name/x"] = answer
    with pytest.raises(fault, match=text):
        fetch_traces("x", service=service.url)


def test_a_trace_of_another_product_is_no_answer(service: Service) -> None:
    body = json.dumps([service.held[0].model_dump(exclude_none=True)]).encode()
    service.answers["/api/v1/traces/name/x"] = lambda h: h.reply(200, body)
    with pytest.raises(Unavailable, match="has no trace of x"):
        fetch_traces("x", service=service.url)


def test_traces_beside_an_item_without_its_product_say_nothing(tmp_path: Path) -> None:
    """They are about the product: other files that lie there are none of its."""
    (tmp_path / "other.txt").write_bytes(b"x")
    path = tmp_path / "scene.json"
    path.write_text('{"type": "Feature", "stac_version": "1.1.0", "id": "scene", "assets": {}}')
    (tmp_path / "scene.traces.json").write_text(json.dumps([make_trace().model_dump()]))
    report = judged(path, PIN)
    assert (report.outcome, report.findings[2].step.checked) == (Outcome.INCOMPLETE, False)


def test_an_items_product_is_found_beside_it(tmp_path: Path) -> None:
    make_zip(tmp_path)
    band = {
        "href": f"s3://eodata/{BAND_NAME}", "file:local_path": f"{ROOT}/{BAND_NAME}",
        "file:checksum": "1e20" + digest_bytes(FILES[BAND_NAME]).blake3,
    }  # fmt: skip
    item = {"type": "Feature", "stac_version": "1.1.0", "id": ROOT[:-5], "assets": {"B02": band}}
    path = tmp_path / f"{ROOT.removesuffix('.SAFE')}.json"
    path.write_text(json.dumps(item))
    report = judged(path)
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    assert [finding.step.checked for finding in report.findings] == [True, True, False]
