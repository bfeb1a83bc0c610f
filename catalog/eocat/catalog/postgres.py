"""Which PostgreSQL programs the embedded cluster runs on (SETUP: order of finding a database).

A system PostgreSQL ≥ 15 that has PostGIS and pgvector ≥ 0.8, else the private prefix (`prefix.py`), else a
sentence that says what to install. Found without starting a server: from the extensions' control files.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eocat.catalog import prefix
from eocat.verify.errors import ConfigError

OLDEST_MAJOR = 15
OLDEST_VECTOR = (0, 8)  # hnsw.iterative_scan came with it; without, a filtered search returns too few rows

# Where systems put server programs: Debian, PGDG on RPM systems, Homebrew (both processors), Postgres.app.
PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """The folder of initdb, pg_ctl and postgres, with their major version. private: of the prefix."""

    bin: Path
    major: int
    private: bool


def find_binaries(major: int | None, progress: prefix.Progress) -> Binaries:
    """The programs for a cluster of this major version, or, if None, for a new one.

    The private prefix is made if it is needed. Raises ConfigError if nothing fits; see
    `prefix.ensure_prefix`.
    """
    for found in find_system():
        if major in (None, found.major):
            return found
    if major not in (None, prefix.MAJOR):
        raise ConfigError(
            f"the database was made by PostgreSQL {major}: no such version with PostGIS and pgvector is here",
            hint=f"install PostgreSQL {major} again, or move the folder away and register anew",
        )
    layout = prefix.ensure_prefix(prefix.cache_folder(), progress)
    prefix.ensure_zoneinfo(layout)
    return Binaries(layout.bin, prefix.MAJOR, private=True)


def find_system(root: Path = Path("/")) -> Iterator[Binaries]:
    """The installed PostgreSQLs that have what eocat needs, newest first."""
    folders = {folder.resolve() for place in PLACES for folder in root.glob(place)}
    if (on_path := shutil.which("postgres")) is not None and root == Path("/"):
        folders.add(Path(on_path).resolve().parent)
    found = [b for folder in folders if (b := inspect(folder)) is not None]
    yield from sorted(found, key=lambda binaries: (-binaries.major, str(binaries.bin)))


def inspect(folder: Path) -> Binaries | None:
    """The programs of a folder, or None if one is missing, too old, or lacks an extension."""
    if not all((folder / program).is_file() for program in ("postgres", "initdb", "pg_ctl")):
        return None
    ran = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", ran.stdout)
    if ran.returncode or version is None or (major := int(version[1])) < OLDEST_MAJOR:
        return None
    extensions = share_folder(folder, major) / "extension"
    vector = default_version(extensions / "vector.control")
    if default_version(extensions / "postgis.control") is None or vector is None or vector < OLDEST_VECTOR:
        return None
    return Binaries(folder, major, private=False)


def share_folder(folder: Path, major: int) -> Path:
    """Where a PostgreSQL keeps its extensions: asked of its pg_config, else Debian's place for it.

    Debian ships pg_config with the development files only.
    """
    pg_config = folder / "pg_config"
    if pg_config.is_file():
        ran = subprocess.run([pg_config, "--sharedir"], capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return Path(ran.stdout.strip())
    return Path("/usr/share/postgresql", str(major))


def default_version(control: Path) -> tuple[int, ...] | None:
    """The version in an extension's control file, such as (0, 8, 0); None if it is absent."""
    if not control.is_file():
        return None
    version = re.search(r"^default_version\s*=\s*'(\d+(?:\.\d+)*)", control.read_text(), re.M)
    return tuple(int(part) for part in version[1].split(".")) if version else None
