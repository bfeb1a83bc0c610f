"""A small client of the catalogue's API: STAC by pystac-client, the rest by hand.

from eocat.catalog.client import Catalogue

catalogue = Catalogue("https://catalogue.example.org")
items = catalogue.search(collections=["coasts"], bbox=[12, 45, 14, 46])
hits = catalogue.similar(like="coasts/coast#0", limit=5)
items.to_geopandas(), hits.to_arrow()
catalogue.verify("coasts/coast", policy)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from pystac_client import Client
from pystac_client.exceptions import APIError
from requests.adapters import HTTPAdapter

from eocat.verify import canonical
from eocat.verify.edge.target import Question, judge
from eocat.verify.errors import Malformed, Unavailable, UsageError
from eocat.verify.hit import check_hit, format_hit
from eocat.verify.policy import Policy
from eocat.verify.report import Report

from .answers import Hits, Items
from .ask import read_like

TIMEOUT_S = 60
MAX_ANSWER_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The catalogue at `url`. Its refusals become UsageError with its sentence, the rest Unavailable."""

    url: str

    def search(
        self,
        *,
        collections: Sequence[str] | None = None,
        bbox: Sequence[float] | None = None,
        datetime: str | None = None,
        intersects: dict[str, Any] | None = None,
        filter: str | dict[str, Any] | None = None,  # noqa: A002  # the API's word
        sortby: Sequence[str] | None = None,
        limit: int = 10,
    ) -> Items:
        """The first `limit` Items that match, as they were served.

        intersects: a GeoJSON geometry. filter: CQL2 text or JSON. sortby: properties, each with - to go down.
        """
        try:
            client = Client.open(self.url, timeout=TIMEOUT_S)
            search = client.search(
                collections=list(collections) if collections else None,
                bbox=list(bbox) if bbox else None,
                datetime=datetime,
                intersects=intersects,
                filter=filter,
                sortby=list(sortby) if sortby else None,
                max_items=limit,
                limit=min(limit, 250),
            )
            return Items(search.items_as_dicts())
        except APIError as error:
            status = getattr(error, "status_code", None)  # absent where there was no answer at all
            raise (self._unreachable(error) if status is None else _refusal(status, str(error))) from None
        except requests.RequestException as error:
            raise self._unreachable(error) from None

    def similar(self, request: dict[str, Any] | None = None, **members: Any) -> Hits:
        """The rows that answer a similarity request (docs/similarity.md), given whole or by its members.

        like: also as the command takes it, such as "coasts/coast#0", "13.1,45.2" or the name of a .npy file.
        """
        asked = {**(request or {}), **{name: value for name, value in members.items() if value is not None}}
        if isinstance(asked.get("like"), str):
            asked["like"] = read_like(asked["like"])
        return Hits(self._ask("POST", "search/similar", json=asked))

    def verify(self, item: str, policy: Policy, *, require: int | None = None) -> Report:
        """The verifier's report on `collection/item`, its files included; this catalogue is not trusted."""
        return judge(item, Question(policy, datetime.now(UTC), require), self.url)

    def verify_hit(self, hit: dict[str, Any], policy: Policy) -> Report:
        """The verifier's report on a hit that came with its proof (`include_proof=True`)."""
        return check_hit(format_hit(hit), policy, target=str(hit.get("id")), now=datetime.now(UTC))

    def history(self, item: str) -> dict[str, Any]:
        """The signed history of `collection/item`, as the catalogue has it: nothing is checked here."""
        collection, _, name = item.partition("/")
        if not (collection and name) or "/" in name:
            raise UsageError(f"{item!r} is not COLLECTION/ITEM")
        return self._ask("GET", f"collections/{collection}/items/{name}/history")

    def log_proof(self, collection: str, item: str) -> dict[str, Any]:
        """The item's place in the catalogue's log (docs/format.md, section 10): nothing is checked here."""
        return self._ask("GET", f"collections/{collection}/items/{item}/log-proof")

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        address = f"{self.url.rstrip('/')}/{path}"
        with requests.Session() as session:
            session.mount("http", HTTPAdapter(max_retries=0))
            try:
                answer = session.request(method, address, timeout=TIMEOUT_S, allow_redirects=False, **content)
            except requests.RequestException as error:
                raise self._unreachable(error) from None
        if answer.status_code != 200:
            raise _refusal(answer.status_code, answer.text)
        value = canonical.parse(answer.content, what=address, limit_bytes=MAX_ANSWER_BYTES)
        if not isinstance(value, dict):
            raise Malformed(f"{address} did not answer with a JSON object")
        return value

    def _unreachable(self, error: Exception) -> Unavailable:
        kind = type(error).__name__
        return Unavailable(
            f"{self.url} cannot be reached: {kind}", hint="is the catalogue running? ('eocat up')"
        )


def _refusal(status: int | None, text: str) -> UsageError | Unavailable:
    """The catalogue's own sentence, or what there is of its answer."""
    try:
        sentence = canonical.parse(text.encode(), what="answer")["description"]
    except (Malformed, KeyError, TypeError):
        sentence = text[:200]
    if status is not None and 400 <= status < 500:
        return UsageError(f"the catalogue refuses: {sentence}")
    return Unavailable(f"the catalogue failed with {status}: {sentence}")
