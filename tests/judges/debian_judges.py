"""Outside judges from Debian: the installed program, else packages from the archive the catalogue uses.

They are taken through the archive's signature (eocat.catalog.debian) and unpacked into eocat's cache folder,
never into the project or the system. Where a judge cannot be had, its tests are skipped and say why.
"""

import shutil
import tempfile
from pathlib import Path

import pytest

from eocat.catalog.deb import unpack
from eocat.catalog.debian import find_architecture, open_archive
from eocat.catalog.prefix import cache_folder
from eocat.verify.errors import EocatError

PACKAGES = {  # program → what holds it
    "cosign": ("cosign",),
    "sigsum-witness": ("sigsum-go",),
    "b3sum": ("b3sum",),
    "go": ("golang-1.24-go", "golang-1.24-src", "golang-golang-x-mod-dev"),
}
PLACES = {"go": "usr/lib/go-1.24/bin/go"}  # where it is not usr/bin
KEPT = ("usr/bin/", "usr/lib/go-1.24/", "usr/share/go-1.24/", "usr/share/gocode/src/golang.org/x/mod/")


def judge(program: str) -> Path:
    """The program's path; the calling test is skipped, loudly, where it cannot be had."""
    try:
        return find_program(program)
    except (EocatError, OSError, KeyError) as error:
        names = ", ".join(PACKAGES[program])
        pytest.skip(f"NOT RUN: the judge {program} (Debian's {names}): {str(error)[:120]}")


def find_program(program: str) -> Path:
    """The program on this machine, else in the cache, else fetched into it. Raises EocatError, OSError."""
    if found := shutil.which(program):
        return Path(found)
    folder = cache_folder() / "judges" / program
    if not folder.is_dir():
        _fetch(PACKAGES[program], folder)
    return folder / PLACES.get(program, f"usr/bin/{program}")


def _fetch(packages: tuple[str, ...], folder: Path) -> None:
    archive = open_archive()
    index = archive.read_index(find_architecture())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        for package in packages:
            data = archive.fetch_package(index[package])
            unpack(data, Path(aside, "x"), lambda path: path.startswith(KEPT))
        try:
            Path(aside, "x").rename(folder)
        except OSError:
            if not folder.is_dir():  # another test run was faster
                raise
