"""A bundle: what is small of an item in one file, to be verified where there is no network (format.md, 11).

    {"bundle":"eocat-bundle/v1"}
    {"item":{…}}                                   the Item; its hrefs name files beside each other
    {"envelope":{…}} …                             its events, in order of seq
    {"logProof":{…}}
    {"root":{…}} …  {"policy":{…}}                 what its maker trusts: information, never trust
    {"manifest":{"content":…,"source":…}} …        source evidence in base64, by the name of the source
    {"traces":{"content":…,"source":…}} …

Each line is the canonical JSON of an object with one member, and lines stand in this order. There are no
paths and nothing is unpacked. What a line is, its first bytes say, so its limit is known before it is parsed.
A line of an unknown kind is not read, and the report says so: it can neither add nor take away trust.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import canonical
from .dsse import MAX_ENVELOPE_BYTES
from .errors import Malformed, Unavailable
from .evidence import (
    FILE_NAME,
    ITEM_FILE,
    LOG_PROOF_FILE,
    MAX_ATTESTATION_BYTES,
    MAX_EVENTS,
    MAX_LOG_PROOF_BYTES,
    Evidence,
    asset_hrefs,
    files_beside,
    read_limited,
)
from .keys import decode_base64
from .lineage import manifest, trace
from .projection import ATTESTATION
from .root import MAX_ROOT_BYTES

HEADER = b'{"bundle":"eocat-bundle/v1"}\n'
SUFFIX = ".eocat"
MAX_BUNDLE_BYTES = 64 << 20
MAX_SOURCES = 4096
MAX_LINES = 16_384
ATTESTATION_FILE = "attestation.jsonl"
NO_DATA = "a bundle holds no data (--files DIR)"

_EVIDENCE = ("manifest", "traces")
_CONTENT = re.compile(rb'\{"[a-z]+":\{"content":"[A-Za-z0-9+/=]*+","source":')
_KIND = re.compile(rb'\{"([A-Za-z]{1,32})":')
_NAMES = {  # media type → suffix of a file's name
    "application/vnd.apache.parquet": ".parquet",
    "application/octet-stream": ".bin",
    "application/jsonl": ".jsonl",
    "image/png": ".png",
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """item, envelopes, log_proof, roots, policy: canonical JSON. manifests, traces: by name of the source.

    unknown: kinds of the lines that were not read.
    """

    item: bytes
    envelopes: tuple[bytes, ...] = ()
    log_proof: bytes | None = None
    roots: tuple[bytes, ...] = ()
    policy: bytes | None = None
    manifests: Mapping[str, bytes] = field(default_factory=dict)
    traces: Mapping[str, bytes] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kind:
    """limit_bytes: of a line. most: how many there may be."""

    limit_bytes: int
    most: int


def _base64_bytes(size: int) -> int:
    return 4 * size // 3 + 4096


_KINDS = {  # in the order of their lines
    "item": _Kind(canonical.MAX_BYTES, 1),
    "envelope": _Kind(MAX_ENVELOPE_BYTES + 16, MAX_EVENTS),
    "logProof": _Kind(MAX_LOG_PROOF_BYTES, 1),
    "root": _Kind(MAX_ROOT_BYTES + 16, 64),
    "policy": _Kind(MAX_ENVELOPE_BYTES + 16, 1),
    "manifest": _Kind(_base64_bytes(manifest.MAX_BYTES), MAX_SOURCES),
    "traces": _Kind(_base64_bytes(trace.MAX_BYTES), MAX_SOURCES),
}


def is_bundle(path: Path) -> bool:
    """Whether the file begins as a bundle does."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(HEADER)) == HEADER
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


def parse_bundle(data: bytes) -> Bundle:
    """The bundle in `data`; Malformed for every spelling but that of `format_bundle`, and without an Item."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise Malformed(f"bundle has {len(data)} bytes, at most {MAX_BUNDLE_BYTES} are read")
    if not data.startswith(HEADER) or not data.endswith(b"\n"):
        raise Malformed(f"bundle does not begin with the line {HEADER.decode().strip()} or end in a newline")
    found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}  # bytes: parsed, hostile ones are large
    unknown: list[str] = []
    order = list(_KINDS)
    place = envelope_bytes = 0
    for kind, line in _lines(data):
        if kind not in _KINDS:
            unknown.append(kind)
            continue
        if order.index(kind) < place or len(found[kind]) >= _KINDS[kind].most:
            raise Malformed(f"bundle has a line {kind!r} that is out of order, or one too many")
        place = order.index(kind)
        envelope_bytes += len(line) if kind == "envelope" else 0
        if envelope_bytes > MAX_ATTESTATION_BYTES:
            raise Malformed(f"bundle's envelopes have more than {MAX_ATTESTATION_BYTES} bytes")
        found[kind].append(_document(kind, line))
    if not found["item"]:
        raise Malformed("bundle has no item")
    return Bundle(
        found["item"][0],
        tuple(found["envelope"]),
        next(iter(found["logProof"]), None),
        tuple(found["root"]),
        next(iter(found["policy"]), None),
        _by_source(found["manifest"], "manifest"),
        _by_source(found["traces"], "traces"),
        tuple(unknown),
    )


def format_bundle(bundle: Bundle) -> bytes:
    """The bundle's bytes; Malformed if they would not be read again."""
    lines: list[tuple[str, Any]] = [("item", _value(bundle.item))]
    lines += [("envelope", _value(one)) for one in bundle.envelopes]
    lines += [("logProof", _value(one)) for one in (bundle.log_proof,) if one]
    lines += [("root", _value(one)) for one in bundle.roots]
    lines += [("policy", _value(one)) for one in (bundle.policy,) if one]
    for kind, held in (("manifest", bundle.manifests), ("traces", bundle.traces)):
        lines += [
            (kind, {"source": source, "content": base64.b64encode(content).decode()})
            for source, content in sorted(held.items())
        ]
    data = HEADER + b"".join(canonical.encode({kind: value}) + b"\n" for kind, value in lines)
    parse_bundle(data)
    return data


def evidence_of(bundle: Bundle, target: str, folder: Path | None) -> Evidence:
    """What a verification looks at. folder: where the data files are, None where they are not at hand.

    An `item.json` in that folder says which file is which asset, else the bundle's Item does; neither is
    believed.
    """
    named = bundle.item
    if folder is not None and (folder / ITEM_FILE).is_file():
        named = read_limited(folder / ITEM_FILE, canonical.MAX_BYTES)
    files, missing = files_beside(folder, named) if folder else ({}, {})
    for found in (files, missing):
        found.pop(ATTESTATION, None)
    return Evidence(
        target,
        bundle.item,
        bundle.envelopes or None,
        files,
        missing,
        bundle.log_proof,
        None if folder else NO_DATA,
        bundle.traces,
        _notice(bundle),
    )


def with_local_names(item: bytes) -> bytes:
    """The Item with hrefs that are names of files beside it; Malformed where two would be one file."""
    value = canonical.parse(item, what="item")
    hrefs = asset_hrefs(item)
    for key, href in hrefs.items():
        asset = value["assets"][key]
        if not FILE_NAME.fullmatch(href.removeprefix("./")):
            asset["href"] = f"./{key}{_NAMES.get(asset.get('type'), '')}"
    if ATTESTATION in hrefs:
        value["assets"][ATTESTATION]["href"] = f"./{ATTESTATION_FILE}"
    names = [value["assets"][key]["href"].removeprefix("./") for key in hrefs]
    if bad := [name for name in names if not FILE_NAME.fullmatch(name)]:
        raise Malformed(f"item asset {bad[0][:80]!r} makes no name of a file")
    if len({name.casefold() for name in (*names, ITEM_FILE, LOG_PROOF_FILE)}) < len(names) + 2:
        raise Malformed("item has two assets that would be one file")
    return canonical.encode(value)


def _lines(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(kind, line) after the header; Malformed for a line without a kind, or longer than its kind may be."""
    start = len(HEADER)
    for number in range(2, MAX_LINES + 3):
        if start == len(data):
            return
        end = data.index(b"\n", start)
        line = data[start:end]
        start = end + 1
        match = _KIND.match(line)
        if match is None:
            raise Malformed(f"bundle line {number} is not a JSON object that begins with its kind")
        kind = match[1].decode()
        if kind in _KINDS and len(line) > _KINDS[kind].limit_bytes:
            raise Malformed(f"bundle line {number}, {kind!r}, has {len(line)} bytes")
        yield kind, line
    raise Malformed(f"bundle has more than {MAX_LINES} lines")


def _document(kind: str, line: bytes) -> bytes:
    """The canonical JSON of what a line of a known kind holds."""
    if kind in _EVIDENCE and not ((text := _CONTENT.match(line)) and len(line) - text.end() <= 8192):
        raise Malformed(f"bundle line {kind!r} has not exactly content, in base64, and source")
    value = canonical.parse_canonical(line, what=f"bundle line {kind!r}", limit_bytes=len(line))
    if not isinstance(value[kind], dict) or len(value) != 1:
        raise Malformed(f"bundle line {kind!r} is not an object with one object in it")
    return line[len(f'{{"{kind}":') : -1]  # the line is canonical, so this is


def _by_source(members: list[bytes], kind: str) -> dict[str, bytes]:
    held: dict[str, bytes] = {}
    for member in members:
        match canonical.parse(member, limit_bytes=len(member)):
            case {"source": str(source), "content": str(content), **rest} if not rest and source not in held:
                held[source] = decode_base64(content, what=f"bundle line {kind!r}")
            case _:
                raise Malformed(f"bundle line {kind!r} has not exactly source and content, or a source twice")
    if list(held) != sorted(held):
        raise Malformed(f"bundle lines {kind!r} are not in order of their sources")
    return held


def _value(document: bytes) -> Any:
    return canonical.parse(document, what="document for a bundle", limit_bytes=MAX_BUNDLE_BYTES)


def _notice(bundle: Bundle) -> str | None:
    """What of the bundle is not trusted or was not read; None where there is no such thing."""
    counted: list[tuple[int, str]] = [
        (len(bundle.roots), "trust roots"),
        (1 if bundle.policy else 0, "signed policy"),
        (len(bundle.manifests), "manifests"),
    ]
    carried = ", ".join(f"{count} {what}" for count, what in counted if count)
    parts = [f"carried, not trusted: {carried}"] if carried else []
    if bundle.unknown:
        kinds = ", ".join(sorted(set(bundle.unknown))[:8])
        parts.append(f"not read: {len(bundle.unknown)} lines of unknown kind ({kinds})")
    return "; ".join(parts) or None
