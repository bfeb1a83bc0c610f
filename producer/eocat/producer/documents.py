"""The STAC documents of a shard, its collection and its encoder (docs/format.md, section 4; STAC 1.1).

Everything here is a view: what counts of an Item is signed through its projection.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from eocat.verify.digest import Digests, format_multihash
from eocat.verify.projection import ATTESTATION
from eocat.verify.shard import shard_schema
from eocat.verify.statement import Code, Encoder, Rows, WeightsFile, format_time

from .recipe import Recipe
from .sources.scene import Scene

STAC_VERSION = "1.1.0"
_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
_ITEM_EXTENSIONS = (
    "embeddings/v0.0.1",
    "processing/v1.2.0",
    "file/v2.1.0",
    "table/v1.2.0",
    "projection/v2.0.0",
)
_EXTENSIONS_BY_FIELD = {
    "grid:": "grid/v1.1.0",
    "eo:": "eo/v2.0.0",
    "view:": "view/v1.1.0",
    "sat:": "sat/v1.2.0",
}
_COLUMNS = {
    "id": "Row id: scene and place of the chip in it",
    "geometry": "Footprint of the chip, OGC:CRS84",
    "start_datetime": "Begin of the acquisition, UTC",
    "end_datetime": "End of the acquisition, UTC",
    "bbox": "GeoParquet covering of the footprint",
    "grid_cell": "Major TOM cell, where the chip is one of its fragments",
    "source": "Id of the scene",
    "window": "Pixels of the scene's finest grid that the chip covers",
    "input_digest": "SHA-256 of the chip's integer pixels before normalisation",
    "embedding": "The vector",
}
ASSETS: dict[str, dict[str, Any]] = {
    "embeddings": {
        "href": "./embeddings.parquet",
        "type": "application/vnd.apache.parquet",
        "roles": ["data"],
        "title": "Embedding vectors of the chips (GeoParquet)",
    },
    "row-hashes": {
        "href": "./row-hashes.bin",
        "type": "application/octet-stream",
        "roles": ["metadata"],
        "title": "Merkle tree of the rows, in tiles of 256 hashes",
    },
    "thumbnail": {
        "href": "./thumbnail.png",
        "type": "image/png",
        "roles": ["thumbnail"],
        "title": "First three principal components of the vectors as RGB",
    },
    ATTESTATION: {
        "href": "./attestation.jsonl",
        "type": "application/jsonl",
        "roles": ["metadata"],
        "title": "Signed history: one DSSE envelope per line",
    },
}


def file_name(key: str) -> str:
    """The name in a shard's folder of the asset `key`."""
    return str(ASSETS[key]["href"]).removeprefix("./")


def scene_uri(files: Sequence[WeightsFile], scene_id: str, prefix: str | None) -> str:
    """Where the scene is published, else a name that its bytes give it (RFC 6920).

    A scene of several files is named by the digest of its list `<sha256>  <name>`, as sha256sum prints it.
    """
    if prefix:
        return f"{prefix.rstrip('/')}/{scene_id}"
    if len(files) == 1:
        return hash_uri(files[0].sha256)
    listing = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    return hash_uri(sha256(listing.encode()).hexdigest())


def hash_uri(sha256_hex: str) -> str:
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(sha256_hex)).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an Item says of where its rows come from. id: of the Item; parameters: as in the statement."""

    id: str
    properties: Mapping[str, Any]
    lineage: str
    parameters: dict[str, Any]
    original_dtype: str


def computed_from(scene: Scene, recipe: Recipe, encoder: Encoder) -> Origin:
    """The origin of rows that were made from a scene."""
    lineage = f"{scene.product} → chips of {recipe.chip_size} pixels → {encoder.name}"
    dtype = "float64" if recipe.precision == "exact" else "float32"
    return Origin(scene.id, scene.properties, lineage, recipe.parameters(), dtype)


def item_document(
    *,
    origin: Origin,
    collection: str,
    geometry: dict[str, Any],
    bbox: Sequence[float],
    start: str,
    end: str,
    rows: Rows,
    space: str,
    encoder: Encoder,
    code: Code,
    files: Sequence[WeightsFile],
    source_uri: str,
    assets: dict[str, Digests],
    licence: str,
    energy: dict[str, Any] | None,
    created: datetime,
) -> dict[str, Any]:
    """The Item of one shard, with relative hrefs. start, end: times (equal: an instant)."""
    moment = format_time(created)
    properties: dict[str, Any] = {
        **origin.properties,
        "title": f"{encoder.name} embeddings of {origin.id}",
        "datetime": start if start == end else None,
        "start_datetime": start,
        "end_datetime": end,
        "created": moment,
        "updated": moment,
        "license": licence,
        "data_type": rows.dtype,
        "proj:code": "EPSG:4326",
        "processing:datetime": moment,
        "processing:level": "L4",
        "processing:lineage": origin.lineage,
        "processing:software": {"eocat": code.version},
        "emb:runtime_parameters": origin.parameters,
        **({"emb:energy": energy} if energy else {}),
        "emb:quantization": {
            "method": "cast",
            "original_dtype": origin.original_dtype,
            "quantized_dtype": rows.dtype,
        },
        "table:row_count": rows.count,
        "table:primary_geometry": "geometry",
        "table:columns": table_columns(rows.dtype, rows.dimension),
        "eocat:row_root": rows.root,
        "eocat:dtype": rows.dtype,
        "eocat:dimension": rows.dimension,
        "eocat:space": space,
        "eocat:encoder": encoder.name,
    }
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _item_extensions(properties),
        "id": origin.id,
        "collection": collection,
        "geometry": geometry,
        "bbox": list(bbox),
        "properties": properties,
        "assets": {
            key: asset | ({} if key == ATTESTATION else _file_fields(assets[key]))
            for key, asset in ASSETS.items()
        },
        "links": [
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "emb:model", "href": "../model.json", "type": "application/geo+json"},
            *_source_links(files, source_uri),
        ],
    }  # fmt: skip


def chip_layout(recipe: Recipe) -> dict[str, Any]:
    """`emb:chip_layout` of the embeddings extension."""
    size = [recipe.chip_size] * 2
    if recipe.layout == "majortom":
        return {"layout_type": "named_grid", "grid_id": "majortom-10km", "chip_size": size}
    return {"layout_type": "regular_grid", "chip_size": size, "stride": [recipe.stride] * 2}


def collection_document(
    *,
    collection: str,
    encoder: Encoder,
    dtype: str,
    dimension: int,
    space: str,
    layout: dict[str, Any],
    what: str,
    kind: str = "chip",
    items: Sequence[dict[str, Any]],
    licence: str,
    publisher: str,
) -> dict[str, Any]:
    """The Collection over all `items` of the output folder (at least one). what: a row stands for."""
    starts = [item["properties"]["start_datetime"] for item in items]
    ends = [item["properties"]["end_datetime"] for item in items]
    boxes = [item["bbox"] for item in items]
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [_EXTENSION.format(name) for name in ("embeddings/v0.0.1", "table/v1.2.0")],
        "id": collection,
        "title": f"{encoder.name} {kind} embeddings: {collection}",
        "description": (
            f"One vector of {dimension} {dtype} values per {what}, made by the encoder {encoder.name} "
            f"{encoder.version} and signed row by row."
        ),
        "keywords": ["embeddings", "similarity search", encoder.name],
        "license": licence,
        "providers": [{"name": publisher, "roles": ["producer", "processor"]}],
        "extent": {
            "spatial": {"bbox": [_union(boxes)]},
            "temporal": {"interval": [[min(starts), max(ends)]]},
        },
        "emb:type": kind,
        "emb:dimensions": dimension,
        "data_type": dtype,
        "emb:chip_layout": layout,
        "emb:temporal_resolution": "single_acquisition",
        "emb:fit_for_use": ["retrieval", "classification", "change_detection"],
        "table:columns": table_columns(dtype, dimension),
        "eocat:space": space,
        "eocat:dtype": dtype,
        "eocat:dimension": dimension,
        "eocat:encoder": encoder.name,
        "summaries": {"emb:dimensions": [dimension], "data_type": [dtype], "eocat:space": [space]},
        "item_assets": {
            key: {name: asset[name] for name in ("type", "roles", "title")} for key, asset in ASSETS.items()
        },
        "links": [
            {"rel": "emb:model", "href": "./model.json", "type": "application/geo+json"},
            *[
                {"rel": "emb:source-data", "href": link["href"], "title": link["title"]}
                for link in items[0]["links"]
                if link["rel"] == "emb:source-data"
            ][:1],
        ],
    }  # fmt: skip


def model_document(
    encoder: Encoder,
    *,
    bands: Sequence[str],
    dimension: int,
    dtype: str,
    space: str,
    preprocess: dict[str, Any],
) -> dict[str, Any]:
    """The encoder as an Item of the machine-learning-model extension (MLM 1.5).

    Here it is in no collection; the catalogue puts it into its own `models`.
    """
    named = [{"name": band} for band in bands]
    shape = [-1, len(bands), -1, -1]
    kind = {"uint8": "uint8", "backscatter in 0.01 dB": "int16"}.get(preprocess.get("input", ""), "uint16")
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [_EXTENSION.format(name) for name in ("mlm/v1.5.2", "file/v2.1.0")],
        "id": f"{encoder.name}-{space[:12]}",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
        },
        "bbox": [-180, -90, 180, 90],
        "properties": {
            "title": f"{encoder.name} {encoder.version}",
            "datetime": None,
            "start_datetime": "2015-06-23T00:00:00Z",  # launch of Sentinel-2A: the imagery it can be used on
            "end_datetime": "9999-12-31T23:59:59Z",
            "license": encoder.licence,
            "mlm:name": encoder.name,
            "mlm:architecture": str(encoder.config.get("architecture", encoder.name)),
            "mlm:tasks": ["similarity-search"],
            "mlm:framework": "PyTorch",
            "mlm:pretrained": bool(encoder.weights),
            "mlm:input": [
                {
                    "name": "chip",
                    "bands": list(bands),
                    "input": {
                        "shape": shape,
                        "dim_order": ["batch", "bands", "height", "width"],
                        "data_type": kind,
                    },
                    "resize_type": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "embedding",
                    "tasks": ["similarity-search"],
                    "result": {
                        "shape": [-1, dimension],
                        "dim_order": ["batch", "embedding"],
                        "data_type": dtype,
                    },
                }
            ],
            "bands": named,
            "eocat:space": space,
            "eocat:config": encoder.config,
            "eocat:preprocess": preprocess,
        },
        "assets": {
            f"weights-{number}" if number else "weights": {
                "href": hash_uri(part.sha256),
                "title": part.name,
                "type": "application/octet-stream",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "safetensors" if part.name.endswith(".safetensors") else "torch.save",
                "file:size": part.size,
                "file:checksum": format_multihash("sha2-256", part.sha256),
                "bands": named,
            }
            for number, part in enumerate(encoder.weights)
        }
        or _unseen_weights(named),
        "links": [],
    }


def _unseen_weights(bands: list[dict[str, str]]) -> dict[str, Any]:
    """In place of weights that only their publisher has seen: MLM asks for a model asset with bands."""
    return {
        "claim": {
            "href": "urn:eocat:weights-not-seen",
            "title": "The encoder is claimed by the publisher of imported vectors; its weights were not seen",
            "roles": ["mlm:model"],
            "mlm:artifact_type": "claim",
            "bands": bands,
        }
    }


def table_columns(dtype: str, dimension: int) -> list[dict[str, str]]:
    schema = shard_schema(dtype, dimension)
    return [{"name": f.name, "type": str(f.type), "description": _COLUMNS[f.name]} for f in schema]


def _item_extensions(properties: dict[str, Any]) -> list[str]:
    used = [
        name
        for prefix, name in _EXTENSIONS_BY_FIELD.items()
        if any(key.startswith(prefix) for key in properties)
    ]
    return [_EXTENSION.format(name) for name in (*_ITEM_EXTENSIONS, *used)]


def _file_fields(digests: Digests) -> dict[str, Any]:
    return {"file:size": digests.size, "file:checksum": format_multihash("sha2-256", digests.sha256)}


def _source_links(files: Sequence[WeightsFile], source_uri: str) -> list[dict[str, Any]]:
    """derived_from and emb:source-data for the scene; each file's checksum stands on its own link."""
    links: list[dict[str, Any]] = []
    for file in files:
        href = source_uri if len(files) == 1 else hash_uri(file.sha256)
        fields = {
            "title": file.name,
            "file:size": file.size,
            "file:checksum": format_multihash("sha2-256", file.sha256),
        }
        links.append({"rel": "derived_from", "href": href, **fields})
    return [*links, {"rel": "emb:source-data", "href": source_uri, "title": "Source scene"}]


def _union(boxes: list[list[float]]) -> list[float]:
    """One box around all; the whole circle of longitude where one of them crosses the antimeridian."""
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    if any(box[0] > box[2] for box in boxes):
        return [-180, south, 180, north]
    return [min(box[0] for box in boxes), south, max(box[2] for box in boxes), north]
