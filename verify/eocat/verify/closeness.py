"""How close a vector made again must be: bit for bit, or within a band of its encoder's precision.

Integers come out the same everywhere. Floats do not: another instruction set moves 1 − cos by 9e-13 in fp32,
9e-7 in fp16 and 2e-5 to 6e-5 in bf16, while the nearest other scene is at 1e-1 (measured on a ViT-S shape).
The statement declares a precision and a band; the caps below, or the user's policy, beat what it declares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "bf16"]

CAPS: Final[dict[str, int]] = {"fp32": 100, "fp16": 10_000, "bf16": 500_000}  # parts per billion of distance
MAX_CAP: Final = 10_000_000  # 1e-2: a tenth of the way to the nearest other scene


@dataclass(frozen=True, slots=True)
class Band:
    """precision: a class of CAPS, or "exact". limit: the largest distance that passes, 0 for "exact"."""

    precision: str
    limit: float
    capped: bool = False  # the statement had declared more

    @property
    def is_exact(self) -> bool:
        return self.precision == "exact"

    @property
    def text(self) -> str:
        if self.is_exact:
            return "bit for bit was promised"
        declared = ", which caps what was declared" if self.capped else ""
        return f"at most {self.limit:.2g} for {self.precision}{declared}"

    def passes(self, signed: NDArray[np.floating], made: bytes) -> bool:
        """Whether the vector made again is the signed one, as far as this band tells them apart."""
        if self.is_exact:
            return signed.astype(signed.dtype.newbyteorder("<"), copy=False).tobytes() == made
        return distance(signed, made) <= self.limit


def band_of(tolerance: Mapping[str, Any], caps: Mapping[str, int]) -> Band | None:
    """The band that a statement's `tolerance` declares, not wider than the cap; None: it declares none.

    caps: precision → parts per billion, of the policy.
    """
    match tolerance:
        case {"kind": "bits"}:
            return Band("exact", 0.0)
        case {"kind": "cosine", "precision": str(precision), "parts_per_billion": int(declared)} if (
            precision in caps and type(declared) is int and declared >= 0
        ):
            cap = caps[precision]
            return Band(precision, min(declared, cap) / 1e9, capped=declared > cap)
    return None


def distance(signed: NDArray[np.floating], made: bytes) -> float:
    """‖a − b‖² / (2 ‖a‖ ‖b‖) in double precision: 1 − cos of equally long vectors, more of others.

    So a scaled vector is another one. made: the bytes of a vector of the same dtype. Infinite where only one
    of both is zero, or where `made` has another length or is not finite.
    """
    if len(made) != signed.nbytes:
        return float("inf")
    a = signed.astype(np.float64)
    b = np.frombuffer(made, signed.dtype.newbyteorder("<")).astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not np.isfinite(norms):
        return float("inf")
    apart = float(((a - b) ** 2).sum())
    if norms == 0:
        return 0.0 if apart == 0 else float("inf")
    return apart / (2 * norms)
