"""Real witnesses on loopback ports, and real logs to show them: keys, trees, proofs and requests."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import uvicorn
from make_notes import Signer, note_of

from eocat.catalog.log_files import LogFolder
from eocat.catalog.witness import Witness, open_witness
from eocat.catalog.witness_request import AddCheckpoint, format_request
from eocat.catalog.witness_service import config
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint
from eocat.verify.log.note import ED25519, VerifierKey, format_vkey
from eocat.verify.log.tiles import tiles_between
from eocat.verify.merkle import HASH_BYTES, TILE_HEIGHT, Tree, build_tiles, leaf_hash, tree_of

ORIGIN = "log.example/eocat"


@dataclass
class DrawnLog:
    """A log of numbered entries; two with one key and another `content` are two views of one log."""

    content: str = "entry"
    origin: str = ORIGIN
    number: int = 1
    size: int = 0
    signer: Signer = field(init=False)

    def __post_init__(self) -> None:
        self.signer = Signer(self.origin, ED25519, self.number)

    @property
    def key(self) -> VerifierKey:
        return self.signer.key

    def leaves(self, size: int) -> bytes:
        return b"".join(leaf_hash(f"{self.content} {index}".encode()) for index in range(size))

    def tree(self, size: int) -> Tree:
        return tree_of(build_tiles(self.leaves(size)), size)

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, self.tree(size).root())

    def note(self, size: int) -> bytes:
        text = format_checkpoint(self.checkpoint(size))
        return note_of(self.checkpoint(size), self.signer.sign(text))

    def request(self, old: int, size: int, *, proof: Sequence[bytes] | None = None) -> bytes:
        if proof is None:
            proof = self.tree(size).prove_consistency(old) if 0 < old < size else ()
        return format_request(AddCheckpoint(old, tuple(proof), self.note(size)))

    def write_tiles(self, folder: LogFolder, size: int) -> None:
        """What of the tree's tiles is not yet in the folder."""
        leaves = self.leaves(size)
        for tile in tiles_between(0, size):
            if tile.level is None:
                continue
            data, below = leaves, size
            tiles = build_tiles(leaves)
            for _ in range(tile.level):
                tiles, below = tiles[below * HASH_BYTES :], below >> TILE_HEIGHT
                data = tiles[: below * HASH_BYTES]
            first = (tile.index << TILE_HEIGHT) * HASH_BYTES
            folder.write_once(tile.path, data[first : first + tile.width * HASH_BYTES])


@dataclass(frozen=True)
class Served:
    """A witness that answers at `url`."""

    witness: Witness
    url: str

    @property
    def key(self) -> VerifierKey:
        return self.witness.key.verifier

    def post(self, body: bytes) -> requests.Response:
        return requests.post(f"{self.url}/add-checkpoint", data=body, timeout=30)

    def line(self, name: str) -> str:
        """Its line in a log policy."""
        return f"witness {name} {format_vkey(self.key)} {self.url}\n"


@contextmanager
def served(home: Path, keys: Sequence[VerifierKey], name: str, **options: Any) -> Iterator[Served]:
    """A witness, new or of that home, served until the end of the block."""
    witness = open_witness(home, keys, name)
    server = uvicorn.Server(config(witness, "127.0.0.1", 0, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline, "the witness did not start in 30 s"
            time.sleep(0.01)
        yield Served(witness, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port
