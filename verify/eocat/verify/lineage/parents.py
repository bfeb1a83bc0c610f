"""Derived items: rows made from the rows of other items, whose row roots the statement names (level 4).

A parent at hand is its publisher's folder. Its CREATE is the one that the statement names by digest, and its
file of row hashes leads to the named root. Where the derivation is a `subset`, every row must be a row of a
parent, bit for bit; how other derivations came about is the producer's word. Whether a parent is itself
signed, logged and in force is for a verification of its own.
"""

from pathlib import Path

from ..dsse import parse_envelope
from ..evidence import read_envelopes, read_limited
from ..merkle import build_tiles, tiles_bytes, tree_of
from ..report import Outcome, Step
from ..statement import Create, ItemSource, parse_statement

STEP = "lineage"
ATTESTATION_FILE, ROW_HASHES_FILE = "attestation.jsonl", "row-hashes.bin"
HASH_BYTES = 32


def check_parents(create: Create, folder: Path, row_hashes: Path | None) -> Step:
    """The step over a derived item's parents in `folder`; not checked where one is not at hand.

    row_hashes: the item's own file, verified; None: it is not. Raises Malformed and Unavailable.
    """
    at_hand: list[bytes] = []
    for parent in create.parents:
        place = folder / parent.item
        if not (place / ATTESTATION_FILE).is_file():
            continue
        leaves = _leaves(parent, place)
        if isinstance(leaves, str):
            return Step(STEP, f"{parent.item} {leaves}", Outcome.LINEAGE_FAILED)
        at_hand.append(leaves)
    count = len(create.parents)
    text = f"derived from {count} item{'s' * (count != 1)}, {len(at_hand)} at hand with the named root"
    if _kind(create) != "subset":
        word = f"{text}; how the rows follow from theirs is the producer's word"
        return Step(STEP, word, checked=len(at_hand) == count)
    if row_hashes is None or len(at_hand) < count:
        return Step(STEP, f"{text}; whether the rows are rows of theirs was not looked at", checked=False)
    own = _split(read_limited(row_hashes, tiles_bytes(create.rows.count))[: HASH_BYTES * create.rows.count])
    if strange := set(own) - {leaf for leaves in at_hand for leaf in _split(leaves)}:
        number = next(place for place, leaf in enumerate(own) if leaf in strange)
        text = (
            f"{len(strange)} of {len(own)} rows, the first is row {number}, are no rows of its source items"
        )
        return Step(STEP, text, Outcome.LINEAGE_FAILED)
    return Step(STEP, f"{text}: all {len(own)} rows are rows of theirs")


def _kind(create: Create) -> object:
    derivation = create.parameters.get("derivation")
    return derivation.get("kind") if isinstance(derivation, dict) else None


def _leaves(parent: ItemSource, place: Path) -> bytes | str:
    """The parent's leaf hashes, which lead to the named root; or what is wrong, in words."""
    envelope = parse_envelope(read_envelopes(place / ATTESTATION_FILE)[0])
    if envelope.payload_digest != parent.create:
        return "is here with another CREATE than the one that the statement names"
    rows = parse_statement(envelope.payload).predicate.rows
    if (rows.root, rows.count) != (parent.root, parent.count):
        return f"has the root {rows.root[:16]}…, the statement names {parent.root[:16]}…"
    tiles = read_limited(place / ROW_HASHES_FILE, tiles_bytes(rows.count))
    leaves = tiles[: HASH_BYTES * rows.count]
    if build_tiles(leaves) != tiles or tree_of(tiles, rows.count).root().hex() != rows.root:
        return "has a file of row hashes that does not lead to its root"
    return leaves


def _split(leaves: bytes) -> list[bytes]:
    return [leaves[low : low + HASH_BYTES] for low in range(0, len(leaves), HASH_BYTES)]
