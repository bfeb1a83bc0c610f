"""The folder of a shard, and of its collection: files, statement and documents, whole or not there at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eocat.verify import canonical
from eocat.verify.digest import Digests, digest_file
from eocat.verify.dsse import format_envelope, parse_envelope
from eocat.verify.errors import ConfigError
from eocat.verify.evidence import ITEM_FILE, read_envelopes, read_limited
from eocat.verify.hit import from_microseconds
from eocat.verify.lineage.claims import Evidence
from eocat.verify.projection import ATTESTATION, project
from eocat.verify.row import LEAF_FORMAT
from eocat.verify.statement import (
    PREDICATE_TYPE,
    ROWS,
    STATEMENT_TYPE,
    Rows,
    Source,
    Statement,
    WeightsFile,
    format_time,
    parse_statement,
    validated,
)

from . import documents
from .environment import code, environment
from .outline import outline
from .run import Run, claim_of
from .shard_writer import ChipRows, bounds, write_shard
from .signer import sign_statement
from .sources import Scene
from .thumbnail import write_thumbnail


def existing_shard(target: Path, task: str) -> Statement:
    """The statement of the shard that is there already; ConfigError if it was made from something else."""
    envelopes = read_envelopes(target / documents.file_name(ATTESTATION))
    statement = parse_statement(parse_envelope(envelopes[0]).payload)
    if statement.predicate.parameters.get("task") != task:
        raise ConfigError(
            f"{target} holds a shard of another scene or recipe, and nothing is overwritten",
            hint="choose another --collection or --out, or remove that folder if it was never published",
        )
    return statement


def write_folder(
    target: Path,
    scene: Scene,
    rows: ChipRows,
    run: Run,
    files: list[WeightsFile],
    evidence: Evidence,
    task: str,
) -> Rows:
    """Steps 4 to 6 of a shard; returns the rows as they are claimed."""
    with _unnamed_folder(target) as folder:
        return _write(folder, scene, rows, run, files, evidence, task)


def _write(
    folder: Path,
    scene: Scene,
    rows: ChipRows,
    run: Run,
    files: list[WeightsFile],
    evidence: Evidence,
    task: str,
) -> Rows:
    space, dimension = run.recipe.space, int(rows.vectors.shape[1])
    about = {
        "model": {"id": run.encoder.name, "version": run.encoder.version},
        "collection": run.collection,
        "item": scene.id,
        "space": space,
    }
    paths = {key: folder / documents.file_name(key) for key in documents.ASSETS}
    root = write_shard(rows, paths["embeddings"], paths["row-hashes"], about=about)
    write_thumbnail(rows.chips, rows.vectors, paths["thumbnail"])
    assets = {key: digest_file(path) for key, path in paths.items() if key != ATTESTATION}
    claim = validated(
        Rows,
        {
            "count": len(rows.chips),
            "root": root,
            "leaf": LEAF_FORMAT,
            "dtype": rows.dtype,
            "dimension": dimension,
            "crs": "OGC:CRS84",
            "inputDigests": True,
        },
        what="rows",
    )
    geometry = outline(rows.chips, f"scene {scene.id}")
    now = datetime.now(UTC).replace(microsecond=0)
    uri = documents.scene_uri(files, scene.id, run.source_prefix)
    start, end = (format_time(from_microseconds(moment)) for moment in (rows.start, rows.end))
    item = documents.item_document(
        scene=scene,
        collection=run.collection,
        geometry=geometry,
        bbox=bounds(geometry),
        start=start,
        end=end,
        rows=claim,
        space=space,
        recipe=run.recipe,
        encoder=claim_of(run.encoder),
        code=code(),
        files=files,
        source_uri=uri,
        assets=assets,
        licence=run.licence,
        created=now,
    )
    source = Source(name=scene.id, uri=uri, files=files, bands=list(run.recipe.bands), evidence=evidence)
    statement = _statement(item, claim, source, assets, scene, run, task, now, rows.left_out)
    envelope = format_envelope(sign_statement(statement, run.signer))
    paths[ATTESTATION].write_bytes(envelope + b"\n")
    _write_json(folder / ITEM_FILE, item)
    return claim


def _statement(
    item: dict[str, Any], rows: Rows, source: Source, assets: dict[str, Digests],
    scene: Scene, run: Run, task: str, now: datetime, left_out: Mapping[str, int],
) -> Statement:  # fmt: skip
    """The CREATE of one shard (docs/format.md, section 3)."""
    subjects = {key: {"sha256": found.sha256, "blake3": found.blake3} for key, found in assets.items()}
    subjects[ROWS] = {"sha256": rows.root}
    create = {
        "event": "CREATE",
        "item": f"{run.collection}/{scene.id}",
        "seq": 0,
        "prev": None,
        "claimedAt": format_time(now),
        "actor": run.publisher,
        "reason": None,
        "origin": "computed",
        "rows": rows.model_dump(),
        "space": run.recipe.space,
        "encoder": claim_of(run.encoder).model_dump(),
        "preprocess": run.encoder.preprocess,
        "code": code().model_dump(),
        "sources": [source.model_dump()],
        "parameters": run.recipe.parameters()
        | {
            "task": task,
            "offset": scene.offset,
            "nodata": scene.nodata,
            "assumptions": list(scene.assumptions),
            "left_out": dict(left_out),
        },
        "environment": environment(device=run.device, batch=run.batch, threads=run.threads),
        "tolerance": run.encoder.tolerance,
        "projection": project(item).model_dump(),
    }
    return parse_statement(
        canonical.encode(
            {
                "_type": STATEMENT_TYPE,
                "predicateType": PREDICATE_TYPE,
                "subject": [{"name": name, "digest": subjects[name]} for name in sorted(subjects)],
                "predicate": create,
            }
        )
    )


def write_collection(run: Run) -> None:
    """collection.json and model.json over all finished shards of the folder."""
    items = [
        canonical.parse(read_limited(path, canonical.MAX_BYTES), what=str(path))
        for path in sorted(run.folder.glob(f"[A-Za-z0-9]*/{ITEM_FILE}"))
    ]
    if not items:
        return
    properties = items[0]["properties"]
    collection = documents.collection_document(
        collection=run.collection, encoder=claim_of(run.encoder), dtype=properties["eocat:dtype"],
        dimension=properties["eocat:dimension"], space=run.recipe.space, recipe=run.recipe, items=items,
        licence=run.licence, publisher=run.publisher,
    )  # fmt: skip
    model = documents.model_document(
        claim_of(run.encoder), bands=run.recipe.bands, dimension=properties["eocat:dimension"],
        dtype=properties["eocat:dtype"], space=run.recipe.space,
    )  # fmt: skip
    for name, document in (("collection.json", collection), ("model.json", model)):
        temporary = run.folder / f".tmp-{name}"
        _write_json(temporary, document)
        temporary.replace(run.folder / name)


@contextmanager
def _unnamed_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target`, whole and on disk, or else is removed."""
    folder = target.parent / f".tmp-{target.name}-{os.getpid()}"
    try:
        for left_over in target.parent.glob(f".tmp-{target.name}-*"):
            if not _is_running(int(left_over.name.rpartition("-")[2])):
                shutil.rmtree(left_over)
        folder.mkdir(parents=True)
        yield folder
        for path in (*sorted(folder.iterdir()), folder):
            _sync(path)
        folder.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {error.strerror or error}",
            hint="check --out, its rights and free space",
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
