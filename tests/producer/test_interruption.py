"""Producing that is cut short: what is there is whole, and the same command takes up the rest."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eocat.producer.synthetic import write_scene

DATA = ("embeddings.parquet", "row-hashes.bin", "thumbnail.png")
WHOLE = {*DATA, "item.json", "attestation.jsonl"}
LONG = os.environ.get("EOCAT_INTERRUPTIONS")  # how many; 20 is the promise, a run of minutes

Produce = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    return [write_scene(folder / f"scene-{seed}.tif", seed=seed, size=128) for seed in (1, 2, 3)]


def hears_ctrl_c() -> None:
    """A shell that runs the tests in the background has told its children not to listen."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def produce(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Produce:
    """`produce(out, *options)`: the command, started, over three scenes of 81 chips each."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "eocat.edge"]
    environment = {**os.environ, "EOCAT_HOME": str(home)}
    subprocess.run([*command, "keys", "new", "k", "--no-passphrase"], env=environment, check=True)

    def started(out: Path, *options: str, paths: list[Path] | None = None) -> "subprocess.Popen[str]":
        fixed = ["--collection", "c", "--key", "k", "--size", "32", "--stride", "12", "--threads", "2"]
        return subprocess.Popen(
            [*command, "produce", *map(str, paths or scenes), *fixed, "--out", str(out), *options],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=hears_ctrl_c,
        )  # fmt: skip

    return started


@pytest.fixture(scope="module")
def uninterrupted(
    produce: Produce, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """The data files of a run that nobody disturbed, and how long it took."""
    out, began = tmp_path_factory.mktemp("whole") / "out", time.monotonic()
    finished(produce(out))
    return data_files(out), time.monotonic() - began


def finished(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    said, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return said, errors


def data_files(out: Path) -> dict[str, bytes]:
    """Everything whose bytes are promised: the data of all shards, and the collection's documents."""
    names = [*DATA, "collection.json", "model.json"]
    return {
        str(path.relative_to(out)): path.read_bytes() for name in names for path in sorted(out.rglob(name))
    }


def check_whole(out: Path) -> None:
    for folder in out.glob("c/[!.]*/"):
        assert {path.name for path in folder.iterdir()} == WHOLE, folder


def orphans(group: int) -> Iterator[str]:
    """Command lines of processes of the session `group` that still run."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == group and fields[0] != "Z":
                yield (process / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue


def check_no_orphans(group: int) -> None:
    deadline = time.monotonic() + 10
    while left := list(orphans(group)):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_interrupted_and_resumed_it_gives_the_bytes_of_an_uninterrupted_run(
    produce: Produce, uninterrupted: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    """At random moments, by SIGKILL and SIGINT in turn. EOCAT_INTERRUPTIONS=20 is the whole promise."""
    expected, seconds = uninterrupted
    draw = random.Random(4)
    for number in range(int(LONG or 3)):
        out = tmp_path / f"out-{number}"
        process = produce(out)
        time.sleep(seconds * draw.uniform(0.3, 1))
        process.send_signal(signal.SIGINT if number % 2 else signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        ended = (0, -signal.SIGKILL, 130, -signal.SIGINT)  # the last: while Python itself starts or ends
        assert process.returncode in ended, errors
        assert "Traceback" not in errors
        check_whole(out)
        check_no_orphans(process.pid)
        finished(produce(out, "--resume"))
        assert data_files(out) == expected
        assert not list(out.glob("c/.tmp-*")), "what dead runs left is cleared"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_are_a_sentence_and_an_exit_code(
    produce: Produce, uninterrupted: tuple[dict[str, bytes], float], tmp_path: Path, number: int, code: int
) -> None:
    """After the first of three scenes, by a signal to the group; the same command then does the rest."""
    out = tmp_path / "out"
    process = produce(out, "--batch", "1")
    while process.poll() is None and not list(out.glob("c/scene-*/")):
        time.sleep(0.005)
    os.killpg(process.pid, number)  # as a terminal and SLURM do: to the decoders, too
    said, errors = finished(process, code)
    assert re.fullmatch(
        r"interrupted: [0-2] of 3 scenes are done; the same command takes up the rest\n", errors
    )
    assert said == ""
    check_whole(out)
    check_no_orphans(process.pid)
    assert len(list(out.glob("c/scene-*/"))) < 3
    finished(produce(out, "--batch", "1"))
    assert data_files(out) == uninterrupted[0]


def test_resume_reads_no_scene_whose_shard_is_there(
    produce: Produce, scenes: list[Path], tmp_path: Path
) -> None:
    """A scene that was changed under its old stamp is taken for the same: the stamp is what was looked at."""
    out, own = tmp_path / "out", [tmp_path / path.name for path in scenes]
    for path, copy in zip(scenes, own, strict=True):
        copy.write_bytes(path.read_bytes())
    finished(produce(out, paths=own))
    before, times = own[0].stat(), data_files(out)
    data = bytearray(own[0].read_bytes())
    data[-1] ^= 1
    own[0].write_bytes(data)
    os.utime(own[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    finished(produce(out, "--resume", paths=own))
    _, errors = finished(produce(out, paths=own), code=5)
    assert "holds a shard of another scene or recipe" in errors
    os.utime(own[0])
    _, errors = finished(produce(out, "--resume", paths=own), code=5)
    assert "1 of 3 scenes could not be used" in errors
    assert data_files(out) == times
