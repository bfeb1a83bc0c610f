"""Unpacking a package writes inside its root or not at all."""

import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from debian_archive.make import build_ar, build_deb

from eocat.catalog.deb import unpack
from eocat.verify.errors import Malformed


def everything(_: str) -> bool:
    return True


def build_odd_deb(*members: tuple[str, bytes, str]) -> bytes:
    """A .deb of members (name, tar type, link target), each file with the content "x"."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"x"))
    return build_ar({"debian-binary": b"2.0\n", "data.tar.xz": lzma.compress(packed.getvalue())})


def test_kept_files_are_written_and_others_not(tmp_path: Path) -> None:
    deb = build_deb({"usr/bin/a": b"a", "usr/share/doc/b": b"bb"})
    unpack(deb, tmp_path, lambda path: path == "usr/bin/a")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "usr/bin/a"
    ]
    assert (tmp_path / "usr/bin/a").read_bytes() == b"a"


def test_links_inside_the_root_are_kept(tmp_path: Path) -> None:
    unpack(build_odd_deb(("./lib/a.so", tarfile.SYMTYPE, "../lib/a.so.1")), tmp_path, everything)
    assert (tmp_path / "lib/a.so").readlink() == Path("../lib/a.so.1")


BAD_TWINS = {
    "parent": [("../x", tarfile.REGTYPE, "")],
    "parent in the middle": [("usr/../../x", tarfile.REGTYPE, "")],
    "absolute": [("/x", tarfile.REGTYPE, "")],
    "link to a parent": [("usr/l", tarfile.SYMTYPE, "../../x")],
    "absolute link": [("usr/l", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [("usr/l", tarfile.LNKTYPE, "etc/passwd")],
    "device": [("dev/null", tarfile.CHRTYPE, "")],
    "pipe": [("run/p", tarfile.FIFOTYPE, "")],
}


@pytest.mark.parametrize("members", BAD_TWINS.values(), ids=BAD_TWINS.keys())
def test_nothing_leaves_the_root(members: list[tuple[str, bytes, str]], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(Malformed):
        unpack(build_odd_deb(*members), root, everything)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_link_already_there_is_not_followed_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "usr").symlink_to(outside)
    with pytest.raises(Malformed, match="leaves the folder"):
        unpack(build_odd_deb(("usr/x", tarfile.REGTYPE, "")), root, everything)
    assert list(outside.iterdir()) == []


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    deb = build_deb({"a": b"new"})
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileExistsError):
        unpack(deb, tmp_path, everything)
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda deb: b"PK" + deb[2:], "no ar archive"),
        (lambda deb: deb[:-20], "broken at byte"),
        (lambda deb: deb[:100], "broken at byte"),
        (lambda deb: deb.replace(b"4         `\n", b"-4        `\n"), "broken at byte 8"),
        (lambda deb: build_ar({"debian-binary": b"2.0\n"}), r"no member data\.tar"),
    ],
    ids=["magic", "cut", "cut in the header", "negative size", "no data"],
)
def test_broken_packages_are_refused(spoil: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=message):
        unpack(spoil(build_deb({"a": b"a"})), tmp_path, everything)
