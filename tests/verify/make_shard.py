"""Makes the small signed shards of these tests: from the verify room, pyarrow and cryptography alone.

Keys come from fixed seeds and vectors from a fixed rule, so that every run makes the same bytes. The producer
is not used here: what the verifier accepts must not depend on who wrote it.
"""

import base64
import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eocat.verify import canonical
from eocat.verify.check import check
from eocat.verify.digest import digest_bytes, format_multihash
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, format_envelope, pae
from eocat.verify.evidence import read_folder
from eocat.verify.geometry import format_wkb, parse_wkb
from eocat.verify.hit import from_microseconds
from eocat.verify.keys import PublicKey, format_key
from eocat.verify.merkle import build_tiles, leaf_hash, tree_of
from eocat.verify.policy import Policy, parse_policy
from eocat.verify.projection import project
from eocat.verify.report import Report
from eocat.verify.row import Row, encode_row, pixels_digest
from eocat.verify.shard import shard_schema
from eocat.verify.statement import PREDICATE_TYPE, STATEMENT_TYPE, format_time, space_digest

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
START = 1_714_555_831_000_000  # 2024-05-01T09:30:31Z
FILES = {
    "embeddings": ("embeddings.parquet", "application/vnd.apache.parquet", ["data"]),
    "row-hashes": ("row-hashes.bin", "application/octet-stream", ["metadata"]),
    "thumbnail": ("thumbnail.png", "image/png", ["thumbnail"]),
}


@dataclass(frozen=True)
class Key:
    """A private key from a seed, and what a policy needs of it."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def from_seed(cls, name: str) -> "Key":
        return cls(name, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.private.public_key().public_bytes_raw())

    def sign(self, payload: bytes, kind: str = PAYLOAD_TYPE) -> Signature:
        return Signature(self.public.key_id, self.private.sign(pae(kind, payload)))


PRODUCER, SECOND, MIRROR, STRANGER = map(Key.from_seed, ("producer", "second", "mirror", "stranger"))


def policy_json(*entries: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "type": "eocat-policy/v1", "version": 1, "expires": "2030-01-01T00:00:00Z",
        "keys": list(entries) or [entry(PRODUCER)], "thresholds": {}, **members,
    }  # fmt: skip


def entry(signer: Key, **members: Any) -> dict[str, Any]:
    return {
        "name": signer.name, "key": format_key(signer.public), "roles": ["producer"], "collections": ["s2"],
        "notBefore": "2024-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z", "compromisedSince": None,
        **members,
    }  # fmt: skip


def policy(*entries: dict[str, Any], **members: Any) -> Policy:
    return parse_policy(json.dumps(policy_json(*entries, **members)).encode())


def square(index: int) -> dict[str, Any]:
    west, south = round(11 + index % 16 * 0.1, 9), round(46 + index // 16 * 0.1, 9)
    east, north = round(west + 0.05, 9), round(south + 0.05, 9)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def make_row(index: int, *, dimension: int = 4, dtype: str = "float16") -> Row:
    values = np.array([math.sin(index * dimension + k + 1) for k in range(dimension)], dtype)
    pixels = np.full((2, 3, 3), index % 250, np.uint8)
    return Row(
        f"scene/{64 * index}_0", format_wkb(square(index)), START, START + index % 2 * 500_000,
        pixels_digest(pixels), dtype, values.astype(values.dtype.newbyteorder("<")).tobytes(),
    )  # fmt: skip


def make_rows(count: int = 5, **kind: Any) -> list[Row]:
    return [make_row(index, **kind) for index in range(count)]


def table_of(rows: list[Row]) -> pa.Table:
    """The rows in the columns of a shard."""
    dtype, dimension = rows[0].dtype, rows[0].values().size
    schema = shard_schema(dtype, dimension)
    boxes = []
    for row in rows:
        (ring,) = parse_wkb(row.geometry)["coordinates"]
        (west, south), (east, north) = ring[0], ring[2]
        boxes.append({"xmin": west, "ymin": south, "xmax": east, "ymax": north})
    vectors = pa.array(np.concatenate([row.values() for row in rows]))
    columns = [
        [row.id for row in rows],
        [row.geometry for row in rows],
        [row.start for row in rows],
        [row.end for row in rows],
        boxes,
        [None] * len(rows),
        ["scene"] * len(rows),
        [{"x": 64 * index, "y": 0, "width": 64, "height": 64} for index in range(len(rows))],
        [row.input_digest for row in rows],
    ]
    arrays = [pa.array(column, schema.field(place).type) for place, column in enumerate(columns)]
    arrays.append(pa.FixedSizeListArray.from_arrays(vectors, type=schema.field("embedding").type))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_parquet(rows: list[Row], path: Path, **options: Any) -> None:
    layout = {"compression": "zstd", "use_dictionary": False, "row_group_size": 4096} | options
    pq.write_table(table_of(rows), path, **layout)


def leaves_of(rows: list[Row]) -> bytes:
    return b"".join(leaf_hash(encode_row(row)) for row in rows)


@dataclass
class Made:
    """A shard's folder and what it was made of; `statement` is plain JSON, to be edited and signed again."""

    folder: Path
    rows: list[Row]
    statement: dict[str, Any]

    def file(self, key: str) -> Path:
        return self.folder / FILES[key][0]

    @property
    def item(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.folder / "item.json").read_bytes())
        return value

    def write_item(self, item: dict[str, Any]) -> None:
        (self.folder / "item.json").write_text(json.dumps(item, indent=2))

    @property
    def payload(self) -> bytes:
        return canonical.encode(self.statement)

    @property
    def attestation(self) -> Path:
        return self.folder / "attestation.jsonl"

    def sign(self, *keys: Key) -> None:
        """Write the attestation anew: the statement as it now is, signed by `keys`."""
        self.write_envelope(
            Envelope(self.payload, PAYLOAD_TYPE, tuple(key.sign(self.payload) for key in keys))
        )

    def write_envelope(self, envelope: Envelope) -> None:
        self.attestation.write_bytes(format_envelope(envelope) + b"\n")

    def redigest(self, *keys: str) -> None:
        """Make Item and statement agree with the files that now lie there; `sign` comes next."""
        item = self.item
        for key in keys:
            digests = digest_bytes(self.file(key).read_bytes())
            item["assets"][key] |= {
                "file:size": digests.size, "file:checksum": format_multihash("sha2-256", digests.sha256)
            }  # fmt: skip
            for subject in self.statement["subject"]:
                if subject["name"] == key:
                    subject["digest"] = {"sha256": digests.sha256, "blake3": digests.blake3}
        self.write_item(item)
        self.statement["predicate"]["projection"] = project(item).model_dump()

    def check(self, trust: Policy | None = None, **options: Any) -> Report:
        return check(read_folder(self.folder), trust or policy(), now=NOW, **options)

    @property
    def exit_code(self) -> int:
        return self.check().outcome.value


def make_shard(
    folder: Path,
    rows: list[Row] | None = None,
    *,
    collection: str = "s2",
    item_id: str = "scene",
    signers: tuple[Key, ...] = (PRODUCER,),
    **parquet: Any,
) -> Made:
    """One shard as a producer would publish it: three files, Item and attestation."""
    rows = rows or make_rows()
    folder.mkdir(parents=True)
    tiles = build_tiles(leaves_of(rows))
    write_parquet(rows, folder / "embeddings.parquet", **parquet)
    (folder / "row-hashes.bin").write_bytes(tiles)
    (folder / "thumbnail.png").write_bytes(b"\x89PNG\r\n\x1a\n a picture of " + item_id.encode())
    root = tree_of(tiles, len(rows)).root().hex()
    item = make_item(collection, item_id, rows, root, folder)
    made = Made(folder, rows, make_statement(item, rows, folder))
    made.write_item(item)
    made.sign(*signers)
    return made


CONFIG = {"architecture": "sines", "dimension": 4}
PREPROCESS = {"offset": 1000}
WEIGHTS = digest_bytes(b"weights")


def make_item(collection: str, item_id: str, rows: list[Row], root: str, folder: Path) -> dict[str, Any]:
    assets: dict[str, Any] = {
        "attestation": {"href": "./attestation.jsonl", "type": "application/jsonl", "roles": ["metadata"]}
    }
    for key, (name, kind, roles) in FILES.items():
        digests = digest_bytes((folder / name).read_bytes())
        assets[key] = {
            "href": f"./{name}", "type": kind, "roles": roles, "title": f"The {key}",
            "file:size": digests.size, "file:checksum": format_multihash("sha2-256", digests.sha256),
        }  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [],
        "id": item_id, "collection": collection,
        "geometry": square(0), "bbox": [11.0, 46.0, 11.05, 46.05],
        "properties": {
            "title": "Sines", "datetime": None,
            "start_datetime": format_time(from_microseconds(min(row.start for row in rows))),
            "end_datetime": format_time(from_microseconds(max(row.end for row in rows))),
            "table:row_count": len(rows), "eocat:row_root": root,
            "eocat:dtype": rows[0].dtype, "eocat:dimension": rows[0].values().size,
            "eocat:space": space_digest(CONFIG, PREPROCESS, [WEIGHTS.sha256]),
        },
        "assets": assets,
        "links": [{"rel": "collection", "href": "../collection.json"}],
    }  # fmt: skip


def make_statement(item: dict[str, Any], rows: list[Row], folder: Path) -> dict[str, Any]:
    projection = project(item).model_dump()
    signed_rows = projection["rows"]
    subjects = [
        {"name": key, "digest": {"sha256": found.sha256, "blake3": found.blake3}}
        for key, (name, _, _) in FILES.items()
        if (found := digest_bytes((folder / name).read_bytes()))
    ]
    weights = {"name": "w.bin", "sha256": WEIGHTS.sha256, "blake3": WEIGHTS.blake3, "size": WEIGHTS.size}
    return {
        "_type": STATEMENT_TYPE,
        "subject": sorted(
            [*subjects, {"name": "rows", "digest": {"sha256": signed_rows["root"]}}], key=lambda s: s["name"]
        ),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "item": f"{item['collection']}/{item['id']}", "seq": 0, "prev": None, "event": "CREATE",
            "claimedAt": "2026-01-01T00:00:00Z", "actor": "producer", "reason": None, "origin": "computed",
            "rows": signed_rows | {"leaf": "eocat-row/v1", "crs": "OGC:CRS84", "inputDigests": True},
            "space": projection["space"],
            "encoder": {
                "name": "sines", "version": "1", "licence": "CC0-1.0",
                "weights": [weights], "config": CONFIG,
            },
            "preprocess": PREPROCESS,
            "code": {"name": "eocat", "version": "0.1.0", "commit": None, "lock": "00" * 32},
            "sources": [{
                "name": "scene", "uri": "https://example.org/scene", "evidence": "none",
                "files": [weights | {"name": "scene.tif"}], "bands": ["B04", "B08"],
            }],
            "parameters": {"chip": 64}, "environment": {"python": "3.11"}, "tolerance": {"kind": "bits"},
            "projection": projection,
        },
    }  # fmt: skip


def make_hit(made: Made, index: int, **properties: Any) -> dict[str, Any]:
    """Row `index` as the catalogue answers with it."""
    row, predicate = made.rows[index], made.statement["predicate"]
    tree = tree_of(build_tiles(leaves_of(made.rows)), len(made.rows))
    start, end = (format_time(from_microseconds(moment)) for moment in (row.start, row.end))
    collection, item_id = predicate["item"].split("/")
    return {
        "type": "Feature", "id": row.id, "geometry": parse_wkb(row.geometry), "links": [],
        "properties": {
            "datetime": start if start == end else None, "start_datetime": start, "end_datetime": end,
            "collection": collection, "item": item_id, "row": index, "distance": 0.25, "source": "scene",
            "eocat:proof": {
                "leaf": {
                    "format": "eocat-row/v1", "input_digest": row.input_digest.hex(), "dtype": row.dtype,
                    "vector": base64.b64encode(row.vector).decode(),
                },
                "path": [node.hex() for node in tree.prove(index)],
                "envelopes": [json.loads(line) for line in made.attestation.read_bytes().splitlines()],
            },
            **properties,
        },
    }  # fmt: skip
