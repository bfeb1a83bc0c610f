"""Offline validation of STAC documents: core 1.1.0 as pystac bundles it, extensions from a folder of schemas.

The embeddings extension v0.0.1 pins the core schemas of STAC 1.0.0 and so refuses every 1.1.0 document; its
references are moved to 1.1.0 here, as its next version will have to.
"""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

CORE = {
    "Feature": "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json",
    "Collection": "https://schemas.stacspec.org/v1.1.0/collection-spec/json-schema/collection.json",
}

# MLM refers to the raster extension 1.1.0 for one list alone, that of data types; it is written out here.
RASTER_1_1 = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
_DATA_TYPES = (
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 "
    "cint16 cint32 cfloat32 cfloat64 other"
)
_RASTER_DATA_TYPES = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "definitions": {
        "bands": {"items": {"properties": {"data_type": {"type": "string", "enum": _DATA_TYPES.split()}}}}
    },
}


class StacSchemas:
    """The schemas of one folder (`schema_map.json`: URL → file name) beside STAC's core."""

    def __init__(self, folder: Path) -> None:
        self.schemas: dict[str, Any] = {url.rstrip("#"): s for url, s in get_local_schema_cache().items()}
        for url, name in json.loads((folder / "schema_map.json").read_text()).items():
            text = (folder / name).read_text()
            self.schemas[url] = json.loads(
                text.replace("schemas.stacspec.org/v1.0.0/", "schemas.stacspec.org/v1.1.0/")
            )
        self.schemas.setdefault(RASTER_1_1, _RASTER_DATA_TYPES)
        resources = [(url, Resource(schema, DRAFT7)) for url, schema in self.schemas.items()]
        self.registry: Any = Registry().with_resources(resources)

    def errors(self, document: dict[str, Any]) -> list[str]:
        """What is wrong with the document against the core and every extension that it names."""
        found = []
        for url in (CORE[document["type"]], *document["stac_extensions"]):
            if url not in self.schemas:
                found.append(f"{url}: no such schema here")
                continue
            validator = Draft7Validator(self.schemas[url], registry=self.registry)
            found += [_named(url, best_match([error])) for error in validator.iter_errors(document)]
        return found


def _named(url: str, error: Any) -> str:
    return f"{url}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
