"""What is inside a .deb: deb(5), an ar(5) archive of tar files, unpacked so that nothing leaves its root.

Of a package only the files that the caller asks for are written: no scripts are run, no owner or special
bit is set.
"""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from eocat.verify.errors import Malformed

MAGIC = b"!<arch>\n"
HEADER_BYTES = 60


def unpack(deb: bytes, root: Path, keep: Callable[[str], bool]) -> None:
    """Write the package's files whose path (relative, without "./") `keep` accepts under root.

    Only regular files, symbolic links that stay inside root and folders; anything else, and any path that
    would leave root, is Malformed. An existing file is never overwritten (FileExistsError).
    """
    root = root.resolve()
    with tarfile.open(fileobj=io.BytesIO(data_member(deb))) as tar:
        for member in tar:
            path = PurePosixPath(member.name)  # drops the "./"
            if member.isdir() or not keep(str(path)):
                continue
            target = inside(root, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                inside(root, path.parent / member.linkname)
                target.symlink_to(member.linkname)
            elif member.isreg() and (source := tar.extractfile(member)) is not None:
                with target.open("xb") as file:  # x: an existing link is not followed
                    shutil.copyfileobj(source, file)
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
            else:
                raise Malformed(
                    f"the package's member {member.name} is neither a file, a folder nor a symbolic link"
                )


def inside(root: Path, path: PurePosixPath) -> Path:
    """root/path, if it lies inside root when every link already there is followed; else Malformed."""
    target = root / path
    if not target.resolve().is_relative_to(root):
        raise Malformed(f"the package's path {path} leaves the folder that it is unpacked in")
    return target


def data_member(deb: bytes) -> bytes:
    """The bytes of the member data.tar.*; Malformed if there is none."""
    for name, data in members(deb):
        if name.startswith("data.tar"):
            return data
    raise Malformed("the package has no member data.tar")


def members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of an ar archive's members, in order; Malformed if it is none or is cut short."""
    if not archive.startswith(MAGIC):
        raise Malformed("the package is no ar archive")
    offset = len(MAGIC)
    while offset < len(archive):
        header = archive[offset : offset + HEADER_BYTES]
        size = header[48:58].decode("ascii", "replace").rstrip(" ")
        start = offset + HEADER_BYTES
        if (
            header[58:] != b"`\n"
            or not (size.isascii() and size.isdigit())
            or start + int(size) > len(archive)
        ):
            raise Malformed(f"the package is broken at byte {offset}: expected the header of an ar member")
        yield header[:16].decode("ascii", "replace").rstrip(" /"), archive[start : start + int(size)]
        offset = start + int(size) + (int(size) & 1)
