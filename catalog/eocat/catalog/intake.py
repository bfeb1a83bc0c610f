"""What remote publishers bring: documents, then files, kept apart until admission has verified all of it.

    HOME/quarantine/<id>/   a registration that is open: opened.json, COLLECTION/{collection,model}.json,
                            COLLECTION/ITEM/{item.json, attestation and files}
    HOME/shards/<id>/       the same folder once it is whole, from where admission takes it and serves it

    1 open      the signatures, the history and the Item's projection are checked before a file is taken
    2 receive   each file as the statement names it: its size before, its SHA-256 while it is written
    3 commit    the whole folder moves out of quarantine and goes through admission.py like any other,
                together with those that have queued while others were admitted

A registration's id is the digest of its holder and its documents: who sends the same again goes on where it
broke off, and nobody else finds it. What was left open is swept away after a day, and so is a folder that
moved and was not admitted.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from eocat.verify import canonical
from eocat.verify.errors import ConfigError, Unavailable
from eocat.verify.evidence import (
    ITEM_FILE,
    MAX_ATTESTATION_BYTES,
    read_limited,
    split_envelopes,
)
from eocat.verify.history import BrokenHistory, History
from eocat.verify.policy import Policy
from eocat.verify.projection import differences, project
from eocat.verify.statement import validated

from . import histories
from .admission import register
from .admitted import Admission
from .database import Database
from .documents import COLLECTION_FILE, MODEL_FILE
from .durable import fsync_folder, replace_file
from .log import log_folder
from .registrations import (
    OPENED_FILE,
    NotAdmitted,
    Opened,
    Opening,
    Registration,
    folders_in,
    opened_from,
    read_opened,
)
from .tokens import Grant

MAX_OPENING_BYTES = 12 << 20  # four documents, escaped as JSON text
MAX_OPEN = 16  # registrations of one holder
OPEN_LIVES_S = 24 * 3600
RESERVE_BYTES = 1 << 30  # of the disk, which the database may share


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A registration whose holder waits for it to be admitted, and the answer that is waited for."""

    id: str
    holder: str
    answer: Future[Admission] = field(default_factory=Future)


@dataclass
class Intake:
    """The registrations of one home. policy: read anew for each, since keys come and go.

    registered: called after some were admitted, whose vectors have no index yet (indexer.py).
    """

    database: Database
    policy: Callable[[], Policy]
    registered: Callable[[], None]
    _admitting: threading.Lock = field(default_factory=threading.Lock)
    _waiting: deque[Waiting] = field(default_factory=deque)

    @property
    def home(self) -> Path:
        return self.database.required_home()

    @property
    def quarantine(self) -> Path:
        return self.home / "quarantine"

    @property
    def shards(self) -> Path:
        return self.home / "shards"

    def open(self, grant: Grant, body: bytes) -> Registration:
        """Step 1. Raises Denied, NotAdmitted and Malformed; what was opened before is found again."""
        opening = validated(
            Opening, canonical.parse(body, what="registration", limit_bytes=MAX_OPENING_BYTES),
            what="registration",
        )  # fmt: skip
        history = self._judge(grant, opening)
        id_ = hashlib.sha256(f"{grant.holder}\0".encode() + body).hexdigest()
        if (found := self._find(id_, grant.holder)) is not None:
            return found
        opened = opened_from(grant.holder, opening, history)
        self._check_room(grant.holder, sum(file.size for file in opened.files.values()))
        return self._write(id_, opening, opened)

    async def receive(
        self, grant: Grant, id_: str, key: str, size: int, stream: AsyncIterator[bytes]
    ) -> Registration:
        """Step 2. The file counts once all of it is there, is what was signed, and is on the disk."""
        registration = self._open_one(id_, grant.holder)
        signed = registration.opened.files.get(key)
        if signed is None:
            raise NotAdmitted(f"no file {key} is signed", 404)
        if size != signed.size:
            raise NotAdmitted(
                f"{key} has {size} bytes, signed are {signed.size}", 413 if size > signed.size else 422
            )
        descriptor, temporary = tempfile.mkstemp(dir=registration.folder, prefix=".part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                digest, received = hashlib.sha256(), 0
                async for block in stream:
                    received += len(block)
                    if received > signed.size:
                        raise NotAdmitted(
                            f"{key} is longer than the {signed.size} bytes that are signed", 413
                        )
                    digest.update(block)
                    file.write(block)
                file.flush()
                await asyncio.to_thread(os.fsync, descriptor)
            if received != signed.size or digest.hexdigest() != signed.sha256:
                raise NotAdmitted(f"{key} is not the signed file: sha256 {digest.hexdigest()[:16]}…")
            Path(temporary).replace(registration.shard / signed.name)
            fsync_folder(registration.shard)
        except FileNotFoundError:
            raise NotAdmitted("the registration is not open any more", 404) from None
        finally:
            Path(temporary).unlink(missing_ok=True)
        return registration

    def commit(self, grant: Grant, id_: str) -> Admission:
        """Step 3. What waits is admitted together. Repeated, it says what the first time came to."""
        mine = Waiting(id_, grant.holder)
        self._waiting.append(mine)
        with self._admitting:  # whoever comes first admits all that have queued up to then
            if not mine.answer.done():
                waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
                with _answering(waiting):
                    self._admit(waiting)
        return mine.answer.result()

    def _admit(self, waiting: Sequence[Waiting]) -> None:
        """Answer each of these: all go through one `register`, which verifies and refuses each by itself.

        Where that breaks off, each goes through one of its own, so that none fails for what another has.
        """
        taken: list[tuple[Waiting, Path]] = []
        for one in waiting:
            with _answering([one]):
                taken.append((one, self._take(one)))
        try:
            answers = self._register(list(dict.fromkeys(shard for _, shard in taken)))
        except Exception:
            if len(taken) == 1:
                raise
            for one, _ in taken:
                with _answering([one]):
                    self._admit([one])
        else:
            for one, shard in taken:
                one.answer.set_result(answers[shard.resolve()])

    def _register(self, shards: Sequence[Path]) -> dict[Path, Admission]:
        """Folder → what admission says. What was refused is dropped, but not if all will be tried singly."""
        if not shards:
            return {}
        before = {shard: self._location(shard) for shard in shards}
        broke_off = True
        try:
            admissions = register(self.database, shards, self.policy(), index=False)
            broke_off = False
            self.registered()
        finally:
            if len(shards) == 1 or not broke_off:
                for shard, place in before.items():
                    self._drop_unless_used(shard, place)
        return {admission.folder: admission for admission in admissions}

    def _take(self, waiting: Waiting) -> Path:
        """The folder of the whole shard, where it is admitted from; NotAdmitted if it is not whole."""
        registration = self._open_one(waiting.id, waiting.holder)
        if missing := registration.missing():
            raise NotAdmitted(f"{missing[0]['key']} has not been uploaded", 409)
        place = self.shards / waiting.id
        if registration.folder != place:
            for left in registration.folder.glob(".part-*"):  # of uploads that broke off
                left.unlink(missing_ok=True)
            self.shards.mkdir(mode=0o755, exist_ok=True)
            registration.folder.rename(place)
            fsync_folder(self.quarantine)
            fsync_folder(self.shards)
        return place / registration.opened.item

    def sweep(self, now_s: float | None = None) -> None:
        """Remove what was left open too long, and what moved but was never admitted.

        A shard that the log holds stays, known to the database or not: one restored from an old backup does
        not know what came later, and this may be the only copy (`eocat rebuild` takes it up again).
        """
        now_s = now_s or time.time()
        with self._admitting:
            with self.database.connect() as connection:
                rows = connection.execute(
                    "SELECT location FROM eocat.shard WHERE starts_with(location, %s)", [f"{self.shards}/"]
                )
                used = {Path(row[0]).parents[1] for row in rows}
            for folder in (*folders_in(self.quarantine), *folders_in(self.shards)):
                with suppress(FileNotFoundError):  # it was committed or dropped just now
                    old = now_s - folder.stat().st_mtime > OPEN_LIVES_S
                    if old and folder not in used and not self._is_logged(folder):
                        shutil.rmtree(folder)

    def _is_logged(self, folder: Path) -> bool:
        """Whether the log's files hold an event of the registration in `folder`."""
        opened = read_opened(folder)
        if opened is None:
            return False
        attestation = folder / opened.item / opened.attestation
        if not attestation.is_file():
            return False
        envelopes = log_folder(self.home).path / "envelope"
        lines = split_envelopes(read_limited(attestation, MAX_ATTESTATION_BYTES))
        return any((envelopes / hashlib.sha256(line).hexdigest()).is_file() for line in lines)

    def _judge(self, grant: Grant, opening: Opening) -> History:
        """What the documents come to; Denied, or NotAdmitted with what is wrong with them."""
        try:
            events = [histories.read_event(one) for one in split_envelopes(opening.attestation.encode())]
            history = histories.replayed(events)
        except BrokenHistory as error:
            raise NotAdmitted(str(error)) from None
        collection, _, item = history.create.item.partition("/")
        grant.check(collection, ())  # before anything is told about what the catalogue holds
        with self.database.connect() as connection:
            stored = histories.stored_events(connection, collection, item)
        try:
            fresh = histories.new_events(stored, events)
        except BrokenHistory as error:
            raise NotAdmitted(str(error)) from None
        grant.check(
            collection, {_ACTIONS.get(event.name, event.name.lower()) for event in fresh} or ["register"]
        )
        policy, now = self.policy(), datetime.now(UTC)
        for event in fresh:
            if (failed := histories.refusal(event, policy, now)) is not None:
                raise NotAdmitted(f"{event.name} {event.seq}: {failed.text}")
        shown = project(canonical.parse(opening.item.encode(), what="item"))
        if changed := differences(history.projection, shown):
            raise NotAdmitted(f"the item differs from what was signed in {', '.join(changed)}")
        return history

    def _check_room(self, holder: str, size: int) -> None:
        """Raise NotAdmitted where the holder has too much open, or the disk no room for more."""
        waiting = [
            Registration("", folder, opened)
            for folder in folders_in(self.quarantine)
            if (opened := read_opened(folder)) is not None
        ]
        if sum(one.opened.holder == holder for one in waiting) >= MAX_OPEN:
            raise NotAdmitted(f"{MAX_OPEN} registrations are open: commit them first", 429)
        promised = sum(file["size"] for one in waiting for file in one.missing())
        if size + promised > shutil.disk_usage(self.home).free - RESERVE_BYTES:
            raise NotAdmitted(f"there is no room for {size} bytes", 507)

    def _write(self, id_: str, opening: Opening, opened: Opened) -> Registration:
        """Put the documents, and the files that the catalogue holds already, into quarantine."""
        self.quarantine.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=self.quarantine, prefix=".new-"))
        temporary.chmod(0o755)
        shard = temporary / opened.item
        for path, text in {
            shard.parent / COLLECTION_FILE: opening.collection,
            shard.parent / MODEL_FILE: opening.model,
            shard / ITEM_FILE: opening.item,
            shard / opened.attestation: opening.attestation,
        }.items():
            replace_file(path, text.encode())
        for file, held in self._held(opened).items():
            with suppress(OSError):  # gone, or on another disk: then it has to be uploaded
                os.link(held, shard / file)
        replace_file(temporary / OPENED_FILE, canonical.encode(opened.model_dump()))
        folder = self.quarantine / id_
        try:
            temporary.rename(folder)
        except OSError:  # another request of the same was faster
            shutil.rmtree(temporary)
        fsync_folder(self.quarantine)
        return self._open_one(id_, opened.holder)

    def _held(self, opened: Opened) -> Mapping[str, Path]:
        """File name → a file that the catalogue has under this digest; admission reads it again anyway."""
        collection, _, item = opened.item.partition("/")
        with self.database.connect() as connection:
            row = connection.execute(
                "SELECT location, assets FROM eocat.shard WHERE collection = %s AND item_id = %s",
                [collection, item],
            ).fetchone()
        location, assets = row or ("", {})
        return {
            file.name: Path(location) / assets[key]["name"]
            for key, file in opened.files.items()
            if key in assets and assets[key]["sha256"] == file.sha256
        }

    def _open_one(self, id_: str, holder: str) -> Registration:
        if (found := self._find(id_, holder)) is None:
            raise NotAdmitted("there is no such registration", 404)
        return found

    def _find(self, id_: str, holder: str) -> Registration | None:
        for folder in (self.shards / id_, self.quarantine / id_):
            opened = read_opened(folder)
            if opened is not None and opened.holder == holder:
                return Registration(id_, folder, opened)
        return None

    def _location(self, shard: Path) -> Path | None:
        """Where the item of a shard's folder is served from."""
        with self.database.connect() as connection:
            row = connection.execute(
                "SELECT location FROM eocat.shard WHERE collection = %s AND item_id = %s",
                [shard.parent.name, shard.name],
            ).fetchone()
        return Path(row[0]) if row else None

    def _drop_unless_used(self, shard: Path, before: Path | None) -> None:
        """Remove the registration's folder if it was refused, and the one that it has taken the place of."""
        try:
            now = self._location(shard)
        except Unavailable:
            return  # the sweep will see to it
        place = shard.parents[1]
        for folder in {place, before.parents[1] if before else place}:
            if folder.parent == self.shards and (now is None or now.parents[1] != folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _answering(waiting: Sequence[Waiting]) -> Iterator[None]:
    """What goes wrong inside is the answer to those who have none yet."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # raised again where it is waited for
        for one in waiting:
            if not one.answer.done():
                one.answer.set_exception(error)


_ACTIONS = {"CREATE": "register", "REGISTER": "register"}


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home for one intake; ConfigError if another process has it."""
    path = home / "run" / "intake.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process takes registrations for {home} already") from None
        yield
