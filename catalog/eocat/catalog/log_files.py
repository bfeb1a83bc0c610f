"""The log as static files, which any web server can serve (C2SP tlog-tiles), under HOME/log:

    checkpoint                       the newest signed checkpoint; the only file that ever changes
    tile/<level>/…, tile/entries/…   hashes and entries
    envelope/<sha256>                the signed events that the entries name
    cosigned/<size>                  the first note of that size with the quorum, for a restored database

Every file is written beside its place, fsynced and renamed; its folder is fsynced too. What is there already
must be the same bytes: a log never writes a second version of anything.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from eocat.verify.errors import LogViolation, Unavailable
from eocat.verify.log.tiles import Tile, first_of

from .durable import replace_file

CHECKPOINT, COSIGNED = "checkpoint", "cosigned"
ENVELOPE = re.compile(r"envelope/[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LogFolder:
    """The folder of a log's files."""

    path: Path

    def read_checkpoint(self) -> bytes | None:
        """The published checkpoint, or None where none was ever published here."""
        try:
            return (self.path / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None

    def write_checkpoint(self, note: bytes) -> None:
        """Publish: from here on readers see the new tree."""
        self.replace(CHECKPOINT, note)

    def keep_cosigned(self, size: int, note: bytes) -> bytes:
        """The first note of that size that was kept: this one, if there was none."""
        path = self.path / COSIGNED / str(size)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            replace_file(path, note)
            return note

    def cosigned(self) -> dict[int, bytes]:
        """Size → the note that was kept."""
        paths = (self.path / COSIGNED).glob("[0-9]*")  # not a temporary file that a crash has left
        return {int(path.name): path.read_bytes() for path in paths}

    def replace(self, name: str, data: bytes) -> None:
        """Write a file that may change, whole and durable or not at all."""
        replace_file(self.path / name, data)

    def write_once(self, name: str, data: bytes) -> None:
        """Write a file that never changes; LogViolation if there is another of its name."""
        path = self.path / name
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            replace_file(path, data)
            return
        if found != data:
            raise LogViolation(f"{path} holds other bytes than the log has to write there")

    def drop_partials(self, tile: Tile) -> None:
        """Remove the partial tiles that a complete one has made superfluous, as the specification allows."""
        shutil.rmtree(self.path / f"{tile.path}.p", ignore_errors=True)

    def read_tile(self, tile: Tile) -> bytes:
        """The tile's bytes; a partial tile that is gone is the beginning of the complete one.

        Raises Unavailable if neither is there.
        """
        for candidate in dict.fromkeys((tile, Tile(tile.level, tile.index))):
            try:
                return first_of(tile, candidate, (self.path / candidate.path).read_bytes())
            except FileNotFoundError:
                continue
        raise Unavailable(f"the log in {self.path} has no {tile.path}")
