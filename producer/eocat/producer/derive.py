"""A subset of signed items as an item of its own: rows of theirs, bit for bit, and a statement that says so.

The parents' rows are held against their signed roots before one is taken; whether a parent is to be trusted
is for the caller. The new CREATE names each by the digest of its CREATE and by its row root, so whoever has
their folders can check every row (level 4 of `eocat verify --sources`). The Item's other facts are those that
all of them share.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eocat.verify import canonical
from eocat.verify.digest import Digests, digest_file, format_multihash
from eocat.verify.dsse import format_envelope
from eocat.verify.errors import ConfigError, InputError, UsageError
from eocat.verify.evidence import ITEM_FILE, read_folder, read_limited
from eocat.verify.geometry import parse_wkb
from eocat.verify.history import History, Status
from eocat.verify.hit import from_microseconds
from eocat.verify.merkle import build_tiles, tree_of
from eocat.verify.projection import ATTESTATION, project
from eocat.verify.row import UNKNOWN_INPUT
from eocat.verify.shard import Shard, shard_schema
from eocat.verify.statement import (
    PREDICATE_TYPE,
    ROWS,
    STATEMENT_TYPE,
    Create,
    ItemSource,
    Rows,
    Statement,
    format_time,
    parse_statement,
)

from .documents import ASSETS, file_name, hash_uri
from .draft import sync, write_json, writing
from .environment import code, environment
from .outline import around
from .sequel import history_of
from .shard_writer import bounds, write_rows
from .signer import Signer, sign_statement

KEYS = ("embeddings", "row-hashes")  # there is no picture: rows of several scenes have no common grid
Box = tuple[float, float, float, float]  # west, south, east, north; west > east: across ±180°


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent's folder, held against its signed root. vectors: (N, D), in the order of the table."""

    folder: Path
    history: History
    item: dict[str, Any]
    table: pa.Table
    vectors: NDArray[np.floating]

    @property
    def create(self) -> Create:
        return self.history.create

    @property
    def source(self) -> ItemSource:
        create, rows = self.create, self.create.rows
        uri = hash_uri(self.history.origin)
        return ItemSource(
            item=create.item, uri=uri, create=self.history.origin, root=rows.root, count=rows.count
        )


@dataclass(frozen=True, slots=True)
class Derived:
    item: str
    folder: Path
    rows: int
    root: str


def derive_subset(
    folders: Sequence[Path],
    *,
    collection: str,
    item: str,
    out: Path,
    signer: Signer,
    publisher: str,
    box: Box,
) -> Derived:
    """The item with the rows of `folders` whose footprints meet `box`, in the order of the parents' names.

    Raises UsageError for parents of different spaces and for a box that no row meets, InputError for a parent
    whose rows are not the signed ones or that must not be used.
    """
    target = out / collection / item
    if target.exists():
        raise ConfigError(f"{target} exists already", hint="choose another --item or --out")
    parents = sorted((_read_parent(folder) for folder in folders), key=lambda parent: parent.create.item)
    _check_alike(parents)
    kept = [_meets(parent.table, box) for parent in parents]
    used = [(parent, rows) for parent, rows in zip(parents, kept, strict=True) if rows.any()]
    if not used:
        raise UsageError("no row of the items meets the box", hint="--bbox WEST,SOUTH,EAST,NORTH")
    table = pa.concat_tables([parent.table.filter(pa.array(rows)) for parent, rows in used]).combine_chunks()
    vectors = np.concatenate([parent.vectors[rows] for parent, rows in used])
    parents = [parent for parent, _ in used]
    if len(set(table["id"].to_pylist())) != table.num_rows:
        raise UsageError("two items hold rows of one id", hint="an item cannot: derive from one of them")
    with writing(target):
        folder = target.parent / f".tmp-{item}-{os.getpid()}"
        folder.mkdir(parents=True)
        try:
            root = _write(folder, parents, table, vectors, f"{collection}/{item}", signer, publisher, box)
            for path in (*folder.iterdir(), folder):
                sync(path)
            _write_documents(target.parent, folder, parents[0].folder.parent, collection)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return Derived(item, target, table.num_rows, root)


def _read_parent(folder: Path) -> Parent:
    evidence = read_folder(folder)
    history = history_of(evidence.envelopes or ())
    create = history.create
    if history.status is Status.WITHDRAWN:
        raise InputError(f"{create.item} is withdrawn: {history.reason}")
    batches = list(Shard.open(evidence.files["embeddings"], create.rows).batches())
    tiles = build_tiles(b"".join(batch.leaf_hashes() for batch in batches))
    if tree_of(tiles, create.rows.count).root().hex() != create.rows.root:
        raise InputError(f"the rows in {folder} are not the signed ones", hint="eocat verify shows more")
    item = canonical.parse(evidence.item, what=ITEM_FILE)
    table, vectors = (
        pa.concat_tables([batch.table for batch in batches]),
        np.concatenate([batch.vectors for batch in batches]),
    )
    field = shard_schema(create.rows.dtype, create.rows.dimension).field("embedding")
    table = table.append_column(
        field, pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=field.type)
    )
    return Parent(folder, history, item, table, vectors)


def _check_alike(parents: Sequence[Parent]) -> None:
    names = [parent.create.item for parent in parents]
    if len(set(names)) != len(names):
        raise UsageError("an item stands twice among the folders", hint="name each folder once")
    kinds = {(p.create.space, p.create.rows.dtype, p.create.rows.dimension) for p in parents}
    if len(kinds) > 1:
        raise UsageError(
            "the items are of different spaces, and their vectors cannot be compared",
            hint="derive from items of one collection",
        )


def _meets(table: pa.Table, box: Box) -> NDArray[np.bool_]:
    """Which rows' bounding boxes meet the box; either may cross the antimeridian."""
    west, south, east, north = box
    xmin, ymin, xmax, ymax = (
        np.asarray(table["bbox"].combine_chunks().field(side)) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    far = np.where(xmin > xmax, xmax + 360, xmax)  # a row's east, beyond 180° where it crosses
    end = east + 360 if west > east else east
    along = np.zeros(len(xmin), bool)
    for turn in (-360, 0, 360):
        along |= (xmin + turn <= end) & (far + turn >= west)
    return np.asarray(along & (ymin <= north) & (ymax >= south))


def _write(
    folder: Path, parents: Sequence[Parent], table: pa.Table, vectors: NDArray[np.floating], path: str,
    signer: Signer, publisher: str, box: Box,
) -> str:  # fmt: skip
    """Files, statement and Item of the derived item; its row root."""
    create = parents[0].create
    geometries = [parse_wkb(wkb) for wkb in table["geometry"].to_pylist()]
    collection, item_id = path.split("/")
    root = write_rows(
        table, vectors, {geometry["type"] for geometry in geometries},
        folder / file_name("embeddings"), folder / file_name("row-hashes"),
        about={
            "model": {"id": create.encoder.name, "version": create.encoder.version},
            "collection": collection, "item": item_id, "space": create.space,
        },
    )  # fmt: skip
    rows = create.rows.model_copy(
        update={
            "count": table.num_rows,
            "root": root,
            "inputDigests": UNKNOWN_INPUT not in table["input_digest"].to_pylist(),
        }
    )
    assets = {key: digest_file(folder / file_name(key)) for key in KEYS}
    now = datetime.now(UTC).replace(microsecond=0)
    near = parents[0].item["bbox"][0]
    outline = around(geometries, near, path)
    item = _item(parents, table, rows, outline, assets, collection, item_id, now)
    statement = _statement(parents, rows, item, assets, publisher, box, now)
    envelope = format_envelope(sign_statement(statement, signer))
    (folder / file_name(ATTESTATION)).write_bytes(envelope + b"\n")
    write_json(folder / ITEM_FILE, item)
    return root


def _item(
    parents: Sequence[Parent], table: pa.Table, rows: Rows, outline: dict[str, Any],
    assets: dict[str, Digests], collection: str, item_id: str, now: datetime,
) -> dict[str, Any]:  # fmt: skip
    first, others = parents[0].item, [parent.item["properties"] for parent in parents[1:]]
    shared = {
        name: value
        for name, value in first["properties"].items()
        if all(other.get(name) == value for other in others)
    }
    times = [table[name].cast(pa.int64()).to_numpy() for name in ("start_datetime", "end_datetime")]
    start, end = (format_time(from_microseconds(int(moment))) for moment in (times[0].min(), times[1].max()))
    moment = format_time(now)
    names = [parent.create.item for parent in parents]
    properties = shared | {
        "title": f"{rows.count} rows of {', '.join(names)}"[:200],
        "datetime": start if start == end else None,
        "start_datetime": start, "end_datetime": end,
        "created": moment, "updated": moment, "processing:datetime": moment,
        "processing:lineage": f"{len(names)} items → {rows.count} of their rows",
        "table:row_count": rows.count, "eocat:row_root": rows.root,
    }  # fmt: skip
    files = {
        key: {"file:size": found.size, "file:checksum": format_multihash("sha2-256", found.sha256)}
        for key, found in assets.items()
    }
    return first | {
        "id": item_id,
        "collection": collection,
        "geometry": outline,
        "bbox": list(bounds(outline)),
        "properties": properties,
        "assets": {key: ASSETS[key] | files.get(key, {}) for key in (*KEYS, ATTESTATION)},
        "links": [
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "emb:model", "href": "../model.json", "type": "application/geo+json"},
            *({"rel": "derived_from", "href": p.source.uri, "title": p.create.item} for p in parents),
        ],
    }


def _statement(
    parents: Sequence[Parent], rows: Rows, item: dict[str, Any], assets: dict[str, Digests],
    publisher: str, box: Box, now: datetime,
) -> Statement:  # fmt: skip
    create = parents[0].create
    subjects = {key: {"sha256": found.sha256, "blake3": found.blake3} for key, found in assets.items()}
    subjects[ROWS] = {"sha256": rows.root}
    kept = ("space", "encoder", "preprocess", "tolerance")  # what the vectors are, they stay
    predicate = {name: member for name, member in create.model_dump().items() if name in kept} | {
        "event": "CREATE",
        "item": f"{item['collection']}/{item['id']}",
        "seq": 0,
        "prev": None,
        "claimedAt": format_time(now),
        "actor": publisher,
        "reason": None,
        "origin": "derived",
        "rows": rows.model_dump(),
        "code": code().model_dump(),
        "sources": [parent.source.model_dump() for parent in parents],
        "parameters": {"derivation": {"kind": "subset", "bbox": [repr(side) for side in box]}},
        "environment": environment(batch=1, threads=1),
        "projection": project(item).model_dump(),
    }
    value = {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": [{"name": name, "digest": subjects[name]} for name in sorted(subjects)],
        "predicate": predicate,
    }
    return parse_statement(canonical.encode(value))


def _write_documents(folder: Path, new: Path, parent: Path, collection: str) -> None:
    """collection.json and model.json after the parents', over the finished items and the new one."""
    documents = [
        canonical.parse(read_limited(parent / name, canonical.MAX_BYTES), what=name)
        for name in ("collection.json", "model.json")
    ]
    items = [
        canonical.parse(read_limited(path, canonical.MAX_BYTES), what=str(path))
        for path in (*sorted(folder.glob(f"[A-Za-z0-9]*/{ITEM_FILE}")), new / ITEM_FILE)
    ]
    boxes = np.array([item["bbox"] for item in items])
    wraps = bool((boxes[:, 0] > boxes[:, 2]).any())
    west, east = (-180.0, 180.0) if wraps else (float(boxes[:, 0].min()), float(boxes[:, 2].max()))
    documents[0] |= {
        "id": collection,
        "title": f"{collection}: rows of {documents[0]['id']}",
        "extent": {
            "spatial": {"bbox": [[west, float(boxes[:, 1].min()), east, float(boxes[:, 3].max())]]},
            "temporal": {
                "interval": [
                    [
                        min(item["properties"]["start_datetime"] for item in items),
                        max(item["properties"]["end_datetime"] for item in items),
                    ]
                ]
            },
        },
    }
    for name, document in zip(("collection.json", "model.json"), documents, strict=True):
        temporary = folder / f".tmp-{name}"
        write_json(temporary, document)
        temporary.replace(folder / name)
