"""A SAFE product against its own manifest.safe: per file ok, differs, missing or unlisted.

Design of provenance, section 9, and row 56 of the attacks. Files are streamed, each read at most once; one
whose size already differs is not read. What the verdicts mean for trust is said in manifest.py.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..claims import ManifestClaim
from ..errors import Malformed
from ..report import Outcome
from .manifest import ALGORITHMS, MAX_BYTES, NAME, Entry, parse_manifest
from .product import Product, open_product, read_whole


class Verdict(Enum):
    OK = "ok"
    DIFFERS = "differs"
    MISSING = "missing"
    UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """name: relative to the product's root. text: why, in words; empty where it is ok."""

    name: str
    verdict: Verdict
    text: str = ""


@dataclass(frozen=True, slots=True)
class SafeReport:
    """What was found of a product. manifest: SHA-256 of its manifest.safe; algorithms: those it uses.

    files: first the listed ones in the manifest's order, then the unlisted ones by name.
    """

    product: str
    manifest: str
    algorithms: tuple[str, ...]
    files: tuple[FileVerdict, ...]

    def count(self, verdict: Verdict) -> int:
        return Counter(file.verdict for file in self.files)[verdict]

    def claim(self) -> ManifestClaim:
        """What a statement can say of this product (`evidence` of a source)."""
        return ManifestClaim(
            manifest=self.manifest,
            ok=self.count(Verdict.OK),
            differs=self.count(Verdict.DIFFERS),
            missing=self.count(Verdict.MISSING),
            unlisted=self.count(Verdict.UNLISTED),
        )

    def judge(self, names: Iterable[str] | None = None) -> Outcome | None:
        """None if all is well: of the files `names` (those that were used), or of all listed ones.

        A used file that is not listed is not vouched for by the manifest: INCOMPLETE.
        """
        wanted = None if names is None else set(names)
        found = {f.verdict for f in self.files if wanted is None or f.name in wanted}
        if wanted is not None and wanted - {file.name for file in self.files}:
            found.add(Verdict.MISSING)
        if Verdict.DIFFERS in found:
            return Outcome.LINEAGE_FAILED
        if Verdict.MISSING in found:
            return Outcome.UNAVAILABLE
        return Outcome.INCOMPLETE if wanted is not None and Verdict.UNLISTED in found else None

    def to_text(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict.value}" for verdict in Verdict)
        return f"{self.product}: {counts} by {' and '.join(self.algorithms)}, unsigned"


def check_product(path: Path) -> SafeReport:
    """The verdicts on the product in the folder or zip at `path`.

    Raises Malformed for a hostile or unreadable product, Unavailable where there is none.
    """
    with open_product(path) as product:
        return _check(product)


def _check(product: Product) -> SafeReport:
    if NAME not in product.sizes:
        raise Malformed(f"{product.label} holds no {NAME}, so it is no SAFE product")
    manifest = parse_manifest(read_whole(product, NAME, limit_bytes=MAX_BYTES))
    listed = {entry.name for entry in manifest.entries}
    unlisted = sorted(product.sizes.keys() - listed - {NAME})
    return SafeReport(
        product=product.root,
        manifest=manifest.sha256,
        algorithms=tuple(sorted({entry.algorithm for entry in manifest.entries})),
        files=(
            *(_check_file(product, entry) for entry in manifest.entries),
            *(FileVerdict(name, Verdict.UNLISTED, "not in the manifest") for name in unlisted),
        ),
    )


def _check_file(product: Product, entry: Entry) -> FileVerdict:
    size = product.sizes.get(entry.name)
    if size is None:
        return FileVerdict(entry.name, Verdict.MISSING, "listed, but not in the product")
    if size != entry.size:
        return FileVerdict(entry.name, Verdict.DIFFERS, f"has {size} bytes, listed with {entry.size}")
    digest = hashlib.new(ALGORITHMS[entry.algorithm][0], usedforsecurity=False)
    for block in product.blocks(entry.name):
        digest.update(block)
    if digest.hexdigest() != entry.digest:
        text = f"{entry.algorithm} is {digest.hexdigest()[:16]}…, listed {entry.digest[:16]}…"
        return FileVerdict(entry.name, Verdict.DIFFERS, text)
    return FileVerdict(entry.name, Verdict.OK)
