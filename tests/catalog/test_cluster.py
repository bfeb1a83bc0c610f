"""The embedded cluster: made once, found at once, closed to others, and clear about what is in its way."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eocat.catalog import postgres, server_settings
from eocat.catalog.account import make_passable, own_folder, server_account
from eocat.catalog.cluster import SOCKET_LIMIT_BYTES, Cluster, wait
from eocat.catalog.database import Database
from eocat.verify.errors import ConfigError, Unavailable

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root has a server of another user")

ENSURE = """
import sys, pathlib
from eocat.catalog.cluster import Cluster
print(Cluster(pathlib.Path(sys.argv[1])).ensure().pid)
"""


def test_a_running_cluster_is_left_alone(cluster: Cluster) -> None:
    before = cluster.status()
    started = time.monotonic()
    assert cluster.ensure(lambda *_: pytest.fail("nothing is to be done")) == before
    assert time.monotonic() - started < 0.5


def test_it_is_reached_by_its_socket_only(cluster: Cluster, embedded: Database) -> None:
    server = cluster.status()
    assert server is not None
    assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
    with embedded.named("postgres").connect() as connection:
        asked = "listen_addresses", "data_checksums", "server_encoding", "TimeZone", "jit"
        found = [connection.execute(f"SHOW {name}").fetchone() for name in asked]
        assert found == [("",), ("on",), ("UTF8",), ("UTC",), ("off",)]
        assert connection.execute("SELECT upper('é')").fetchone() == ("É",)


@needs_root
def test_as_root_the_server_is_the_system_user_s(cluster: Cluster) -> None:
    account = server_account()
    assert account.name == "eocat"
    assert {cluster.folder.stat().st_uid, cluster.data.stat().st_uid} == {account.uid} != {0}


def test_two_at_once_make_one_cluster_that_survives_crashes_and_restarts(short_home: Path) -> None:
    """One cluster through its life, as each creation takes seconds."""
    cluster = Cluster(short_home)
    assert cluster.status() is None
    assert not cluster.stop()

    both = [
        subprocess.Popen([sys.executable, "-c", ENSURE, str(short_home)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in both)
    server = cluster.status()
    assert server is not None
    assert int(first) == int(second) == server.pid

    os.kill(server.pid, signal.SIGKILL)
    assert wait(lambda: cluster.status() is None)
    assert cluster.ensure().pid != server.pid  # recovered

    assert cluster.stop()
    assert cluster.status() is None
    pid_file = cluster.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{cluster.data}\n0\n5432\n{cluster.folder}/run\n\n0 0\nready\n")
    os.chown(pid_file, cluster.data.stat().st_uid, -1)
    assert cluster.status() is None  # this test's process is no server
    assert cluster.ensure().pid != os.getpid()

    assert cluster.stop()
    (cluster.data / "PG_VERSION").write_text("13\n")
    with pytest.raises(ConfigError, match="made by PostgreSQL 13: no such version"):
        cluster.ensure()


def test_a_long_home_gets_a_short_socket_folder(short_home: Path) -> None:
    home = short_home / ("a" * SOCKET_LIMIT_BYTES)
    account = server_account()
    cluster = Cluster(home)
    home.mkdir()
    own_folder(cluster.folder, account)
    sockets = cluster._socket_folder(account)
    try:
        assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= SOCKET_LIMIT_BYTES
        assert sockets == cluster._socket_folder(account)  # the same one next time
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        sockets.rmdir()


@pytest.mark.parametrize("defect", ["a link", "another owner", "open to others"])
def test_a_folder_that_others_prepared_is_refused(defect: str, short_home: Path) -> None:
    account, folder = server_account(), short_home / "run"
    if defect == "a link":
        folder.symlink_to(short_home)
    else:
        folder.mkdir(mode=0o700)
        if defect == "another owner":
            if os.geteuid() != 0:
                pytest.skip("NOT RUN: only root can give a folder away")
            os.chown(folder, 0, 0)
        else:
            folder.chmod(0o755)
    with pytest.raises(ConfigError, match="is not a folder of the user"):
        own_folder(folder, account)


@needs_root
def test_a_home_that_the_server_cannot_reach_is_named(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    with pytest.raises(
        ConfigError, match=r"cannot be reached by the user eocat.* is closed to others \(mode 0700\)"
    ):
        Cluster(tmp_path / "private" / "home").ensure()


def test_a_home_that_cannot_be_made_is_named(short_home: Path) -> None:
    (short_home / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        Cluster(short_home / "file" / "home").ensure()


def test_a_server_that_is_gone_is_unavailable(short_home: Path, embedded: Database) -> None:
    gone = Database(f"host={short_home} user=postgres dbname=eocat", embedded.reader, Cluster(short_home))
    with pytest.raises(Unavailable, match=r"^the database eocat at .* does not answer: ") as caught:
        gone.connect()
    assert caught.value.hint == "eocat up starts it"


# --- which PostgreSQL ---


def install(root: Path, *, version: str, postgis: str | None, vector: str | None) -> Path:
    """The files by which a system PostgreSQL is recognised, with a program that tells its version."""
    folder = root / "usr/lib/postgresql" / version.split(".")[0] / "bin"
    share = root / "share" / version
    (share / "extension").mkdir(parents=True)
    folder.mkdir(parents=True)
    answers = {"postgres": f"postgres (PostgreSQL) {version} (Debian)", "pg_config": str(share)}
    for program in ("postgres", "initdb", "pg_ctl", "pg_config"):
        (folder / program).write_text(f"#!/bin/sh\necho '{answers.get(program, '')}'\n")
        (folder / program).chmod(0o755)
    for name, installed in (("postgis", postgis), ("vector", vector)):
        if installed:
            (share / "extension" / f"{name}.control").write_text(
                f"default_version = '{installed}'\nrelocatable = true\n"
            )
    return folder


def test_system_postgresql_is_taken_newest_first(tmp_path: Path) -> None:
    old = install(tmp_path, version="15.3", postgis="3.3.2", vector="0.8.0")
    new = install(tmp_path, version="18.1", postgis="3.6.0", vector="0.10.1")
    assert [(b.bin, b.major) for b in postgres.find_system(tmp_path)] == [(new, 18), (old, 15)]


@pytest.mark.parametrize(
    ("version", "postgis", "vector"),
    [
        ("14.9", "3.3.2", "0.8.0"),
        ("16.1", None, "0.8.0"),
        ("16.1", "3.4.0", None),
        ("16.1", "3.4.0", "0.7.4"),
    ],
    ids=["too old", "no postgis", "no vector", "old vector"],
)
def test_unfit_postgresql_is_passed_over(
    version: str, postgis: str | None, vector: str | None, tmp_path: Path
) -> None:
    install(tmp_path, version=version, postgis=postgis, vector=vector)
    assert list(postgres.find_system(tmp_path)) == []


def test_settings_follow_the_memory_and_quote_the_path() -> None:
    text = server_settings.format_settings(Path('/home/o\'neil, "x"/run'), 5432)
    assert 'unix_socket_directories = \'"/home/o\'\'neil, ""x""/run"\'' in text
    assert "listen_addresses = ''" in text


@needs_root
def test_a_strict_umask_does_not_shut_the_server_out(short_home: Path) -> None:
    before = os.umask(0o077)
    try:
        make_passable(short_home / "home")
    finally:
        os.umask(before)
    assert stat.S_IMODE((short_home / "home").stat().st_mode) == 0o755
