"""The user that the embedded server runs as: this one, or as root the system user `eocat` (SETUP, pitfall 2).

initdb wants a passwd entry for its user, so a mere number will not do.
"""

import hashlib
import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eocat.verify.errors import ConfigError

SYSTEM_USER: Final = "eocat"
TEMPORARY: Final = Path("/tmp")  # noqa: S108 - own_folder refuses what another user made there


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its group by number. other: it is not the user of this process (which then is root)."""

    name: str
    uid: int
    gid: int
    other: bool

    def run(
        self, command: Sequence[str], *, cwd: Path, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user in a clean environment: no PG* or LD_* variable of the caller counts."""
        environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        return subprocess.run(
            command,
            cwd=cwd,
            env=environ,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            user=self.uid if self.other else None,
            group=self.gid if self.other else None,
            extra_groups=[] if self.other else None,
        )

    def write(self, path: Path, text: str, *, append: bool = False) -> None:
        """Write a file in this user's folder as this user: root would follow a link put there."""
        ran = self.run(["tee", *(["-a"] if append else []), str(path)], cwd=path.parent, stdin=text)
        if ran.returncode:
            raise ConfigError(f"{path} could not be written by the user {self.name}: {ran.stderr.strip()}")

    def short_folder(self, for_path: Path) -> Path:
        """A short path, always the same one for this user and this path."""
        runtime = None if self.other else os.environ.get("XDG_RUNTIME_DIR")
        digest = hashlib.sha256(os.fsencode(for_path)).hexdigest()[:12]
        base = Path(runtime) if runtime and len(runtime) < 60 and Path(runtime).is_dir() else TEMPORARY
        return base / f"eocat-{self.uid}-{digest}"


def server_account() -> Account:
    """This process's user, or as root the system user, created if need be. ConfigError if that fails."""
    uid = os.geteuid()
    if uid != 0:
        return Account(str(uid), uid, os.getegid(), other=False)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = create_system_user()
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, other=True)


def create_system_user() -> pwd.struct_passwd:
    """The passwd entry of the new system user, which has no password, no shell and no home."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/eocat"]
    try:
        ran = subprocess.run(
            [*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            capture_output=True,
            text=True,
            check=False,
        )
        said = ran.stderr.strip()
    except FileNotFoundError:
        said = "useradd is not installed"
    try:
        return pwd.getpwnam(SYSTEM_USER)  # also if another process made it just now
    except KeyError as error:
        raise ConfigError(
            f"the system user {SYSTEM_USER}, as which the database runs, could not be created: {said}",
            hint="create it (useradd --system eocat), or run eocat as an ordinary user",
        ) from error


def make_passable(folder: Path) -> None:
    """Make the folder if it is not there; made by root, others may enter it, whatever the umask."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            folder.chmod(0o755)


def own_folder(folder: Path, account: Account) -> None:
    """Make the folder, or see that it is a real one, owned by the account and closed to others (mode 0700).

    Anyone may have put something at a path under /tmp, so an existing folder of another owner is refused.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
            raise ConfigError(
                f"{folder} is not a folder of the user {account.name} (number {account.uid}) alone: "
                f"found {stat.filemode(found.st_mode)} of user number {found.st_uid}",
                hint="remove it, or run eocat as its owner",
            ) from None
    else:
        if account.other:
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def blocked_at(path: Path, account: Account) -> Path | None:
    """The first folder on the way to the path that the account may not enter, by its mode bits; else None."""
    for folder in (*reversed(path.resolve().parents), path.resolve()):
        found = folder.stat()
        bit = 0o100 if found.st_uid == account.uid else 0o010 if found.st_gid == account.gid else 0o001
        if account.other and not found.st_mode & bit:
            return folder
    return None
