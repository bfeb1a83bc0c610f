"""The network, at the edge: an Item's evidence over HTTP(S), with limits set before memory or disk is taken.

Only the origin that the user named is asked (scheme, host and port of the Item's URL) and redirects are
refused, so an Item cannot send the verifier anywhere else: no metadata service, no private network.
"""

import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from . import canonical
from .dsse import MAX_ENVELOPE_BYTES
from .errors import Malformed, Unavailable
from .evidence import Evidence, asset_hrefs, split_envelopes
from .projection import ATTESTATION

TIMEOUT_S = 30
MAX_FILE_BYTES = 1 << 40


def fetch_item(url: str, folder: Path) -> Evidence:
    """The evidence of the Item at `url`; its files are downloaded into `folder`."""
    item = _get(url, canonical.MAX_BYTES)
    sizes = _asset_sizes(item)
    hrefs = {key: urllib.parse.urljoin(url, href) for key, href in asset_hrefs(item).items()}
    envelopes = None
    if attestation := hrefs.pop(ATTESTATION, None):
        envelopes = split_envelopes(_get(_same_origin(url, attestation), 64 * MAX_ENVELOPE_BYTES))
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for number, (key, href) in enumerate(hrefs.items()):
        try:
            files[key] = _download(_same_origin(url, href), folder / f"asset-{number}", sizes.get(key, 0))
        except Unavailable as error:
            missing[key] = str(error)
    return Evidence(url, item, envelopes, files, missing)


def _asset_sizes(item: bytes) -> dict[str, int]:
    """Asset key → `file:size`: more than that is never downloaded."""
    assets: dict[str, Any] = canonical.parse(item, what="item")["assets"]
    sizes = {key: asset.get("file:size") for key, asset in assets.items() if isinstance(asset, dict)}
    return {key: size for key, size in sizes.items() if isinstance(size, int) and 0 <= size <= MAX_FILE_BYTES}


def _same_origin(base: str, href: str) -> str:
    if urllib.parse.urlsplit(href)[:2] != urllib.parse.urlsplit(base)[:2]:
        raise Unavailable(
            f"asset {href[:120]} is not on the server that was named, and no other is asked",
            hint="download the item with its files and verify the folder",
        )
    return href


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        raise Unavailable(f"{req.full_url} redirects to {newurl[:120]}, and redirects are not followed")


def _open(url: str) -> HTTPResponse:
    if not url.startswith(("http://", "https://")) or "@" in urllib.parse.urlsplit(url).netloc:
        raise Malformed(f"{url[:120]} is not an http(s) address without credentials")
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "eocat"})  # noqa: S310
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{url} answered {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"{url} cannot be reached: {reason}", hint="is the catalogue running? ('eocat up')"
        ) from None
    return response


def _get(url: str, limit_bytes: int) -> bytes:
    try:
        with _open(url) as response:
            data = response.read(limit_bytes + 1)
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{url} broke off: {error}") from None
    if len(data) > limit_bytes:
        raise Malformed(f"{url} answers more than {limit_bytes} bytes")
    return data


def _download(url: str, path: Path, size_bytes: int) -> Path:
    """At most `size_bytes` + 1 of the URL: a longer file then fails on its digest, not on the disk."""
    left = size_bytes + 1
    try:
        with _open(url) as response, path.open("wb") as stream:
            while left and (block := response.read(min(left, 1 << 20))):
                stream.write(block)
                left -= len(block)
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{url} broke off: {error}") from None
    return path
