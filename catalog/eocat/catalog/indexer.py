"""Indexes that have become due, built after the registrations that made them so, one at a time.

`eocat register` builds them before it ends. The service that takes registrations over HTTP answers first: a
thread of its own (Indexer) builds once none has come for QUIET_S, since those of the same collection wait
while its index is built; under a load that never ends it builds after PATIENCE_S all the same.

What is due stands in the database alone (`vector_index.due`), and an index and its name in one transaction: a
crash leaves nothing behind, and the next start, registration or `eocat audit` builds it. Until then every row
is compared, and answers say so (`method: exact`).
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import partitions, vector_index
from .database import Database
from .recall import audit

QUIET_S, PATIENCE_S = 10, 600
STOP_S = 2
FIRST_QUERIES = 50  # that measure a new index; `eocat audit` asks more

log = logging.getLogger("eocat.indexer")

Progress = Callable[[str, int, int], None]


def build_if_due(database: Database, collection: str, progress: Progress = lambda *_: None) -> bool:
    """Bring a collection's index up to date and measure it, if it is due; whether it was."""
    with database.connect(autocommit=True) as connection:  # its end gives the lock back
        connection.execute("SET client_connection_check_interval TO '2s'")  # nobody builds for the dead
        partitions.lock(connection, collection)
        partition = partitions.find_partition(connection, collection)
        if partition is None or not vector_index.bring_up_to_date(connection, partition, progress):
            return False
    progress(f"measuring the index of {collection}", 0, 0)
    with database.connect(autocommit=True) as connection:
        audit(database, connection, [collection], queries=FIRST_QUERIES, seed=0)
    return True


@dataclass
class Indexer:
    """The thread that builds what is due: when it starts, and when it is woken."""

    database: Database
    quiet_s: float = QUIET_S
    _woken: threading.Event = field(default_factory=threading.Event)
    _ending: bool = False

    def __enter__(self) -> "Indexer":
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
        self._thread.start()
        self.wake()
        return self

    def __exit__(self, *_: object) -> None:
        """What is being built is left unfinished: the server drops it when this process has gone."""
        self._ending = True
        self.wake()
        self._thread.join(STOP_S)

    def wake(self) -> None:
        """Something has been registered."""
        self._woken.set()

    def _run(self) -> None:
        while self._woken.wait():
            give_up = time.monotonic() + PATIENCE_S
            while not self._ending and self._woken.is_set() and time.monotonic() < give_up:
                self._woken.clear()
                self._woken.wait(self.quiet_s)
            if self._ending:
                return
            self._woken.clear()
            self._build_all()

    def _build_all(self) -> None:
        """Build what is due. What fails is due still; the operator reads why."""
        try:
            with self.database.connect() as connection:
                due = vector_index.due(connection)
        except Exception:
            log.exception("the indexes that are due could not be listed; the next registration tries again")
            return
        for collection in due:
            if self._ending:
                return
            began = time.monotonic()
            try:
                if build_if_due(self.database, collection):
                    log.info("index of %s built in %.1f s", collection, time.monotonic() - began)
            except Exception:
                log.exception("the index of %s was not built; the next registration tries again", collection)
