"""Registrations under `kill -9`: nothing acknowledged is lost, nothing is doubled, the log never forks.

    python tests/catalog/kill_registrations.py --shards 200 --kills 60 --seed 1

Real processes on the embedded database, with two real witnesses: loaders register shards one by one, and
publishers hand others to `eocat serve --writes`. At random moments one of loader, service and PostgreSQL's
postmaster is killed (SIGKILL) and started again. After each kill the log's files are audited from what was
seen of them before. In the end every shard is registered, and every acknowledged item is verified at level 3
from a served catalogue.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in (".", "catalog", "verify")]

from catalogue import fetch_all
from load_run import serving
from log_world import ENCODER, LogWorld
from witnesses import Served, served

from eocat.catalog.cosign import witnesses_path
from eocat.catalog.database import find_database
from eocat.catalog.intake_client import submit
from eocat.catalog.keyring import ensure_keyring
from eocat.catalog.log import advance
from eocat.catalog.schema import migrate
from eocat.catalog.tokens import TokenStore
from eocat.verify.canonical import encode
from eocat.verify.check import check
from eocat.verify.edge.fetch import fetch_item
from eocat.verify.errors import EocatError
from eocat.verify.log.note import format_vkey
from eocat.verify.policy import LogTrust, Policy, draft_policy, parse_policy
from eocat.verify.report import Outcome

ROWS = 6
MOMENTS_S = (0.3, 5.0)  # when the kill comes: some while a process starts, most while it works
VICTIMS = ("loader", "service", "postmaster")

# A loader says what it has done as soon as it is done; what it has said is acknowledged.
LOADER = """
import sys
from pathlib import Path
from eocat.catalog.admission import register
from eocat.catalog.database import find_database
from eocat.verify.policy import read_policy
home, policy, *folders = map(Path, sys.argv[1:])
database = find_database(home, environ={})
for folder in folders:
    [admission] = register(database, [folder], read_policy(policy))
    print(folder.name, admission.status, admission.reason or "", sep="\\t", flush=True)
"""


@dataclass
class Killing:
    """The catalogue that is killed, and what it has acknowledged."""

    world: LogWorld
    policy: Policy
    policy_file: Path
    memory: Path
    random: Random
    acknowledged: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.world.home

    def load(self, folders: list[Path], victim: str, after_s: float) -> None:
        """Loaders on these folders; one kill after so long, of the loader or the postmaster."""
        command = [sys.executable, "-c", LOADER, self.home, self.policy_file, *folders]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as loader:  # fmt: skip
            killer = threading.Timer(after_s, self.kill, (victim, loader.pid))
            killer.start()
            said, errors = loader.communicate(timeout=300)
            killer.cancel()
            killer.join()
        for line in said.splitlines():
            name, status, reason = line.split("\t")
            if status in ("registered", "already registered"):
                self.acknowledged.append(name)
            elif victim != "postmaster":
                self.refused.append(f"{name}: {status} {reason}")
        if loader.returncode not in (0, -signal.SIGKILL) and victim != "postmaster":
            self.refused.append(errors[-400:])

    def publish(self, folders: list[Path], victim: str, after_s: float) -> None:
        """The same over HTTP; the kill is of the service or the postmaster."""
        token = TokenStore(self.home).new("killed", ["demo"], ["register"], 1, datetime.now(UTC))
        with service(self.home, self.policy_file) as (url, pid):
            killer = threading.Timer(after_s, self.kill, (victim, pid))
            killer.start()
            for folder in folders:
                try:
                    [admission] = submit(url, token, [folder])
                except EocatError:
                    break  # not acknowledged, and nobody is there any more: it comes again
                if admission.exit_code == 0:
                    self.acknowledged.append(folder.name)
            killer.cancel()
            killer.join()

    def kill(self, victim: str, pid: int) -> None:
        """SIGKILL, if the process is still there."""
        if victim == "postmaster":
            cluster = self.world.database.cluster
            server = cluster and cluster.status()
            if not server:
                return
            pid = server.pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[victim] += 1

    def restart(self) -> None:
        """The database is up again; what is published of the log begins with what was published before."""
        assert self.world.database.cluster is not None
        self.world.database.cluster.ensure()
        if (self.home / "log" / "checkpoint").exists():
            self.world.audit(self.memory)


@contextmanager
def service(home: Path, policy: Path) -> Iterator[tuple[str, int]]:
    """`eocat serve --writes`: its address and process; it may be gone when the block ends."""
    before = set(children())
    with suppress(ProcessLookupError), serving(home, "--writes", "--trust", str(policy)) as url:
        [pid] = set(children()) - before
        yield url, pid


def children() -> list[int]:
    """The process ids of this process's children."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in listed.split()]


def policy_of(world: LogWorld, witnesses: list[Served]) -> Policy:
    """Of a reader who wants the log and both witnesses."""
    keyring = ensure_keyring(world.home)
    names = [f"w{number}" for number in range(len(witnesses))]
    lines = [f"log {format_vkey(keyring.verifier)}\n"]
    lines += [one.line(name) for name, one in zip(names, witnesses, strict=True)]
    text = "".join([*lines, f"group all all {' '.join(names)}\nquorum all\n"])
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    log = LogTrust(policy=text, maxAgeHours=24)
    keys = {"example": world.signer.public}
    return parse_policy(
        draft_policy(keys, ["*"], start, 3, registrars={"registrar": keyring.registrar}, log=log)
    )


@contextmanager
def begun(home: Path, seed: int) -> Iterator[Killing]:
    """A new catalogue in `home`, which is stopped at the end."""
    database = find_database(home, environ={})
    migrate(database)
    world = LogWorld(database, home / "published")
    try:
        with ExitStack() as stack:
            key = ensure_keyring(home).verifier
            places = ("w0", "w1")
            witnesses = [
                stack.enter_context(served(home / name, [key], f"{name}.example")) for name in places
            ]
            policy = policy_of(world, witnesses)
            assert policy.log is not None
            witnesses_path(home).write_text(policy.log.policy)
            file = home / "policy.json"
            file.write_bytes(encode(policy.model_dump()))
            yield Killing(world, policy, file, home / "memory", Random(seed))
    finally:
        if database.cluster is not None:
            database.cluster.stop()


def run(killing: Killing, shards: int, kills: int) -> None:
    """Register `shards` shards, with `kills` kills spread over them."""
    random = killing.random
    folders = [
        killing.world.write(f"s{number}", count=ROWS, seed=number, west=11 + number % 160, encoder=ENCODER)
        for number in range(shards)
    ]
    size = max(1, shards // kills)
    killing.memory.mkdir(exist_ok=True)
    for at in range(0, shards, size):
        batch, victim = folders[at : at + size], random.choice(VICTIMS)
        way = killing.publish if victim == "service" or random.random() < 0.3 else killing.load
        if way == killing.publish and victim == "loader":
            victim = "service"
        way(batch, victim, random.uniform(*MOMENTS_S))
        killing.restart()
    killing.kill("postmaster", 0)  # once where nobody is at work
    killing.restart()
    while missing := [folder for folder in folders if folder.name not in killing.acknowledged]:
        before = len(missing)
        killing.load(missing, "nobody", 600)
        killing.restart()
        left = sum(folder.name not in killing.acknowledged for folder in folders)
        if left == before:
            raise RuntimeError(f"{left} shards cannot be registered: {killing.refused[-3:]}")
    advance(killing.world.database)


def findings(killing: Killing, shards: int, folder: Path) -> dict[str, list[str]]:
    """What is wrong in the end: each list must be empty."""
    world, names = killing.world, {f"s{number}" for number in range(shards)}
    audit = world.audit(killing.memory)
    logged = Counter((item, seq) for _, item, seq in world.entries() if item)
    stored = Counter(
        name for (name,) in fetch_all(world.database, "SELECT id FROM pgstac.items WHERE collection='demo'")
    )
    rows = dict(
        fetch_all(
            world.database,
            "SELECT item_id, count(*) FROM eocat.chip JOIN eocat.shard USING (shard_id) GROUP BY 1",
        )
    )
    lost = []
    with serving(world.home) as url:
        for name in sorted(names):
            place = folder / name
            place.mkdir(parents=True)
            evidence = fetch_item(f"{url}/collections/demo/items/{name}", place)
            report = check(evidence, killing.policy, now=datetime.now(UTC))
            if (report.outcome, report.level) != (Outcome.VERIFIED, 3):
                lost.append(report.to_text())
    return {
        "not at level 3": lost,
        "not acknowledged": sorted(names - set(killing.acknowledged)),
        "not once in the log": [
            f"{name} {seq}: {logged[name, seq]}" for name in names for seq in (0, 1) if logged[name, seq] != 1
        ],
        "not once in pgSTAC": [f"{name}: {stored[name]}" for name in names if stored[name] != 1],
        "with other rows": [f"{name}: {rows.get(name)}" for name in names if rows.get(name) != ROWS],
        "more than was registered": sorted({item for item, _ in logged} - names),
        "unaudited": [] if audit.items == shards else [f"{audit.items} of {shards}"],
        "refused": killing.refused,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="eocat-kill-", dir="/tmp"))
    home.chmod(0o755)
    began = time.monotonic()
    try:
        with begun(home, chosen.seed) as killing:
            run(killing, chosen.shards, chosen.kills)
            found = findings(killing, chosen.shards, home / "fetched")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    kills = ", ".join(f"{count} × {victim}" for victim, count in sorted(killing.kills.items()))
    print(f"{chosen.shards} shards, seed {chosen.seed}, {time.monotonic() - began:.0f} s; killed: {kills}")
    for name, wrong in found.items():
        print(f" {name}: {len(wrong)}" + "".join(f"\n    {one}" for one in wrong[:5]))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
