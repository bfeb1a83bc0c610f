"""Running the service: in the foreground, or detached for `eocat up` and `eocat down`.

    HOME/run/service.json   what runs: process id and address; held locked by the process as long as it lives
    HOME/run/service.log    its log

The lock, not the process id, says whether the service runs: ids are used again, locks die with their holder.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eocat.verify.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from .database import Database
    from .guards import Rate

MAX_READERS, MAX_WRITERS = 256, 64  # connections at once
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
POLL_S = 0.05
ISO = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Running:
    """A detached service."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        return service_url(self.host, self.port)


def service_url(host: str, port: int) -> str:
    """Where clients on this machine reach a service that listens on `host`."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"


def log_path(home: Path) -> Path:
    return home / "run" / "service.log"


@dataclass(frozen=True, slots=True)
class Watched:
    """How a service is watched. metrics: ADDRESS:PORT where Prometheus may ask, None: nowhere."""

    metrics: str | None = None
    log_format: str = "text"  # or "json": an object on each line


def run(home: Path, host: str, port: int, watched: Watched = Watched(), rate: "Rate | None" = None) -> None:
    """Serve in the foreground until a signal ends it; ConfigError if the address cannot be had."""
    import uvicorn

    from .database import find_database
    from .service import create_app

    check_address(host, port)
    _log_to_stderr(watched.log_format)
    database = find_database(home)
    app = _counted(create_app(database, rate), database, watched)
    uvicorn.Server(server_config(app, host, port)).run()


def run_intake(home: Path, host: str, port: int, trust: Path | None, watched: Watched = Watched()) -> None:
    """Take registrations in the foreground until a signal ends it; ConfigError as above, or for the set-up.

    trust: the policy's file or folder; None: the home's.
    """
    from datetime import UTC, datetime

    import uvicorn

    from eocat.verify.trust_store import load_policy

    from .database import find_database
    from .indexer import Indexer
    from .intake import Intake, only_one
    from .intake_service import create_app
    from .oidc import read_provider

    check_address(host, port)
    _log_to_stderr(watched.log_format)
    database = find_database(home)
    indexer = Indexer(database.as_writer())
    intake = Intake(indexer.database, lambda: load_policy(trust, datetime.now(UTC)), indexer.wake)
    intake.policy()  # the operator hears now that there is none, not the first publisher
    with only_one(home), indexer:
        intake.sweep()
        app = _counted(create_app(intake, read_provider(home)), database, watched)
        uvicorn.Server(server_config(app, host, port, connections=MAX_WRITERS)).run()


def server_config(app: "ASGIApp", host: str, port: int, connections: int = MAX_READERS) -> "uvicorn.Config":
    """How an application is served. connections: how many at most (connections.py)."""
    import uvicorn

    from .connections import HEAD_BYTES, KEEP_ALIVE_S, FairProtocol

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=FairProtocol,  # over h11, the strict parser, whichever others are installed
        ws="none",
        proxy_headers=False,  # nobody chooses another client or scheme for us
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=10,
    )


def _counted(app: "ASGIApp", database: "Database", watched: Watched) -> "ASGIApp":
    """The application, its requests counted where anybody may ask for the figures."""
    if watched.metrics is None:
        return app
    from .metrics import Metrics

    metrics = Metrics(database)
    metrics.serve(watched.metrics)
    return metrics.count(app)


def _log_to_stderr(log_format: str) -> None:
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(
            JsonFormatter("%(asctime)s%(levelname)s%(name)s%(message)s", rename_fields=names, datefmt=ISO)
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", ISO))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def check_address(host: str, port: int) -> None:
    """Raise ConfigError, which names the port, unless a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {host} cannot be listened on: {error.strerror or error}",
                hint="choose another with --port",
            ) from None


def status(home: Path) -> Running | None:
    """The detached service of this home, or None."""
    try:
        with _state_path(home).open("rb") as state:
            try:
                fcntl.flock(state, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Running(**json.loads(state.read()))
    except (FileNotFoundError, json.JSONDecodeError):  # not yet written: as good as not running
        return None
    return None


def start(home: Path, host: str, port: int) -> Running:
    """Start the service detached and wait until it answers; the one that runs already is as good.

    Raises ConfigError (port taken, or another one in use by this home), Unavailable (it did not come up).
    """
    if (found := status(home)) is not None:
        if (found.host, found.port) != (host, port):
            raise ConfigError(
                f"the service of {home} runs already at {found.url}", hint="eocat down stops it"
            )
        return found
    check_address(host, port)
    log_path(home).parent.mkdir(parents=True, exist_ok=True)
    with log_path(home).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "eocat.catalog.serving", str(home), host, str(port)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
        )  # fmt: skip
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_healthy(service_url(host, port)):
            process.returncode = 0  # it lives on by itself: not ours to wait for
            return Running(process.pid, host, port)
        time.sleep(POLL_S)
    if process.poll() is None:
        process.terminate()
        process.wait()
    raise Unavailable(
        f"the service did not come up at {service_url(host, port)}", hint=f"its log is {log_path(home)}"
    )


def stop(home: Path) -> bool:
    """End the detached service; whether there was one."""
    if (found := status(home)) is None:
        return False
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while status(home) is not None:
        if time.monotonic() > deadline:
            os.kill(found.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    return True


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_mgmt/health", timeout=5) as answer:  # noqa: S310  # an http URL of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _state_path(home: Path) -> Path:
    return home / "run" / "service.json"


def _main(home: Path, host: str, port: int) -> None:
    """The detached process: hold the lock, say who we are, serve."""
    descriptor = os.open(_state_path(home), os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a second one fails here
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"pid": os.getpid(), "host": host, "port": port}).encode())
    run(home, host, port)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
