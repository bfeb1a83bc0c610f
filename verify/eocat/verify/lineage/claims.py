"""What a statement can say of how a source's own history was checked: the `evidence` of a source.

A claim is the producer's word until the verifier has repeated the check: with the product at hand
(`safe.py`), or with the trace's bytes, which a bundle can carry (`cdse.py`). It names what was checked by
digest, so that it cannot be met with something else. Counts and text, no floats.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileCount = Annotated[int, Field(ge=0, le=1 << 20)]


class _Claim(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ManifestClaim(_Claim):
    """The product was held against its own manifest.safe. manifest: SHA-256 of that file."""

    type: Literal["safe-manifest"] = "safe-manifest"
    manifest: Digest
    ok: FileCount
    differs: FileCount
    missing: FileCount
    unlisted: FileCount


class TraceClaim(_Claim):
    """The product has Copernicus traces. traces: SHA-256 of the JSON as the service gave it."""

    type: Literal["cdse-trace"] = "cdse-trace"
    traces: Digest
    count: Annotated[int, Field(ge=1, le=50)]


Claim = Annotated[ManifestClaim | TraceClaim, Field(discriminator="type")]
