"""Files that are there whole after a crash, or not at all: written beside their place, fsynced, renamed."""

import os
import tempfile
from pathlib import Path

from eocat.verify.errors import ConfigError


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`, whole and durable or not at all; ConfigError if that fails."""
    try:
        ensure_folder(path.parent)
        temporary = write_aside(path, data, mode)
        try:
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"the file {path} cannot be written: {error.strerror}") from None


def write_aside(path: Path, data: bytes, mode: int) -> Path:
    """A durable file beside `path`, for the caller to put into its place, or to remove."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return Path(temporary)


def ensure_folder(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if not folder.is_dir():
        ensure_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
