"""Makes the small signed archive of test_debian.py: `python make.py`, needs gpg; no private key is kept.

keyring.gpg     the key that signed          stranger.gpg    a key that did not
dists/trixie/InRelease, dists/trixie/main/binary-amd64/Packages.xz, pool/greeting.deb
"""

import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
GPG = shutil.which("gpg") or "gpg"


def build_deb(files: dict[str, bytes]) -> bytes:
    """A .deb of regular files, as dpkg-deb would write it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return build_ar({"debian-binary": b"2.0\n", "data.tar.xz": packed.getvalue()})


def build_ar(members: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) & 1))
    return b"".join(parts)


def gpg(home: str, *arguments: str) -> None:
    subprocess.run([GPG, "--homedir", home, "--batch", "--yes", "--quiet", *arguments], check=True)


def main() -> None:
    deb = build_deb({"usr/share/greeting/hello.txt": b"hello\n"})
    stanza = (
        "Package: greeting\nVersion: 1.0-1\nArchitecture: amd64\nFilename: pool/greeting.deb\n"
        f"Size: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\nDescription: says hello\n\n"
    )
    packages = lzma.compress(stanza.encode())
    entry = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages.xz"
    release = f"Origin: eocat's tests\nCodename: trixie\nSHA256:\n {entry}\n"
    binary = HERE / "dists/trixie/main/binary-amd64"
    binary.mkdir(parents=True, exist_ok=True)
    (HERE / "pool").mkdir(exist_ok=True)
    (HERE / "pool/greeting.deb").write_bytes(deb)
    (binary / "Packages.xz").write_bytes(packages)
    for name in ("stranger", "keyring"):
        with tempfile.TemporaryDirectory() as home:
            gpg(
                home,
                "--passphrase",
                "",
                "--quick-gen-key",
                f"{name} of eocat's tests",
                "ed25519",
                "sign",
                "never",
            )
            gpg(home, "--output", str(HERE / f"{name}.gpg"), "--export")
            (binary / "Release").write_text(release)
            gpg(
                home, "--output", str(HERE / "dists/trixie/InRelease"), "--clearsign", str(binary / "Release")
            )
            (binary / "Release").unlink()


if __name__ == "__main__":
    main()
