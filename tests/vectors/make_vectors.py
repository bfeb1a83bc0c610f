"""Makes the test vectors of docs/format.md beside this file: `python tests/vectors/make_vectors.py`.

Each is one JSON file of plain values. `kind` says how to read it (docs/format.md, section 12), `outcome` what
a verifier must answer: VERIFIED, or the name of the refusal. What a bad vector must get is written by hand,
never computed. Deterministic: keys come from seeds, and tests/verify/test_vectors.py compares every byte.
"""

import base64
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "verify"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from make_lineage_vectors import lineage_vectors
from make_log_vectors import log_vectors
from make_shard import (
    CONFIG,
    NOW,
    PREPROCESS,
    PRODUCER,
    SECOND,
    STRANGER,
    WEIGHTS,
    Made,
    entry,
    make_hit,
    make_row,
    make_shard,
    policy_json,
)

from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, format_envelope, pae
from eocat.verify.geometry import format_wkb, parse_wkb
from eocat.verify.keys import format_key
from eocat.verify.merkle import build_tiles, leaf_hash, node_hash, tree_of
from eocat.verify.row import Row, encode_row, pixels_digest
from eocat.verify.statement import format_time, space_digest

HERE = Path(__file__).resolve().parent
TREES = (1, 2, 3, 5, 8, 256, 257, 600)

Vector = dict[str, Any]


def vectors() -> Iterator[tuple[str, Vector]]:
    """(path below this folder, vector) of all of them."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_shard(Path(folder) / "scene")
        made.file("embeddings").write_bytes(b"a Parquet file, whose bytes would follow its writer's version")
        made.redigest("embeddings")
        made.sign(PRODUCER)
        for makers in (rows, bad_rows, pixels, trees, bad_proofs, keys, bad_keys, spaces):
            yield from makers()
        for maker in (envelopes, items, hits):
            yield from maker(made)
        yield from lineage_vectors(made)
        yield from log_vectors(made)


def row_input(row: Row) -> Vector:
    return {
        "id": row.id, "geometry": parse_wkb(row.geometry), "start_us": row.start, "end_us": row.end,
        "input_digest": row.input_digest.hex(), "dtype": row.dtype, "vector": row.vector.hex(),
    }  # fmt: skip


def rows() -> Iterator[tuple[str, Vector]]:
    ring = [[179.5, -17.0], [180.0, -17.0], [180.0, -16.5], [179.5, -17.0]]
    west = [[-180.0, -17.0], [-179.5, -17.0], [-180.0, -16.5], [-180.0, -17.0]]
    multi = {"type": "MultiPolygon", "coordinates": [[ring], [west]]}
    good = {
        "float16": make_row(0),
        "float32": make_row(3, dtype="float32", dimension=3),
        "unicode-id": replace(make_row(1), id="Zürich/衛星_0"),
        "antimeridian": replace(make_row(2), geometry=format_wkb(multi)),
        "before-1970": replace(make_row(2), start=-1, end=0),
        "unknown-input": replace(make_row(2), input_digest=bytes(32)),
        "negative-zero": replace(make_row(2), vector=np.array([-0.0, 0.0, 2**-24, 1], "<f2").tobytes()),
    }
    for name, row in good.items():
        leaf = encode_row(row)
        yield f"good/row-{name}", {
            "kind": "row", "input": row_input(row), "wkb": row.geometry.hex(), "leaf": leaf.hex(),
            "leafHash": leaf_hash(leaf).hex(), "outcome": "VERIFIED",
        }  # fmt: skip


def bad_rows() -> Iterator[tuple[str, Vector]]:
    good = row_input(make_row(0))
    bad: dict[str, Vector] = {
        "nan": {"vector": "007e000000000000"},
        "infinity": {"vector": "007c000000000000"},
        "odd-bytes": {"vector": "00"},
        "no-vector": {"vector": ""},
        "dtype": {"dtype": "float64"},
        "empty-id": {"id": ""},
        "nfd-id": {"id": "e\u0301"},
        "nul-id": {"id": "a\u0000"},
        "end-before-start": {"end_us": good["start_us"] - 1},
        "short-digest": {"input_digest": "00" * 31},
        "point": {"geometry": {"type": "Point", "coordinates": [0, 0]}},
        "open-ring": {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}},
        "height": {
            "geometry": {"type": "Polygon", "coordinates": [[[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]]}
        },
    }
    for name, edit in bad.items():
        yield f"bad/row-{name}", {"kind": "row", "input": good | edit, "outcome": "MALFORMED"}


def pixels() -> Iterator[tuple[str, Vector]]:
    for dtype in ("uint8", "uint16", "int16"):
        array = (np.arange(24) * 11 - (30 if dtype == "int16" else 0)).astype(dtype).reshape(2, 3, 4)
        yield f"good/pixels-{dtype}", {
            "kind": "pixels", "dtype": dtype, "shape": [2, 3, 4], "values": array.ravel().tolist(),
            "digest": pixels_digest(array).hex(), "outcome": "VERIFIED",
        }  # fmt: skip


def leaves(size: int) -> list[bytes]:
    """Leaf i is the leaf hash of the decimal digits of i."""
    return [leaf_hash(b"%d" % index) for index in range(size)]


def trees() -> Iterator[tuple[str, Vector]]:
    for size in TREES:
        file = build_tiles(b"".join(leaves(size)))
        tree = tree_of(file, size)
        indices = sorted({0, size // 2, size - 1} | ({255, 256} if size > 256 else set()))
        yield f"good/tree-{size}", {
            "kind": "tree", "leaf": "leaf i is SHA-256(0x00 || decimal digits of i)", "size": size,
            "root": tree.root().hex(), "fileBytes": len(file), "fileSha256": sha256(file).hexdigest(),
            "proofs": [
                {"index": i, "leafHash": tree.leaf(i).hex(), "path": [node.hex() for node in tree.prove(i)]}
                for i in indices
            ],
            "outcome": "VERIFIED",
        }  # fmt: skip


def bad_proofs() -> Iterator[tuple[str, Vector]]:
    size, index = 7, 4
    tree = tree_of(build_tiles(b"".join(leaves(size))), size)
    path = tree.prove(index)
    good = {"leafHash": tree.leaf(index), "index": index, "size": size, "path": path}
    pair = node_hash(*leaves(size)[4:6])
    bad: dict[str, Vector] = {
        "other-index": {"index": 5},
        "index-outside": {"index": 7},
        "other-size": {"size": 9},
        "size-smaller": {"size": 5},
        "path-short": {"path": path[:-1]},
        "path-long": {"path": (*path, bytes(32))},
        "path-empty": {"path": ()},
        "path-turned": {"path": path[::-1]},
        "path-of-20-bytes": {"path": (path[0][:20], *path[1:])},
        "interior-node": {"leafHash": pair, "path": path[1:]},
        "interior-node-as-row": {"leafHash": pair},
        "other-leaf": {"leafHash": tree.leaf(5)},
    }
    for name, edit in bad.items():
        proof = good | edit
        yield f"bad/proof-{name}", {
            "kind": "proof", "root": tree.root().hex(), "leafHash": proof["leafHash"].hex(),
            "index": proof["index"], "size": proof["size"], "path": [node.hex() for node in proof["path"]],
            "outcome": "TAMPERED",
        }  # fmt: skip


def keys() -> Iterator[tuple[str, Vector]]:
    for key in (PRODUCER, STRANGER):
        yield f"good/key-{key.name}", {
            "kind": "key", "key": format_key(key.public), "keyId": key.public.key_id, "outcome": "VERIFIED",
        }  # fmt: skip


def bad_keys() -> Iterator[tuple[str, Vector]]:
    def spelled(raw: bytes) -> str:
        return "ed25519:" + base64.b64encode(raw).decode()

    good = format_key(PRODUCER.public)
    prime = 2**255 - 19
    bad = {
        "neutral": spelled((1).to_bytes(32, "little")),
        "order-2": spelled((prime - 1).to_bytes(32, "little")),
        "order-4": spelled(bytes(32)),
        "order-8": spelled(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        "second-encoding": spelled((prime + 3).to_bytes(32, "little")),
        "not-on-the-curve": spelled((2).to_bytes(32, "little")),
        "31-bytes": spelled(bytes(31)),
        "no-padding": good.rstrip("="),
        "spare-bits": good[:-2] + chr(ord(good[-2]) + 1) + "=",
        "other-algorithm": good.replace("ed25519", "ml-dsa-44"),
        "no-algorithm": good.removeprefix("ed25519:"),
    }
    for name, text in bad.items():
        yield f"bad/key-{name}", {"kind": "key", "key": text, "outcome": "MALFORMED"}


def spaces() -> Iterator[tuple[str, Vector]]:
    yield "good/space", {
        "kind": "space", "config": CONFIG, "preprocess": PREPROCESS, "weights": [WEIGHTS.sha256],
        "space": space_digest(CONFIG, PREPROCESS, [WEIGHTS.sha256]), "outcome": "VERIFIED",
    }  # fmt: skip


def judged(kind: str, outcome: str, *entries: Vector, **members: Any) -> Vector:
    """A vector that is judged under a policy, at a time."""
    return {
        "kind": kind,
        "policy": policy_json(*entries),
        "now": format_time(NOW),
        "outcome": outcome,
        **members,
    }


def envelopes(made: Made) -> Iterator[tuple[str, Vector]]:
    payload = made.payload

    def signed(payload: bytes, *signatures: Signature, kind: str = PAYLOAD_TYPE) -> str:
        return format_envelope(Envelope(payload, kind, signatures)).decode()

    good = PRODUCER.sign(payload)
    text = signed(payload, good)
    yield "good/envelope", judged(
        "envelope", "VERIFIED", envelope=text, payload=payload.decode(), pae=pae(PAYLOAD_TYPE, payload).hex(),
        publicKey=format_key(PRODUCER.public),
    )  # fmt: skip
    edited = payload.replace(b"CC0-1.0", b"MIT-1.0")
    loose = json.dumps(json.loads(payload)).encode()
    foreign = "application/vnd.example+json"
    twice = payload[:-1] + b',"_type":"https://in-toto.io/Statement/v1"}'
    v2 = payload.replace(b"urn:eocat:event:v1", b"urn:eocat:event:v2")
    masked = json.loads(payload)
    assets = masked["predicate"]["projection"]["assets"]
    assets["rows"] = assets["thumbnail"]
    hidden = json.dumps(masked, separators=(",", ":"), sort_keys=True).encode()
    bad: dict[str, tuple[str, str]] = {
        "payload-edited": ("FORGED", signed(edited, good)),
        "payload-type-edited": ("FORGED", signed(payload, good, kind="application/json")),
        "signature-edited": ("FORGED", signed(payload, replace(good, raw=good.raw[:-1] + b"\x00"))),
        "one-good-one-bad": ("FORGED", signed(payload, good, replace(good, raw=bytes(64)))),
        "unknown-key": ("UNTRUSTED", signed(payload, STRANGER.sign(payload))),
        "no-keyid": ("UNTRUSTED", signed(payload, replace(good, key_id=""))),
        "keyid-is-a-path": ("UNTRUSTED", signed(payload, replace(good, key_id="../producer.pub"))),
        "other-payload-type": ("MALFORMED", signed(payload, PRODUCER.sign(payload, foreign), kind=foreign)),
        "no-signatures": ("MALFORMED", signed(payload)),
        "17-signatures": ("MALFORMED", signed(payload, *[good] * 17)),
        "not-canonical-payload": ("MALFORMED", signed(loose, PRODUCER.sign(loose))),
        "key-twice-in-payload": ("MALFORMED", signed(twice, PRODUCER.sign(twice))),
        "other-predicate-version": ("MALFORMED", signed(v2, PRODUCER.sign(v2))),
        "asset-called-rows": ("MALFORMED", signed(hidden, PRODUCER.sign(hidden))),
        "whitespace": ("MALFORMED", text.replace('","', '", "', 1)),
        "newline": ("MALFORMED", text + "\n"),
        "key-twice": ("MALFORMED", text[:-1] + ',"payloadType":"x"}'),
        "empty-keyid": ("MALFORMED", text.replace(good.key_id, "")),
        "no-base64-padding": ("MALFORMED", text.replace("==", "", 1)),
    }
    for name, (outcome, envelope) in bad.items():
        yield f"bad/envelope-{name}", judged("envelope", outcome, envelope=envelope)
    role = entry(PRODUCER, roles=["mirror"])
    yield "bad/envelope-other-role", judged("envelope", "UNTRUSTED", role, envelope=text)
    elsewhere = entry(PRODUCER, collections=["s1"])
    yield "bad/envelope-other-collection", judged("envelope", "UNTRUSTED", elsewhere, envelope=text)
    late = entry(PRODUCER, notAfter="2026-07-01T12:00:00Z")
    yield "bad/envelope-expired-key", judged("envelope", "KEY_INVALID_AT_TIME", late, envelope=text)
    two = judged(
        "envelope", "UNTRUSTED", entry(PRODUCER), entry(SECOND), envelope=signed(payload, good, good)
    )
    two["policy"]["thresholds"] = {"producer": 2}
    yield "bad/envelope-one-key-for-two", two


def items(made: Made) -> Iterator[tuple[str, Vector]]:
    signed = made.statement["predicate"]["projection"]
    free = made.item | {"links": [], "stac_extensions": ["https://example.org/x.json"]}
    free["properties"]["start_datetime"] = "2024-05-01T11:30:31.000+02:00"
    for name, item in (("item", made.item), ("item-rewritten", free)):
        yield f"good/{name}", {
            "kind": "item", "item": item, "projection": signed, "differences": [], "outcome": "VERIFIED",
        }  # fmt: skip
    bad: dict[str, tuple[list[str], Vector]] = {
        "bbox": (["bbox"], made.item | {"bbox": [0, 0, 1, 1]}),
        "id": (["id"], made.item | {"id": "other"}),
        "asset-missing": (["assets.thumbnail"], made.item),
        "asset-added": (["assets.extra"], made.item),
    }
    bad["asset-missing"][1]["assets"].pop("thumbnail")
    bad["asset-added"][1]["assets"]["extra"] = made.item["assets"]["thumbnail"]
    for name, (names, item) in bad.items():
        yield f"bad/item-{name}", {
            "kind": "item", "item": item, "projection": signed, "differences": names, "outcome": "TAMPERED",
        }  # fmt: skip


def hits(made: Made) -> Iterator[tuple[str, Vector]]:
    good = make_hit(made, 2)
    yield "good/hit", judged("hit", "VERIFIED", hit=good)
    moved = make_hit(made, 2)
    moved["geometry"]["coordinates"][0][1][0] += 1e-9
    other_path = make_hit(made, 2)
    other_path["properties"]["eocat:proof"]["path"] = make_hit(made, 3)["properties"]["eocat:proof"]["path"]
    bad: dict[str, tuple[str, Vector]] = {
        "geometry": ("TAMPERED", moved),
        "id": ("TAMPERED", good | {"id": "scene/64_0"}),
        "row": ("TAMPERED", make_hit(made, 2, row=1)),
        "time": ("TAMPERED", make_hit(made, 2, start_datetime="2024-05-01T09:30:30Z")),
        "item": ("TAMPERED", make_hit(made, 2, item="other")),
        "path": ("TAMPERED", other_path),
        "shown-vector": ("TAMPERED", make_hit(made, 2, vector=[0.0, 0.0, 0.0, 0.0])),
        "no-type": ("MALFORMED", {key: value for key, value in good.items() if key != "type"}),
    }
    for name, (outcome, hit) in bad.items():
        yield f"bad/hit-{name}", judged("hit", outcome, hit=hit)
    yield "bad/hit-unknown-key", judged("hit", "UNTRUSTED", entry(STRANGER), hit=good)


def text_of(vector: Vector) -> str:
    return json.dumps(vector, indent=1, ensure_ascii=True) + "\n"


def main() -> None:
    for old in [*HERE.glob("good/*.json"), *HERE.glob("bad/*.json")]:
        old.unlink()
    for name, vector in vectors():
        path = HERE / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text_of(vector), "utf-8")


if __name__ == "__main__":
    main()
