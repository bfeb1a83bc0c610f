"""One row and its proof, from a few range reads of an item's files: no service, and no whole file.

    row-hashes   the leaf's tiles, level by level, and the unfinished ones (format.md, 2.5): at most six reads
    embeddings   the footer, the small columns of one row group, and the vector at its stride (format.md, 5)

What comes out is a Feature as the catalogue answers with, which `check_hit` judges like any other. Nothing
that was read is trusted before: a file of hashes or a shard that lies makes a proof that fails.
"""

import base64
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from . import canonical
from .content import EMBEDDINGS, ROW_HASHES
from .dsse import parse_envelope
from .errors import Malformed
from .events import parse_event
from .evidence import Evidence
from .geometry import parse_wkb
from .hit import from_microseconds, with_log_proof
from .merkle import Tree, leaf_hash, tiled
from .row import LEAF_FORMAT, Row, encode_row
from .shard import Shard
from .statement import Create, Statement, format_time

MAX_READS = 512  # of a shard as a producer lays it out, some twenty
Read = Callable[[str, int, int], bytes]  # asset key, offset, length → exactly those bytes


def prove_row(evidence: Evidence, number: int, read: Read) -> dict[str, Any]:
    """The Feature of row `number` with its proof, and the log proof where there is one of the same moment.

    evidence: the item's documents, judged by the caller. Raises Malformed where row, shard or hashes cannot
    be what was signed, Unavailable where they cannot be read.
    """
    if not evidence.envelopes:
        raise Malformed("the item has no attestation, so there is nothing to prove a row against")
    statement = parse_event(parse_envelope(evidence.envelopes[0]).payload)
    if not isinstance(statement, Statement):
        raise Malformed(f"the first event is {statement.predicate.event}, not CREATE")
    create = statement.predicate
    for key in (EMBEDDINGS, ROW_HASHES):
        if key not in create.projection.assets:
            raise Malformed(f"no {key} file is signed")
    tree = Tree(create.rows.count, tiled(create.rows.count, partial(read, ROW_HASHES)))
    path, leaf = tree.prove(number), tree.leaf(number)
    file = RangeFile(create.projection.assets[EMBEDDINGS].size, partial(read, EMBEDDINGS))
    row = _row(Shard.read(pa.PythonFile(file, mode="r"), EMBEDDINGS, create.rows), number, leaf)
    feature = _feature(row, number, create, path, evidence.envelopes)
    if (proof := evidence.log_proof) is None:
        return feature
    return (
        with_log_proof(feature, canonical.parse(proof, what="log proof", limit_bytes=len(proof))) or feature
    )


def _row(shard: Shard, number: int, leaf: bytes) -> Row:
    """The row by its vector's stride; decoded in the ordinary way if that is not the row of `leaf`."""
    try:
        row = shard.row(number, by_stride=True)
        if leaf_hash(encode_row(row)) == leaf:
            return row
    except Malformed:  # vectors that lie otherwise in the file, read as values
        pass
    return shard.row(number, by_stride=False)


def _feature(
    row: Row, number: int, create: Create, path: tuple[bytes, ...], envelopes: tuple[bytes, ...]
) -> dict[str, Any]:
    start, end = (format_time(from_microseconds(moment)) for moment in (row.start, row.end))
    return {
        "type": "Feature",
        "id": row.id,
        "geometry": parse_wkb(row.geometry),
        "properties": {
            "datetime": start if start == end else None,
            "start_datetime": start,
            "end_datetime": end,
            "collection": create.projection.collection,
            "item": create.projection.id,
            "row": number,
            "row_count": create.rows.count,
            "eocat:proof": {
                "leaf": {
                    "format": LEAF_FORMAT,
                    "input_digest": row.input_digest.hex(),
                    "dtype": row.dtype,
                    "vector": base64.b64encode(row.vector).decode(),
                },
                "path": [node.hex() for node in path],
                "envelopes": [canonical.parse(one, limit_bytes=len(one)) for one in envelopes],
            },
        },
    }


class RangeFile(io.RawIOBase):
    """A file of `size` bytes that is read by ranges: what Arrow needs to open a Parquet file."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size, self._read, self._at, self._left = size, read, 0, MAX_READS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = max(min(len(view), self._size - self._at), 0)
        if length:
            if not self._left:
                raise Malformed(
                    f"one row of this shard takes more than {MAX_READS} reads",
                    hint="eocat fetch brings the whole item",
                )
            self._left -= 1
            view[:length] = self._read(self._at, length)
            self._at += length
        return length
