"""Names of files inside a product, as zips, manifests and traces spell them: relative, plain, no surprises.

Nothing here is ever unpacked, yet a name is compared and printed, and in a folder it is opened.
"""

import unicodedata
from collections.abc import Iterable

from ..errors import Malformed

MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
_REFUSED = frozenset('\\:%"<>|?*')  # other separators, drives and streams, URL escapes, shell patterns


def check_path(path: str, *, what: str) -> str:
    """`path` itself, if it names a file below a folder in one plain spelling; Malformed otherwise."""

    def malformed(reason: str) -> Malformed:
        return Malformed(f"{what} has the file name {path[:80]!r}, which {reason}")

    if len(path) > MAX_PATH_BYTES:
        raise malformed(f"is longer than {MAX_PATH_BYTES} bytes")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in path):
        raise malformed("holds control characters")
    if not unicodedata.is_normalized("NFC", path):
        raise malformed("is not in Unicode NFC")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise malformed(f"is longer than {MAX_PATH_BYTES} bytes")
    if found := _REFUSED & set(path):
        raise malformed(f"holds {min(found)!r}")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise malformed("is absolute or leads elsewhere")
        if len(part.encode()) > MAX_PART_BYTES or part[-1] in ". ":
            raise malformed(f"has a part longer than {MAX_PART_BYTES} bytes or ending in '.' or ' '")
    return path


def check_twins(paths: Iterable[str], *, what: str) -> None:
    """Malformed if two paths are one to a file system that folds case, or one is both file and folder."""
    seen: dict[str, str] = {}
    for path in paths:
        if (twin := seen.setdefault(path.casefold(), path)) is not path:
            raise Malformed(f"{what} holds both {twin[:80]!r} and {path[:80]!r}, one name to some systems")
    for folded, path in seen.items():
        parts = folded.split("/")
        if any("/".join(parts[:count]) in seen for count in range(1, len(parts))):
            raise Malformed(f"{what} holds {path[:80]!r} below a file of that name")
