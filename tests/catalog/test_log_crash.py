"""A crash at any step of the log loses nothing, doubles nothing, never forks: real processes and SIGKILL."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue import fetch_all, new_database
from log_world import LogWorld

from eocat.catalog.database import Database
from eocat.catalog.log import advance, log_folder
from eocat.verify.canonical import encode

# The process that dies: at the n-th time that a step is done, before anything else is.
LOADER = """
import os, signal, sys
from pathlib import Path
from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.verify.policy import read_policy
owner, home, policy, folder, fatal, times = sys.argv[1:]
left = int(times)
def step(name):
    global left
    left -= name == fatal
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
database = Database(owner, owner, None, Path(home))
[admission] = register(database, [Path(folder)], read_policy(Path(policy)), cosign=lambda note: [], step=step)
print(admission.status, flush=True)
"""

# Step, and at which time: step "tile" comes once for each file that is written.
POINTS = [
    ("committed", 1), ("sequenced", 1), ("tile", 1), ("tile", 2), ("written", 1), ("signed", 1),
    ("cosigned", 1), ("published", 1), ("recorded", 1),
]  # fmt: skip
NAMES = [f"{name} {times}" for name, times in POINTS]


@pytest.fixture
def world(embedded: Database, tmp_path: Path) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        yield LogWorld(database, tmp_path / "out")


def load(world: LogWorld, folder: Path, fatal: str = "never", times: int = 1) -> int:
    """Register in a process of its own that kills itself at the step; its return code."""
    policy = world.out.parent / "policy.json"
    policy.write_bytes(encode(world.policy.model_dump()))
    arguments = [world.database.owner, world.home, policy, folder, fatal, times]
    return subprocess.run(
        [sys.executable, "-c", LOADER, *map(str, arguments)], check=False, timeout=120, capture_output=True
    ).returncode


def assert_whole(world: LogWorld, memory: Path, items: int) -> None:
    """Every item is admitted and in the published log once; what was published before is its beginning."""
    done = world.audit(memory)
    assert (done.items, done.events) == (items, 2 * items)
    logged = Counter((item, seq) for _, item, seq in world.entries() if item)
    assert set(logged.values()) == {1}
    committed = fetch_all(world.database, "SELECT item_id, seq FROM eocat.event")
    assert sorted(logged) == sorted(committed)
    assert fetch_all(world.database, "SELECT count(*) FROM eocat.log_pending") == [(0,)]
    [(recorded,)] = fetch_all(
        world.database, "SELECT note FROM eocat.log_checkpoint ORDER BY size DESC LIMIT 1"
    )
    assert recorded == log_folder(world.home).read_checkpoint()


@pytest.mark.parametrize(("fatal", "times"), POINTS, ids=NAMES)
def test_a_crash_and_a_restart(world: LogWorld, tmp_path: Path, fatal: str, times: int) -> None:
    world.add("before")
    world.audit(tmp_path)
    folder = world.write("during")
    assert load(world, folder, fatal, times) == -signal.SIGKILL
    assert world.audit(tmp_path).items in (1, 2)  # readers of the files never see half of anything
    advance(world.database)
    assert_whole(world, tmp_path, 2)
    assert world.register(folder).status == "already registered"
    assert_whole(world, tmp_path, 2)


def test_a_crash_at_the_very_first_time(world: LogWorld, tmp_path: Path) -> None:
    """Before there is any tree, checkpoint or file."""
    for number, (fatal, times) in enumerate(POINTS):
        if fatal in ("committed", "published"):  # the log is begun by the first of these
            assert load(world, world.write(f"s{number}"), fatal, times) == -signal.SIGKILL
    advance(world.database)
    assert_whole(world, tmp_path, 2)


def test_one_crash_after_the_other(world: LogWorld, tmp_path: Path) -> None:
    """Each loader finds what the one before it has left, goes on from there and dies one step later."""
    world.add("s")
    for number, (fatal, times) in enumerate(POINTS):
        assert load(world, world.write(f"s{number}"), fatal, times) == -signal.SIGKILL
        world.audit(tmp_path)
    assert load(world, world.write("last")) == 0
    assert_whole(world, tmp_path, len(POINTS) + 2)


def test_loaders_side_by_side_make_one_log(world: LogWorld, tmp_path: Path) -> None:
    """Some of them are killed on the way."""
    policy = tmp_path / "policy.json"
    policy.write_bytes(encode(world.policy.model_dump()))
    fates = ("never", "sequenced", "never", "published", "never")
    folders = [world.write(f"s{number}") for number in range(len(fates))]
    loaders = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                LOADER,
                world.database.owner,
                str(world.home),
                str(policy),
                str(folder),
                fate,
                "1",
            ],
            stdout=subprocess.PIPE,
        )
        for folder, fate in zip(folders, fates, strict=True)
    ]
    said = [loader.communicate(timeout=120)[0] for loader in loaders]
    for fate, loader, text in zip(fates, loaders, said, strict=True):
        if fate == "never":
            assert (loader.returncode, text) == (0, b"registered\n")
    advance(world.database)
    assert_whole(world, tmp_path / "memory", len(fates))
