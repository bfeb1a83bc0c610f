"""A registration over HTTP: the documents that open it, what is remembered of it, and its folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from eocat.verify import canonical
from eocat.verify.errors import EocatError, Malformed, Unavailable
from eocat.verify.evidence import (
    ITEM_FILE,
    LOG_PROOF_FILE,
    MAX_ATTESTATION_BYTES,
    asset_hrefs,
    read_limited,
)
from eocat.verify.history import History
from eocat.verify.projection import ATTESTATION
from eocat.verify.statement import Hex32, Identifier, ItemPath, Strict, Text, validated

OPENED_FILE = "opened.json"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_OWN_FILES = {ITEM_FILE, LOG_PROOF_FILE, OPENED_FILE}

DocumentText = Annotated[str, Field(max_length=canonical.MAX_BYTES)]


class NotAdmitted(EocatError):
    """A registration is refused, with the HTTP status that says how."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Opening(Strict):
    """What opens a registration: the texts of a shard's documents, byte for byte."""

    item: DocumentText
    attestation: Annotated[str, Field(max_length=MAX_ATTESTATION_BYTES)]
    collection: DocumentText
    model: DocumentText


class SignedFile(Strict):
    name: Text
    sha256: Hex32
    size: Annotated[int, Field(ge=0, le=canonical.MAX_INTEGER)]


class Opened(Strict):
    """What is remembered of an open registration. files: asset key → the signed file."""

    holder: Text
    item: ItemPath
    attestation: Text  # the file's name
    files: dict[Identifier, SignedFile]


@dataclass(frozen=True, slots=True)
class Registration:
    """An open registration in `folder`."""

    id: str
    folder: Path
    opened: Opened

    @property
    def shard(self) -> Path:
        return self.folder / self.opened.item

    def missing(self) -> list[dict[str, Any]]:
        """The files that have not come, in order of key."""
        return [
            {"key": key, "name": file.name, "size": file.size}
            for key, file in sorted(self.opened.files.items())
            if not (self.shard / file.name).exists()
        ]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "item": self.opened.item, "missing": self.missing()}


def opened_from(holder: str, opening: Opening, history: History) -> Opened:
    """The files to expect, under the names that the Item gives them; NotAdmitted for a name that is none."""
    names: dict[str, str] = {}
    for key, href in asset_hrefs(opening.item.encode()).items():
        names[key] = href.removeprefix("./")
        if not _FILE_NAME.fullmatch(names[key]) or names[key].lower() in _OWN_FILES:
            raise NotAdmitted(f"asset {key[:80]} has the href {href[:80]!r}, expected a file name")
    if ATTESTATION not in names:
        raise NotAdmitted(f"the item has no asset {ATTESTATION}")
    if len({name.lower() for name in names.values()}) < len(names):
        raise NotAdmitted("two assets of the item have one file name")
    signed = history.projection.assets
    if missing := sorted(signed.keys() - names.keys()):
        raise NotAdmitted(f"asset {missing[0]} of the item has no href")
    files = {
        key: SignedFile(name=names[key], sha256=asset.sha256, size=asset.size)
        for key, asset in signed.items()
    }
    return Opened(holder=holder, item=history.create.item, attestation=names[ATTESTATION], files=files)


def read_opened(folder: Path) -> Opened | None:
    """What is remembered in a registration's folder; None where that is not to be read."""
    try:
        value = canonical.parse(read_limited(folder / OPENED_FILE, canonical.MAX_BYTES), what="registration")
        return validated(Opened, value, what="registration")
    except (Unavailable, Malformed):
        return None


def folders_in(place: Path) -> list[Path]:
    """The folders in `place`, none where that is not there."""
    return [path for path in place.iterdir() if path.is_dir()] if place.is_dir() else []
