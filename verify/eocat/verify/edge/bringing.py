"""An item brought into a folder: what is missing there comes from a catalogue, and is verified on the way.

    1 documents   Item, envelopes and log proof are fetched and judged; else nothing is written
    2 files       each that the folder lacks, into a hidden part that a second run resumes; named only when
                  it is the signed file
    3 documents   log-proof.json, attestation.jsonl, and item.json last: without it a folder is not finished

Every file is renamed into its place whole. The folder of a publisher keeps its own item.json as long as that
says what is signed.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from .. import canonical
from ..authenticity import check_envelopes
from ..bundle import ATTESTATION_FILE, with_local_names
from ..check import check
from ..digest import Digests, digest_file
from ..errors import ConfigError, Malformed, UsageError
from ..evidence import ITEM_FILE, LOG_PROOF_FILE, asset_hrefs, read_envelopes, read_folder, read_limited
from ..projection import differences, project
from ..report import Report
from ..statement import Projection, Statement
from .fetch import Documents, fetch_documents, resume
from .log_place import log_beside, write_whole
from .target import AUTHENTIC, Question

Progress = Callable[[str, int, int], None]


def bring(url: str, folder: Path, question: Question, progress: Progress = lambda *_: None) -> Report:
    """The report on the folder after it holds the item at `url`; where that is refused, the report says why.

    Raises UsageError where the folder holds another item, or events that the catalogue does not have.
    """
    documents = fetch_documents(url)
    evidence = documents.evidence
    first = check(evidence, question.policy, now=question.now)  # 1
    if first.outcome not in AUTHENTIC or first.statement is None or not evidence.envelopes:
        return question.of(evidence)
    _check_same(folder, evidence.envelopes)
    history = check_envelopes(evidence.envelopes, question.policy, question.now).replayed
    if history is None:
        raise RuntimeError("an authentic item has no history")
    item = _item(folder, evidence.item, history.projection)
    names = {key: href.removeprefix("./") for key, href in asset_hrefs(item).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = _bring_files(documents, first.statement, folder, names, progress)  # 2
        whole = {key: path for key, path in files.items() if path.name == names[key]}
        if len(whole) < len(files):
            report = question.of(replace(evidence, files=files, no_data=None))
            for key in files.keys() - whole.keys():
                files[key].unlink()
            return report
        if evidence.log_proof:  # 3
            write_whole(folder / LOG_PROOF_FILE, evidence.log_proof)
        else:
            (folder / LOG_PROOF_FILE).unlink(missing_ok=True)
        write_whole(folder / ATTESTATION_FILE, b"".join(line + b"\n" for line in evidence.envelopes))
        write_whole(folder / ITEM_FILE, item)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None
    return question.of(read_folder(folder), log_beside(url))


def _check_same(folder: Path, envelopes: tuple[bytes, ...]) -> None:
    """The folder is new, or its events are the first of those that came."""
    path = folder / ATTESTATION_FILE
    if not path.is_file():
        return
    held = read_envelopes(path)
    if held[: len(envelopes)] != envelopes[: len(held)]:
        raise UsageError(f"{folder} holds another item or history", hint="name a new folder")
    if len(held) > len(envelopes):
        raise UsageError(
            f"{folder} has {len(held)} events, the catalogue knows {len(envelopes)}",
            hint="eocat register brings them to the catalogue first",
        )


def _item(folder: Path, came: bytes, signed: Projection) -> bytes:
    """The Item to be written: the folder's own while it says what is signed, else the one that came."""
    path = folder / ITEM_FILE
    if path.is_file():
        own = read_limited(path, canonical.MAX_BYTES)
        with suppress(Malformed):
            plain = asset_hrefs(own) == asset_hrefs(with_local_names(own))
            if plain and not differences(signed, project(canonical.parse(own, what="item"))):
                return own
    return with_local_names(came)


def _bring_files(
    documents: Documents, statement: Statement, folder: Path, names: dict[str, str], progress: Progress
) -> dict[str, Path]:
    """Asset key → the file, under its name if it is the signed one, else under that of its part."""
    files = {}
    for key, signed in statement.files.items():
        if key not in names:  # of a withdrawn item: it is gone
            continue
        expected = Digests(signed.sha256, signed.blake3, statement.predicate.projection.assets[key].size)
        path = folder / names[key]
        part = folder / f".{names[key]}.{signed.sha256[:16]}.part"
        if path.is_file() and not path.is_symlink() and digest_file(path) == expected:
            files[key] = path
            continue
        resume(documents, key, part, expected.size, partial(progress, key))
        if digest_file(part) == expected:
            part.replace(path)
            files[key] = path
        else:
            files[key] = part
    return files
