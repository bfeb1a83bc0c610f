"""The commands that run a catalogue: `eocat up`, `down` and `serve`."""

# Heavy imports (psycopg, fastapi) stand inside the commands, so that `--help` is quick.

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, note, progress_bar
from eocat.verify.errors import UsageError

from .options import Home, Json, home_folder

app = typer.Typer()

DEFAULT_HOST, DEFAULT_PORT, DEFAULT_WRITES_PORT = "127.0.0.1", 8765, 8766

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


@app.command()
def up(
    home: Home = None, host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT, as_json: Json = False
) -> None:
    """Start the catalogue in the background: its database, brought up to date, and its service."""
    with needs("serve"):
        from . import serving
        from .database import find_database
        from .log import advance
        from .schema import migrate

        place = home_folder(home)
        with progress_bar() as progress:
            database = find_database(place, progress=progress)
            migrate(database, progress)
        advance(database)  # what a crash left undone; the first time, the keys and an empty log
        running = serving.start(place, host, port)
    if as_json:
        kind = "embedded" if database.embedded else "external"
        answer_json({
            "url": running.url, "pid": running.pid, "home": str(place), "database": kind,
            "log": str(serving.log_path(place)),
        })  # fmt: skip
    else:
        answer(running.url)


@app.command()
def down(home: Home = None, as_json: Json = False) -> None:
    """Stop the service of `up`, and the embedded database."""
    with needs("serve"):
        from . import serving
        from .cluster import Cluster

        place = home_folder(home)
        service = serving.stop(place)
        cluster = Cluster(place)
        database = cluster.status() is not None
        cluster.stop()
    if as_json:
        answer_json({"service": service, "database": database})
    else:
        answer("stopped" if service or database else "nothing was running")


@app.command()
def serve(
    home: Home = None,
    host: Host = DEFAULT_HOST,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port (default: 8765; with --writes 8766).")
    ] = None,
    writes: Annotated[
        bool, typer.Option("--writes", help="Take registrations of remote publishers instead; nothing else.")
    ] = False,
    trust: Annotated[
        Path | None, typer.Option("--trust", help="With --writes: trust policy (default: the home's).")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Answer Prometheus there (default: nowhere).")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, envvar="EOCAT_RATE", help="Requests a second of one client (default: any)."),
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", help="Address or network of a proxy whose X-Forwarded-For counts. Repeatable."
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="A line of text, or a JSON object.")] = LogFormat.TEXT,
) -> None:
    """Run the service in the foreground, on the embedded database or EOCAT_DATABASE_URL."""
    if trust is not None and not writes:
        raise UsageError("--trust goes with --writes: what is served is admitted already")
    with needs("serve"):
        from . import serving
        from .database import find_database
        from .guards import parse_rate
        from .log import advance
        from .schema import migrate

        place = home_folder(home)
        port = port or (DEFAULT_WRITES_PORT if writes else DEFAULT_PORT)
        serving.check_address(host, port)
        with progress_bar() as progress:
            database = find_database(place, progress=progress)
            migrate(database, progress)
        advance(database)
        watched = serving.Watched(metrics, log_format.value)
        if writes:
            note(f"taking registrations at {serving.service_url(host, port)}")
            serving.run_intake(place, host, port, trust or (place / "trust" if home else None), watched)
        else:
            note(f"serving at {serving.service_url(host, port)}")
            serving.run(place, host, port, watched, parse_rate(rate, proxies or []) if rate else None)
