"""Packages count only if a signature leads to their bytes; the archive is a small real one."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eocat.catalog import debian, mirrors, prefix
from eocat.catalog.debian import Archive
from eocat.verify.errors import ConfigError, Malformed, Unavailable

ARCHIVE = Path(__file__).parent / "debian_archive"
RELEASE = "dists/trixie/InRelease"
PACKAGES = "dists/trixie/main/binary-amd64/Packages.xz"
DEB = "pool/greeting.deb"

needs_verifier = pytest.mark.skipif(
    shutil.which("gpgv") is None and shutil.which("sqv") is None,
    reason="NOT RUN: neither gpgv nor sqv is here",
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Archive]]:
    """A copy of the archive that a test may spoil, and the same served over HTTP."""
    folder = tmp_path / "mirror"
    shutil.copytree(ARCHIVE, folder)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, Archive(f"http://127.0.0.1:{server.server_port}", ARCHIVE / "keyring.gpg")
    server.shutdown()
    thread.join()
    server.server_close()


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@needs_verifier
class TestChain:
    def test_good_archive_gives_the_package(self, served: tuple[Path, Archive]) -> None:
        folder, archive = served
        package = archive.read_index("amd64")["greeting"]
        assert (package.version, package.path) == ("1.0-1", DEB)
        assert archive.fetch_package(package) == (folder / DEB).read_bytes()

    def test_changed_release_is_refused(self, served: tuple[Path, Archive]) -> None:
        folder, archive = served
        release = folder / RELEASE
        release.write_text(release.read_text().replace("Codename: trixie", "Codename: trixif"))
        with pytest.raises(Malformed, match="not signed by a key of"):
            archive.read_index("amd64")

    def test_stranger_s_signature_is_refused(self, served: tuple[Path, Archive]) -> None:
        _, archive = served
        with pytest.raises(Malformed, match="not signed by a key of"):
            Archive(archive.mirror, ARCHIVE / "stranger.gpg").read_index("amd64")

    def test_unsigned_release_is_refused(self, served: tuple[Path, Archive]) -> None:
        folder, archive = served
        (folder / RELEASE).write_text(
            f"Codename: trixie\nSHA256:\n {'0' * 64} 1 main/binary-amd64/Packages.xz\n"
        )
        with pytest.raises(Malformed, match="not signed by a key of"):
            archive.read_index("amd64")

    @pytest.mark.parametrize("before", [True, False])
    def test_text_outside_the_signature_does_not_count(self, before: bool) -> None:
        signed, stray = (ARCHIVE / RELEASE).read_bytes(), b"Codename: stray\n"
        try:
            text = debian.verify_signature(
                stray + signed if before else signed + stray, ARCHIVE / "keyring.gpg"
            )
        except Malformed:
            return  # refusing the whole is as good
        assert "stray" not in text

    def test_changed_index_is_refused(self, served: tuple[Path, Archive]) -> None:
        folder, archive = served
        flip_last_byte(folder / PACKAGES)
        with pytest.raises(Malformed, match="does not have the digest of the signed index"):
            archive.read_index("amd64")

    def test_changed_package_is_refused(self, served: tuple[Path, Archive]) -> None:
        folder, archive = served
        package = archive.read_index("amd64")["greeting"]
        flip_last_byte(folder / DEB)
        with pytest.raises(Malformed, match="does not have the digest"):
            archive.fetch_packages([package], lambda *_: pytest.fail("it was used"), lambda _: None)

    def test_endless_package_is_cut(self, served: tuple[Path, Archive]) -> None:
        folder, archive = served
        package = archive.read_index("amd64")["greeting"]
        (folder / DEB).write_bytes(bytes(10 << 20))
        with pytest.raises(Malformed, match=f"longer than the {package.size} bytes"):
            archive.fetch_package(package)

    def test_other_architecture_is_not_there(self, served: tuple[Path, Archive]) -> None:
        with pytest.raises(Malformed, match=r"no SHA-256 for main/binary-arm64/Packages\.xz"):
            served[1].read_index("arm64")

    def test_mirror_without_the_packages_is_named(self, served: tuple[Path, Archive]) -> None:
        with pytest.raises(Unavailable, match=r"has no package postgresql-17, .* in trixie"):
            prefix.resolve(served[1].read_index("amd64"), served[1].mirror)


def test_without_a_verifier_nothing_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="neither gpgv nor sqv is installed") as caught:
        debian.verify_signature((ARCHIVE / RELEASE).read_bytes(), ARCHIVE / "keyring.gpg")
    assert caught.value.hint is not None
    assert "apt-get install gpgv" in caught.value.hint


def test_without_a_keyring_nothing_is_trusted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keyring is not installed"):
        debian.find_keyring([tmp_path / "absent.gpg"])


def test_another_signed_release_is_not_this_one() -> None:
    text = f"Codename: bookworm\nSHA256:\n {'0' * 64} 1 main/binary-amd64/Packages.xz\n"
    with pytest.raises(Malformed, match="of bookworm: expected trixie"):
        debian.parse_release(text, suite="trixie", path="main/binary-amd64/Packages.xz")


def test_a_weaker_digest_s_section_is_not_read() -> None:
    sections = {"MD5Sum": "0" * 64, "SHA256": "1" * 64, "SHA512": "2" * 64}
    text = "Codename: trixie\n" + "".join(
        f"{name}:\n {digest} 2 main/x\n" for name, digest in sections.items()
    )
    assert debian.parse_release(text, suite="trixie", path="main/x") == ("1" * 64, 2)


def test_stanza_without_a_digest_is_refused() -> None:
    with pytest.raises(Malformed, match="lacks the field SHA256"):
        debian.parse_packages("Package: a\nVersion: 1\nFilename: pool/a.deb\nSize: 1\n")


def test_absent_file_is_said_at_once(served: tuple[Path, Archive]) -> None:
    with pytest.raises(Unavailable, match=r"absent could not be fetched: HTTP Error 404"):
        debian.fetch(f"{served[1].mirror}/absent", limit_bytes=1)


def test_only_http_is_fetched() -> None:
    with pytest.raises(ConfigError, match="no address of a Debian mirror"):
        debian.fetch("file:///etc/passwd", limit_bytes=1)


# --- mirrors ---

DEB822 = """\
Types: deb deb-src
# a comment
URIs: http://one.test/debian http://two.test/debian/
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.test/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.test/debian
Suites: bookworm
Components: main

Types: deb
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: trixie
Components: main
"""
ONE_LINE = """\
# deb http://commented.test/debian bookworm main
deb [arch=amd64 signed-by=/x] https://three.test/debian bookworm main contrib # trailing
deb-src http://source.test/debian bookworm main
deb http://vendor.test/apt bookworm vendor
deb cdrom:[Debian]/ bookworm main
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The files of a Debian machine that say where its packages come from."""
    for path, text in {
        "etc/os-release": 'NAME="Debian"\nID=debian\n',
        "etc/apt/sources.list.d/debian.sources": DEB822,
        "etc/apt/sources.list": ONE_LINE,
        "etc/apt/mirrors/debian.list": "# nearest first\nhttps://four.test/debian priority:1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_apt_sources_name_the_mirrors(machine: Path) -> None:
    hosts = ("http://one", "http://two", "https://four", "https://three")
    assert mirrors.find_mirrors({}, machine) == tuple(f"{host}.test/debian" for host in hosts)


def test_the_environment_s_mirror_is_the_only_one(machine: Path) -> None:
    assert mirrors.find_mirrors({"EOCAT_DEB_MIRROR": "http://mine.test/debian/"}, machine) == (
        "http://mine.test/debian",
    )


def test_other_systems_sources_are_not_debian_s(machine: Path) -> None:
    (machine / "etc/os-release").write_text("ID=ubuntu\nID_LIKE=debian\n")
    assert mirrors.find_mirrors({}, machine) == ()
    with pytest.raises(ConfigError, match="no Debian mirror is known") as caught:
        debian.open_archive({}, machine)
    assert "EOCAT_DEB_MIRROR" in str(caught.value.hint)
