"""What a scene's shard is made from: digests of the scene's files, its times, and its content address.

Files are read once for SHA-256 and BLAKE3, before anything is decoded. Whoever decodes afterwards asks
`check_unchanged` at the end: a file that was replaced in between would make the statement a lie.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from eocat.verify.digest import Digests, digest_file
from eocat.verify.errors import InputError
from eocat.verify.statement import WeightsFile, format_time

from .run import Run
from .sources import Scene


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file is still the one that was hashed, short of hashing it again."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Identified:
    """A scene with the digests of its files. task: content address (hex) of its shard under the recipe."""

    scene: Scene
    start: str
    end: str
    files: tuple[WeightsFile, ...]
    stamps: tuple[Stamp, ...]
    task: str


def identify(scene: Scene, run: Run) -> Identified:
    """Hash the scene's files. Raises InputError for a file that cannot be read and a scene without time."""
    start, end = times(scene, run)
    stamps = tuple(stamp(file.path) for file in scene.files)
    files = tuple(
        _digested(file.name, file.path, seen) for file, seen in zip(scene.files, stamps, strict=True)
    )
    return Identified(scene, start, end, files, stamps, run.recipe.task(files, start, end))


def check_unchanged(identified: Identified) -> None:
    """Raises InputError if a file of the scene is no longer the one that was hashed."""
    for file, before in zip(identified.scene.files, identified.stamps, strict=True):
        if stamp(file.path) != before:
            raise InputError(
                f"source file {file.path} changed while it was read", hint="run again when it is complete"
            )


def times(scene: Scene, run: Run) -> tuple[str, str]:
    """Start and end of the acquisition as they stand in a statement, from the scene or else from the run."""
    if scene.start is not None and scene.end is not None:
        return format_time(scene.start), format_time(scene.end)
    if run.interval is None:
        raise InputError(
            f"scene {scene.id} does not say when it was taken",
            hint="add --datetime, such as 2024-05-01T09:30:31Z or 2017-01-01/2020-12-31",
        )
    return format_time(run.interval[0]), format_time(run.interval[1])


def stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def _digested(name: str, path: Path, seen: Stamp) -> WeightsFile:
    try:
        found = _digests(path, seen)
    except OSError as error:
        raise _unreadable(path, error) from None
    return WeightsFile(name=name, sha256=found.sha256, blake3=found.blake3, size=found.size)


@lru_cache(maxsize=1024)
def _digests(path: Path, seen: Stamp) -> Digests:
    """The file's digests, taken once for all the scenes that one file holds (NetCDF, Parquet, tar)."""
    return digest_file(path)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"source file {path} cannot be read: {error.strerror}")
