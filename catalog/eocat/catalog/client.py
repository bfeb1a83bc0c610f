"""A small client of the catalogue's API, for the command line: STAC by pystac-client, the rest by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests
from pystac_client import Client
from pystac_client.exceptions import APIError
from requests.adapters import HTTPAdapter

from eocat.verify import canonical
from eocat.verify.errors import Malformed, Unavailable, UsageError

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
        filter: str | None = None,  # noqa: A002  # the API's word
        limit: int = 10,
    ) -> list[dict[str, Any]]:
        """The first `limit` Items that match, as they were served."""
        try:
            client = Client.open(self.url, timeout=TIMEOUT_S)
            search = client.search(
                collections=list(collections) if collections else None,
                bbox=list(bbox) if bbox else None,
                datetime=datetime,
                filter=filter,
                max_items=limit,
                limit=min(limit, 250),
            )
            return list(search.items_as_dicts())
        except APIError as error:
            status = getattr(error, "status_code", None)  # absent where there was no answer at all
            raise (self._unreachable(error) if status is None else _refusal(status, str(error))) from None
        except requests.RequestException as error:
            raise self._unreachable(error) from None

    def similar(self, request: dict[str, Any]) -> dict[str, Any]:
        """The FeatureCollection that answers a similarity request (docs/similarity.md)."""
        return self._ask("POST", "search/similar", json=request)

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
