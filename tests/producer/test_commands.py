"""Producing by the user's command, in a terminal, as an array of jobs and on Ray: the same bytes."""

import json
import os
import pty
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest
from command import Eocat, ended

from eocat.producer.produce_cli import parse_task
from eocat.producer.synthetic import write_scene
from eocat.verify.errors import UsageError

PROMISED = ("embeddings.parquet", "row-hashes.bin", "thumbnail.png", "collection.json", "model.json")
LONG = "S2A_MSIL2A_20230625T100031_N0509_R122_T33TUL_20230625T140000"  # as products are called

Options = Callable[[str], list[object]]


@pytest.fixture(scope="module")
def eocat(tmp_path_factory: pytest.TempPathFactory) -> Eocat:
    return Eocat(tmp_path_factory.mktemp("home")).with_key()


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """`options("out")`: of the command over three scenes of nine chips, into a folder of that name."""
    scenes, outs = tmp_path_factory.mktemp("scenes"), tmp_path_factory.mktemp("outs")
    for seed, name in enumerate(("A", "B", LONG)):
        write_scene(scenes / f"{name}.tif", seed=seed, size=96)
    fixed = ["--collection", "c", "--key", "k", "--size", 32, "--batch", 1, "--threads", 1]
    return lambda out: ["produce", scenes, *fixed, "--out", outs / out]


@pytest.fixture(scope="module")
def terminal(eocat: Eocat, options: Options) -> tuple[str, str, Path]:
    """A run whose notes go to a terminal: (answer, what the terminal got, out)."""
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 1 << 16):
                seen.append(data)
        except OSError:  # how Linux says that the last writer has closed it
            return

    in_terminal = Eocat(eocat.home, {"COLUMNS": "80", "TERM": "xterm"})
    process = in_terminal.start(*options("plain"), "--json", stderr=theirs)
    os.close(theirs)
    reader = Thread(target=read)
    reader.start()
    answer, _ = process.communicate(timeout=300)
    reader.join()
    os.close(ours)
    assert process.returncode == 0, b"".join(seen)
    return answer, b"".join(seen).decode(), Path(str(options("plain")[-1]))


def files(out: Path) -> dict[str, bytes | None]:
    """Every file below the folder; None for those that say when and on what a shard was made."""
    return {
        str(path.relative_to(out)): path.read_bytes() if path.name in PROMISED else None
        for path in out.rglob("*")
        if path.is_file()
    }


def test_a_terminal_shows_rate_and_remaining_time_and_json_is_alone_on_stdout(
    terminal: tuple[str, str, Path],
) -> None:
    answer, seen, _ = terminal
    facts = json.loads(answer)
    assert {one["item"]: one["rows"] for one in facts["shards"]} == {"A": 9, "B": 9, LONG: 9}
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"\rscene 3 of 3, chips of S… \S+ 27/27 \d+\.\d/s 0:00:00\r", shown), shown
    assert "Traceback" not in seen


def test_the_tasks_of_an_array_side_by_side_give_what_one_run_gives(
    eocat: Eocat, options: Options, terminal: tuple[str, str, Path]
) -> None:
    """Four tasks for three scenes: one has none. None of them writes to a terminal."""
    tasks = [eocat.start(*options("array"), "--task", f"{number}/4") for number in (1, 2, 3, 4)]
    answers, notes = zip(*map(ended, tasks), strict=True)
    assert [answer.count("  9 rows  ") for answer in answers] == [1, 1, 1, 0]
    assert notes == ("", "", "", "task 4/4 has no scene of its own\n")
    assert files(Path(str(options("array")[-1]))) == files(terminal[2])


@pytest.mark.parametrize("task", ["1", "0/4", "1/0", "1/4/4", "01/4", "1/ 4", "٣/4", "5/4", "1/1000001"])
def test_a_wrong_task_is_refused(task: str) -> None:
    with pytest.raises(UsageError, match=re.escape(task)) as caught:
        parse_task(task)
    assert caught.value.hint


@pytest.mark.parametrize("task", ["1", "5/4"])
def test_a_wrong_task_is_one_sentence(eocat: Eocat, options: Options, task: str) -> None:
    _, notes = eocat.run(*options("wrong"), "--task", task, code=2)
    assert re.fullmatch(r"eocat: error: task [^\n]+\nhint: [^\n]+\n", notes)
    assert task in notes


def test_ray_gives_the_bytes_of_one_machine(
    eocat: Eocat, options: Options, terminal: tuple[str, str, Path]
) -> None:
    if not find_spec("ray"):
        pytest.skip("NOT RUN: ray is not installed (pip install --group ray)")
    answer, _ = eocat.run(*options("ray"), "--engine", "ray", "--json")
    assert {one["item"] for one in json.loads(answer)["shards"]} == {"A", "B", LONG}
    assert files(Path(str(options("ray")[-1]))) == files(terminal[2])


def test_without_ray_the_extra_is_named(eocat: Eocat, options: Options, tmp_path: Path) -> None:
    absent = 'raise ModuleNotFoundError("No module named \'ray\'", name="ray")\n'
    (tmp_path / "ray.py").write_text(absent)
    without = Eocat(eocat.home, {"PYTHONPATH": str(tmp_path)})
    _, notes = without.run(*options("no-ray"), "--engine", "ray", code=4)
    assert notes == (
        "eocat: error: this command needs ray, which is not installed\nhint: pip install 'eocat[ray]'\n"
    )
