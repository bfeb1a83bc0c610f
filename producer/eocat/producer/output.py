"""From a draft to a shard: checked, signed, named. And the documents of the collection around it.

This is the only step that needs the private key, and it reads nothing that a worker said but what lies in the
draft's folder. A folder under its own name is whole: it gets that name last, when all of it is on disk.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eocat.verify import canonical
from eocat.verify.digest import digest_file
from eocat.verify.dsse import format_envelope
from eocat.verify.errors import ConfigError
from eocat.verify.evidence import ITEM_FILE, read_limited
from eocat.verify.projection import ATTESTATION, project
from eocat.verify.statement import MAX_STATEMENT_BYTES, FileDigest, Statement, parse_statement

from . import documents
from .draft import STATEMENT_FILE, Draft, drafts_of, statement_in, sync, write_json, writing
from .run import Run, claim_of
from .signer import Signer, sign_statement
from .stamps import remember


@dataclass(frozen=True, slots=True)
class Produced:
    """What became of one scene. seconds: of this run that went into it; fresh: false if it was there."""

    item: str
    folder: Path
    rows: int
    left_out: int
    root: str
    seconds: float
    fresh: bool


class Recipe(Protocol):
    """What the signer asked for, of a run or of an import."""

    @property
    def space(self) -> str: ...
    def parameters(self) -> dict[str, Any]:
        """As they must stand in the statement."""
        ...


class Asked(Protocol):
    """Where the shard belongs and what it must say: a run, or an import."""

    @property
    def collection(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def recipe(self) -> Recipe: ...


def finish(draft: Draft, run: Asked, signer: Signer) -> Produced:
    """Steps 5 and 6: sign the draft's statement and give the folder its name.

    If another process has finished the same shard meanwhile, that one stays and the draft is dropped.
    Raises ConfigError for a draft that is not what this run asked for or not what its statement says.
    """
    target = run.folder / draft.item
    with writing(target):
        statement = _checked(draft, run)
        fresh = not target.exists()
        if fresh:
            envelope = format_envelope(sign_statement(statement, signer))
            attestation = draft.folder / documents.file_name(ATTESTATION)
            attestation.write_bytes(envelope + b"\n")
            (draft.folder / STATEMENT_FILE).unlink()
            for path in (attestation, draft.folder):
                sync(path)
            draft.folder.rename(target)
            sync(target.parent)
            remember(draft, run.folder)
        for other in drafts_of(run.folder, draft.item):
            shutil.rmtree(other, ignore_errors=True)
    rows = (statement if fresh else statement_in(target)).predicate.rows
    return Produced(draft.item, target, rows.count, draft.left_out, rows.root, draft.seconds, fresh)


def _checked(draft: Draft, run: Asked) -> Statement:
    """The statement of the draft, which says what this run asked for and what lies in the folder."""
    payload = read_limited(draft.folder / STATEMENT_FILE, MAX_STATEMENT_BYTES)
    statement = parse_statement(payload)
    create = statement.predicate
    item = canonical.parse(read_limited(draft.folder / ITEM_FILE, canonical.MAX_BYTES), what=ITEM_FILE)
    found = {key: digest_file(draft.folder / documents.file_name(key)) for key in statement.files}
    wrong = [
        what
        for what, agrees in {
            "item": create.item == f"{run.collection}/{draft.item}",
            "space": create.space == run.recipe.space,
            "parameters": create.parameters.items() >= run.recipe.parameters().items(),
            "files": statement.files
            == {key: FileDigest(sha256=d.sha256, blake3=d.blake3) for key, d in found.items()},
            "projection": project(item) == create.projection,
        }.items()
        if not agrees
    ]
    if wrong:
        raise ConfigError(
            f"the draft of {draft.item} is not what its statement or this run says ({', '.join(wrong)})",
            hint="workers and driver need the same version of eocat and one file system for --out",
        )
    return statement


def write_collection(run: Run) -> None:
    """collection.json and model.json over all finished shards of the folder, whichever run made them."""

    def documented(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        properties = items[0]["properties"]
        dtype, dimension = properties["eocat:dtype"], properties["eocat:dimension"]
        claim, size = claim_of(run.encoder), run.recipe.chip_size
        collection = documents.collection_document(
            collection=run.collection, encoder=claim, dtype=dtype, dimension=dimension,
            space=run.recipe.space, layout=documents.chip_layout(run.recipe), items=items,
            what=f"chip of {size} × {size} pixels", licence=run.licence, publisher=run.publisher,
        )  # fmt: skip
        model = documents.model_document(
            claim, bands=run.recipe.bands, dimension=dimension, dtype=dtype, space=run.recipe.space,
            preprocess=run.encoder.preprocess,
        )  # fmt: skip
        return {"collection.json": collection, "model.json": model}

    write_documents(run.folder, documented)


def write_documents(
    folder: Path, documented: Callable[[Sequence[dict[str, Any]]], dict[str, dict[str, Any]]]
) -> None:
    """Write what `documented` makes of the Items of all finished shards of the folder, if there are any."""
    if not folder.is_dir():
        return
    with writing(folder), _locked(folder):
        items = [
            canonical.parse(read_limited(path, canonical.MAX_BYTES), what=str(path))
            for path in sorted(folder.glob(f"[A-Za-z0-9]*/{ITEM_FILE}"))
        ]
        if not items:
            return
        for name, document in documented(items).items():
            temporary = folder / f".tmp-{name}"
            write_json(temporary, document)
            temporary.replace(folder / name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: the last of several runs over a collection must see the shards of all."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
