"""Where a log's own files are, and what this machine has seen of that log before.

    HOME/log-seen/<SHA-256 of the log's keys>.txt    the newest checkpoint that was accepted, a signed note

A catalogue that is turned back as a whole, database, files and all, contradicts nothing that it says itself.
It contradicts whoever has seen more: so the newest checkpoint of each log is kept, and the next must begin
with it.
"""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..check import LogFiles
from ..errors import ConfigError
from ..evidence import read_limited
from ..log.files import CHECKPOINT, STEP
from ..log.note import MAX_NOTE_BYTES, format_vkey
from ..log.quorum import parse_log_policy
from ..policy import LogTrust
from ..report import Report
from .fetch import fetch_bytes

_ITEM_PATH = re.compile(r"/collections/[^/?#]+/items/[^/?#]+$")


def log_beside(url: str) -> str | None:
    """Where the catalogue of the Item at `url` has its log; None where the address is no catalogue's."""
    found = _ITEM_PATH.search(url)
    return f"{url[: found.start()]}/log" if found else None


@dataclass(slots=True)
class LogPlace:
    """The files of a log that `trust` lists, at an http(s) address or in a folder, and what HOME remembers.

    home: None remembers nothing.
    """

    place: str
    trust: LogTrust
    home: Path | None
    _note: bytes | None = field(default=None, repr=False)

    def files(self) -> LogFiles:
        """What `check` needs, with what is remembered."""
        memory = self._memory
        seen = read_limited(memory, MAX_NOTE_BYTES) if memory is not None and memory.is_file() else None
        return LogFiles(self._read, seen)

    def remember(self, report: Report) -> None:
        """Keep the checkpoint that was read, if the report found the files to agree with the log proof."""
        agreed = any(step.name == STEP and step.outcome is None for step in report.steps)
        if self._memory is None or self._note is None or not agreed:
            return
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._memory, self._note)
        except OSError as error:
            raise ConfigError(
                f"{self._memory} cannot be written: {error.strerror}",
                hint="set EOCAT_HOME to a folder of your own: what a log has shown is remembered there",
            ) from None

    def _read(self, name: str, limit_bytes: int) -> bytes:
        if self.place.startswith(("http://", "https://")):
            data = fetch_bytes(f"{self.place.rstrip('/')}/{name}", limit_bytes)
        else:
            data = read_limited(Path(self.place) / name, limit_bytes)
        if name == CHECKPOINT:
            self._note = data
        return data

    @property
    def _memory(self) -> Path | None:
        if self.home is None:
            return None
        keys = sorted(format_vkey(log.key) for log in parse_log_policy(self.trust.policy.encode()).logs)
        return self.home / "log-seen" / f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()}.txt"


def write_whole(path: Path, data: bytes) -> None:
    """Write whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
