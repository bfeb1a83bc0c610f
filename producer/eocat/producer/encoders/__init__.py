"""Encoders: plug-ins that turn the integer pixels of chips into vectors (DESIGN section 3, "Encoders").

The contract is `Encoder`; `load_encoder` makes one. All pass `tests/producer/encoder_contract.py`.
torch is imported when an encoder is loaded, not before: listing encoders stays cheap.
"""

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError, UsageError

from .bank import BANKS, Weights, bands_of, read_bank
from .precision import Precision

__all__ = ["Encoder", "Weights", "bank_name", "load_encoder"]


class Encoder(Protocol):
    """Vectors of chips, one row each; the same pixels give the same row in any batch.

    bands: in the order of axis C; dimension: D; dtype: of the vectors, as the shard stores them;
    min_size: smallest chip edge in pixels; config and preprocess: JSON without floats, hashed with the
    weights into the `space`; precision: the class of its arithmetic, which the space does not depend on;
    tolerance: what `precision.tolerance_of` says of that class, {"kind": "bits"} for "exact".
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def bands(self) -> tuple[str, ...]: ...
    @property
    def dimension(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def min_size(self) -> int: ...
    @property
    def weights(self) -> tuple[Weights, ...]: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def preprocess(self) -> dict[str, Any]: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def tolerance(self) -> dict[str, Any]: ...

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        """(N, D) of the chips `pixels` (N, C, H, W), raw DN, bands as `self.bands`.

        offset: the DN that stands for reflectance 0 (1000 for Sentinel-2 baseline ≥ 04.00, else 0).
        Raises InputError, which names the row, for a chip that has no vector.
        """
        ...


def load_encoder(name: str, bands: Collection[str], *, device: str = "auto") -> Encoder:
    """The encoder `name`, ready on `device`, for a scene that has `bands`.

    name: "exact" takes the bank that reads most of `bands`; "exact-s2-l2a" and so on name one.
    device: "auto" (CUDA where torch sees one), "cpu", "cuda" or "cuda:N".
    Raises UsageError for an unknown name, InputError where the scene lacks a band.
    """
    bank = bank_name(name, bands)
    missing = [band for band in bands_of(bank) if band not in bands]
    if missing:
        raise InputError(
            f"encoder {bank} needs the band{'s' * (len(missing) > 1)} {', '.join(missing)}, "
            f"the scene has {', '.join(sorted(bands)) or 'none'}",
            hint=f"give a scene with {', '.join(bands_of(bank))}",
        )
    from .exact import ExactEncoder  # imports torch: 1.6 s that `--help` must not pay

    return ExactEncoder(read_bank(bank), device=device)


def bank_name(name: str, bands: Collection[str]) -> str:
    """Of "exact", the richest bank whose bands are all there, else the one that is nearest to it."""
    if name in BANKS:
        return name
    if name != "exact":
        raise UsageError(f"no encoder is named {name!r}", hint=f"one of exact, {', '.join(sorted(BANKS))}")
    have = set(bands)
    sharing = [bank for bank in BANKS if have & set(bands_of(bank))] or list(BANKS)
    return min(sharing, key=lambda bank: (len(set(bands_of(bank)) - have), -len(bands_of(bank)), bank))
