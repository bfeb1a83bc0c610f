"""Every checksum that a STAC Item states, ok or malformed with its reason (STAC file extension, multihash).

Real catalogues write malformed ones: the Copernicus Item puts MD5's code before 32-byte digests. They are
named, never repaired, and a source that has only such a checksum has none. Attack 16.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import canonical
from ..digest import parse_multihash
from ..errors import Malformed

MAX_ITEM_BYTES = 4 << 20
FIELD = "file:checksum"


@dataclass(frozen=True, slots=True)
class Checksum:
    """One stated checksum. place: `assets.B02`, `assets.B02.alternate.https`, `links.3` (its number).

    href: of what it is stated. algorithm, digest: None where it is malformed, and then `fault` says why.
    """

    place: str
    href: str | None
    algorithm: str | None
    digest: str | None
    fault: str | None

    @property
    def is_ok(self) -> bool:
        return self.fault is None


def list_checksums(item: bytes) -> tuple[Checksum, ...]:
    """The checksums of an Item's assets, their alternates and its links, in that order.

    Raises Malformed if the Item itself is no strict JSON object.
    """
    value = canonical.parse(item, what="item", limit_bytes=MAX_ITEM_BYTES)
    if not isinstance(value, dict):
        raise Malformed("item is not a JSON object")
    return tuple(_checksum(place, member) for place, member in _members(value) if FIELD in member)


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
    href = member.get("href")
    named = href if isinstance(href, str) else None
    text = member[FIELD]
    if not isinstance(text, str):
        return Checksum(place, named, None, None, f"checksum is no text but {type(text).__name__}")
    try:
        algorithm, digest = parse_multihash(text)
    except Malformed as error:
        return Checksum(place, named, None, None, str(error))
    return Checksum(place, named, algorithm, digest, None)
