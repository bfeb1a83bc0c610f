"""The private PostgreSQL: a relocatable folder of server, PostGIS and pgvector (SETUP: option b1).

Made once per machine in the cache, from signed Debian packages (`debian.py`), without root and without
touching the host: the programs run on the libraries beside them through those libraries' own loader. No ELF
file is changed. The folder appears under its name only when it is whole; `packages.json` in it records what
it was made from.
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from eocat.catalog.account import make_passable
from eocat.catalog.deb import unpack
from eocat.catalog.debian import SUITE, Package, find_architecture, open_archive
from eocat.verify.errors import ConfigError, Unavailable

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all (0: not known)

MAJOR = 17
REVISION = 1  # raise it when the package list or the layout changes: a new prefix is then made beside the old

# The server and, found from the ELF NEEDED entries of its programs, of contrib, postgis-3.so and vector.so,
# all libraries. Left out: JIT (LLVM, 35 MB), raster (GDAL and 80 libraries), topology, tiger, SFCGAL.
SERVER = """
postgresql-17 postgresql-client-17 postgresql-17-postgis-3 postgresql-17-postgis-3-scripts
postgresql-17-pgvector proj-data tzdata
""".split()  # noqa: SIM905 - easier to compare with apt than quoted names
LIBRARIES = """
libaudit1 libbrotli1 libc6 libcap-ng0 libcap2 libcom-err2 libcurl3t64-gnutls libdeflate0 libffi8
libgcc-s1 libgeos-c1t64 libgeos3.13.1 libgmp10 libgnutls30t64 libgssapi-krb5-2 libhogweed6t64
libicu76 libidn2-0 libjbig0 libjpeg62-turbo libjson-c5 libk5crypto3 libkeyutils1 libkrb5-3
libkrb5support0 libldap2 liblerc4 liblz4-1 liblzma5 libnettle8t64 libnghttp2-14 libnghttp3-9
libngtcp2-16 libngtcp2-crypto-gnutls8 libp11-kit0 libpam0g libpcre2-8-0 libpq5 libproj25
libprotobuf-c1 libpsl5t64 libreadline8t64 librtmp1 libsasl2-2 libselinux1 libsharpyuv0 libsqlite3-0
libssh2-1t64 libssl3t64 libstdc++6 libsystemd0 libtasn1-6 libtiff6 libtinfo6 libunistring5 libuuid1
libwebp7 libxml2 libxslt1.1 libxxhash0 libzstd1 zlib1g
""".split()  # noqa: SIM905

KEEP = re.compile(
    r"usr/lib/postgresql/17/(bin/|lib/[^/]*\.so)"
    r"|usr/lib/[^/]*-linux-gnu/[^/]*\.so[^/]*$"
    r"|usr/share/postgresql/17/"
    r"|usr/share/(proj|zoneinfo)/"
    r"|usr/share/doc/[^/]+/copyright$"
)
LEAVE = re.compile(
    r"llvmjit|postgis_raster|postgis_topology|postgis_sfcgal|tiger|address_standardizer|/man/|/contrib/"
    r"|zoneinfo/(right/|localtime$)"  # localtime is a link to the host's /etc
    r"|/postgis--(?!ANY--)[^/]*--"  # upgrades from older PostGIS: only this version is ever created here
    r"|/postgis-3--|/postgis\.control$"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a prefix; the same whether it stands in its place or is being made."""

    root: Path
    architecture: str

    @property
    def bin(self) -> Path:
        return self.root / "usr/lib/postgresql" / str(MAJOR) / "bin"

    @property
    def extensions(self) -> Path:
        return self.root / "usr/share/postgresql" / str(MAJOR) / "extension"

    @property
    def zoneinfo(self) -> Path:
        return self.root / "usr/share/zoneinfo"

    @property
    def libraries(self) -> Path:
        triplet = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[self.architecture]
        return self.root / "usr/lib" / triplet

    @property
    def loader(self) -> Path:
        name = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}[self.architecture]
        return self.libraries / name


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """EOCAT_CACHE, else /var/cache/eocat as root (its users must reach it), else the user's cache folder."""
    if given := environ.get("EOCAT_CACHE"):
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/eocat")
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eocat"


def ensure_prefix(cache: Path, progress: Progress) -> Layout:
    """The prefix in the cache, made now if need be: about 60 MB to fetch, 150 MB on disk, 10 to 20 s.

    Raises ConfigError (cache not writable, no mirror, keyring or verifier), Unavailable, Malformed.
    """
    architecture = find_architecture()
    layout = Layout(cache / f"postgresql-{MAJOR}-{SUITE}-{architecture}-{REVISION}", architecture)
    if layout.root.is_dir():
        return layout
    try:
        make_passable(cache)
        with exclusive(cache / ".lock"):  # of two that come at once, the second finds it made
            if not layout.root.is_dir():
                make_aside(layout, progress)
    except OSError as error:
        raise ConfigError(
            f"the private PostgreSQL could not be put in {cache}: {error.strerror or error}",
            hint="it takes 150 MB; set EOCAT_CACHE to another folder",
        ) from error
    return layout


def make_aside(layout: Layout, progress: Progress) -> None:
    """Make the prefix beside its place and rename it there; what killed runs left is removed."""
    cache = layout.root.parent
    for left in cache.glob(".tmp-*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=cache) as folder:
        made = Layout(Path(folder) / "prefix", layout.architecture)
        made.root.mkdir()
        make(made, progress)
        for inner in (made.root, *made.root.rglob("*/")):
            inner.chmod(0o755)  # whatever the umask: the database's own user must reach it
        made.root.rename(layout.root)


def make(layout: Layout, progress: Progress) -> None:
    """Fill an empty folder with the prefix."""
    progress("reading the package index", 0, 0)
    archive = open_archive()
    index = archive.read_index(layout.architecture)
    packages = resolve(index, archive.mirror)
    total, fetched = sum(package.size for package in packages), 0

    def done(size: int) -> None:
        nonlocal fetched
        fetched += size
        progress("fetching PostgreSQL", fetched, total)

    archive.fetch_packages(packages, lambda _, deb: unpack(deb, layout.root, wanted), done)
    control = layout.extensions / "postgis-3.control"
    control.rename(control.with_name("postgis.control"))  # done by update-alternatives where dpkg installs
    wrap_programs(layout)
    record = {"suite": SUITE, "architecture": layout.architecture, "packages": [asdict(p) for p in packages]}
    (layout.root / "packages.json").write_text(json.dumps(record, indent=1) + "\n")


def resolve(index: Mapping[str, Package], mirror: str) -> list[Package]:
    """The packages of the prefix from the index, largest first, so that the threads end together."""
    missing = [name for name in SERVER + LIBRARIES if name not in index]
    if missing:
        raise Unavailable(
            f"the mirror {mirror} has no package {', '.join(missing)} in {SUITE}",
            hint="set EOCAT_DEB_MIRROR to a full Debian mirror",
        )
    return sorted((index[name] for name in SERVER + LIBRARIES), key=lambda package: -package.size)


def wanted(path: str) -> bool:
    """Whether a file of the packages belongs in the prefix."""
    return bool(KEEP.match(path)) and not LEAVE.search(path)


WRAPPER = """\
#!/bin/sh
# Runs {name} on the libraries of this folder. LD_LIBRARY_PATH would not do: the host's /bin/sh, which the
# programs start, must keep the host's libraries.
bin=${{0%/*}}
root=$bin/../../../../..
export PROJ_DATA="$root/usr/share/proj"
exec "$root/{loader}" --library-path "$root/{libraries}" --argv0 "$0" "$bin/../real/{name}" "$@"
"""


def wrap_programs(layout: Layout) -> None:
    """Move bin/* to real/* and put scripts in their place; they work wherever the folder is moved to."""
    real = layout.bin.with_name("real")
    layout.bin.rename(real)
    layout.bin.mkdir()
    for program in real.iterdir():
        script = layout.bin / program.name
        loader, libraries = (p.relative_to(layout.root) for p in (layout.loader, layout.libraries))
        script.write_text(WRAPPER.format(name=program.name, loader=loader, libraries=libraries))
        script.chmod(0o755)


def ensure_zoneinfo(layout: Layout, host: Path = Path("/usr/share/zoneinfo")) -> None:
    """Time zones where Debian's PostgreSQL looks for them, which is compiled in; pgSTAC needs at least UTC.

    A minimal image has none. As root they are copied from the prefix (a later tzdata package overwrites
    them, which a link into the cache would not survive); else ConfigError.
    """
    if (host / "UTC").exists():
        return
    try:
        shutil.copytree(layout.zoneinfo, host, symlinks=True, dirs_exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"this machine has no time zones in {host}, which PostgreSQL needs: {error.strerror or error}",
            hint="install the package tzdata",
        ) from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file, waiting for other processes; the kernel frees it if this one dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
