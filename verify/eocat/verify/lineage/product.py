"""The files of a SAFE product, in a folder or in one zip: listed within limits, opened once, streamed.

Nothing is unpacked to disk, nothing is read before its size is known, and whatever could name a file outside
the product, or two files at once, is refused here with Malformed: links, devices, path escapes, twins,
encrypted or overlapping members, ratios that no product reaches.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from ..errors import Malformed, Unavailable
from .paths import check_path, check_twins

MAX_FILES: Final = 10_000
MAX_DEPTH: Final = 16
MAX_PRODUCT_BYTES: Final = 32 << 30  # the largest Sentinel-1 products unpack to about 8 GiB
MAX_DIRECTORY_BYTES: Final = 8 << 20  # of a zip: 10 000 members with long names take 3 MB
MAX_RATIO: Final = 200  # real products reach 33; deflate's own limit is 1032
SMALL_BYTES: Final = 1 << 20  # a member below this may have any ratio
BLOCK_BYTES: Final = 1 << 20

_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LOCAL_HEADER_BYTES: Final = 30
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000


class Product(Protocol):
    """root: the .SAFE folder's own name. sizes: every file below it, relative with "/", in bytes."""

    label: str
    root: str
    sizes: dict[str, int]

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file of `sizes`, in blocks of at most 1 MiB; Malformed if it is not as listed."""
        ...


@contextmanager
def open_product(path: Path) -> Iterator[Product]:
    """The product in the folder or zip at `path`; Malformed for a hostile one, Unavailable for none."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            yield _Folder(path)
        elif stat.S_ISREG(mode):
            with path.open("rb") as stream:
                yield _Zip(path.name, stream)
        else:
            raise Malformed(f"{path.name} is neither a folder nor a zip file")
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from None


class _Folder:
    """An unpacked product. Links are refused when listing; a file that became one since is not opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.label = self.root = folder.resolve().name
        self.sizes = dict(_walk(folder))
        _check_files(self.sizes, self.label)

    def blocks(self, name: str) -> Iterator[bytes]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(self._folder / name, flags), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise Malformed(f"{name} in {self.label} is no longer a plain file")
            yield from _read_exactly(stream, self.sizes[name], f"{name} in {self.label}")


def _walk(folder: Path) -> Iterator[tuple[str, int]]:
    """(name, size) of every file below `folder`, within the limits for all entries together."""
    waiting, count = [""], 0
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                count += 1
                name = check_path(prefix + entry.name, what="product folder")
                if count > MAX_FILES or name.count("/") > MAX_DEPTH:
                    raise Malformed(f"product folder has more than {MAX_FILES} entries or {MAX_DEPTH} levels")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry.stat(follow_symlinks=False).st_size
                else:
                    raise Malformed(f"product folder holds {name[:80]!r}, a link or device, not a file")


class _Zip:
    """A product as it is downloaded: one zip that holds one .SAFE folder and nothing else."""

    def __init__(self, label: str, stream: BinaryIO) -> None:
        self.label = label
        size = _check_directory(stream, label)
        try:
            self._archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise Malformed(f"{label} is no readable zip: {error}") from None
        members = self._archive.infolist()
        for member in members:
            _check_member(member, label)
        _check_no_overlap(members, size, label)
        roots = {member.filename.partition("/")[0] for member in members}
        self.root = roots.pop() if len(roots) == 1 else ""
        if not self.root.endswith(".SAFE"):
            raise Malformed(f"{label} does not hold exactly one .SAFE folder")
        files = [member for member in members if not member.is_dir()]
        self._members = {member.filename.partition("/")[2]: member for member in files}
        if len(self._members) != len(files):
            raise Malformed(f"{label} holds two files of one name")
        self.sizes = {name: member.file_size for name, member in self._members.items()}
        _check_files(self.sizes, label)

    def blocks(self, name: str) -> Iterator[bytes]:
        what = f"{name} in {self.label}"
        try:
            with self._archive.open(self._members[name]) as stream:
                yield from _read_exactly(cast("BinaryIO", stream), self.sizes[name], what)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
            raise Malformed(f"{what} cannot be unpacked: {error}") from None


def _check_directory(stream: BinaryIO, label: str) -> int:
    """The zip's size, after bounding its directory, which the library reads whole before it looks at it.

    A comment at the end is refused: two readers can find two different ends in it.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - 98, 0))  # end record 22, its 64-bit locator 20 and 64-bit form 56 bytes
    tail = stream.read()
    if tail[-22:-18] != _END or tail[-2:] != b"\0\0":
        raise Malformed(f"{label} does not end as a zip without comment does")
    count, directory_bytes = struct.unpack("<HI", tail[-12:-10] + tail[-10:-6])
    if tail[-42:-38] == _LOCATOR_64:
        if tail[-98:-94] != _END_64:
            raise Malformed(f"{label} has a 64-bit end record that is not where it belongs")
        count, directory_bytes = struct.unpack("<QQ", tail[-66:-50])
    if count > MAX_FILES or directory_bytes > min(MAX_DIRECTORY_BYTES, size):
        raise Malformed(
            f"{label} says it has {count} members in a directory of {directory_bytes} bytes, at most "
            f"{MAX_FILES} in {MAX_DIRECTORY_BYTES} are read"
        )
    stream.seek(0)
    return size


def _check_member(member: zipfile.ZipInfo, label: str) -> None:
    name = member.filename
    if member.orig_filename != name:  # the library cuts at a NUL
        raise Malformed(f"{label} has a member whose name holds NUL")
    check_path(name.removesuffix("/"), what=label)
    if name.count("/") > MAX_DEPTH:
        raise Malformed(f"{label} is nested deeper than {MAX_DEPTH} levels")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Malformed(f"{label} holds {name[:80]!r}, a link or device, not a file")
    if member.flag_bits & _ENCRYPTED:
        raise Malformed(f"{label} holds {name[:80]!r}, which is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Malformed(f"{label} holds {name[:80]!r} packed with method {member.compress_type}")
    if member.is_dir() and member.file_size:
        raise Malformed(f"{label} holds the folder {name[:80]!r} with content of its own")
    if member.file_size > SMALL_BYTES and member.file_size > MAX_RATIO * member.compress_size:
        raise Malformed(
            f"{label} holds {name[:80]!r} of {member.file_size} bytes in {member.compress_size}, more than "
            f"{MAX_RATIO} to 1"
        )


def _check_no_overlap(members: list[zipfile.ZipInfo], size: int, label: str) -> None:
    """Refuse members that share packed bytes: that is how a small zip unpacks to petabytes."""
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise Malformed(f"{label} holds members that overlap, at {member.filename[:80]!r}")
        name_bytes = len(member.filename.encode())
        end = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + member.compress_size
    if end > size:
        raise Malformed(f"{label} is cut off: a member ends beyond it")


def _check_files(sizes: Mapping[str, int], label: str) -> None:
    if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_PRODUCT_BYTES:
        raise Malformed(
            f"{label} holds {len(sizes)} files of {sum(sizes.values())} bytes in all, at most {MAX_FILES} of "
            f"{MAX_PRODUCT_BYTES} are read"
        )
    check_twins(sizes, what=label)


def _read_exactly(stream: BinaryIO, size: int, what: str) -> Iterator[bytes]:
    """The stream's blocks; Malformed if they are not `size` bytes in all."""
    read = 0
    while block := stream.read(min(BLOCK_BYTES, size - read + 1)):
        read += len(block)
        if read > size:
            break
        yield block
    if read != size:
        raise Malformed(f"{what} does not have the {size} bytes that it was listed with")


def read_whole(product: Product, name: str, *, limit_bytes: int) -> bytes:
    """A small file of the product; Malformed if it is longer than the limit."""
    if product.sizes[name] > limit_bytes:
        raise Malformed(
            f"{name} in {product.label} is {product.sizes[name]} bytes long, at most {limit_bytes} are read"
        )
    return b"".join(product.blocks(name))
