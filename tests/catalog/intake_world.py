"""The writing side to test: a catalogue's database, its service, and who holds tokens."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import uvicorn
from log_world import LogWorld

from eocat.catalog.indexer import Indexer
from eocat.catalog.intake import Intake
from eocat.catalog.intake_service import create_app
from eocat.catalog.oidc import Provider
from eocat.catalog.serving import MAX_WRITERS, server_config
from eocat.catalog.tokens import TokenStore


@dataclass(frozen=True)
class IntakeWorld:
    """`world`: the database and the publisher's shards; `intake`: as the service has it; `url`: where."""

    world: LogWorld
    intake: Intake
    url: str

    @property
    def home(self) -> Path:
        return self.intake.home

    def token(self, *actions: str, collections: tuple[str, ...] = ("demo",), days: int = 1) -> str:
        """A new token that may do `actions` (default: register)."""
        store = TokenStore(self.home)
        return store.new("test", collections, actions or ("register",), days, datetime.now(UTC))

    def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> requests.Response:
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=60, **options)

    def open(self, folder: Path, token: str, **changed: str) -> requests.Response:
        return self.ask("POST", "/registrations", token, json=documents(folder) | changed)

    def upload(self, id_: str, key: str, data: bytes, token: str) -> requests.Response:
        headers = {"Content-Type": "application/octet-stream"}
        return self.ask("PUT", f"/registrations/{id_}/files/{key}", token, data=data, headers=headers)

    def left(self) -> list[str]:
        """What is in quarantine and among the shards that were taken over."""
        places = (self.intake.quarantine, self.intake.shards)
        return sorted(path.name for place in places if place.is_dir() for path in place.iterdir())


def documents(folder: Path) -> dict[str, str]:
    return {
        "item": (folder / "item.json").read_text(),
        "attestation": (folder / "attestation.jsonl").read_text(),
        "collection": (folder.parent / "collection.json").read_text(),
        "model": (folder.parent / "model.json").read_text(),
    }


def file_of(folder: Path, key: str) -> bytes:
    href = json.loads((folder / "item.json").read_text())["assets"][key]["href"]
    return (folder / href).read_bytes()


@contextmanager
def taking(
    world: LogWorld, provider: Provider | None = None, *, grace_s: float = 30
) -> Iterator[IntakeWorld]:
    """The writing side over `world`, as the role that may only admit."""
    indexer = Indexer(world.database.as_writer(), quiet_s=0)
    intake = Intake(indexer.database, lambda: world.policy, indexer.wake)
    app = create_app(intake, provider, grace_s=grace_s)
    server = uvicorn.Server(server_config(app, "127.0.0.1", 0, MAX_WRITERS))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the intake did not start"
            assert time.monotonic() < deadline, "the intake did not start in 30 s"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with indexer:
            yield IntakeWorld(world, intake, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(30)
