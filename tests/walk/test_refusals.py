"""Broken input and a broken house: one clear sentence, a hint, a non-zero exit, nothing half done."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eocat.producer.synthetic import write_scene
from eocat.verify.keys import parse_key

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a key `k` that its policy trusts."""
    folder = tmp_path_factory.mktemp("home")
    eocat(folder, "keys", "new", "k", "--no-passphrase")
    eocat(folder, "trust", "init", "k", "--collection", "c")
    return folder


def eocat(home: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eocat.edge", *map(str, arguments)]
    environment = {**os.environ, "EOCAT_HOME": str(home), **variables}
    environment.pop("EOCAT_DEBUG", None)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def produce(home: Path, scene: Path, out: Path, key: str = "k") -> subprocess.CompletedProcess[str]:
    return eocat(home, "produce", scene, "--collection", "c", "--out", out, "--key", key, "--size", "64")


def refused(done: subprocess.CompletedProcess[str], sentence: str, code: int) -> None:
    """One error line that holds `sentence`, a hint line, the exit code; nothing on stdout, no traceback."""
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert lines[0].startswith("eocat: error: "), done.stderr
    assert sentence in lines[0], done.stderr
    assert lines[1].startswith("hint: "), done.stderr


def test_a_scene_without_a_reference_system(home: Path, tmp_path: Path, shared_data: Path) -> None:
    done = produce(home, shared_data / "ukis_csmask_s2", tmp_path / "out")
    refused(done, "sentinel2.npz is a NumPy archive and has no georeference", 3)
    assert not (tmp_path / "out").exists()


def test_a_scene_that_lacks_bands(home: Path, tmp_path: Path, shared_data: Path) -> None:
    done = produce(home, shared_data / "s2_l1c_safe_31TDH", tmp_path / "out")
    refused(
        done, "needs the bands B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12, the scene has B01", 3
    )


def test_a_truncated_tiff(home: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "cut.tif", seed=1, size=256)
    os.truncate(scene, scene.stat().st_size // 2)
    done = produce(home, scene, tmp_path / "out")
    assert "cut.tif" in done.stderr
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob("item.json"))


def test_a_file_that_is_no_scene(home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no pixels here")
    refused(
        produce(home, tmp_path / "notes.txt", tmp_path / "out"),
        "notes.txt is of no type that holds a scene",
        3,
    )
    refused(produce(home, tmp_path / "nowhere.tif", tmp_path / "out"), "does not exist", 3)


def test_a_bad_scene_among_good_ones_is_reported_and_the_run_goes_on(home: Path, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    write_scene(tmp_path / "scenes" / "good.tif", seed=1, size=128)
    bad = write_scene(tmp_path / "scenes" / "bad.tif", seed=2, size=256)
    os.truncate(bad, bad.stat().st_size // 2)
    done = produce(home, tmp_path / "scenes", tmp_path / "out")
    assert done.returncode == 3
    assert "bad" in done.stderr
    assert "1 of 2 scenes could not be used" in done.stderr
    assert (tmp_path / "out" / "c" / "good" / "item.json").is_file()
    assert not (tmp_path / "out" / "c" / "bad").exists()


def test_a_key_that_is_not_there(home: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", seed=1, size=64)
    refused(produce(home, scene, tmp_path / "out", key="nobody"), "there is no key nobody", 5)


def test_an_encrypted_key_without_its_passphrase(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", seed=1, size=64)
    made = eocat(tmp_path, "keys", "new", "secret", EOCAT_KEY_PASSPHRASE=PASSPHRASE)
    assert made.returncode == 0
    assert PASSPHRASE not in made.stdout + made.stderr
    refused(produce(tmp_path, scene, tmp_path / "out", key="secret"), "needs a passphrase", 5)
    wrong = eocat(
        tmp_path, "produce", scene, "--collection", "c", "--out", tmp_path / "out", "--key", "secret",
        EOCAT_KEY_PASSPHRASE=PASSPHRASE[1:],
    )  # fmt: skip
    refused(wrong, "cannot be decrypted", 5)


def test_a_key_file_that_others_can_read(home: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", seed=1, size=64)
    shutil.copytree(home / "keys", tmp_path / "keys")
    (tmp_path / "keys" / "k.pem").chmod(0o644)
    refused(produce(tmp_path, scene, tmp_path / "out"), "can be read by others", 5)


def test_an_output_folder_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", seed=1, size=64)
    (tmp_path / "taken").write_text("a file, not a folder")
    refused(produce(home, scene, tmp_path / "taken"), "cannot be written", 5)


def test_a_database_that_is_gone(home: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", seed=1, size=64)
    assert produce(home, scene, tmp_path / "out").returncode == 0
    gone = "postgresql://nobody@127.0.0.1:1/eocat"
    done = eocat(home, "register", tmp_path / "out", EOCAT_DATABASE_URL=gone)
    assert done.returncode in (5, 60), done.stderr
    assert "eocat: error: " in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(eocat(home, "serve", "--port", port), f"port {port} of 127.0.0.1 cannot be listened on", 5)


def test_no_policy_is_no_trust(home: Path, tmp_path: Path) -> None:
    """Not even a policy in the current folder or beside the item is taken."""
    scene = write_scene(tmp_path / "a.tif", seed=1, size=64)
    produce(home, scene, tmp_path / "out")
    item = tmp_path / "out" / "c" / "a"
    shutil.copy(home / "trust" / "policy.json", item / "policy.json")
    refused(eocat(tmp_path / "elsewhere", "verify", item), "trust policy", 5)


def test_a_catalogue_that_is_not_running(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused(eocat(home, "search", "--api", f"http://127.0.0.1:{port}"), "cannot be reached", 60)


def test_keys_are_named_and_never_replaced(home: Path) -> None:
    before = (home / "keys" / "k.pem").read_bytes()
    refused(eocat(home, "keys", "new", "k", "--no-passphrase"), "exists already", 5)
    assert (home / "keys" / "k.pem").read_bytes() == before
    assert (home / "keys" / "k.pem").stat().st_mode & 0o777 == 0o600
    shown = eocat(home, "keys", "show", "k").stdout
    assert parse_key(shown.split()[0]).key_id in shown
