"""Offline means offline: folder, saved hit and bundle verify in a network namespace without any route."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shown import Shown

ALONE = ["unshare", "--net", "--map-root-user"]


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """The command that gives a program a network of its own, with nothing in it."""
    try:
        tried = subprocess.run([*ALONE, "true"], check=False, capture_output=True)
    except OSError:
        pytest.skip("NOT RUN: no unshare(1) here")
    if tried.returncode:
        pytest.skip(f"NOT RUN: no network namespace here: {tried.stderr.decode()[:100]}")
    return ALONE


def test_folder_hit_and_bundle_verify_without_a_network(shown: Shown, alone: list[str]) -> None:
    folder, trust = shown.folder / "item", shown.folder / "policy.json"
    folder.mkdir()
    for name, data in shown.state.files.items():
        (folder / name).write_bytes(data)
    (shown.folder / "hit.json").write_bytes(shown.world.hits[-1])
    (shown.folder / "item.eocat").write_bytes(shown.state.bundle)
    trust.write_bytes(shown.world.logged)
    verify = [sys.executable, "-m", "eocat.verify", "verify", "--trust", str(trust)]
    for targets in (
        [folder],
        [shown.folder / "hit.json"],
        ["--files", folder, shown.folder / "item.eocat"],
    ):
        ran = subprocess.run(
            [*alone, *verify, *map(str, targets)], env=environment(shown.folder),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "VERIFIED  L3 of 5" in ran.stdout


def test_the_namespace_has_no_network(alone: list[str]) -> None:
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 2)"
    ran = subprocess.run([*alone, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in ran.stderr


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "EOCAT_HOME": str(home / "home")}
