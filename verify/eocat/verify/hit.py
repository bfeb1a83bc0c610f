"""A saved hit: one row of a search answer, with all that is needed to check it offline.

A hit is the GeoJSON Feature that the catalogue answered with (docs/format.md, section 8). The leaf is built
again from the Feature's own id, geometry, times and vector, so what is shown is what is checked. What the
leaf does not cover (distance, grid cell, source, licence) is the catalogue's word, and the report says so.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from . import canonical
from .authenticity import check_envelopes, level_of
from .errors import Malformed
from .geometry import format_wkb
from .history import BrokenHistory
from .keys import decode_base64
from .merkle import leaf_hash, root_from_path
from .policy import Policy
from .report import Outcome, Report, Step
from .row import Row, encode_row
from .statement import Count, Create, Hex32, Identifier, Strict, Text, parse_time, validated

MAX_HIT_BYTES = 8 << 20  # an envelope is at most 2 MiB, a vector 256 KiB
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIGNED_MEMBERS = "id, geometry, start and end time, row number, input digest, vector"


class Leaf(Strict):
    """The parts of the row leaf that a Feature has no member for."""

    format: Literal["eocat-row/v1"]
    input_digest: Hex32
    dtype: Literal["float16", "float32"]
    vector: str  # base64 of the little-endian values


class Proof(Strict):
    """`eocat:proof` of a Feature: leaf, inclusion path from the sibling up, envelopes, log proof.

    log_proof may be absent; it is never empty, nor null.
    """

    leaf: Leaf
    path: Annotated[list[Hex32], Field(max_length=64)]
    envelopes: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1024)]
    log_proof: Annotated[dict[str, Any], Field(default_factory=dict, min_length=1)]


class Place(Strict):
    """Where the Feature says the row stands."""

    id: Text
    collection: Identifier
    item: Identifier
    row: Count
    datetime: str | None
    start_datetime: str
    end_datetime: str
    row_count: Count | None  # these two may be absent; where they are shown, they are checked
    vector: list[int | float] | None


def is_hit(value: Any) -> bool:
    """Whether parsed JSON looks like a saved hit (rather than a STAC Item)."""
    properties = value.get("properties") if isinstance(value, dict) else None
    return isinstance(properties, dict) and "eocat:proof" in properties


def check_hit(
    data: bytes, policy: Policy, *, target: str, now: datetime, require: int | None = None
) -> Report:
    """The report on a saved hit: one row against its signed root, no file and no network."""
    require = require or policy.required_level
    try:
        feature = canonical.parse(data, what="hit", limit_bytes=MAX_HIT_BYTES)
        place, proof = _parse_hit(feature)
        trust = check_envelopes(
            tuple(canonical.encode(envelope) for envelope in proof.envelopes),
            policy,
            now,
            canonical.encode(proof.log_proof) if proof.log_proof else None,
        )
        row = _check_row(feature["geometry"], place, proof, trust.create)
    except BrokenHistory as error:
        return Report(target, now, require, 0, (Step("history", str(error), Outcome.HISTORY_BROKEN),))
    except Malformed as error:
        return Report(target, now, require, 0, (Step("hit", str(error), Outcome.MALFORMED),))
    level = level_of([row], [trust.signature, trust.history], [trust.log])
    not_signed = Step("bytes", "a hit holds one row, the shard's files were not asked for", checked=False)
    receipts = [trust.receipts] if trust.receipts else []
    steps = (row, not_signed, trust.signature, trust.history, trust.log, *receipts)
    return Report(target, now, require, level, steps, trust.statement)


def with_log_proof(feature: dict[str, Any], log_proof: dict[str, Any]) -> dict[str, Any] | None:
    """The Feature with its item's log proof; None where the two are not of one moment.

    An event may be committed and not yet in the log, or have been logged since the Feature was made.
    """
    _, proof = _parse_hit(feature)
    events = log_proof.get("events")
    if not isinstance(events, list) or len(events) != len(proof.envelopes):
        return None
    shown: dict[str, Any] = {**feature["properties"]["eocat:proof"], "log_proof": log_proof}
    return {**feature, "properties": {**feature["properties"], "eocat:proof": shown}}


def format_hit(feature: dict[str, Any]) -> bytes:
    """A Feature from a search answer as the bytes of a saved hit; Malformed if it carries no proof."""
    _parse_hit(feature)
    return json.dumps(feature, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _parse_hit(feature: Any) -> tuple[Place, Proof]:
    match feature:
        case {"type": "Feature", "geometry": dict(), "properties": {"eocat:proof": _}}:
            pass
        case _:
            raise Malformed("hit is not a Feature with a geometry and eocat:proof")
    properties = feature["properties"]
    members = {name: properties.get(name) for name in Place.model_fields if name != "id"}
    place = validated(Place, {"id": feature.get("id"), **members}, what="hit")
    return place, validated(Proof, properties["eocat:proof"], what="hit: eocat:proof")


def _check_row(geometry: dict[str, Any], place: Place, proof: Proof, create: Create) -> Step:
    def tampered(text: str) -> Step:
        return Step("row", text, Outcome.TAMPERED)

    rows, leaf = create.rows, proof.leaf
    if f"{place.collection}/{place.item}" != create.item:
        return tampered(
            f"the hit names {place.collection}/{place.item}, the statement is about {create.item}"
        )
    if place.row >= rows.count or place.row_count not in (None, rows.count):
        return tampered(f"row {place.row} of {place.row_count or 'a shard'}: {rows.count} rows are signed")
    if place.datetime != (place.start_datetime if place.start_datetime == place.end_datetime else None):
        return tampered("datetime is not what start_datetime and end_datetime say")
    try:
        row = _row(geometry, place, leaf)
        path = tuple(bytes.fromhex(node) for node in proof.path)
        root = root_from_path(leaf_hash(encode_row(row)), place.row, rows.count, path).hex()
    except Malformed as error:  # no row like this was ever signed
        return tampered(str(error))
    if (row.dtype, row.values().size) != (rows.dtype, rows.dimension):
        return tampered(
            f"vector is {row.values().size} × {row.dtype}, signed are {rows.dimension} × {rows.dtype}"
        )
    if place.vector not in (None, row.values().tolist()):
        return tampered("the vector that is shown is not the one that the proof is about")
    if root != rows.root:
        return tampered(
            f"row {place.row} leads to root {root[:16]}…, signed is {rows.root[:16]}…: {SIGNED_MEMBERS}"
        )
    return Step(
        "row", f"{place.row} of {rows.count}, root {root[:16]}… = signed root; proven: {SIGNED_MEMBERS}"
    )


def _row(geometry: dict[str, Any], place: Place, leaf: Leaf) -> Row:
    return Row(
        id=place.id,
        geometry=format_wkb(geometry),
        start=microseconds(place.start_datetime),
        end=microseconds(place.end_datetime),
        input_digest=bytes.fromhex(leaf.input_digest),
        dtype=leaf.dtype,
        vector=decode_base64(leaf.vector, what="hit vector"),
    )


def microseconds(text: str) -> int:
    """µs since 1970 UTC of a time in its one spelling."""
    try:
        return (parse_time(text) - EPOCH) // timedelta(microseconds=1)
    except ValueError as error:
        raise Malformed(str(error)) from None


def from_microseconds(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)
