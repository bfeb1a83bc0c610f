"""Every checksum that a STAC Item states, and the files at hand held against them (STAC file extension).

Real catalogues write malformed multihashes: the Copernicus Item puts MD5's code before 32-byte digests. They
are named, never repaired, and a file that has only such a checksum has none. Attack 16.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from blake3 import blake3

from .. import canonical
from ..claims import ItemClaim
from ..digest import parse_multihash
from ..errors import Malformed
from ..report import Outcome
from .at_hand import FilesAtHand

MAX_ITEM_BYTES = 4 << 20
FIELD = "file:checksum"
_HASHES = {"md5": "md5", "sha2-256": "sha256", "sha3-256": "sha3_256"}  # multihash → hashlib


@dataclass(frozen=True, slots=True)
class Checksum:
    """One stated checksum. place: `assets.B02`, `assets.B02.alternate.https`, `links.3` (its number).

    href: of what it is stated; path: `file:local_path`, with the product's own name first. algorithm, digest:
    None where it is malformed, and then `fault` says why.
    """

    place: str
    href: str | None
    algorithm: str | None
    digest: str | None
    fault: str | None
    path: str | None = None

    @property
    def is_ok(self) -> bool:
        return self.fault is None


class ItemVerdict(Enum):
    OK = "ok"
    DIFFERS = "differs"
    MISSING = "missing"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class ChecksumVerdict:
    """place: of the checksum in the Item. name: of the file it was held against, "" where there is none."""

    place: str
    name: str
    verdict: ItemVerdict
    text: str = ""


@dataclass(frozen=True, slots=True)
class ItemReport:
    """What was found of an Item's checksums. item: SHA-256 of its bytes; sums: in the Item's order."""

    item: str
    id: str
    sums: tuple[ChecksumVerdict, ...] = field(default=())

    def count(self, verdict: ItemVerdict) -> int:
        return Counter(found.verdict for found in self.sums)[verdict]

    def claim(self) -> ItemClaim:
        """What a statement can say of it (`evidence` of a source)."""
        return ItemClaim(
            item=self.item,
            ok=self.count(ItemVerdict.OK),
            differs=self.count(ItemVerdict.DIFFERS),
            missing=self.count(ItemVerdict.MISSING),
            malformed=self.count(ItemVerdict.MALFORMED),
        )

    def judge(self) -> Outcome | None:
        """None if every checksum is well-formed and every file is as stated; else what a reader must hear."""
        for verdict, outcome in (
            (ItemVerdict.MALFORMED, Outcome.MALFORMED),
            (ItemVerdict.DIFFERS, Outcome.LINEAGE_FAILED),
            (ItemVerdict.MISSING, Outcome.UNAVAILABLE),
        ):
            if self.count(verdict):
                return outcome
        return None

    def to_text(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict.value}" for verdict in ItemVerdict)
        return f"checksums of the Item {self.id}: {counts}, unsigned"


def list_checksums(item: bytes) -> tuple[Checksum, ...]:
    """The checksums of an Item's assets, their alternates and its links, in that order.

    Raises Malformed if the Item itself is no strict JSON object.
    """
    value = _parse(item)
    return tuple(_checksum(place, member) for place, member in _members(value) if FIELD in member)


def check_checksums(item: bytes, files: FilesAtHand) -> ItemReport:
    """The Item's checksums of assets, held against `files`; each file is read once for each algorithm.

    A checksum's file is the one at its `file:local_path`, or else the only one whose name is the last part of
    its href. Links are other documents.
    """
    value = _parse(item)
    stated = [one for one in list_checksums(item) if not one.place.startswith("links.")]
    names = _Names(files.names)
    done: dict[tuple[str, str], str] = {}
    sums = []
    for one in stated:
        name = names.find(one)
        if one.algorithm is not None and name and (name, one.algorithm) not in done:
            done[name, one.algorithm] = _digest(one.algorithm, files.blocks(name))
        sums.append(_judge(one, name, done))
    return ItemReport(hashlib.sha256(item).hexdigest(), str(value.get("id"))[:128], tuple(sums))


def _judge(one: Checksum, name: str, done: Mapping[tuple[str, str], str]) -> ChecksumVerdict:
    if one.fault is not None or one.algorithm is None or one.digest is None:
        return ChecksumVerdict(one.place, name, ItemVerdict.MALFORMED, one.fault or "no checksum")
    if not name:
        wanted = one.path or one.href or "a file without a name"
        return ChecksumVerdict(one.place, "", ItemVerdict.MISSING, f"{wanted[-120:]} is not at hand")
    found = done[name, one.algorithm]
    if found != one.digest:
        text = f"{one.algorithm} of {name} is {found[:16]}…, stated {one.digest[:16]}…"
        return ChecksumVerdict(one.place, name, ItemVerdict.DIFFERS, text)
    return ChecksumVerdict(one.place, name, ItemVerdict.OK)


class _Names:
    """Files by their whole name, and by its last part where only one has it."""

    def __init__(self, names: list[str]) -> None:
        self._whole = set(names)
        last = Counter(name.rpartition("/")[2] for name in names)
        self._last = {part: name for name in names if last[part := name.rpartition("/")[2]] == 1}

    def find(self, one: Checksum) -> str:
        """The file's name, "" if none is at hand."""
        if one.path:
            return one.path if one.path in self._whole else ""
        try:
            last = urlsplit(one.href or "").path.rpartition("/")[2]
        except ValueError:
            return ""
        return self._last.get(last, "")


def _digest(algorithm: str, blocks: Iterator[bytes]) -> str:
    state = blake3() if algorithm == "blake3" else hashlib.new(_HASHES[algorithm], usedforsecurity=False)
    for block in blocks:
        state.update(block)
    return state.hexdigest()


def _parse(item: bytes) -> dict[str, Any]:
    value = canonical.parse(item, what="item", limit_bytes=MAX_ITEM_BYTES)
    if not isinstance(value, dict):
        raise Malformed("item is not a JSON object")
    return value


def _members(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, asset in _objects(item.get("assets"), "assets"):
        yield key, asset
        yield from _objects(asset.get("alternate"), f"{key}.alternate")
    links = item.get("links")
    if isinstance(links, list):
        yield from _objects({str(number): link for number, link in enumerate(links)}, "links")


def _objects(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, member in value.items() if isinstance(value, dict) else ():
        if isinstance(member, dict):
            yield f"{place}.{key}", member


def _checksum(place: str, member: dict[str, Any]) -> Checksum:
    text, href, path = member[FIELD], _text(member, "href"), _text(member, "file:local_path")
    if not isinstance(text, str):
        return Checksum(place, href, None, None, f"checksum is no text but {type(text).__name__}", path)
    try:
        algorithm, digest = parse_multihash(text)
    except Malformed as error:
        return Checksum(place, href, None, None, str(error), path)
    return Checksum(place, href, algorithm, digest, None, path)


def _text(member: dict[str, Any], key: str) -> str | None:
    return text if isinstance(text := member.get(key), str) else None
