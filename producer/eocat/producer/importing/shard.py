"""From imported rows to signed shards: a file's slabs, each judged, ordered, drafted, signed.

The statement says `origin: imported`: input digests are zeros, since no pixels were seen, the sources are the
imported files, and the encoder is claimed. Run again, an import finds what it has made and makes the rest.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eocat.verify.digest import Digests, digest_file
from eocat.verify.errors import InputError
from eocat.verify.evidence import ITEM_FILE
from eocat.verify.hit import from_microseconds
from eocat.verify.projection import ATTESTATION, project
from eocat.verify.row import LEAF_FORMAT, UNKNOWN_INPUT
from eocat.verify.statement import Rows, Source, WeightsFile, format_time, validated

from .. import documents
from ..draft import STATEMENT_FILE, Draft, Found, draft_folder, encode_create, find_task, write_json
from ..environment import code, environment
from ..hilbert import order_along
from ..outline import around_points
from ..output import Produced, finish, write_documents
from ..shard_writer import bounds, rows_table, write_rows
from ..signer import Signer
from ..sources.scene import safe_id
from ..thumbnail import write_thumbnail
from .asked import Import
from .footprints import Footprints
from .slab import Judge, Opened, Slab

BANDS: Final = ["embedding"]  # what of its source an imported row was made from: the published vector


def import_file(
    opened: Opened,
    files: Sequence[Path],
    asked: Import,
    signer: Signer,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Iterator[Produced]:
    """The shards of one file, as they are made. Raises InputError for a row that cannot be used."""
    digested = [_digested(path) for path in files]
    stem, renamed = safe_id(opened.facts.path.stem)
    judge = Judge(opened.facts.path.name, asked.recipe.options.drop)
    several = opened.facts.count > opened.facts.rows
    done = 0
    for number, read in enumerate(opened.slabs()):
        slab, left_out = judge.judged(read)
        done += len(read)
        item = f"{stem}-{number:05d}" if several else stem
        if len(slab):
            slab = replace(slab, assumptions=(*renamed, *slab.assumptions))
            yield _produced(item, slab, left_out, opened, digested, number, asked, signer)
        progress(opened.facts.path.name, done, opened.facts.count)


def _produced(
    item: str, slab: Slab, left_out: Counter[str], opened: Opened, files: Sequence[WeightsFile], number: int,
    asked: Import, signer: Signer,
) -> Produced:  # fmt: skip
    task = asked.recipe.task(files, number, opened.facts.rows)
    if found := find_task(asked.folder / item, task):
        return _found(found)
    slab = slab.take(np.array(order_along(slab.footprints.centres, slab.starts.tolist(), slab.ids)))
    with draft_folder(asked.folder, item) as folder:
        _write(folder, item, slab, left_out, opened, files, task, asked)
    return finish(Draft(folder, item, sum(left_out.values()), 0.0), asked, signer)


def _found(found: Found) -> Produced:
    return Produced(found.item, found.folder, found.rows, 0, found.root, 0.0, fresh=False)


def _digested(path: Path) -> WeightsFile:
    try:
        found = digest_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return WeightsFile(name=path.name, sha256=found.sha256, blake3=found.blake3, size=found.size)


def _write(
    folder: Path, item: str, slab: Slab, left_out: Counter[str], opened: Opened,
    files: Sequence[WeightsFile], task: str, asked: Import,
) -> None:  # fmt: skip
    encoder, space = asked.recipe.encoder, asked.recipe.space
    about = {
        "model": {"id": encoder.name, "version": encoder.version},
        "collection": asked.collection,
        "item": item,
        "space": space,
        "imported": True,
    }
    paths = {key: folder / documents.file_name(key) for key in documents.ASSETS if key != ATTESTATION}
    kinds = slab.footprints.kinds()
    root = write_rows(
        _table(slab), slab.vectors, kinds, paths["embeddings"], paths["row-hashes"], about=about
    )
    write_thumbnail(_for_thumbnail(slab), slab.vectors, paths["thumbnail"])
    assets = {key: digest_file(path) for key, path in paths.items()}
    claim = validated(
        Rows,
        {
            "count": len(slab), "root": root, "leaf": LEAF_FORMAT, "dtype": opened.facts.dtype,
            "dimension": opened.facts.dimension, "crs": "OGC:CRS84", "inputDigests": False,
        },
        what="rows",
    )  # fmt: skip
    geometry = _outline(slab.footprints, item)
    now = datetime.now(UTC).replace(microsecond=0)
    uri = documents.scene_uri(files, files[0].name, asked.source_prefix)
    lineage = f"imported from {files[0].name}; made by {encoder.name}, as its publisher claims"
    document = documents.item_document(
        origin=documents.Origin(item, {}, lineage, asked.recipe.parameters(), opened.facts.original_dtype),
        collection=asked.collection,
        geometry=geometry,
        bbox=bounds(geometry),
        start=format_time(from_microseconds(int(slab.starts.min()))),
        end=format_time(from_microseconds(int(slab.ends.max()))),
        rows=claim,
        space=space,
        encoder=encoder,
        code=code(),
        files=files,
        source_uri=uri,
        assets=assets,
        licence=asked.licence,
        energy=None,
        created=now,
    )
    statement = _statement(document, claim, uri, assets, files, slab, left_out, task, asked, now)
    (folder / STATEMENT_FILE).write_bytes(statement)
    write_json(folder / ITEM_FILE, document)


def _statement(
    item: dict[str, Any], rows: Rows, uri: str, assets: dict[str, Digests], files: Sequence[WeightsFile],
    slab: Slab, left_out: Counter[str], task: str, asked: Import, now: datetime,
) -> bytes:  # fmt: skip
    """The CREATE of one imported shard (docs/format.md, section 3), canonical."""
    source = Source(name=files[0].name, uri=uri, files=list(files), bands=BANDS, evidence="none")
    create = {
        "event": "CREATE",
        "item": f"{asked.collection}/{item['id']}",
        "seq": 0,
        "prev": None,
        "claimedAt": format_time(now),
        "actor": asked.publisher,
        "reason": None,
        "origin": "imported",
        "rows": rows.model_dump(),
        "space": asked.recipe.space,
        "encoder": asked.recipe.encoder.model_dump(),
        "preprocess": asked.recipe.preprocess,
        "code": code().model_dump(),
        "sources": [source.model_dump()],
        "parameters": asked.recipe.parameters()
        | {"task": task, "assumptions": list(slab.assumptions), "left_out": dict(left_out)},
        "environment": environment(batch=1, threads=1),
        "tolerance": {},
        "projection": project(item).model_dump(),
    }
    return encode_create(create, assets, rows.root)


def _table(slab: Slab) -> pa.Table:
    return rows_table(
        ids=slab.ids, wkb=slab.footprints.wkb, starts=slab.starts, ends=slab.ends,
        boxes=slab.footprints.boxes, cells=slab.cells, sources=slab.sources, windows=slab.windows,
        input_digests=[UNKNOWN_INPUT] * len(slab), vectors=slab.vectors,
    )  # fmt: skip


def _outline(footprints: Footprints, name: str) -> dict[str, Any]:
    """The hull of the rows, or their box where they lie around more than half the globe."""
    try:
        return around_points(footprints.points(), float(footprints.centres[0, 0]), f"shard {name}")
    except InputError:
        south, north = float(footprints.boxes[:, 1].min()), float(footprints.boxes[:, 3].max())
        ring = [[-180.0, south], [180.0, south], [180.0, north], [-180.0, north], [-180.0, south]]
        return {"type": "Polygon", "coordinates": [ring]}


def _for_thumbnail(slab: Slab) -> NDArray[np.int64]:
    """The rows' windows, or where these do not say how they lie, places laid out by the centres."""
    if slab.windows[:, 2].any():
        return np.maximum(slab.windows, (0, 0, 1))
    lon, lat = slab.footprints.centres.T
    step = max(float(np.ptp(lon)), float(np.ptp(lat)), 1e-6) / max(1.0, np.sqrt(len(slab)))
    places = [(lon - lon.min()) / step, (lat.max() - lat) / step, np.ones(len(slab))]
    return np.column_stack(places).astype(np.int64)


def write_import_documents(asked: Import, *, kind: str) -> None:
    """collection.json and model.json over all shards of the collection. kind: "chip" or "pixel"."""
    encoder = asked.recipe.encoder
    layout = {"layout_type": "regular_grid" if kind == "pixel" else "variable_grid"}
    if asked.recipe.layout in ("majortom", "majortom-cells"):
        layout = {"layout_type": "named_grid", "grid_id": "majortom-10km"}

    def documented(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        properties = items[0]["properties"]
        dtype, dimension = properties["eocat:dtype"], properties["eocat:dimension"]
        collection = documents.collection_document(
            collection=asked.collection, encoder=encoder, dtype=dtype, dimension=dimension,
            space=asked.recipe.space, layout=layout, items=items, what=f"{kind} of the imported files",
            licence=asked.licence, publisher=asked.publisher, kind=kind,
        )  # fmt: skip
        model = documents.model_document(
            encoder, bands=BANDS, dimension=dimension, dtype=dtype, space=asked.recipe.space,
            preprocess=asked.recipe.preprocess,
        )  # fmt: skip
        return {"collection.json": collection, "model.json": model}

    write_documents(asked.folder, documented)
