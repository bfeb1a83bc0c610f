"""Our own items as products of the Copernicus traceability format (eocat.verify.lineage.export).

The product is the shard's file of vectors, as COLLECTION/ITEM/NAME; its inputs are the files of the sources.
What is traced is what was signed: a file that has changed since is refused.
"""

from pathlib import Path

from eocat.verify.digest import Digests, digest_file
from eocat.verify.errors import InputError, UsageError
from eocat.verify.evidence import read_folder
from eocat.verify.history import History, Status
from eocat.verify.lineage.export import Signer, format_registrations, sign_trace
from eocat.verify.lineage.trace import Event, Product, Registration
from eocat.verify.statement import validated

from .documents import file_name
from .sequel import history_of

SHARD = "embeddings"


def export_traces(
    folders: list[Path], event: Event, signer: Signer, *, reason: str | None = None
) -> tuple[bytes, list[Registration]]:
    """The body that registers one trace for each folder, and its traces, all of one event.

    reason: for an OBSOLETE; by default the one that the item's history gives. Raises InputError for a file
    that is not the signed one, UsageError where the history says otherwise than the event.
    """
    made = []
    for folder in folders:
        history = history_of(read_folder(folder).envelopes or ())
        why = _reason(history, event, reason)
        made.append(sign_trace(_product(folder, history), event, signer, reason=why))
    return format_registrations(made), made


def _reason(history: History, event: Event, given: str | None) -> str | None:
    item, is_over = history.create.item, history.status not in (Status.CREATED, Status.ACTIVE)
    if event == "OBSOLETE":
        if not is_over:
            raise UsageError(
                f"{item} is {history.status.value}, its trace cannot be OBSOLETE",
                hint="sign that first: eocat obsolete, supersede or withdraw",
            )
        successor = f"superseded by {history.successor}" if history.successor else None
        return given or history.reason or successor
    if given is not None:
        raise UsageError(f"a trace of the event {event} has no reason", hint="--reason belongs to OBSOLETE")
    if event == "CREATE" and history.status is Status.WITHDRAWN:
        raise UsageError(f"{item} is withdrawn, its creation is not traced any more", hint="--event OBSOLETE")
    return None


def _product(folder: Path, history: History) -> Product:
    create, name = history.create, file_name(SHARD)
    signed = history.statement.files[SHARD]
    size = create.projection.assets[SHARD].size
    if digest_file(folder / name) != Digests(signed.sha256, signed.blake3, size):
        raise InputError(f"{folder / name} is not the signed file", hint="take the folder from its publisher")
    inputs = [{"name": file.name, "hash": file.blake3} for source in create.scenes for file in source.files]
    value = {"name": f"{create.item}/{name}", "hash": signed.blake3, "size": size, "inputs": inputs}
    return validated(Product, value, what="trace")
