"""Whether Item, files and rows are what was signed: steps 3, 4 and 5.

Bytes are hashed before they are parsed, and a file whose digest is wrong is not parsed at all.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from . import canonical
from .digest import Digests, digest_file
from .errors import Malformed
from .evidence import Evidence, read_limited
from .history import History, Status
from .merkle import build_tiles, tiles_bytes, tree_of
from .projection import differences, project
from .report import Outcome, Step
from .shard import Shard
from .statement import Create, Statement

EMBEDDINGS, ROW_HASHES = "embeddings", "row-hashes"


def check_item(item: bytes, history: History | None) -> Step:
    """Step 3."""
    try:
        found = project(canonical.parse(item, what="item"))
    except Malformed as error:
        return Step("item", str(error), Outcome.MALFORMED)
    if history is None:
        return Step("item", "not checked: only a whole history says what it must show", checked=False)
    signed = history.projection
    if history.status is Status.WITHDRAWN:  # its files may be gone, and then the Item does not name them
        kept = {key: asset for key, asset in signed.assets.items() if key in found.assets}
        signed = signed.model_copy(update={"assets": kept})
    if changed := differences(signed, found):
        return Step("item", f"differs from what was signed in {', '.join(changed)}", Outcome.TAMPERED)
    return Step("item", f"projection of {found.collection}/{found.id} as signed")


def check_bytes(evidence: Evidence, statement: Statement, skip: str | None) -> dict[str, Step]:
    """Step 4, one part for each signed file."""
    if evidence.no_data:
        return {"": Step("bytes", f"not checked: {evidence.no_data}", checked=False)}
    steps = {}
    for key, signed in statement.files.items():
        path = evidence.files.get(key)
        if path is None:
            steps[key] = Step(
                "bytes", f"{key}: {evidence.missing.get(key, 'not in the item')}", Outcome.UNAVAILABLE
            )
        elif key == skip:
            steps[key] = Step("bytes", f"{key}: rows only, the file's digest was not asked for")
        else:
            size = statement.predicate.projection.assets[key].size
            steps[key] = _check_file(key, path, Digests(signed.sha256, signed.blake3, size))
    return steps


def _check_file(key: str, path: Path, signed: Digests) -> Step:
    try:
        found = digest_file(path)
    except OSError as error:
        return Step("bytes", f"{key}: cannot be read: {error.strerror}", Outcome.UNAVAILABLE)
    if found != signed:
        text = f"{key}: sha256 {found.sha256[:16]}… of {found.size} bytes"
        return Step(
            "bytes", f"{text} is not the signed {signed.sha256[:16]}… of {signed.size}", Outcome.TAMPERED
        )
    return Step("bytes", f"{key} {found.size} bytes")


def summed_bytes(files: dict[str, Step]) -> Step:
    bad = [step for step in files.values() if step.outcome is not None]
    if not bad:
        checked = all(step.checked for step in files.values())
        return Step("bytes", ", ".join(step.text for step in files.values()), checked=checked)
    worst = next((step for step in bad if step.outcome is Outcome.TAMPERED), bad[0])
    return Step("bytes", "; ".join(step.text for step in bad), worst.outcome)


def check_rows(evidence: Evidence, bytes_steps: dict[str, Step], create: Create) -> Step:
    """Step 5."""
    if evidence.no_data:
        return Step("rows", f"not checked: {evidence.no_data}", checked=False)
    for key in (EMBEDDINGS, ROW_HASHES):
        if key not in bytes_steps:
            return Step("rows", f"no {key} file is signed", Outcome.MALFORMED)
        if bytes_steps[key].outcome is not None:
            return Step("rows", f"not read: {key} is not the signed file", checked=False)
    rows = create.rows
    try:
        leaves = _leaf_hashes(Shard.open(evidence.files[EMBEDDINGS], rows))
        tiles = build_tiles(leaves)
        root = tree_of(tiles, rows.count).root().hex()
        stored = read_limited(evidence.files[ROW_HASHES], tiles_bytes(rows.count))
    except Malformed as error:
        return Step("rows", str(error), Outcome.MALFORMED)
    if root != rows.root:
        return Step("rows", f"root {root[:16]}… is not the signed {rows.root[:16]}…", Outcome.TAMPERED)
    if stored != tiles:
        return Step("rows", "the file of row hashes does not hold this shard's hashes", Outcome.TAMPERED)
    return Step("rows", f"{rows.count} × {rows.dimension} {rows.dtype}, root {root[:16]}… = signed root")


def _leaf_hashes(shard: Shard) -> bytes:
    """All leaf hashes of a shard, in order; Malformed if a row id stands twice."""
    hashes: list[bytes] = []
    ids: list[pa.Array] = []
    for batch in shard.batches():
        ids += batch.table["id"].chunks
        hashes.append(batch.leaf_hashes())
    distinct = pc.count_distinct(pa.chunked_array(ids, pa.string())).as_py()
    if distinct != shard.signed.count:
        raise Malformed(f"shard has {distinct} different row ids in {shard.signed.count} rows")
    return b"".join(hashes)
