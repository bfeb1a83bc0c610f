"""Makes small SAFE products with a true manifest, as folder or zip, for tests to spoil."""

import hashlib
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = "S2A_MSIL1C_20230625T100031_N0509_R122_T33TUL_20230625T140000.SAFE"
BAND_NAME = "GRANULE/L1C/IMG_DATA/B02.jp2"
FILES = {
    "MTD_MSIL1C.xml": b"<metadata/>",
    BAND_NAME: random.Random(2).randbytes(1_300_000),
    "GRANULE/L1C/IMG_DATA/B03.jp2": b"",
}
XFDU = """<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1"><dataObjectSection>{objects}</dataObjectSection></xfdu:XFDU>
"""
OBJECT = """<dataObject ID="x"><byteStream mimeType="octet" size="{size}">
<fileLocation locatorType="URL" href="{href}"/><checksum checksumName="{name}">{digest}</checksum>
</byteStream></dataObject>"""


def manifest(files: Mapping[str, bytes] = FILES, name: str = "SHA3-256") -> bytes:
    new = {"SHA3-256": hashlib.sha3_256, "MD5": hashlib.md5}[name]
    objects = [
        OBJECT.format(size=len(data), href=f"./{path}", name=name, digest=new(data).hexdigest())
        for path, data in files.items()
    ]
    return XFDU.format(objects="".join(objects)).encode()


def make_folder(parent: Path, files: Mapping[str, bytes] = FILES, listed: bytes | None = None) -> Path:
    root = parent / ROOT
    for path, data in {"manifest.safe": manifest() if listed is None else listed, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def make_zip(
    parent: Path,
    files: Mapping[str, bytes] = FILES,
    listed: bytes | None = None,
    *more: tuple[zipfile.ZipInfo | str, bytes],
) -> Path:
    """more: members added as they are, whatever their names."""
    path = parent / f"{ROOT}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{ROOT}/manifest.safe", manifest() if listed is None else listed)
        for name, data in files.items():
            archive.writestr(f"{ROOT}/{name}", data)
        for member, data in more:
            archive.writestr(member, data)
    return path
