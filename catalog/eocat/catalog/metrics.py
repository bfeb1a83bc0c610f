"""What Prometheus is told of a service: its requests, and the state of log and collections (operations.md).

Served on an address of its own, never on the public port: counts say who is asked for what. The state is read
from the database when it is asked for, as the reader, and is left out while the database does not answer.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eocat.verify.errors import ConfigError, Unavailable, UsageError

from .database import Database

log = logging.getLogger("eocat.metrics")

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

LOG_STATE: Final = """
SELECT coalesce((SELECT max(size) FROM eocat.log_checkpoint), 0),
       (SELECT count(*) FROM eocat.log_pending),
       extract(epoch FROM now() - (SELECT max(published_at) FROM eocat.log_checkpoint))::float8,
       extract(epoch FROM now() - (SELECT max(kept_at) FROM eocat.log_cosigned))::float8
"""
HELD: Final = (
    "SELECT collection, status, count(*), sum(row_count) FROM eocat.shard GROUP BY 1, 2 ORDER BY 1, 2"
)


class Metrics:
    """The figures of one service."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("eocat_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "eocat_request_seconds",
            "Time to answer a request, its body included.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(State(database))

    def serve(self, address: str) -> None:
        """Answer at ADDRESS:PORT from a thread of its own; ConfigError if it cannot be listened on."""
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise UsageError(f"--metrics {address[:80]!r} is not ADDRESS:PORT, such as 127.0.0.1:9464")
        try:
            start_http_server(int(port), addr=host.strip("[]"), registry=self.registry)
        except OSError as error:
            raise ConfigError(f"{address} cannot be listened on for metrics: {error.strerror}") from None

    def count(self, app: ASGIApp) -> ASGIApp:
        """The application with each request counted."""
        return RequestCount(app, self)


class RequestCount:
    """Counts requests by method, route and status. A path that is no route counts as `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # what the router has left there
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)


class State:
    """A collector of what the database holds."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would else ask the database at the start."""
        return ()

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("eocat_database_up", "1 if the database answers.")
        try:
            with self.database.connect("reader") as connection:
                logged = connection.execute(LOG_STATE).fetchone()
                held = connection.execute(HELD).fetchall()
        except Unavailable as error:
            log.warning("metrics without the database's: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _of_log(logged or (0, 0, None, None))
        yield from _of_collections(held)


def _of_log(row: tuple[Any, ...]) -> Iterator[Metric]:
    size, pending, published_s, cosigned_s = row
    yield _gauge("eocat_log_size", "Entries in the published log.", size)
    yield _gauge("eocat_log_pending", "Committed events that the log does not hold yet.", pending)
    if published_s is not None:
        yield _gauge("eocat_log_published_seconds", "Since the newest checkpoint was published.", published_s)
    if cosigned_s is not None:
        yield _gauge("eocat_log_cosigned_seconds", "Since a new tree had its first quorum.", cosigned_s)


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family


def _of_collections(held: list[tuple[Any, ...]]) -> Iterator[Metric]:
    items = GaugeMetricFamily("eocat_items", "Registered items.", labels=("collection", "status"))
    rows = GaugeMetricFamily("eocat_rows", "Rows of registered items.", labels=("collection", "status"))
    for collection, status, count, total in held:
        items.add_metric([collection, status], count)
        rows.add_metric([collection, status], int(total))
    yield items
    yield rows
