"""Pages of a STAC search: this service beside plain stac-fastapi-pgstac on the same database.

    python tests/benchmarks/stac_pages.py [--items 5000] [--repeat 40]

Both run as servers of their own, one worker each, over loopback. The Items are those of the producer, with
other ids and places. Prints p50 and p95 in ms of one client, requests in turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "catalog")]

from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard

from eocat.catalog.admission import register
from eocat.catalog.cluster import PORT, Cluster
from eocat.catalog.database import Database, find_database
from eocat.catalog.schema import migrate

OURS, PLAIN = 8871, 8872
SEARCHES: dict[str, dict[str, Any]] = {
    "10 items": {"limit": 10},
    "10 items in a box": {"limit": 10, "bbox": [20, 20, 40, 40]},
    "10 items by CQL2": {"limit": 10, "filter": {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]}},
    "1 item by id": {"ids": ["i7"]},
    "100 items": {"limit": 100},
    "1000 items": {"limit": 1000},
}


def load(database: Database, count: int, folder: Path) -> None:
    """`count` Items in pgSTAC, each like one that a producer has written."""
    signer = new_signer()
    shard = write_shard(folder, "pages", "s", signer=signer, count=9, encoder=DrawnEncoder(dimension=8))
    register(database, [shard], policy_for(signer))
    with database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        (item,) = connection.execute("SELECT pgstac.get_item('s', 'pages')").fetchone() or ({},)
        items = []
        for number in range(count):
            west, south = number % 300 - 150 + 0.5, number * 7 % 140 - 70 + 0.5
            box = [west, south, west + 0.5, south + 0.5]
            ring = [[west, south], [box[2], south], [box[2], box[3]], [west, box[3]], [west, south]]
            moment = f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}T00:00:00Z"
            items.append({
                **item, "id": f"i{number}", "bbox": box,
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": item["properties"] | {
                    "datetime": moment, "start_datetime": moment, "end_datetime": moment,
                    "eo:cloud_cover": number % 100,
                },
            })  # fmt: skip
        for start in range(0, count, 1000):
            connection.execute("SELECT pgstac.create_items(%s)", [json.dumps(items[start : start + 1000])])
    with database.connect(autocommit=True) as connection:
        connection.execute("ANALYZE")


@contextmanager
def server(command: list[str], port: int, environment: dict[str, str], ready: str) -> Iterator[str]:
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, cwd="/")
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with suppress(requests.RequestException):
                if requests.get(f"{url}{ready}", timeout=5).ok:
                    break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def measure(urls: dict[str, str], search: dict[str, Any], repeat: int) -> dict[str, list[float]]:
    """ms of each request, the servers in turn, so that both see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in urls}
    with requests.Session() as session:
        for number in range(repeat + 3):
            for name, url in urls.items():
                began = time.perf_counter()
                answer = session.post(f"{url}/search", json={"collections": ["pages"], **search}, timeout=60)
                took = 1000 * (time.perf_counter() - began)
                answer.raise_for_status()
                assert answer.json()["features"], search
                if number >= 3:
                    times[name].append(took)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eocat-", dir="/tmp") as name:
        home = Path(name)
        home.chmod(0o755)
        database = find_database(home, environ={})
        migrate(database)
        try:
            load(database, options.items, home / "out")
            sockets = str(Cluster(home).ensure().sockets)
            plain = {
                "PGHOST": quote(sockets, safe=""), "PGPORT": str(PORT), "PGUSER": "eocat_read",
                "PGPASSWORD": "x", "PGDATABASE": "eocat",
            }  # fmt: skip
            run = [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app"]
            own = [sys.executable, "-m", "eocat.edge", "serve", "--port", str(OURS)]
            with (
                server(own, OURS, {"EOCAT_HOME": str(home)}, "/_mgmt/health") as ours,
                server([*run, "--port", str(PLAIN)], PLAIN, plain, "/_mgmt/ping") as theirs,
            ):
                print(f"{options.items} items, {options.repeat} requests each; ms")
                print(f"{'search':<20}{'eocat p50':>10}{'p95':>8}{'plain p50':>11}{'p95':>8}{'ratio':>7}")
                for what, search in SEARCHES.items():
                    times = measure({"eocat": ours, "plain": theirs}, search, options.repeat)
                    (a, b), (c, d) = (
                        (statistics.median(found), sorted(found)[int(len(found) * 0.95)])
                        for found in times.values()
                    )
                    print(f"{what:<20}{a:>10.1f}{b:>8.1f}{c:>11.1f}{d:>8.1f}{a / c:>7.2f}")
        finally:
            Cluster(home).stop()


if __name__ == "__main__":
    main()
