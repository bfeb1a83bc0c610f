"""A shard without its signature and its name: all that a worker writes, on whatever machine.

A draft is a folder `.tmp-<item>~<host>-<process>` beside the shard that it will be. Besides the shard's files
it holds the statement to be signed. What signs it (output.py) checks it first; until then it does not count.
"""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eocat.verify import canonical
from eocat.verify.claims import Evidence
from eocat.verify.digest import Digests, digest_file
from eocat.verify.dsse import parse_envelope
from eocat.verify.errors import ConfigError
from eocat.verify.evidence import ITEM_FILE, read_envelopes
from eocat.verify.projection import ATTESTATION, project
from eocat.verify.row import LEAF_FORMAT
from eocat.verify.statement import (
    PREDICATE_TYPE,
    ROWS,
    STATEMENT_TYPE,
    Rows,
    Source,
    Statement,
    format_time,
    parse_statement,
    validated,
)

from . import documents
from .environment import code, environment
from .identify import Identified, Stamp
from .outline import outline
from .receipt import Receipt
from .run import Run, claim_of
from .shard_writer import ChipRows, bounds, write_shard
from .thumbnail import write_thumbnail

STATEMENT_FILE = "statement.json"  # what is to be signed


@dataclass(frozen=True, slots=True)
class Draft:
    """A shard that waits for its signature. item: its id, which is the scene's."""

    folder: Path
    item: str
    left_out: int  # chips without data
    seconds: float
    stamps: tuple[Stamp, ...] = ()  # of the scene's files


@dataclass(frozen=True, slots=True)
class Found:
    """A shard that was there already, made from the same scene by the same recipe."""

    item: str
    folder: Path
    rows: int
    root: str


def find_shard(identified: Identified, run: Run) -> Found | None:
    """The scene's shard if it is there; ConfigError if it was made from something else."""
    return find_task(run.folder / identified.scene.id, identified.task)


def find_task(target: Path, task: str) -> Found | None:
    """The shard at `target` if it is there; ConfigError if its task is another."""
    if not target.exists():
        return None
    statement = statement_in(target)
    if statement.predicate.parameters.get("task") != task:
        raise ConfigError(
            f"{target} holds a shard of another scene or recipe, and nothing is overwritten",
            hint="choose another --collection or --out, or remove that folder if it was never published",
        )
    rows = statement.predicate.rows
    return Found(target.name, target, rows.count, rows.root)


def statement_in(target: Path) -> Statement:
    """The CREATE of a finished shard."""
    envelopes = read_envelopes(target / documents.file_name(ATTESTATION))
    return parse_statement(parse_envelope(envelopes[0]).payload)


def write_draft(
    identified: Identified,
    rows: ChipRows,
    run: Run,
    receipt: Receipt,
    *,
    evidence: Evidence = "none",
) -> Draft:
    """Write shard, row hashes, thumbnail, Item and statement; on disk when this returns."""
    item = identified.scene.id
    with draft_folder(run.folder, item) as folder:
        _write(folder, identified, rows, run, receipt, evidence)
    left_out = sum(rows.left_out.values())
    return Draft(folder, item, left_out, receipt.milliseconds / 1000, identified.stamps)


@contextmanager
def draft_folder(collection: Path, item: str) -> Iterator[Path]:
    """A new draft of the item to write into: on disk afterwards, or gone if writing failed."""
    with writing(collection / item):
        folder = collection / f".tmp-{item}~{_host()}-{os.getpid()}"
        for left_over in drafts_of(collection, item):
            if _is_abandoned(left_over):
                shutil.rmtree(left_over)
        folder.mkdir(parents=True)
        try:
            yield folder
            for path in folder.iterdir():
                sync(path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def drafts_of(folder: Path, item: str) -> Iterator[Path]:
    """Every draft of the item, in the folder of its collection; no identifier holds a '~'."""
    return folder.glob(f".tmp-{item}~*")


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Around what writes `target`: an OSError, such as of a full disk, becomes a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {os.strerror(error.errno) if error.errno else error}",
            hint="check --out, its rights and free space; what is finished there stays valid",
        ) from None


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", ".", socket.gethostname())[:64]


def _is_abandoned(draft: Path) -> bool:
    """Whether the process that wrote it is gone from this machine; of other machines nothing is known."""
    host, _, process = draft.name.rpartition("~")[2].rpartition("-")
    if host != _host():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(process) == os.getpid()  # it has no two drafts of an item: this one is a dead namesake's


def _write(
    folder: Path, identified: Identified, rows: ChipRows, run: Run, receipt: Receipt, evidence: Evidence
) -> None:
    scene, files = identified.scene, identified.files
    space, dimension = run.recipe.space, int(rows.vectors.shape[1])
    about = {
        "model": {"id": run.encoder.name, "version": run.encoder.version},
        "collection": run.collection,
        "item": scene.id,
        "space": space,
    }
    paths = {key: folder / documents.file_name(key) for key in documents.ASSETS if key != ATTESTATION}
    root = write_shard(rows, paths["embeddings"], paths["row-hashes"], about=about)
    windows = np.array([(chip.x, chip.y, chip.size) for chip in rows.chips])
    write_thumbnail(windows, rows.vectors, paths["thumbnail"])
    assets = {key: digest_file(path) for key, path in paths.items()}
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
    item = documents.item_document(
        origin=documents.computed_from(scene, run.recipe, claim_of(run.encoder)),
        collection=run.collection,
        geometry=geometry,
        bbox=bounds(geometry),
        start=identified.start,
        end=identified.end,
        rows=claim,
        space=space,
        encoder=claim_of(run.encoder),
        code=code(),
        files=files,
        source_uri=uri,
        assets=assets,
        licence=run.licence,
        energy=receipt.item_field(),
        created=now,
    )
    source = Source(
        name=scene.id, uri=uri, files=list(files), bands=list(run.recipe.bands), evidence=evidence
    )
    statement = _statement(item, claim, source, assets, identified, run, receipt, now, rows.left_out)
    (folder / STATEMENT_FILE).write_bytes(statement)
    write_json(folder / ITEM_FILE, item)


def _statement(
    item: dict[str, Any], rows: Rows, source: Source, assets: dict[str, Digests],
    identified: Identified, run: Run, receipt: Receipt, now: datetime, left_out: Mapping[str, int],
) -> bytes:  # fmt: skip
    """The CREATE of one shard (docs/format.md, section 3), canonical."""
    scene = identified.scene
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
            "task": identified.task,
            "offset": scene.offset,
            "nodata": scene.nodata,
            "assumptions": list(scene.assumptions),
            "left_out": dict(left_out),
        },
        "environment": environment(batch=run.batch, threads=run.threads) | receipt.statement_fields(),
        "tolerance": run.encoder.tolerance,
        "projection": project(item).model_dump(),
    }
    return encode_create(create, assets, rows.root)


def encode_create(create: dict[str, Any], assets: Mapping[str, Digests], root: str) -> bytes:
    """The statement around the CREATE of a shard with these files and rows, canonical."""
    subjects = {key: {"sha256": found.sha256, "blake3": found.blake3} for key, found in assets.items()}
    subjects[ROWS] = {"sha256": root}
    return canonical.encode(
        {
            "_type": STATEMENT_TYPE,
            "predicateType": PREDICATE_TYPE,
            "subject": [{"name": name, "digest": subjects[name]} for name in sorted(subjects)],
            "predicate": create,
        }
    )
