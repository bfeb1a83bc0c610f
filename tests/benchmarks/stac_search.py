"""STAC searches by eocat beside plain stac-fastapi-pgstac, on the same database (docs/benchmarks.md).

    python tests/benchmarks/stac_search.py [--items 20000] [--rounds 30] [--port 8880]

Items are real records of reBEN (bigearthnet.py), one of each patch, loaded by pypgstac. Each service is a
process with one worker and its default settings, eocat without its limit of requests; one client asks them in
turns over kept connections and reads whole answers. Milliseconds.
"""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np
from bigearthnet import read_products

from eocat.catalog.cluster import Cluster
from eocat.catalog.database import Database, find_database
from eocat.catalog.schema import migrate

RECORDS = Path(__file__).parents[3] / "shared" / "data" / "scale_metadata"
COLLECTION = {
    "type": "Collection", "stac_version": "1.1.0", "id": "reben", "description": "reBEN patches",
    "license": "other",
    "extent": {
        "spatial": {"bbox": [[-10, 36, 32, 69]]},
        "temporal": {"interval": [["2017-06-01T00:00:00Z", "2018-06-01T00:00:00Z"]]},
    },
    "links": [],
}  # fmt: skip

QUERIES: dict[str, dict[str, Any]] = {
    "box of 5°, 10 items": {"bbox": [10, 46, 15, 51], "limit": 10},
    "a month, 10 items": {"datetime": "2017-06-01T00:00:00Z/2017-07-01T00:00:00Z", "limit": 10},
    "box and month": {
        "bbox": [10, 46, 15, 51], "datetime": "2017-06-01T00:00:00Z/2017-07-01T00:00:00Z", "limit": 10,
    },
    "CQL2 on two properties": {
        "filter": {
            "op": "and",
            "args": [
                {"op": "=", "args": [{"property": "platform"}, "sentinel-2a"]},
                {"op": "<", "args": [{"property": "patch:column"}, 20]},
            ],
        },
        "filter-lang": "cql2-json",
        "limit": 10,
    },
    "page of 100": {"limit": 100},
    "page of 1,000": {"limit": 1_000},
}  # fmt: skip


def read_items(count: int) -> Iterator[dict[str, Any]]:
    products = read_products(RECORDS, count)
    for product, ids in products.ids.items():
        moment = datetime.strptime(product.split("_")[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        for id_, ring in zip(ids, products.rings[product].tolist(), strict=True):
            west, south = map(min, zip(*ring, strict=True))
            east, north = map(max, zip(*ring, strict=True))
            yield {
                "type": "Feature", "stac_version": "1.1.0", "id": id_, "collection": "reben",
                "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
                "properties": {
                    "datetime": moment.isoformat(), "platform": f"sentinel-{id_[1:3].lower()}",
                    "patch:column": int(id_.rsplit("_", 2)[1]), "proj:code": f"EPSG:326{product[-5:-3]}",
                },
                "links": [],
                "assets": {
                    band: {"href": f"https://example.com/{id_}/{band}.tif", "type": "image/tiff"}
                    for band in ("B02", "B03", "B04", "B08")
                },
            }  # fmt: skip


@contextmanager
def serving(
    command: list[str], environment: dict[str, str], port: int
) -> Iterator[http.client.HTTPConnection]:
    """A connection to a service, once it answers; the service is stopped at the end."""
    process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(300):
            try:
                connection.connect()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(process.stderr.read() if process.stderr else "") from None
                time.sleep(0.1)
        yield connection
    finally:
        process.terminate()
        process.wait(30)


def ask(connection: http.client.HTTPConnection, body: dict[str, Any]) -> tuple[float, int]:
    """Milliseconds and number of items of a search."""
    payload = json.dumps({"collections": ["reben"], **body}).encode()
    started = time.perf_counter()
    connection.request("POST", "/search", payload, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    taken = (time.perf_counter() - started) * 1e3
    if answer.status != 200:
        raise RuntimeError(data[:300])
    return taken, len(json.loads(data)["features"])


def compare(database: Database, home: Path, rounds: int, port: int) -> None:
    server = database.cluster.status() if database.cluster else None
    assert server is not None
    plain = {
        "PGUSER": "postgres", "PGPASSWORD": "none", "PGHOST": quote(str(server.sockets), safe=""),
        "PGPORT": "5432", "PGDATABASE": database.name,
    }  # fmt: skip
    uvicorn = [sys.executable, "-m", "uvicorn", "--log-level", "error", "--port"]
    own = [sys.executable, __file__, "--serve", str(home), "--port", str(port)]
    with (
        serving(own, {}, port) as ours,
        serving(
            [*uvicorn, str(port + 1), "--factory", "stac_fastapi.pgstac.app:create_app"], plain, port + 1
        ) as theirs,
    ):
        print(f"  {'query':26} {'eocat p50':>10} {'plain p50':>10} {'ratio':>6}   items")
        for name, body in QUERIES.items():
            times: dict[str, list[float]] = {"ours": [], "theirs": []}
            for number in range(rounds + 3):
                for who, connection in (("ours", ours), ("theirs", theirs)):
                    taken, count = ask(connection, body)
                    if number >= 3:
                        times[who].append(taken)
            mine, other = (float(np.median(times[who])) for who in ("ours", "theirs"))
            print(f"  {name:26} {mine:10.1f} {other:10.1f} {mine / other:6.2f}   {count}", flush=True)


def serve(home: Path, port: int) -> None:
    import uvicorn

    from eocat.catalog.service import create_app

    database = replace(find_database(home, environ={}), home=home)
    uvicorn.run(create_app(database), port=port, log_config=None, access_log=False)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--items", type=int, default=20_000)
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--port", type=int, default=8880)
    arguments.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve(given.serve, given.port)
        return
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods

    home = Path(tempfile.mkdtemp(prefix="eocat-", dir="/tmp"))
    home.chmod(0o755)
    try:
        database = replace(find_database(home, environ={}), home=home)
        migrate(database)
        with PgstacDB(dsn=database.owner) as pgstac:
            loader = Loader(db=pgstac)
            loader.load_collections(iter([COLLECTION]), Methods.insert)  # type: ignore[arg-type]
            loader.load_items(read_items(given.items), Methods.insert)  # type: ignore[arg-type]
        with database.connect(autocommit=True) as connection:
            names = {name: {"title": name} for name in ("platform", "patch:column")}
            connection.execute("SET search_path TO pgstac, public")
            connection.execute(
                "SELECT pgstac.upsert_queryables(%s::jsonb, %s)",
                [json.dumps({"properties": names}), ["reben"]],
            )
            connection.execute("ANALYZE")
        print(f"STAC searches over {given.items} items, ms, one client, {given.rounds} rounds in turns")
        compare(database, home, given.rounds, given.port)
    finally:
        Cluster(home).stop()
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
