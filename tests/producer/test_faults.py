"""Faults of scenes, decoders and disks: each a clear error, nothing half-written, and the run goes on."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from command import Eocat
from make_safe import make_safe

from eocat.producer.choice import Refused
from eocat.producer.decoders import Closed, Decoders, Strip
from eocat.producer.draft import STATEMENT_FILE, Draft
from eocat.producer.output import finish
from eocat.producer.pipeline import make_drafts
from eocat.producer.produce import produce
from eocat.producer.run import Run, prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.synthetic import write_scene
from eocat.producer.windows import Windows
from eocat.verify.digest import digest_file
from eocat.verify.errors import ConfigError, InputError


def test_a_truncated_jp2_is_refused_and_the_next_scene_is_produced(tmp_path: Path, signer: KeyFile) -> None:
    broken, good = make_safe(tmp_path / "a", "1C"), make_safe(tmp_path / "b", "1C", baseline="04.00")
    (band,) = broken.rglob("*B02.jp2")
    os.truncate(band, band.stat().st_size - 500)
    scenes = find_scenes([broken, good])
    run = prepare_run(scenes, publisher="p", collection="c", out=tmp_path / "out", chip_size=60)
    made = {getattr(one, "scene", None) or one.item: one for one in produce(scenes, run, signer)}
    refused, produced = made[broken.stem], made[good.stem]
    assert isinstance(refused, Refused)
    assert "B02.jp2" in str(refused.error)
    assert "cannot be decoded: it is damaged or cut off" in str(refused.error)
    assert refused.error.hint
    assert (tmp_path / "out" / "c" / good.stem / "item.json").is_file()
    assert not isinstance(produced, Refused)
    assert {path.name for path in (tmp_path / "out" / "c").iterdir()} == {".stamps", good.stem}


def test_a_scene_without_data_is_refused(tmp_path: Path, signer: KeyFile) -> None:
    path = write_scene(tmp_path / "sea.tif", seed=1, size=64)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.zeros((dataset.count, 64, 64), np.uint16))
    (scene,) = find_scenes([path])
    run = prepare_run([scene], publisher="p", collection="c", out=tmp_path / "out", chip_size=32)
    (one,) = produce([scene], run, signer)
    assert isinstance(one, Refused)
    assert "has no chip with at most 50 % of no-data pixels" in str(one.error)
    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_while_it_is_read_gives_no_shard(
    scene_file: Path, tmp_path: Path, signer: KeyFile
) -> None:
    path = tmp_path / "coast.tif"
    path.write_bytes(scene_file.read_bytes())
    (scene,) = find_scenes([path])
    run = prepare_run([scene], publisher="p", collection="c", out=tmp_path / "out", chip_size=64, batch=1)
    (one,) = produce([scene], run, signer, progress=lambda *_: os.utime(path, (1, 1)))
    assert isinstance(one, Refused)
    assert "changed while it was read" in str(one.error)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The file size limit ends a shard of 330 KB in the middle; strips of the scene are smaller."""
    write_scene(tmp_path / "coast.tif", seed=1, size=96)
    environment = {**os.environ, "EOCAT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "eocat.edge"]
    subprocess.run([*command, "keys", "new", "k", "--no-passphrase"], env=environment, check=True)
    options = [
        "--collection",
        "c",
        "--key",
        "k",
        "--size",
        "16",
        "--stride",
        "5",
        "--out",
        str(tmp_path / "out"),
    ]
    ran = subprocess.run(
        [*command, "produce", str(tmp_path / "coast.tif"), *options],
        env=environment, text=True, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000)),
    )  # fmt: skip
    assert ran.returncode == 5, ran.stderr
    assert "coast cannot be written: File too large" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list((tmp_path / "out" / "c").iterdir())


def test_a_killed_decoder_loses_nothing(scene: Scene) -> None:
    """All die in the middle of the work; others are started, and the pixels are right."""
    whole = scene.read(scene.bands)
    squares = [Square(x, y, 40) for y in range(0, 280, 40) for x in range(0, 280, 40)]
    with Decoders(2) as decoders, ThreadPoolExecutor(2) as cutters:
        windows = Windows(scene, scene.bands, squares, decoders)
        windows.decode_ahead(1)
        for batch, (numbers, pixels) in enumerate(windows.batches(7, cutters)):
            for process in children() if batch == 1 else ():  # once: a strip is tried again once
                os.kill(process, signal.SIGKILL)
            for number, window in zip(numbers, pixels, strict=True):
                square = squares[number]
                assert np.array_equal(window, whole[:, square.y : square.y + 40, square.x : square.x + 40])


def test_a_file_that_two_decoders_die_of_is_refused(scene: Scene) -> None:
    """Whoever takes the strip is stopped, so that it is killed in the middle."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.is_set():
            for process in children():
                os.kill(process, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with (
            Decoders(1) as decoders,
            ThreadPoolExecutor(1) as cutters,
            pytest.raises(
                InputError, match=r"coast\.tif of scene coast .* two decoders in turn died of it"
            ) as said,
        ):
            list(Windows(scene, scene.bands, [Square(0, 0, 64)], decoders).batches(1, cutters))
    finally:
        stop.set()
        killer.join()
    assert "signal 9" in str(said.value)


def test_strips_take_turns_in_memory_and_disturb_nobody_s(scene: Scene) -> None:
    """Memory is used again once the last view of a strip is gone, and not before."""
    source = scene.sources(scene.bands)[0]
    whole = scene.read([source.band])[0]

    def strip(top: int) -> Strip:
        return Strip(scene, source.path, source.name, (source.index,), top, 32, scene.width, scene.dtype)

    with Decoders(1) as decoders:
        first = decoders.submit(strip(0)).result()
        place, view = first.ctypes.data, first[0, 4:8, 10:20]
        del first
        for _ in range(3):  # a view is left of it
            second = decoders.submit(strip(64)).result()
            assert second.ctypes.data != place
            assert np.array_equal(view, whole[4:8, 10:20])
            assert np.array_equal(second[0], whole[64:96])
        del view
        again = decoders.submit(strip(96)).result()
        assert again.ctypes.data == place
        assert np.array_equal(again[0], whole[96:128])
    assert np.array_equal(again[0], whole[96:128]), "what was given out stays, the decoders being closed"


def test_decoders_that_are_closed_leave_no_process(scene: Scene) -> None:
    with Decoders(2) as decoders:
        Windows(scene, scene.bands, [Square(0, 0, 64)], decoders).decode_ahead(1 << 30)
        time.sleep(0.3)
    assert not children()
    with pytest.raises((Closed, RuntimeError)):
        Windows(scene, scene.bands, [Square(0, 0, 64)], decoders).decode_ahead(1 << 30)


@pytest.mark.parametrize("change", ["shard", "statement", "item"])
def test_the_driver_signs_no_draft_that_differs_from_what_it_asked_for(
    scene: Scene, prepare: Callable[..., Run], signer: KeyFile, tmp_path: Path, change: str
) -> None:
    """A worker, or the disk between it and the driver, may lie: the key says yes to nothing unseen."""
    run = prepare(tmp_path / "out")
    (draft,) = make_drafts([scene], run, lambda draft: draft)
    assert isinstance(draft, Draft)
    if change == "shard":
        with (draft.folder / "embeddings.parquet").open("r+b") as file:
            file.seek(500)
            file.write(b"\xff")
    elif change == "statement":
        run = replace(run, collection="another", out=draft.folder.parents[1])
    else:
        item = json.loads((draft.folder / "item.json").read_text())
        item["bbox"][0] -= 1
        (draft.folder / "item.json").write_text(json.dumps(item))
    with pytest.raises(ConfigError, match="is not what its statement or this run says"):
        finish(draft, run, signer)
    assert (draft.folder / STATEMENT_FILE).is_file()
    assert not (draft.folder / "attestation.jsonl").exists()


def test_two_runs_of_one_scene_end_in_one_shard(
    scene: Scene, prepare: Callable[..., Run], signer: KeyFile, tmp_path: Path
) -> None:
    run = prepare(tmp_path / "out")
    (draft,) = make_drafts([scene], run, lambda draft: draft)
    assert isinstance(draft, Draft)
    elsewhere = draft.folder.with_name(draft.folder.name.replace("~", "~other."))
    draft.folder.rename(elsewhere)
    (first,) = produce([scene], run, signer)
    assert not elsewhere.exists(), "no draft outlives its shard"
    assert not isinstance(first, Refused)
    assert first.fresh


class Square:
    def __init__(self, x: int, y: int, size: int) -> None:
        self.x, self.y, self.size = x, y, size


def children() -> list[int]:
    """Decoders that this process has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()
            if int(parent[1]) == os.getpid() and b"producer.decoder" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def rgb(path: Path) -> Path:
    """A picture of three bands among scenes of twelve."""
    pixels = np.random.default_rng(5).integers(0, 255, (3, 64, 64), np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=64, width=64, dtype="uint8", crs="EPSG:32633",
        transform=Affine(10, 0, 500_000, 0, -10, 5_000_000), photometric="RGB",
    ) as target:  # fmt: skip
        target.write(pixels)
        target.descriptions = ("red", "green", "blue")
    return path


def test_an_odd_scene_stops_no_run(tmp_path: Path) -> None:
    """By the command: it is refused by name, the others become shards, and the exit code says so."""
    scenes = [write_scene(tmp_path / f"{name}.tif", seed=number, size=64) for number, name in enumerate("ab")]
    odd = rgb(tmp_path / "odd.tif")
    home = {"EOCAT_HOME": str(tmp_path / "home"), "EOCAT_KEY_PASSPHRASE": "x"}

    def eocat(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "eocat.edge", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=os.environ | home
        )

    assert eocat("keys", "new", "p").returncode == 0
    options = ["--collection", "mixed", "--out", tmp_path / "out", "--key", "p", "--size", 32, "--json"]
    options += ["--datetime", "2024-06-01T00:00:00Z"]
    ran = eocat("produce", *scenes, odd, *options)
    assert ran.returncode == 3, ran.stderr
    facts = json.loads(ran.stdout)
    assert {one["item"] for one in facts["shards"]} == {"a", "b"}
    [refused] = facts["refused"]
    assert (refused["scene"], "has the bands of encoder exact-rgb" in refused["error"]) == ("odd", True)
    ran = eocat("produce", odd, scenes[0], *options)
    assert ran.returncode == 2
    assert "as many scenes select the encoder" in ran.stderr


@pytest.fixture(scope="module")
def eocat(tmp_path_factory: pytest.TempPathFactory) -> Eocat:
    return Eocat(tmp_path_factory.mktemp("home")).with_key()


def command(out: Path, *scenes: Path | str) -> list[object]:
    fixed = ["--collection", "c", "--key", "k", "--size", 32, "--threads", 1]
    return ["produce", *scenes, *fixed, "--out", out]


def test_broken_scenes_are_named_and_the_others_produced(eocat: Eocat, tmp_path: Path) -> None:
    """By the command: a cut JP2, a missing band, an empty file, no data; two good scenes among them."""
    cut = make_safe(tmp_path / "scenes", "2A")
    os.truncate(band := next(cut.rglob("*B02_10m.jp2")), band.stat().st_size - 500)
    lacking = make_safe(tmp_path / "scenes", "2A", baseline="05.10")
    for band in lacking.rglob("*_B03_*.jp2"):
        band.unlink()
    for seed, name in enumerate(("good-1", "sea", "good-2")):
        path = write_scene(tmp_path / "scenes" / f"{name}.tif", seed=seed, size=64)
        if name == "sea":
            with rasterio.open(path, "r+") as dataset:
                dataset.write(np.zeros((dataset.count, 64, 64), np.uint16))
    (tmp_path / "scenes" / "empty.tif").touch()
    answer, notes = eocat.run(*command(tmp_path / "out", tmp_path / "scenes"), code=3)
    for name, sentence in {
        cut.stem: r"B02_10m\.jp2 of scene .* cannot be decoded: it is damaged or cut off",
        lacking.stem: r"B03",
        "empty.tif": r"is empty \(0 bytes\)",
        "sea": r"has no chip with at most 50 % of no-data pixels",
    }.items():
        assert re.search(rf"eocat: error: [^\n]*{name}[^\n]*\nhint: [^\n]+\n", notes), notes
        assert re.search(sentence, notes), notes
    assert notes.endswith("4 of 6 scenes could not be used\n")
    assert notes.count("eocat: error: ") == 4
    assert answer.count("  4 rows  ") == 2
    assert {path.name for path in (tmp_path / "out" / "c").glob("[!.]*/")} == {"good-1", "good-2"}


class Harmful:
    """What a pickle can hold: unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("defect", ["a changed byte", "code in a pickle"])
def test_weights_that_are_not_the_pinned_ones_or_hold_code(
    eocat: Eocat, scene_file: Path, tmp_path: Path, defect: str
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(8), "more": Harmful(tmp_path / "harm")}, weights)
    sha256 = digest_file(weights).sha256
    if defect == "a changed byte":
        with weights.open("r+b") as file:
            file.seek(100)
            file.write(bytes([file.read(1)[0] ^ 1]))
    chosen = ["--encoder", "mmearth-atto-s2", "--weights", weights, "--sha256", sha256]
    _, notes = eocat.run(*command(tmp_path / "out", scene_file), *chosen, code=50)
    sentence = {
        "a changed byte": rf"weights {weights} have sha256 [0-9a-f]{{64}}, expected {sha256}",
        "code in a pickle": r"weights weights\.pth hold the Python object \S+mkdir beside tensors; "
        "nothing of it was run",
    }[defect]
    assert re.fullmatch(rf"eocat: error: {sentence}\nhint: [^\n]+\n", notes), notes
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own; skipped where this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place]).returncode:
        pytest.skip("NOT RUN: a full disk needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Address of the folder over HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    rest = disk / "rest"
    room = os.statvfs(disk)
    rest.write_bytes(bytes(room.f_bavail * room.f_frsize))
    return rest


def test_a_disk_that_fills_up_keeps_what_is_whole_and_the_same_command_does_the_rest(
    eocat: Eocat, disk: Path, tmp_path: Path
) -> None:
    """A real one. There is room for the first shard and not for the second. Then it can be read alone."""
    scenes = [write_scene(tmp_path / f"{name}.tif", seed=1, size=96) for name in "abc"]
    run = [*command(disk / "out", *scenes), "--size", 16, "--stride", 8]
    _, notes = eocat.run(*run, code=5)
    assert re.fullmatch(
        r"stopped: 1 of 3 scenes are done; the same command takes up the rest\n"
        rf"eocat: error: {disk}/out/c/b cannot be written: No space left on device\nhint: [^\n]+\n",
        notes,
    )
    assert {path.name for path in (disk / "out" / "c").iterdir()} == {".stamps", "a"}
    remount(disk, "size=2m")
    answer, notes = eocat.run(*run)
    assert [line.partition("  ")[0] for line in answer.splitlines()] == [f"{disk}/out/c/{x}" for x in "abc"]
    assert answer.count("was there already") == 1
    assert notes == ""
    remount(disk, "ro")
    _, notes = eocat.run(*command(disk / "other", scenes[0]), code=5)
    assert re.fullmatch(
        rf"eocat: error: {disk}/other/c/a cannot be written: Read-only file system\nhint: [^\n]+\n", notes
    )


def test_a_home_on_a_full_disk_holds_no_half_key_and_no_half_source(disk: Path, tmp_path: Path) -> None:
    home = disk / "home"
    home.mkdir()
    eocat, rest = Eocat(home), fill(disk)
    _, notes = eocat.run("keys", "new", "k", "--no-passphrase", code=5)
    assert re.fullmatch(
        rf"eocat: error: key k cannot be written to {home}/keys: No space left on device\nhint: [^\n]+\n",
        notes,
    )
    assert not [path for path in home.rglob("*") if path.is_file()]
    rest.unlink()
    eocat.with_key()
    fill(disk)
    (tmp_path / "item.json").write_text("{}")
    with serving(tmp_path) as address:
        _, notes = eocat.run(*command(disk / "out", f"{address}/item.json"), code=5)
    assert re.fullmatch(
        rf"eocat: error: {home}/cache/\S+/item\.json cannot be written: No space left on device\n"
        r"hint: check EOCAT_HOME[^\n]+\n",
        notes,
    )
    assert {path.name for path in home.rglob("*") if path.is_file()} == {"k.pem", "k.pub"}
