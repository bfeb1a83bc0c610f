"""What a user names, gathered and judged: an item at a URL, an Item file, a folder, a bundle or a saved hit.

Of an item at a URL the small documents come first. Its files are downloaded, within the signed sizes, only if
those documents are authentic: what nobody trusted has signed costs no download.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import canonical
from ..bundle import MAX_BUNDLE_BYTES, evidence_of, is_bundle, parse_bundle
from ..check import check
from ..errors import Malformed, NotThere, Unavailable, UsageError
from ..evidence import MAX_LOG_PROOF_BYTES, Evidence, read_folder, read_item_file, read_limited
from ..hit import MAX_HIT_BYTES, check_hit, format_hit, is_hit
from ..log.absence import is_absence, judge_absence
from ..policy import Policy
from ..prove import prove_row
from ..report import Outcome, Report, Step
from .fetch import fetch_bytes, fetch_documents, fetch_files, fetch_range
from .log_place import LogPlace, log_beside

_ITEM_ADDRESS = re.compile(r"/collections/([A-Za-z0-9._-]{1,128})/items/([A-Za-z0-9._-]{1,128})$")
AUTHENTIC = (
    Outcome.VERIFIED, Outcome.INCOMPLETE, Outcome.SUPERSEDED, Outcome.WITHDRAWN, Outcome.STALE,
    Outcome.RECOMPUTE_MISMATCH,  # as an auditor says, whom one may want to check
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """How to judge: the arguments of `check`, and where the files of a bundle are."""

    policy: Policy
    now: datetime
    require: int | None = None
    rows_only: bool = False
    sources: Path | None = None
    recompute: int = 0
    seed: bytes | None = None
    files: Path | None = None
    log: str | None = None  # where the log's files are, by default those of the catalogue that was named
    home: Path | None = None  # where logs are remembered

    def of(self, evidence: Evidence, log: str | None = None) -> Report:
        """The report; log: where the log's own files are, if the user has named no other place."""
        place, trust = self.log or log, self.policy.log
        shown = LogPlace(place, trust, self.home) if place and trust else None
        report = check(
            evidence,
            self.policy,
            now=self.now,
            require=self.require,
            rows_only=self.rows_only,
            sources=self.sources,
            recompute=self.recompute if evidence.no_data is None else 0,
            seed=self.seed,
            log_files=shown.files() if shown else None,
        )
        if shown:
            shown.remember(report)
        return report


def judge(target: str, question: Question, api: str) -> Report:
    """The report on what `target` names; Unavailable if there is no such thing, Malformed if it is none."""
    path = Path(target)
    if (url := item_url(target, api)) is not None:
        return _judge_url(url, question)
    if path.is_file() and is_bundle(path):
        bundle = parse_bundle(read_limited(path, MAX_BUNDLE_BYTES))
        return question.of(evidence_of(bundle, target, question.files))
    if question.files is not None:
        raise UsageError(f"{target} is no bundle, so its files are where it says", hint="leave --files out")
    if path.is_dir():
        return question.of(read_folder(path))
    data = read_limited(path, MAX_HIT_BYTES)
    if is_hit(canonical.parse(data, what=target, limit_bytes=MAX_HIT_BYTES)):
        if question.log:
            raise UsageError(f"{target} is a hit, which has its log proof with it", hint="leave --log out")
        return check_hit(data, question.policy, target=target, now=question.now, require=question.require)
    return question.of(read_item_file(path))


def documents_of(target: str, api: str) -> Evidence:
    """The small documents of the item that `target` names: an address, collection/item, or a folder."""
    if (url := item_url(target, api)) is not None:
        return fetch_documents(url).evidence
    return read_folder(Path(target)) if Path(target).is_dir() else read_item_file(Path(target))


def item_url(target: str, api: str) -> str | None:
    """The address of the Item that `target` names; None where it is a file or folder."""
    if target.startswith(("http://", "https://")):
        return target
    if Path(target).exists():
        return None
    if target.count("/") == 1 and not target.startswith((".", "/")):
        collection, item = target.split("/")
        return f"{api.rstrip('/')}/collections/{collection}/items/{item}"
    raise Unavailable(
        f"{target} is no file or folder here",
        hint="name collection/item, a URL, an Item file, a folder, a bundle or a saved hit",
    )


def prove(target: str, number: int, question: Question, api: str) -> tuple[Report, bytes | None]:
    """The report on one row, and the saved hit that it is about; None where the item is not authentic.

    A few ranges of the item's files are read, over HTTP or in its folder.
    """
    if (url := item_url(target, api)) is not None:
        documents = fetch_documents(url)
        evidence, read = documents.evidence, partial(fetch_range, documents)
    else:
        evidence = read_folder(Path(target)) if Path(target).is_dir() else read_item_file(Path(target))
        evidence, read = replace(evidence, no_data="one row was asked for"), partial(_read_range, evidence)
    first = question.of(evidence)
    if first.outcome not in AUTHENTIC:
        return first, None
    hit = format_hit(prove_row(evidence, number, read))
    name = f"{target}#{number}"
    return check_hit(hit, question.policy, target=name, now=question.now, require=question.require), hit


def _read_range(evidence: Evidence, key: str, offset: int, length: int) -> bytes:
    path = evidence.files.get(key)
    if path is None:
        raise Unavailable(f"{key}: {evidence.missing.get(key, 'not in the item')}")
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
    if len(data) != length:
        raise Malformed(f"{path} ends before byte {offset + length}")
    return data


def _judge_url(url: str, question: Question) -> Report:
    try:
        documents = fetch_documents(url)
    except NotThere as error:
        return _judge_absent(url, question, str(error))
    first = check(documents.evidence, question.policy, now=question.now)
    if first.outcome not in AUTHENTIC:
        return question.of(documents.evidence)
    with TemporaryDirectory(prefix="eocat-verify-") as folder:
        return question.of(fetch_files(documents, Path(folder)), log_beside(url))


def _judge_absent(url: str, question: Question, why: str) -> Report:
    """The report on an Item that a catalogue says it does not have: whether its log says the same.

    Either way there is nothing to verify; but an item that the log holds is one that is kept from us.
    """
    steps = [Step("evidence", why, Outcome.UNAVAILABLE)]
    place = _ITEM_ADDRESS.search(url)
    trust = question.policy.log
    if place is not None and trust is not None:
        try:
            proof = fetch_bytes(f"{url}/log-proof", MAX_LOG_PROOF_BYTES)
            if is_absence(proof):
                steps.append(judge_absence(proof, place[1], place[2], trust, question.now))
            else:
                text = f"the log holds {place[1]}/{place[2]}, and the catalogue does not show it"
                steps.append(Step("log", text, Outcome.HISTORY_BROKEN))
        except Unavailable:
            steps.append(
                Step("log", "not checked: nothing shows that the log has no such item", checked=False)
            )
    required = question.require or question.policy.required_level
    return Report(url, question.now, required, 0, tuple(steps))
