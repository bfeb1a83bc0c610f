"""A catalogue with a dozen items in two collections, one superseded and one withdrawn, for validators.

`sample_catalogue(port)` gives its URL: a real service on the embedded database, in a home that is gone
afterwards.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from log_world import LogWorld

from eocat.catalog.cluster import Cluster
from eocat.catalog.database import find_database
from eocat.catalog.schema import migrate
from eocat.catalog.service import create_app
from eocat.catalog.serving import server_config


@contextmanager
def sample_catalogue(port: int) -> Iterator[str]:
    home = Path(tempfile.mkdtemp(prefix="eocat-", dir="/tmp"))
    home.chmod(0o755)
    try:
        database = find_database(home, environ={})
        migrate(database)
        fill(LogWorld(database, home / "out"))
        server = uvicorn.Server(server_config(create_app(database), "127.0.0.1", port))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise SystemExit(f"the service did not start on port {port}")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(30)
    finally:
        Cluster(home).stop()
        shutil.rmtree(home)


def fill(world: LogWorld) -> None:
    for number in range(12):
        world.add(
            f"i{number:02}",
            "demo" if number < 10 else "other",
            west=100 + number / 2,  # in the polygon that the validator searches with
            south=0.1 + number / 50,
            properties={"eo:cloud_cover": 5 * number, "platform": f"sentinel-2{'ab'[number % 2]}"},
        )
    world.register(world.sign("i01", "SUPERSEDE", successor="demo/i02"))
    world.register(world.sign("i03", "WITHDRAW", reason="a sample of one"))
