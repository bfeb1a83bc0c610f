"""Rates: a client that asks too much waits, others do not, and nobody passes for another one."""

import time
from ipaddress import ip_network
from pathlib import Path

import pytest
import requests
from catalogue import new_database, running

from eocat.catalog.database import Database
from eocat.catalog.guards import MAX_CLIENTS, Buckets, Rate, client_of, parse_rate
from eocat.verify.errors import UsageError

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def scope(peer: str, *forwarded: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": (peer, 1), "headers": headers}


@pytest.mark.parametrize(
    ("asked", "client"),
    [
        (scope("203.0.113.7"), "203.0.113.7"),
        (scope("203.0.113.7", "198.51.100.1"), "203.0.113.7"),  # no proxy of ours: anybody may write it
        (scope("10.0.0.1", "198.51.100.1"), "198.51.100.1"),
        (scope("10.0.0.1", "1.2.3.4, 198.51.100.1"), "198.51.100.1"),  # the first was there before
        (scope("10.0.0.1", "1.2.3.4", "198.51.100.1, 10.2.3.4"), "198.51.100.1"),
        (scope("10.0.0.1"), "10.0.0.1"),
        (scope("10.0.0.1", "unknown"), "10.0.0.1"),
        (scope("10.0.0.1", ""), "10.0.0.1"),
        (scope("10.0.0.1", "10.9.9.9"), "10.9.9.9"),
        (scope("2001:db8:1:2::5"), "2001:db8:1:2::/64"),
        (scope("2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64"),
        (scope("fd00::1", "2001:db8::1"), "2001:db8::/64"),
    ],
)  # fmt: skip
def test_who_asks(asked: dict[str, object], client: str) -> None:
    assert client_of(asked, PROXIES) == client


def test_a_bucket_fills_at_its_rate() -> None:
    now = [0.0]
    buckets = Buckets(Rate(2, 4), clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    now[0] = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    now[0] = 1000.0
    assert [buckets.take("a") > 0 for _ in range(5)] == [False] * 4 + [True]


def test_clients_that_are_remembered_are_bounded() -> None:
    buckets = Buckets(Rate(1, 1))
    for number in range(MAX_CLIENTS + 10):
        buckets.take(str(number))
    assert len(buckets._left) == MAX_CLIENTS


def test_a_proxy_is_an_address_or_a_network() -> None:
    assert parse_rate(5, ["127.0.0.1", "10.0.0.0/8"]).burst == 50
    for wrong in ("example.org", "10.0.0.0/33", "10.0.0.1/8"):
        with pytest.raises(UsageError, match="--proxy"):
            parse_rate(5, [wrong])


def test_a_flood_is_429_and_then_answered_again(embedded: Database, tmp_path: Path) -> None:
    with new_database(embedded) as database, running(database, Rate(0.25, 3)) as url:
        answers = [requests.get(f"{url}/conformance", timeout=30) for _ in range(8)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == answers[2].status_code == 200
        assert refused
        assert set(refused[0].json()) == {"code", "description"}
        assert int(refused[0].headers["retry-after"]) >= 1
        assert requests.get(f"{url}/_mgmt/health", timeout=30).status_code == 200
        other = {"X-Forwarded-For": "198.51.100.1"}  # is not believed: it is nobody's proxy
        assert requests.get(f"{url}/conformance", headers=other, timeout=30).status_code == 429
        time.sleep(4.1)
        assert requests.get(f"{url}/conformance", timeout=30).status_code == 200
