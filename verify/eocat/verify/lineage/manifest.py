"""manifest.safe: what a SAFE product says its files are (XFDU; ESA's SAFE, Sentinel-1 and Sentinel-2).

Read: `XFDU/dataObjectSection/dataObject/byteStream[@size]` with one `fileLocation[@href]` and one
`checksum[@checksumName]`. Sums are MD5 (Sentinel-1; Sentinel-2 before mid-2021) or SHA3-256, and real ones
come in both cases. The manifest is not signed: whoever edits a file can edit its sum, so agreement shows a
product that is whole, and a trace or a statement over the manifest must show whose it is.

No document type, so no entities; depth, elements and bytes have limits; UTF-8 whatever the text declares.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from xml.parsers import expat

from ..errors import Malformed
from .paths import check_path, check_twins

NAME: Final = "manifest.safe"
MAX_BYTES: Final = 8 << 20  # real ones have 20 to 70 kB
MAX_ELEMENTS: Final = 100_000
MAX_DEPTH: Final = 64
ALGORITHMS: Final = {
    "MD5": ("md5", 32),
    "SHA3-256": ("sha3_256", 64),
}  # spelling → hashlib's name, hex digits

_STREAM: Final = ("XFDU", "dataObjectSection", "dataObject", "byteStream")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed file. name: relative to the product's root. algorithm: a key of ALGORITHMS.

    size: declared, in bytes. digest: lower-case hex.
    """

    name: str
    size: int
    algorithm: str
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """sha256: of the manifest's own bytes."""

    sha256: str
    entries: tuple[Entry, ...]


def parse_manifest(data: bytes) -> Manifest:
    """The files that the manifest in `data` lists, each once; Malformed if it is not a strict one."""
    if len(data) > MAX_BYTES:
        raise Malformed(f"{NAME} is {len(data)} bytes long, at most {MAX_BYTES} are read")
    try:
        text = data.decode()  # expat would guess UTF-16 from a mark or from NULs, whatever it was told
    except UnicodeDecodeError as error:
        raise Malformed(f"{NAME} is not UTF-8: byte {error.start}") from None
    if "\0" in text:
        raise Malformed(f"{NAME} holds NUL, which XML does not")
    reader = _Reader()
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.XmlDeclHandler = _refuse_other_encoding
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise Malformed(f"{NAME} is not well-formed XML: {error}") from None
    if not reader.entries:
        raise Malformed(f"{NAME} lists no file")
    check_twins(reader.entries, what=NAME)
    return Manifest(sha256(data).hexdigest(), tuple(reader.entries.values()))


def _refuse_other_encoding(_: str, encoding: str | None, __: int) -> None:
    if encoding is not None and encoding.upper() != "UTF-8":
        raise Malformed(f"{NAME} declares the encoding {encoding[:40]!r}, expected UTF-8")


def _refuse_doctype(*_: object) -> None:
    raise Malformed(f"{NAME} declares a document type, which could expand or fetch; none is read")


class _Reader:
    """Expat's calls, gathered into entries. path: local names of the open elements."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._path: list[str] = []
        self._elements = 0
        self._found: dict[str, str] | None = None  # of the open byteStream

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._path.append(tag.rpartition(":")[2])
        if self._elements > MAX_ELEMENTS or len(self._path) > MAX_DEPTH:
            raise Malformed(f"{NAME} has more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")
        if tuple(self._path) == _STREAM:
            self._found = {"size": attributes.get("size", "")}
        elif self._found is not None and tuple(self._path[:-1]) == _STREAM:
            match self._path[-1]:
                case "fileLocation":
                    self._once("href", attributes.get("href", ""))
                case "checksum":
                    self._once("algorithm", attributes.get("checksumName", ""))
                    self._found["digest"] = ""

    def text(self, text: str) -> None:
        if self._found is not None and tuple(self._path) == (*_STREAM, "checksum"):
            self._found["digest"] += text

    def end(self, _: str) -> None:
        if tuple(self._path) == _STREAM and self._found is not None:
            entry = _parse_entry(self._found)
            if self.entries.setdefault(entry.name, entry) != entry:
                raise Malformed(f"{NAME} lists {entry.name[:80]!r} twice, with different sums")
            self._found = None
        self._path.pop()

    def _once(self, key: str, value: str) -> None:
        if self._found is None or key in self._found:
            raise Malformed(f"{NAME} has a byteStream with two of {key}")
        self._found[key] = value


def _parse_entry(found: dict[str, str]) -> Entry:
    if missing := {"href", "algorithm", "digest"} - found.keys():
        raise Malformed(f"{NAME} has a byteStream without {min(missing)}")
    name = check_path(found["href"].removeprefix("./"), what=NAME)
    if not _SIZE.fullmatch(found["size"]):
        raise Malformed(f"{NAME} says that {name[:80]!r} has the size {found['size'][:40]!r}")
    if found["algorithm"] not in ALGORITHMS:
        raise Malformed(
            f"{NAME} has a sum of the kind {found['algorithm'][:40]!r}, expected {' or '.join(ALGORITHMS)}"
        )
    digest = found["digest"].strip(" \t\r\n")
    if len(digest) != ALGORITHMS[found["algorithm"]][1] or not _HEX.fullmatch(digest):
        raise Malformed(f"{NAME} has for {name[:80]!r} no {found['algorithm']} in hex: {digest[:80]!r}")
    return Entry(name, int(found["size"]), found["algorithm"], digest.lower())
