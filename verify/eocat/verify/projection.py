"""The projection: what a statement signs of a STAC Item (docs/format.md, section 4).

The rest of an Item (hrefs, links, titles, other properties) may differ between mirrors and after clients
rewrote it. The projection survives pgSTAC, pystac and a change of spelling of a time; nothing else does.
"""

import re
from datetime import datetime
from typing import Any

from . import canonical
from .digest import parse_multihash
from .errors import Malformed
from .geometry import format_wkb
from .statement import ATTESTATION as ATTESTATION
from .statement import Projection, format_time, validated

# RFC 3339, with zeros at most beyond the microsecond: `fromisoformat` alone would drop digits and read weeks.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,6}0*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def project(item: Any) -> Projection:
    """The projection of a STAC Item's JSON; Malformed names the first member that cannot be projected."""
    members = item if isinstance(item, dict) else {}
    properties, assets = members.get("properties"), members.get("assets")
    if members.get("type") != "Feature" or not isinstance(properties, dict) or not isinstance(assets, dict):
        raise Malformed("item is not a STAC Item: a Feature with properties and assets")
    geometry = item.get("geometry")
    if not isinstance(geometry, dict):
        raise Malformed("item has no geometry")
    format_wkb(geometry)
    return validated(
        Projection,
        {
            "id": item.get("id"),
            "collection": item.get("collection"),
            "geometry": {"type": geometry["type"], "coordinates": geometry["coordinates"]},
            "bbox": item.get("bbox"),
            **{name: _time(properties.get(name)) for name in ("datetime", "start_datetime", "end_datetime")},
            "assets": {key: _asset(key, asset) for key, asset in assets.items() if key != ATTESTATION},
            "rows": {
                "count": properties.get("table:row_count"),
                "root": properties.get("eocat:row_root"),
                "dtype": properties.get("eocat:dtype"),
                "dimension": properties.get("eocat:dimension"),
            },
            "space": properties.get("eocat:space"),
        },
        what="item",
    )


def differences(signed: Projection, found: Projection) -> list[str]:
    """Names of the members in which an Item differs from what was signed, assets by `assets.<key>`."""
    names = []
    left, right = signed.model_dump(), found.model_dump()
    for key in sorted(left["assets"].keys() | right["assets"].keys()):
        if left["assets"].get(key) != right["assets"].get(key):
            names.append(f"assets.{key}")
    for name in left.keys() - {"assets"}:
        if canonical.encode(left[name]) != canonical.encode(right[name]):
            names.append(name)
    return sorted(names)


def _time(value: Any) -> str | None:
    """The one spelling of an Item's time: clients write fractions and offsets as they like."""
    if value is None:
        return None
    try:
        if not _TIME.fullmatch(value):
            raise ValueError
        return format_time(datetime.fromisoformat(value.upper()))
    except (TypeError, ValueError, OverflowError):
        raise Malformed(f"item has the time {str(value)[:40]!r}, expected RFC 3339 with an offset") from None


def _asset(key: str, asset: Any) -> dict[str, Any]:
    if not isinstance(asset, dict) or not isinstance(asset.get("file:checksum"), str):
        raise Malformed(f"item asset {key[:40]!r} has no file:checksum")
    name, digest = parse_multihash(asset["file:checksum"])
    if name != "sha2-256":
        raise Malformed(f"item asset {key[:40]!r} has a {name} checksum, expected sha2-256 (1220…)")
    roles = asset.get("roles")
    return {
        "sha256": digest,
        "size": asset.get("file:size"),
        "type": asset.get("type"),
        "roles": sorted(roles)
        if isinstance(roles, list) and all(isinstance(r, str) for r in roles)
        else roles,
    }
