"""The files of a SAFE product by their names inside it, whether they lie in a folder or in one zip.

A zip is one source file with one digest: its pixels are read through GDAL's /vsizip/, nothing is unpacked.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Protocol, Self

from eocat.verify.errors import InputError

from .scene import SourceFile

MAX_MEMBERS: Final = 10_000
MAX_METADATA_BYTES: Final = 32 << 20

_AS_DOWNLOADED: Final = "give the product's zip as it was downloaded, or the unpacked folder"


class SafeFiles(Protocol):
    """What the reader needs of a product. Names are relative to the .SAFE root, with "/"."""

    label: str  # for messages: the folder's or the zip's name
    root: str  # the .SAFE folder's own name
    sizes: dict[str, int]  # every file, in bytes

    def read(self, name: str, *, limit_bytes: int = MAX_METADATA_BYTES) -> bytes: ...
    def gdal_path(self, name: str) -> str: ...
    def sources(self, names: Sequence[str]) -> list[SourceFile]: ...


class FolderFiles:
    """A SAFE folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self.label = self.root = self._folder.name
        members = (path for path in self._folder.rglob("*") if path.is_file())
        self.sizes = {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in members}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    def read(self, name: str, *, limit_bytes: int = MAX_METADATA_BYTES) -> bytes:
        check_size(self, name, limit_bytes)
        return (self._folder / name).read_bytes()

    def gdal_path(self, name: str) -> str:
        return str(self._folder / name)

    def sources(self, names: Sequence[str]) -> list[SourceFile]:
        return [SourceFile(f"{self.root}/{name}", self._folder / name) for name in sorted(names)]


class ZipFiles:
    """A zip that holds one .SAFE folder."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path.absolute()
        self._archive = archive
        self.label = path.name
        members = [info for info in archive.infolist() if not info.is_dir()]
        if len(members) > MAX_MEMBERS:
            raise InputError(
                f"{path.name} holds {len(members)} files, at most {MAX_MEMBERS} are expected",
                hint=_AS_DOWNLOADED,
            )
        roots = {PurePosixPath(info.filename).parts[0] for info in members}
        self.root = roots.pop() if len(roots) == 1 else ""
        if not self.root.endswith(".SAFE"):
            raise InputError(
                f"{path.name} holds no single .SAFE folder",
                hint=_AS_DOWNLOADED,
            )
        self.sizes = {info.filename.removeprefix(f"{self.root}/"): info.file_size for info in members}

    @classmethod
    def open(cls, path: Path) -> Self:
        try:
            return cls(path, zipfile.ZipFile(path))
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(
                f"{path.name} is no readable zip: it is damaged or cut off", hint="fetch the product again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def read(self, name: str, *, limit_bytes: int = MAX_METADATA_BYTES) -> bytes:
        check_size(self, name, limit_bytes)
        try:
            return self._archive.read(f"{self.root}/{name}")
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise InputError(
                f"{name} in {self.label} cannot be unpacked", hint="fetch the product again"
            ) from error

    def gdal_path(self, name: str) -> str:
        return f"/vsizip/{{{self._path}}}/{self.root}/{name}"

    def sources(self, names: Sequence[str]) -> list[SourceFile]:
        return [SourceFile(self.label, self._path)]


def open_safe(path: Path) -> FolderFiles | ZipFiles:
    """The product at `path`, to be closed again; raises InputError for a zip that is none."""
    return ZipFiles.open(path) if path.is_file() else FolderFiles(path)


def check_size(files: SafeFiles, name: str, limit_bytes: int) -> None:
    """Refuse metadata larger than any product's before memory is taken."""
    if (size := files.sizes[name]) > limit_bytes:
        raise InputError(
            f"{name} in {files.label} is {size} bytes long, at most {limit_bytes} are read",
            hint=_AS_DOWNLOADED,
        )
