"""What a statement can say of how a source's own history was checked: the `evidence` of a source.

A claim is the producer's word until the verifier has repeated the check: with the product at hand
(`safe.py`), with the Item (`checksums.py`) or with the traces (`cdse.py`). It names what was checked by
digest, so that it cannot be met with something else. Counts and text, no floats.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileCount = Annotated[int, Field(ge=0, le=1 << 20)]


class _Claim(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ManifestClaim(_Claim):
    """The product was held against its own manifest.safe. manifest: SHA-256 of that file.

    ok, differs, missing, unlisted: how many of its files came out so.
    """

    type: Literal["safe-manifest"] = "safe-manifest"
    manifest: Digest
    ok: FileCount
    differs: FileCount
    missing: FileCount
    unlisted: FileCount


class TraceClaim(_Claim):
    """The source has authentic Copernicus traces. traces: SHA-256 of the JSON as the service gave it."""

    type: Literal["cdse-trace"] = "cdse-trace"
    traces: Digest
    count: Annotated[int, Field(ge=1, le=50)]


class ItemClaim(_Claim):
    """The source was held against the checksums that a STAC Item states of it. item: SHA-256 of the Item.

    ok, differs, missing, malformed: how many of the checksums came out so.
    """

    type: Literal["stac-item"] = "stac-item"
    item: Digest
    ok: FileCount
    differs: FileCount
    missing: FileCount
    malformed: FileCount


Claim = Annotated[ManifestClaim | TraceClaim | ItemClaim, Field(discriminator="type")]
_Found = TypeVar("_Found", bound=_Claim)


def _in_order(claims: list[Claim]) -> list[Claim]:
    types = [claim.type for claim in claims]
    if types != sorted(set(types)):
        raise ValueError("evidence is not in ascending order of type, or one type stands twice")
    return claims


Evidence = (
    Literal["none"] | Annotated[list[Claim], Field(min_length=1, max_length=3), AfterValidator(_in_order)]
)


def claim_of(evidence: Evidence, kind: type[_Found]) -> _Found | None:
    """The claim of that kind, if there is one."""
    return next((claim for claim in evidence if isinstance(claim, kind)), None)
