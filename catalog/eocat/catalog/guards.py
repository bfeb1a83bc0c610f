"""What a public service owes itself: a rate for each client, and headers that leave nothing to guess.

Behind a proxy all requests come from its address. Then, and only from addresses that the operator has named,
the last address that the proxies added to X-Forwarded-For counts; what stands before it anybody may have
written.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eocat.verify.errors import UsageError

MAX_CLIENTS = 100_000  # that are remembered; the one not seen for the longest is forgotten
FREE = ("/_mgmt/ping", "/_mgmt/health")  # asked by whoever keeps the service alive

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rate:
    """per_s: requests a second, in the long run; burst: how many at once after a pause."""

    per_s: float
    burst: int
    proxies: tuple[Network, ...] = ()


def parse_rate(per_s: float, proxies: Sequence[str]) -> Rate:
    """The rate with ten seconds of it as its burst; UsageError for a proxy that is no network."""
    try:
        networks = tuple(ipaddress.ip_network(proxy) for proxy in proxies)
    except ValueError as error:
        raise UsageError(f"--proxy: {error}", hint="an address or network, such as 10.0.0.0/8") from None
    return Rate(per_s, max(1, round(10 * per_s)), networks)


@dataclass
class Buckets:
    """A bucket of tokens for each client (token bucket): one token a request, filled at the rate."""

    rate: Rate
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)  # tokens, when

    def take(self, client: str) -> float:
        """0 if the client may ask now, else the seconds to wait."""
        now = self.clock()
        tokens, before = self._left.pop(client, (float(self.rate.burst), now))
        tokens = min(self.rate.burst, tokens + (now - before) * self.rate.per_s)
        wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self.rate.per_s
        self._left[client] = (tokens if wait_s else tokens - 1, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        return wait_s


class RateLimit:
    """Answers 429 to a client that asks more than its rate."""

    def __init__(self, app: ASGIApp, rate: Rate) -> None:
        self.app = app
        self.rate = rate
        self.buckets = Buckets(rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in FREE:
            await self.app(scope, receive, send)
            return
        wait_s = self.buckets.take(client_of(scope, self.rate.proxies))
        if not wait_s:
            await self.app(scope, receive, send)
            return
        sentence = f"more than {self.rate.per_s:g} requests a second: wait {wait_s:.1f} s"
        headers = {"Retry-After": str(max(1, round(wait_s)))}
        response = JSONResponse({"code": "TooManyRequests", "description": sentence}, 429, headers)
        await response(scope, receive, send)


def client_of(scope: Scope, proxies: Sequence[Network]) -> str:
    """Who asks: the peer, or behind named proxies the nearest address that is none of theirs.

    Of an IPv6 address its /64, which one subscriber has to himself.
    """
    found = scope["client"][0] if scope.get("client") else ""
    chain = [part.strip() for part in ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")]
    while chain and _is_in(found, proxies):
        if not _address(chain[-1]):
            break
        found = chain.pop()
    return subscriber(found)


def subscriber(peer: str) -> str:
    """Who an address counts as: itself, of IPv6 its /64."""
    address = _address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)


class SecurityHeaders:
    """Headers that a route may set otherwise, but not leave out."""

    DEFAULTS = (
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Frame-Options", "DENY"),
        ("Cross-Origin-Resource-Policy", "cross-origin"),  # the catalogue is to be read from anywhere
    )
    DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.DEFAULTS:
                    headers.setdefault(name, value)
                if not headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("Content-Security-Policy", self.DATA_POLICY)
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)
