"""The network, at the edge: an Item's evidence over HTTP(S), with limits set before memory or disk is taken.

Only the origin that the user named is asked (scheme, host and port of the Item's URL) and redirects are
refused, so an Item cannot send the verifier anywhere else: no metadata service, no private network.
"""

import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from .. import canonical
from ..errors import Malformed, NotThere, Unavailable
from ..evidence import MAX_ATTESTATION_BYTES, MAX_LOG_PROOF_BYTES, Evidence, asset_hrefs, split_envelopes
from ..projection import ATTESTATION

TIMEOUT_S = 30
MIN_BYTES_PER_S = 16 << 10  # a body that comes slower, after the timeout's grace, is given up
MAX_FILE_BYTES = 1 << 40
BLOCK_BYTES = 1 << 20
NOT_YET = "the files are not downloaded where the rest is not authentic"


@dataclass(frozen=True, slots=True)
class Documents:
    """The small documents of an Item at a URL: they decide whether its files are worth a download.

    evidence: without files. hrefs: asset key → address of its other assets.
    """

    evidence: Evidence
    hrefs: Mapping[str, str]


def fetch_documents(url: str) -> Documents:
    """Item, envelopes and log proof of the Item at `url`."""
    item = fetch_bytes(url, canonical.MAX_BYTES)
    hrefs = {key: _joined(url, href) for key, href in asset_hrefs(item).items()}
    envelopes = None
    if attestation := hrefs.pop(ATTESTATION, None):
        envelopes = split_envelopes(fetch_bytes(_same_origin(url, attestation), MAX_ATTESTATION_BYTES))
    log_proof = _fetch_log_proof(url, item)
    return Documents(Evidence(url, item, envelopes, {}, log_proof=log_proof, no_data=NOT_YET), hrefs)


def fetch_files(documents: Documents, folder: Path) -> Evidence:
    """The evidence with its files, downloaded into `folder`.

    None is longer than the Item says; judge the documents first, and that is the signed size.
    """
    evidence = documents.evidence
    sizes = asset_sizes(evidence.item)
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for number, (key, href) in enumerate(documents.hrefs.items()):
        try:
            path = folder / f"asset-{number}"
            files[key] = _download(_same_origin(evidence.target, href), path, sizes.get(key, 0))
        except Unavailable as error:
            missing[key] = str(error)
    return replace(evidence, files=files, missing=missing, no_data=None)


def fetch_item(url: str, folder: Path) -> Evidence:
    """Documents and files of the Item at `url`, unjudged."""
    return fetch_files(fetch_documents(url), folder)


def _fetch_log_proof(url: str, item: bytes) -> bytes | None:
    """What the Item's link `log-proof` leads to; None if it has no such link, or nothing is there."""
    links = canonical.parse(item, what="item").get("links")
    for link in links if isinstance(links, list) else []:
        match link:
            case {"rel": "log-proof", "href": str(href)}:
                try:
                    return fetch_bytes(_same_origin(url, _joined(url, href)), MAX_LOG_PROOF_BYTES)
                except Unavailable:
                    return None  # the report then says that no log proof came with the item
    return None


def fetch_envelopes(url: str) -> tuple[bytes, ...]:
    """The envelopes of the Item at `url`, in order of seq; none of it is checked yet."""
    return fetch_documents(url).evidence.envelopes or ()


def asset_sizes(item: bytes) -> dict[str, int]:
    """Asset key → `file:size`: more than that is never downloaded."""
    assets: dict[str, Any] = canonical.parse(item, what="item")["assets"]
    sizes = {key: asset.get("file:size") for key, asset in assets.items() if isinstance(asset, dict)}
    return {key: size for key, size in sizes.items() if isinstance(size, int) and 0 <= size <= MAX_FILE_BYTES}


def _joined(base: str, href: str) -> str:
    try:
        return urllib.parse.urljoin(base, href)
    except ValueError as error:
        raise Malformed(f"asset href {href[:120]!r} is no address: {error}") from None


def _same_origin(base: str, href: str) -> str:
    if urllib.parse.urlsplit(href)[:2] != urllib.parse.urlsplit(base)[:2]:
        raise Unavailable(
            f"asset {href[:120]} is not on the server that was named, and no other is asked",
            hint="download the item with its files and verify the folder",
        )
    return href


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        fp.close()
        raise Unavailable(f"{req.full_url} redirects to {newurl[:120]}, and redirects are not followed")


def _open(url: str, wanted: str | None = None) -> HTTPResponse:
    """The answer to a GET; wanted: a range of bytes, if the server can do that."""
    try:
        plain = url.startswith(("http://", "https://")) and "@" not in urllib.parse.urlsplit(url).netloc
    except ValueError:
        plain = False
    if not plain:
        raise Malformed(f"{url[:120]} is not an http(s) address without credentials")
    headers = {"Accept-Encoding": "identity", "User-Agent": "eocat"}
    headers |= {"Range": f"bytes={wanted}"} if wanted else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        kind = NotThere if error.code == HTTPStatus.NOT_FOUND else Unavailable
        raise kind(f"{url} answered {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"{url} cannot be reached: {reason}", hint="is the catalogue running? ('eocat up')"
        ) from None
    return response


def _blocks(response: HTTPResponse, url: str, limit_bytes: int) -> Iterator[bytes]:
    """The body in blocks, at most `limit_bytes` of it; Unavailable if it breaks off or trickles."""
    left, began = limit_bytes, time.monotonic()
    try:
        with response:
            while left and (block := response.read1(min(left, BLOCK_BYTES))):
                yield block
                left -= len(block)
                if time.monotonic() - began > TIMEOUT_S + (limit_bytes - left) / MIN_BYTES_PER_S:
                    raise Unavailable(f"{url} sends less than {MIN_BYTES_PER_S} bytes per second")
            if left and response.length:
                raise Unavailable(f"{url} broke off {response.length} bytes before its end")
    except (OSError, HTTPException) as error:
        raise Unavailable(f"{url} broke off: {error}") from None


def fetch_bytes(url: str, limit_bytes: int) -> bytes:
    """The body of the URL; Malformed if it is longer than the limit, Unavailable if it cannot be had."""
    data = b"".join(_blocks(_open(url), url, limit_bytes + 1))
    if len(data) > limit_bytes:
        raise Malformed(f"{url} answers more than {limit_bytes} bytes")
    return data


def fetch_range(documents: Documents, key: str, offset: int, length: int) -> bytes:
    """Exactly these bytes of the file of asset `key`; Unavailable if the server does not answer with them."""
    url = _same_origin(documents.evidence.target, documents.hrefs.get(key, ""))
    response = _open(url, f"{offset}-{offset + length - 1}")
    answered = response.headers.get("Content-Range", "")
    if response.status != 206 or not answered.startswith(f"bytes {offset}-{offset + length - 1}/"):
        response.close()
        raise Unavailable(
            f"{url} does not answer with ranges of bytes", hint="eocat fetch brings the whole item"
        )
    data = b"".join(_blocks(response, url, length + 1))
    if len(data) != length:
        raise Unavailable(f"{url} answers with {len(data)} bytes, {length} were asked for")
    return data


def _download(url: str, path: Path, size_bytes: int) -> Path:
    """At most `size_bytes` + 1 of the URL: a longer file then fails on its digest, not on the disk."""
    try:
        with path.open("wb") as stream:
            for block in _blocks(_open(url), url, size_bytes + 1):
                stream.write(block)
    except OSError as error:
        raise Unavailable(f"{url} cannot be kept: {error.strerror}") from None
    return path


def resume(
    documents: Documents, key: str, path: Path, size_bytes: int, progress: Callable[[int, int], None]
) -> None:
    """Bring the file of asset `key` to `path`, at most `size_bytes` + 1 of it; what is there is gone on from.

    Unavailable if it breaks off: the next call resumes. OSError if it cannot be written.
    """
    url = _same_origin(documents.evidence.target, documents.hrefs[key])
    done = path.stat().st_size if path.is_file() else 0
    if done > size_bytes:
        done = 0
    elif done == size_bytes > 0:
        return
    response = _open(url, f"{done}-" if done else None)
    if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
        done = 0
    with path.open("ab" if done else "wb") as stream:
        for block in _blocks(response, url, size_bytes + 1 - done):
            stream.write(block)
            done += len(block)
            progress(done, size_bytes)
        stream.flush()
        os.fsync(stream.fileno())
