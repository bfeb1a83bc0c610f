"""The Copernicus traceability service over HTTP: the traces of a product, by its name or its hash.

Its OpenAPI: GET /v1/traces/name/{productname} and /v1/traces/hash/{hash} answer with a JSON array of traces.
The answer is kept as it came, since a statement may name it by digest; it is parsed first, so that nothing
else is kept. Limits and refused redirects are fetch.py's.
"""

import re
from urllib.parse import quote

from ..errors import Unavailable, UsageError
from ..lineage.paths import check_path
from ..lineage.trace import MAX_BYTES, Trace, parse_traces
from .fetch import fetch_bytes

SERVICE = "https://trace.dataspace.copernicus.eu/api"
_HASH = re.compile(r"[0-9a-f]{64}")


def fetch_traces(product: str, *, service: str = SERVICE) -> tuple[bytes, tuple[Trace, ...]]:
    """(the answer's bytes, its traces) on a product. product: its file's name, or 64 hex digits of its hash.

    Raises Malformed for an answer that is no such array, Unavailable where the service cannot be asked or
    holds no trace of that name or hash.
    """
    url = f"{service.rstrip('/')}/v1/traces/{_place(product)}"
    try:
        data = fetch_bytes(url, MAX_BYTES)
    except Unavailable as error:
        raise Unavailable(str(error), hint="is that the service's address? (--service)") from None
    traces = parse_traces(data)
    if not any(_is_of(trace, product) for trace in traces):
        raise Unavailable(
            f"{service} has no trace of {product}", hint="products are named as downloaded: ….SAFE.zip"
        )
    return data, traces


def _place(product: str) -> str:
    if _HASH.fullmatch(product):
        return f"hash/{product}"
    if not product or len(product) > 1024:
        raise UsageError(f"{product[:80]!r} is no name of a product")
    return f"name/{quote(check_path(product, what='the call'), safe='')}"


def _is_of(trace: Trace, product: str) -> bool:
    contents = trace.product.contents or ()
    known = {trace.product.name, trace.product.hash, *(c.path for c in contents), *(c.hash for c in contents)}
    return product in known
