"""Packages from a Debian archive, trusted through its signature alone (SETUP: the private PostgreSQL).

The chain, numbered as in the code:
    1. InRelease      its signature, by gpgv or sqv with the Debian archive keyring; only signed text is used
    2. Packages.xz    its SHA-256 and size, from 1
    3. each .deb      its SHA-256 and size, from 2
The mirror is not trusted, so it may speak plain http. Which packages, and where they go, is left to
`prefix.py`; what is inside a .deb to `deb.py`.
"""

import hashlib
import http.client
import lzma
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from eocat.catalog.mirrors import find_mirrors
from eocat.verify.errors import ConfigError, Malformed, Unavailable

SUITE = "trixie"
KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
RELEASE_LIMIT_BYTES = 4 << 20
TIMEOUT_S = 60
ATTEMPTS = 6
THREADS = 4  # at eight, mirrors began to drop name look-ups (SETUP, pitfall 4)
OTHER_WAYS = "or set EOCAT_DATABASE_URL to a PostgreSQL with PostGIS and pgvector (compose.yaml starts one)"


@dataclass(frozen=True, slots=True)
class Package:
    """One package as the signed index names it. path: relative to the mirror; size in bytes."""

    name: str
    version: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Archive:
    """A mirror of the Debian archive and the keyring that its index must be signed by."""

    mirror: str
    keyring: Path
    suite: str = SUITE

    def read_index(self, architecture: str) -> dict[str, Package]:
        """The packages of section main by name, from the signed index.

        architecture: Debian's word, "amd64" or "arm64".
        Raises Unavailable (no answer), Malformed (signature, digest or syntax), ConfigError (no verifier).
        """
        signed = fetch(f"{self.mirror}/dists/{self.suite}/InRelease", limit_bytes=RELEASE_LIMIT_BYTES)
        release = verify_signature(signed, self.keyring)  # 1.
        path = f"main/binary-{architecture}/Packages.xz"
        sha256, size = parse_release(release, suite=self.suite, path=path)
        packed = fetch_exact(f"{self.mirror}/dists/{self.suite}/{path}", size=size, sha256=sha256)  # 2.
        return parse_packages(lzma.decompress(packed).decode())

    def fetch_package(self, package: Package) -> bytes:
        """The bytes of the .deb; Malformed if they are not those of the index."""
        return fetch_exact(f"{self.mirror}/{package.path}", size=package.size, sha256=package.sha256)  # 3.

    def fetch_packages(
        self,
        packages: Collection[Package],
        use: Callable[[Package, bytes], None],
        done: Callable[[int], None],
    ) -> None:
        """Fetch all and give each to `use` (in worker threads) as it comes; `done` gets its size in bytes."""

        def take(package: Package) -> int:
            use(package, self.fetch_package(package))
            return package.size

        pool = ThreadPoolExecutor(THREADS)
        try:
            for taken in as_completed([pool.submit(take, package) for package in packages]):
                done(taken.result())
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, do not fetch the rest


def find_architecture() -> str:
    """Debian's word for this machine; ConfigError where eocat has no package list for it."""
    machine = platform.machine()
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    if platform.system() != "Linux" or machine not in known:
        raise ConfigError(
            f"no PostgreSQL can be fetched for {platform.system()} on {machine}: expected Linux on "
            "x86_64 or aarch64",
            hint="install PostgreSQL with PostGIS and pgvector, " + OTHER_WAYS,
        )
    return known[machine]


def open_archive(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Archive:
    """The archive of the first mirror that answers for the suite. ConfigError if this machine names none."""
    keyring = find_keyring()
    mirrors = find_mirrors(environ, root)
    failures = []
    for mirror in mirrors:
        try:
            fetch(f"{mirror}/dists/{SUITE}/InRelease", limit_bytes=RELEASE_LIMIT_BYTES, attempts=2)
        except Unavailable as error:
            failures.append(str(error))
        else:
            return Archive(mirror, keyring)
    if failures:
        raise Unavailable("; ".join(failures), hint=f"set EOCAT_DEB_MIRROR to a Debian mirror, {OTHER_WAYS}")
    raise ConfigError(
        "no Debian mirror is known: EOCAT_DEB_MIRROR is not set, and no apt sources of Debian are here",
        hint=f"set EOCAT_DEB_MIRROR to the base address of a Debian mirror, {OTHER_WAYS}",
    )


def find_keyring(keyrings: Collection[Path] = KEYRINGS) -> Path:
    """The Debian archive keyring of this machine; ConfigError naming the package if there is none."""
    for keyring in keyrings:
        if keyring.is_file():
            return keyring
    raise ConfigError(
        "the Debian archive keyring is not installed, so a package index could not be trusted",
        hint=f"apt-get install debian-archive-keyring gpgv, {OTHER_WAYS}",
    )


def verify_signature(clearsigned: bytes, keyring: Path) -> str:
    """The text that a key of the keyring signed; nothing outside the signed part is returned.

    Raises ConfigError if neither gpgv nor sqv is installed, Malformed if the signature does not hold.
    """
    gpgv, sqv = shutil.which("gpgv"), shutil.which("sqv")
    if gpgv is None and sqv is None:
        raise ConfigError(
            "neither gpgv nor sqv is installed, so the signature of the package index cannot be checked",
            hint=f"apt-get install gpgv, {OTHER_WAYS}",
        )
    with tempfile.TemporaryDirectory(prefix="eocat-") as folder:
        message, output = Path(folder, "InRelease"), Path(folder, "signed")
        message.write_bytes(clearsigned)
        common = ["--keyring", str(keyring), "--output", str(output)]
        if gpgv is not None:
            command = [gpgv, "--homedir", folder, "--status-fd", "1", *common, str(message)]
        else:
            command = [str(sqv), *common, "--cleartext", str(message)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        # An older keyring lacks the newer of the archive's keys, and gpgv then exits 2 although another
        # signature is good: apt's rule is one good signature and no bad one.
        status = set(re.findall(r"^\[GNUPG:\] (\w+)", ran.stdout, re.M))
        good = "GOODSIG" in status and "BADSIG" not in status if gpgv else ran.returncode == 0
        if not good or not output.is_file():
            last = (ran.stderr.strip().splitlines() or ["no signature found"])[-1]
            raise Malformed(
                f"the package index is not signed by a key of {keyring}: {last}",
                hint="the mirror changed it, or the keyring is old: upgrade debian-archive-keyring",
            )
        return output.read_text()


def parse_release(text: str, *, suite: str, path: str) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of a file of the release; Malformed if the release is another."""
    codename = re.search(r"^Codename: (\S+)$", text, re.M)
    if codename is None or codename[1] != suite:  # a mirror might serve another, rightly signed, release
        raise Malformed(
            f"the package index is of {codename[1] if codename else 'no release'}: expected {suite}"
        )
    section = re.search(r"^SHA256:\n((?: .*\n?)+)", text, re.M)
    entry = section and re.search(rf"^ ([0-9a-f]{{64}}) +([0-9]+) {re.escape(path)}$", section[1], re.M)
    if not entry:
        raise Malformed(f"the package index of {suite} names no SHA-256 for {path}")
    return entry[1], int(entry[2])


def parse_packages(text: str) -> dict[str, Package]:
    """The stanzas of a Packages file by package name (one version of each in a stable suite)."""
    index = {}
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Filename|Size|SHA256): (\S+)$", stanza, re.M))
        if not fields:
            continue
        try:
            package = Package(
                fields["Package"],
                fields["Version"],
                fields["Filename"],
                int(fields["Size"]),
                fields["SHA256"],
            )
        except KeyError as missing:
            raise Malformed(f"a stanza of the package list lacks the field {missing.args[0]}") from missing
        index[package.name] = package
    return index


def fetch_exact(url: str, *, size: int, sha256: str) -> bytes:
    """The bytes at the address, if they have this size and SHA-256; else Malformed."""
    data = fetch(url, limit_bytes=size)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Malformed(
            f"{url} does not have the digest of the signed index: expected sha256 {sha256}, found {found}",
            hint="the mirror may be in the middle of an update: try again in some minutes, or use another",
        )
    return data


def fetch(url: str, *, limit_bytes: int, attempts: int = ATTEMPTS) -> bytes:
    """The bytes at an http address, at most `limit_bytes` (Malformed); Unavailable after `attempts` tries."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url} is no address of a Debian mirror: expected http:// or https://")
    for attempt in range(1, attempts + 1):
        try:
            # The scheme was checked above.
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310
                data: bytes = response.read(limit_bytes + 1)
            break
        except (OSError, http.client.HTTPException) as error:
            refused = (
                isinstance(error, urllib.error.HTTPError) and error.code < 500
            )  # asking again will not help
            if refused or attempt == attempts:
                raise Unavailable(
                    f"{url} could not be fetched: {error}", hint="check the network and the mirror's address"
                ) from error
            time.sleep(0.3 * 2**attempt)
    if len(data) > limit_bytes:
        raise Malformed(f"{url} is longer than the {limit_bytes} bytes expected")
    return data
