"""The embedded database cluster: eocat's own PostgreSQL under its home folder (DESIGN section 4, SETUP).

    HOME/database/          owned by the user that the server runs as, mode 0700
        data/               PGDATA
        run/                the Unix socket: whoever may enter this folder may connect, nobody else; no TCP
        port postgresql.log
    HOME/database.lock      held while the cluster is created, started or stopped

PostgreSQL refuses to run as root, so as root the server runs as a system user (`account.py`). A program
that finds the cluster running looks at one file and one socket and is done. Databases and roles are left to
`database.py`.
"""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from eocat.catalog.account import Account, blocked_at, make_passable, own_folder, server_account
from eocat.catalog.postgres import Binaries, find_binaries
from eocat.catalog.prefix import Progress, exclusive
from eocat.catalog.server_settings import format_settings
from eocat.verify.errors import ConfigError, Unavailable

SUPERUSER: Final = "postgres"  # not eocat: the schema of a role's own name comes first in its path
PORT: Final = 5432  # it names the socket; no port is opened
SOCKET: Final = f".s.PGSQL.{PORT}"
SOCKET_LIMIT_BYTES: Final = 107  # sockaddr_un, less its closing zero
TIMEOUT_S: Final = 60
LOG_LIMIT_BYTES: Final = 16 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its process id and the folder of its socket."""

    pid: int
    sockets: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of one home folder. Making the value touches nothing."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home.absolute() / "database"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "postgresql.log"

    def status(self) -> Server | None:
        """The running server if it takes connections, else None. Unavailable if this user may not look."""
        lines = self._read_pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return None
        server = Server(int(lines[0]), Path(lines[4]))
        return server if answers(server.sockets) else None

    def ensure(self, progress: Progress = lambda *_: None) -> Server:
        """The running server, created and started if need be.

        Raises ConfigError (home, user, programs, versions), and what `find_binaries` raises.
        """
        if server := self.status():
            return server
        account = self._prepare_home()
        with exclusive(self.home / "database.lock"):
            if server := self.status():  # another process was faster
                return server
            self._prepare_folder(account)
            version = self.data / "PG_VERSION"
            binaries = find_binaries(int(version.read_text()) if version.exists() else None, progress)
            if not version.exists():
                progress("creating the database cluster", 0, 0)
                self._create(binaries, account)
            progress("starting the database", 0, 0)
            return self._start(binaries, account)

    def stop(self) -> bool:
        """Shut the server down, ending its connections; False if it was not running."""
        if not self.folder.is_dir():
            return False
        with exclusive(self.home / "database.lock"):
            pid = self._live_pid()
            if pid is None:
                return False
            os.kill(pid, signal.SIGINT)  # PostgreSQL's "fast" shutdown
            if not wait(lambda: self._live_pid() is None):
                raise Unavailable(
                    f"the database (process {pid}) did not stop in {TIMEOUT_S} s", hint=f"see {self.log}"
                )
            return True

    def _prepare_home(self) -> Account:
        with self._usable():
            account = server_account()
            make_passable(self.home)
        return account

    def _prepare_folder(self, account: Account) -> None:
        with self._usable():
            own_folder(self.folder, account)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"the database folder {self.folder} cannot be used: {error.strerror or error}",
                hint="set EOCAT_HOME to a folder that you may write to",
            ) from error

    def _create(self, binaries: Binaries, account: Account) -> None:
        """initdb beside the place, then rename: a killed run leaves nothing that counts."""
        made = self.folder / ".tmp-data"
        account.run(["rm", "-rf", str(made)], cwd=self.folder)
        # One sort order everywhere; from 17 on it does not even depend on the host's C library, whose
        # upgrades spoil indexes.
        if binaries.major >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        # Trust: the socket's folder has mode 0700, so that who reaches the socket is the owner.
        access = ["--auth-local=trust", "--auth-host=reject"]
        options = ["-U", SUPERUSER, "-E", "UTF8", "--data-checksums", *access, *locale]
        self._run(account, binaries, "initdb", "-D", str(made), *options)
        account.write(made / "postgresql.conf", "\ninclude_if_exists 'eocat.conf'\n", append=True)
        made.rename(self.data)

    def _start(self, binaries: Binaries, account: Account) -> Server:
        if self._live_pid() is None:
            sockets = self._socket_folder(account)
            account.write(self.data / "eocat.conf", format_settings(sockets, PORT))
            if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
            options = (
                f"--pgdata={self.data}",
                f"--log={self.log}",
                f"--timeout={TIMEOUT_S}",
                "--silent",
                "--wait",
            )
            self._run(account, binaries, "pg_ctl", *options, "start")
        # else: it is still recovering from a crash, started by someone who did not wait for the end
        if server := wait(self.status):
            return server
        raise Unavailable(f"the database does not answer after {TIMEOUT_S} s", hint=f"see {self.log}")

    def _socket_folder(self, account: Account) -> Path:
        """HOME/database/run, or a short one where that is too long, or has a comma, where libpq splits."""
        sockets = self.folder / "run"
        name = os.fsencode(sockets / SOCKET)
        if len(name) > SOCKET_LIMIT_BYTES or b"," in name:
            sockets = account.short_folder(self.folder)
        own_folder(sockets, account)
        return sockets

    def _run(self, account: Account, binaries: Binaries, program: str, *arguments: str) -> None:
        """Run a PostgreSQL program as the account; ConfigError with its last words if it fails."""
        try:
            ran = account.run([str(binaries.bin / program), *arguments], cwd=self.folder)
        except OSError as error:
            failure = error.strerror or str(error)
        else:
            if ran.returncode == 0:
                return
            failure = last_words(ran.stderr + ran.stdout)
            if program == "pg_ctl" and self.log.exists():
                failure = last_words(self.log.read_text(errors="replace")[-4096:])
        for path in (self.folder, binaries.bin):
            if blocker := blocked_at(path, account):
                raise ConfigError(
                    f"{path} cannot be reached by the user {account.name}, as which the database runs: "
                    f"{blocker} is closed to others (mode {blocker.stat().st_mode & 0o777:04o})",
                    hint="set EOCAT_HOME and EOCAT_CACHE to other folders, or chmod o+x this one",
                )
        raise ConfigError(
            f"{program} failed: {failure}", hint=f"see {self.log}" if program == "pg_ctl" else None
        )

    def _read_pid_file(self) -> list[str]:
        """Lines of postmaster.pid: pid, data, start, port, sockets, address, memory, state; or none."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise Unavailable(
                f"the database in {self.folder} belongs to another user",
                hint="run eocat as the user that made it",
            ) from error

    def _live_pid(self) -> int | None:
        """The server's process id, or None; removes the files of a killed server whose id is in use.

        PostgreSQL itself sees that a process is gone, but not that its id went to a stranger or that it is a
        zombie which nobody reaps, as happens in containers; it would then refuse to start.
        """
        lines = self._read_pid_file()
        if not lines:
            return None
        pid = int(lines[0])
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return None  # gone, or another user's: PostgreSQL sees that, too
        if not Path("/proc/self").exists() or works_in(pid, self.data):
            return pid
        for left in (Path(lines[4]) / f"{SOCKET}.lock", self.data / "postmaster.pid"):
            left.unlink(missing_ok=True)
        return None


def last_words(output: str) -> str:
    """The last error in a program's output, without what stands before its message."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error:|FATAL:|PANIC:", line)] or lines or ["no message"]
    return re.sub(r"^.*?(error|FATAL|PANIC):\s*", "", errors[-1])


def works_in(pid: int, folder: Path) -> bool:
    """Whether the process has this working folder, as a postmaster has its data; a zombie has none."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def answers(sockets: Path) -> bool:
    """Whether a server listens on the socket in this folder."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(sockets / SOCKET))
        except OSError:
            return False
        return True


def wait(look: Callable[[], T]) -> T:
    """What `look` returns as soon as it is true, or what it returns after TIMEOUT_S."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen
