"""The statement: an in-toto v1 Statement whose predicate is one signed event in an item's history.

docs/format.md, section 3, defines every field. A value of these models is valid: lengths, hex, order and
agreement between its parts are checked on construction. Integers and text only, no floats outside the
projection's coordinates: what a statement says has one spelling.
"""

import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from . import canonical
from .claims import Evidence
from .errors import Malformed
from .geometry import format_wkb
from .row import MAX_DIMENSION

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:eocat:event:v1"
ROWS = "rows"  # the subject that names the row root; no asset may have this key
ATTESTATION = "attestation"  # the asset that holds the envelopes: it cannot sign itself
MAX_STATEMENT_BYTES = canonical.MAX_BYTES

Model = TypeVar("Model", bound=BaseModel)

_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


def parse_time(text: str) -> datetime:
    """UTC time of `YYYY-MM-DDTHH:MM:SS[.ffffff]Z` in its one spelling (a fraction never ends in 0)."""
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?Z"
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError(f"time {text[:40]!r} is not like 2026-11-20T18:00:00Z")
    moment = datetime.fromisoformat(text)
    if format_time(moment) != text:  # newer Pythons read 24:00:00
        raise ValueError(f"time {text} has a second spelling")
    return moment


def format_time(moment: datetime) -> str:
    """The spelling that `parse_time` accepts; `moment` must be aware."""
    text = moment.astimezone(UTC).isoformat().removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "Z"


def _check_time(text: str) -> str:
    parse_time(text)
    return text


def _check_geometry(geometry: dict[str, Any]) -> dict[str, Any]:
    try:
        format_wkb(geometry)
    except Malformed as error:
        raise ValueError(str(error)) from None
    return geometry


def _check_plain(value: Any) -> Any:
    """Refuse floats anywhere in free-form JSON."""
    if isinstance(value, float):
        raise ValueError("holds a float; write it as text or as a scaled integer")
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_plain(member)
    return value


Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Identifier = Annotated[str, Field(pattern=rf"^{_ID}$")]
ItemPath = Annotated[str, Field(pattern=rf"^{_ID}/{_ID}$")]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Count = Annotated[int, Field(ge=0, le=canonical.MAX_INTEGER)]
Time = Annotated[str, AfterValidator(_check_time)]
Plain = Annotated[dict[str, Any], AfterValidator(_check_plain)]


class Strict(BaseModel):
    """A model that refuses unknown members, converts nothing and never changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FileDigest(Strict):
    sha256: Hex32
    blake3: Hex32


class RootDigest(Strict):
    sha256: Hex32


class Subject(Strict):
    name: Identifier
    digest: FileDigest | RootDigest


class Rows(Strict):
    """The rows of the shard: their count, Merkle root, and what a vector is."""

    count: Annotated[int, Field(ge=1, le=1 << 32)]
    root: Hex32
    leaf: Literal["eocat-row/v1"]
    dtype: Literal["float16", "float32"]
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
    crs: Literal["OGC:CRS84"]
    inputDigests: bool  # false: the input digests are zeros, since the pixels were not seen  # noqa: N815


class WeightsFile(Strict):
    name: Text
    sha256: Hex32
    blake3: Hex32
    size: Count


class Encoder(Strict):
    name: Text
    version: Text
    licence: Text
    weights: Annotated[list[WeightsFile], Field(max_length=64)]
    config: Plain  # architecture, pooling, normalisation, quantisation


class Source(Strict):
    """One scene that the rows were computed from. `evidence`: how its own history was checked, if it was."""

    name: Text
    uri: Text
    files: Annotated[list[WeightsFile], Field(min_length=1, max_length=4096)]
    bands: Annotated[list[Text], Field(min_length=1, max_length=512)]
    evidence: Evidence


class ItemSource(Strict):
    """An item whose rows a derived item was made from. create: SHA-256 of its CREATE's payload.

    root, count: of its rows, which that CREATE also states.
    """

    item: ItemPath
    uri: Text
    create: Hex32
    root: Hex32
    count: Annotated[int, Field(ge=1, le=1 << 32)]


class Code(Strict):
    name: Text
    version: Text
    commit: Text | None
    lock: Hex32  # SHA-256 of the JCS of {distribution: version} of what was installed


class Asset(Strict):
    sha256: Hex32
    size: Count
    type: Text
    roles: Annotated[list[Text], Field(min_length=1, max_length=16)]


class ProjectedRows(Strict):
    count: Count
    root: Hex32
    dtype: Text
    dimension: Count


class Projection(Strict):
    """What is signed of the STAC Item itself (projection.py)."""

    id: Identifier
    collection: Identifier
    geometry: Annotated[dict[str, Any], AfterValidator(_check_geometry)]
    bbox: Annotated[list[int | float], Field(min_length=4, max_length=4)]
    datetime: Time | None
    start_datetime: Time | None
    end_datetime: Time | None
    assets: dict[Identifier, Asset]
    rows: ProjectedRows
    space: Hex32

    @model_validator(mode="after")
    def _asset_names_are_free(self) -> Self:
        if taken := self.assets.keys() & {ROWS, ATTESTATION}:
            raise ValueError(f"asset {min(taken)} has a name that is not an asset's to sign")
        return self


class Event(Strict):
    """What every event of an item says. prev: SHA-256 of the payload before it, null for the CREATE."""

    item: ItemPath
    seq: Annotated[int, Field(ge=0, le=1 << 31)]
    prev: Hex32 | None
    claimedAt: Time  # noqa: N815
    actor: Text
    reason: Text | None


class Create(Event):
    """The first event of an item: what was made from what, by which encoder and code."""

    event: Literal["CREATE"]
    origin: Literal["computed", "imported", "derived"]
    rows: Rows
    space: Hex32
    encoder: Encoder
    preprocess: Plain
    code: Code
    sources: (
        Annotated[list[Source], Field(min_length=1, max_length=4096)]
        | Annotated[list[ItemSource], Field(min_length=1, max_length=4096)]
    )
    parameters: Plain
    environment: Plain
    tolerance: Plain
    projection: Projection

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.seq != 0 or self.prev is not None:
            raise ValueError("a CREATE has seq 0 and prev null")
        if (self.origin == "derived") != bool(self.parents):
            raise ValueError(f"origin is {self.origin}, but its sources are not items, or they are")
        names = [parent.item for parent in self.parents]
        if names != sorted(set(names)) or self.item in names:
            raise ValueError(
                "source items are not in order of name, one stands twice, or it is the item itself"
            )
        if self.item != f"{self.projection.collection}/{self.projection.id}":
            raise ValueError(f"item {self.item} is not the projection's collection and id")
        rows, projected = self.rows, self.projection.rows
        if (rows.count, rows.root, rows.dtype, rows.dimension) != (
            projected.count, projected.root, projected.dtype, projected.dimension,
        ):  # fmt: skip
            raise ValueError("rows and the projection's rows differ")
        weights = [part.sha256 for part in self.encoder.weights]
        if (
            not self.space
            == self.projection.space
            == space_digest(self.encoder.config, self.preprocess, weights)
        ):
            raise ValueError("space is not the digest of config, preprocess and weights")
        return self

    @property
    def scenes(self) -> list[Source]:
        return [source for source in self.sources if isinstance(source, Source)]

    @property
    def parents(self) -> list[ItemSource]:
        """The items that a derived one was made from."""
        return [source for source in self.sources if isinstance(source, ItemSource)]


class Statement(Strict):
    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[Subject], Field(min_length=2, max_length=64)]
    predicateType: Literal["urn:eocat:event:v1"]  # noqa: N815
    predicate: Create

    @model_validator(mode="after")
    def _subjects_agree(self) -> Self:
        """Subjects are exactly the projection's assets and `rows`, in order of name."""
        names = [subject.name for subject in self.subject]
        if names != sorted(set(names)):
            raise ValueError("subjects are not in order of name, or one stands twice")
        signed = {subject.name: subject.digest.sha256 for subject in self.subject}
        projection = self.predicate.projection
        if signed != {key: asset.sha256 for key, asset in projection.assets.items()} | {
            ROWS: projection.rows.root
        }:
            raise ValueError("subjects and the projection's assets and rows differ")
        for subject in self.subject:
            if isinstance(subject.digest, FileDigest) == (subject.name == ROWS):
                raise ValueError(
                    f"subject {subject.name}: a file has sha256 and blake3, rows have sha256 alone"
                )
        return self

    @property
    def files(self) -> dict[str, FileDigest]:
        """Asset key → digests, of every signed file."""
        return {s.name: s.digest for s in self.subject if isinstance(s.digest, FileDigest)}


def space_digest(config: dict[str, Any], preprocess: dict[str, Any], weights: list[str]) -> str:
    """Identity of an embedding space: two rows may be compared only if theirs are equal.

    config: architecture, pooling, normalisation and quantisation; weights: SHA-256 of each file.
    """
    parts = {"config": config, "preprocess": preprocess, "weights": weights}
    return sha256(canonical.encode(parts)).hexdigest()


def parse_statement(payload: bytes) -> Statement:
    """The statement of an envelope's payload, in canonical form and strict in every field."""
    value = canonical.parse_canonical(payload, what="statement", limit_bytes=MAX_STATEMENT_BYTES)
    return validated(Statement, value, what="statement")


def validated(model: type[Model], value: Any, *, what: str) -> Model:
    """`value` as a strict model; Malformed names the first field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise Malformed(f"{what}: {place}: {first['msg']}") from None
