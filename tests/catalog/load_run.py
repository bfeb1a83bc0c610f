"""A catalogue under load, with its database restarted in the middle: every answer is judged.

    python tests/catalog/load_run.py --minutes 5 --clients 16 --writers 4

Real processes on loopback: `eocat serve`, `eocat serve --writes`, the embedded database. Each client draws
one of: a search for an acknowledged item, neighbours of one of its rows, the proof of a row (verified), and,
if it is one of the writers, the registration of a new shard over HTTP (who registers waits longest, so that
readers alone show when reads are back). An answer that is wrong is a failure at any time; an error is one
unless the database was away. In the end every acknowledged item is verified from the catalogue and the log
audited.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import requests

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from log_world import ENCODER, LogWorld
from test_cli import free_port

from eocat.catalog.database import find_database
from eocat.catalog.intake_client import submit
from eocat.catalog.schema import migrate
from eocat.catalog.serving import is_healthy
from eocat.catalog.tokens import TokenStore
from eocat.verify.canonical import encode
from eocat.verify.check import check
from eocat.verify.edge.fetch import fetch_item
from eocat.verify.errors import EocatError
from eocat.verify.hit import check_hit
from eocat.verify.report import Outcome

ROWS = 36  # of each shard
WEIGHTS = {"search": 40, "similar": 30, "proof": 25, "register": 10}
GRACE_S = 10.0  # after the database is back, for connections that broke


class Fault(Exception):
    """An error that is allowed while the database is away."""


@dataclass
class Load:
    """What the clients share, and what came of it."""

    world: LogWorld
    url: str
    writes: str
    token: str
    shards: Queue[Path]
    acknowledged: list[str] = field(default_factory=list)
    took_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    down: tuple[float, float] | None = None

    def client(self, seed: int, until: float, *, writes: bool) -> None:
        """One client: draws and judges until the time is over."""
        chance, session = random.Random(seed), requests.Session()
        drawn = {kind: weight for kind, weight in WEIGHTS.items() if writes or kind != "register"}
        kinds, weights = list(drawn), list(drawn.values())
        while time.monotonic() < until:
            (kind,) = chance.choices(kinds, weights)
            if kind == "register" and self.shards.empty():
                continue
            began = time.monotonic()
            try:
                getattr(self, kind)(chance, session)
                self.took_s[kind].append(time.monotonic() - began)
            except (Fault, requests.RequestException) as error:
                self.faults.append((time.monotonic(), f"{kind}: {type(error).__name__} {str(error)[:150]}"))
                time.sleep(0.2)
            except Exception as error:  # noqa: BLE001  a client that dies unseen would count as no failure
                self.wrong.append(f"{kind}: {type(error).__name__} {str(error)[:300]}")
        session.close()

    def search(self, chance: random.Random, session: requests.Session) -> None:
        item = chance.choice(self.acknowledged)
        found = self._get(session, "/search", {"collections": "demo", "ids": item})
        self._expect([one["id"] for one in found["features"]] == [item], f"search for {item} found {found}")

    def similar(self, chance: random.Random, session: requests.Session) -> None:
        item, row = chance.choice(self.acknowledged), chance.randrange(ROWS)
        like = {"collection": "demo", "item": item, "row": row}
        answer = session.post(f"{self.url}/search/similar", json={"like": like, "limit": 10}, timeout=60)
        rows = [one["properties"] for one in self._judged(answer)["features"]]
        distances = [one["distance"] for one in rows]
        self._expect(len(rows) == 10, f"{len(rows)} neighbours of {item}#{row}")
        self._expect(distances == sorted(distances) and distances[0] < 1e-3, f"{item}#{row}: {distances}")

    def proof(self, chance: random.Random, session: requests.Session) -> None:
        item, row = chance.choice(self.acknowledged), chance.randrange(ROWS)
        hit = self._get(session, f"/collections/demo/items/{item}/rows/{row}/proof", {})
        self._expect(
            (hit["properties"]["item"], hit["properties"]["row"]) == (item, row), f"{item}#{row} is another"
        )
        report = check_hit(encode(hit), self.world.policy, target=item, now=datetime.now(UTC))
        self._expect(report.outcome is Outcome.VERIFIED, report.to_text())

    def register(self, chance: random.Random, session: requests.Session) -> None:
        try:
            folder = self.shards.get_nowait()
        except Empty:
            return
        try:
            (admission,) = submit(self.writes, self.token, [folder])
        except EocatError as error:
            self.shards.put(folder)  # as a publisher does: the same again
            raise Fault(f"{folder.name}: {error}") from None
        if admission.exit_code:
            self.shards.put(folder)
            raise Fault(f"{folder.name}: {admission.reason}")
        self.acknowledged.append(folder.name)

    def _get(self, session: requests.Session, path: str, query: dict[str, str]) -> Any:
        return self._judged(session.get(f"{self.url}{path}", params=query, timeout=60))

    def _judged(self, answer: requests.Response) -> Any:
        if answer.status_code in (500, 503):
            raise Fault(f"{answer.status_code} {answer.text[:120]}")
        self._expect(answer.status_code == 200, f"{answer.status_code} {answer.text[:200]}")
        return answer.json()

    @staticmethod
    def _expect(held: bool, otherwise: str) -> None:
        if not held:
            raise ValueError(otherwise)

    def restart(self, away_s: float) -> None:
        """The database, stopped hard for so long."""
        cluster = self.world.database.cluster
        assert cluster is not None
        began = time.monotonic()
        cluster.stop()
        time.sleep(away_s)
        cluster.ensure()
        self.down = (began, time.monotonic())

    def out_of_place(self) -> list[str]:
        """The errors that came while the database was there."""
        begin, end = self.down or (0.0, 0.0)
        return [text for at, text in self.faults if not begin <= at <= end + GRACE_S]

    def lost(self, folder: Path) -> list[str]:
        """The acknowledged items that do not verify from the catalogue."""
        found = []
        for item in self.acknowledged:
            place = folder / item
            place.mkdir()
            evidence = fetch_item(f"{self.url}/collections/demo/items/{item}", place)
            report = check(evidence, self.world.policy, now=datetime.now(UTC))
            if report.outcome is not Outcome.VERIFIED:
                found.append(report.to_text())
        return found


@contextmanager
def serving(home: Path, *options: str) -> Iterator[str]:
    """`eocat serve` in a process of its own; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"EOCAT_HOME": str(home), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "eocat.edge", "serve", "--port", str(port), *options]
    with (home / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 120
            while not _answers(url, writes="--writes" in options):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((home / f"{port}.log").read_text()[-2000:])
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str, *, writes: bool) -> bool:
    if not writes:
        return is_healthy(url)
    try:
        return requests.get(url, timeout=5).status_code == 401
    except requests.RequestException:
        return False


@contextmanager
def begun(home: Path, shards: int) -> Iterator[Load]:
    """A catalogue in `home` with three items, and `shards` more to register."""
    database = find_database(home, environ={})
    migrate(database)
    world = LogWorld(database, home / "published")
    policy = home / "policy.json"
    policy.write_bytes(encode(world.policy.model_dump()))
    first = [f"s{number}" for number in range(3)]
    for number, item in enumerate(first):
        world.add(item, count=ROWS, seed=number, west=11 + number)
    queue: Queue[Path] = Queue()
    for number in range(3, 3 + shards):
        west = 11 + number % 160
        queue.put(world.write(f"s{number}", count=ROWS, seed=number, west=west, encoder=ENCODER))
    token = TokenStore(home).new("load", ["demo"], ["register"], 1, datetime.now(UTC))
    with serving(home) as url, serving(home, "--writes", "--trust", str(policy)) as writes:
        yield Load(world, url, writes, token, queue, acknowledged=first)
    if database.cluster is not None:
        database.cluster.stop()


def run(load: Load, clients: int, writers: int, seconds: float, away_s: float) -> None:
    """The clients, and the restart when half of the time is over."""
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=load.client, args=(seed, until), kwargs={"writes": seed < writers})
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    load.restart(away_s)
    for thread in threads:
        thread.join()


def judged(load: Load, folder: Path) -> dict[str, Any]:
    """The findings: each list must be empty."""
    audit = load.world.audit(folder)
    items = set(load.acknowledged)
    logged = Counter(item for _, item, seq in load.world.entries() if item and seq == 0)
    return {
        "wrong": load.wrong,
        "out of place": load.out_of_place(),
        "lost": load.lost(folder),
        "not in the log": sorted(items - set(logged)),
        "doubled": sorted(item for item, count in logged.items() if count > 1)
        + sorted(item for item, count in Counter(load.acknowledged).items() if count > 1),
        "unaudited": [] if audit.items == len(logged) else [f"{audit.items} of {len(logged)}"],
    }


def _table(load: Load, seconds: float) -> Iterator[str]:
    yield f"{'request':<10} {'answers':>8} {'per s':>7} {'p50 ms':>8} {'p99 ms':>8}"
    for kind in WEIGHTS:
        took = 1000 * np.array(load.took_s[kind] or [np.nan])
        median, slow = np.percentile(took, [50, 99])
        count = len(load.took_s[kind])
        yield f"{kind:<10} {count:>8} {count / seconds:>7.1f} {median:>8.1f} {slow:>8.1f}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--writers", type=int, default=4, help="how many of them also register")
    arguments.add_argument("--shards", type=int, default=1_500, help="how many may be registered")
    arguments.add_argument("--away", type=float, default=5, help="seconds that the database is away")
    chosen = arguments.parse_args()
    home = Path(tempfile.mkdtemp(prefix="eocat-load-", dir="/tmp"))
    home.chmod(0o755)
    write: Callable[[str], object] = lambda line: sys.stdout.write(f"{line}\n")  # noqa: E731
    try:
        with begun(home, chosen.shards) as load:
            seconds = 60 * chosen.minutes
            run(load, chosen.clients, chosen.writers, seconds, chosen.away)
            for line in _table(load, seconds):
                write(line)
            begin, end = load.down or (0.0, 0.0)
            for name, writing in (("reads", False), ("registrations", True)):
                at = [at for at, text in load.faults if text.startswith("register") is writing]
                last = f", the last {max(at) - end:+.1f} s after it was back" if at else ""
                write(f"database away {end - begin:.1f} s; {len(at)} errors of {name}{last}")
            write(f"{len(load.acknowledged)} items acknowledged")
            findings = judged(load, Path(tempfile.mkdtemp(dir=home)))
        for name, found in findings.items():
            write(f"{name}: {len(found)}" + "".join(f"\n    {one}" for one in found[:5]))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(any(findings.values()))


if __name__ == "__main__":
    main()
