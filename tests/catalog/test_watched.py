"""What an operator sees of a running service: its log as JSON, and its figures for Prometheus."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from catalogue import new_database, running
from log_world import LogWorld
from prometheus_client.parser import text_string_to_metric_families
from test_cli import free_port

from eocat.catalog.database import Database
from eocat.catalog.metrics import Metrics
from eocat.catalog.service import create_app
from eocat.catalog.serving import is_healthy
from eocat.verify.errors import ConfigError, UsageError


def figures(text: str) -> dict[tuple[str, ...], float]:
    """(name, label value, …) → value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def served(database: Database, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`eocat serve` on an external database, as an operator starts it."""
    port = free_port()
    environment = {
        "EOCAT_HOME": str(database.required_home()),
        "EOCAT_DATABASE_URL": database.asyncpg_dsn("owner"),
        "PATH": "/usr/bin:/bin",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "eocat.edge", "serve", "--port", str(port), *options],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not is_healthy(url):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_requests_and_state_are_told_and_the_log_is_json(embedded: Database, tmp_path: Path) -> None:
    with new_database(embedded) as database:
        world = LogWorld(database, tmp_path / "out")
        world.add("s1")
        world.add("s2")
        world.register(world.sign("s2", "WITHDRAW", reason="clouds"))
        size = world.checkpoint().size
        told = f"127.0.0.1:{free_port()}"
        with served(database, "--metrics", told, "--log-format", "json") as (url, process):
            item = requests.get(f"{url}/collections/demo/items/s1", timeout=10)
            assert requests.get(f"{url}/nothing/here", timeout=10).status_code == 404
            assert requests.get(f"{url}/_mgmt/metrics", timeout=10).status_code == 404
            found = figures(requests.get(f"http://{told}/metrics", timeout=10).text)
        assert process.stderr is not None
        with process.stderr:
            lines = [line for line in process.stderr.read().splitlines() if line.startswith("{")]

    route = "/collections/{collection_id}/items/{item_id}"
    assert found["eocat_requests_total", "GET", route, "200"] == 1
    assert found["eocat_requests_total", "GET", "other", "404"] >= 1
    assert found["eocat_request_seconds_count", route] == 1
    assert found["eocat_database_up",] == 1
    assert found["eocat_items", "demo", "active"] == 1
    assert found["eocat_items", "demo", "withdrawn"] == 1
    assert found["eocat_rows", "demo", "active"] == 6
    assert found["eocat_log_size",] == size == 8
    assert found["eocat_log_pending",] == 0
    assert found["eocat_log_published_seconds",] >= 0

    logged = [json.loads(line) for line in lines]
    assert "Finished server process" in logged[-1]["message"]  # the signal ended it in good order
    own = [line for line in logged if line.get("request_id") == item.headers["X-Request-Id"]]
    assert [(line["logger"], line["status"], line["path"]) for line in own] == [
        ("eocat.access", 200, "/collections/demo/items/s1")
    ]
    assert own[0]["time"].endswith("Z")


def test_metrics_tell_that_the_database_is_gone() -> None:
    gone = Database("host=/nonexistent dbname=x", "host=/nonexistent dbname=x", None)
    found = {
        family.name: family.samples[0].value for family in Metrics(gone).registry.collect() if family.samples
    }
    assert found == {"eocat_database_up": 0}


@pytest.mark.parametrize(
    "address", ["9464", "127.0.0.1:", "127.0.0.1:0", ":9464", "127.0.0.1:٩٤٦٤", "a:99999"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not ADDRESS:PORT"):
        Metrics(Database("", "", None)).serve(address)


def test_a_taken_address_is_refused(database: Database) -> None:
    with running(database) as url, pytest.raises(ConfigError, match="cannot be listened on"):
        Metrics(database).serve(url.removeprefix("http://"))


def test_the_reason_of_a_failure_is_logged_under_the_request_s_id(
    embedded: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with new_database(embedded) as database:
        with database.connect() as connection:
            connection.execute("ALTER TABLE eocat.collection RENAME TO elsewhere")
        with running(database) as url:
            answer = requests.get(f"{url}/_mgmt/health", timeout=10)
    assert answer.status_code >= 400
    (record,) = [record for record in caplog.records if record.name == "eocat.service"]
    assert record.request_id == answer.headers["X-Request-Id"]  # type: ignore[attr-defined]
    assert "elsewhere" not in answer.text


def test_the_application_has_no_route_for_metrics(database: Database) -> None:
    assert not [path for path in create_app(database).openapi()["paths"] if "metrics" in path]
