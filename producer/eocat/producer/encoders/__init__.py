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
from .checkpoint import Checkpoint
from .precision import Precision, parse_precision
from .registry import find_entry

__all__ = ["Checkpoint", "Encoder", "Weights", "bank_name", "load_encoder"]


class Encoder(Protocol):
    """Vectors of chips, one row each; the same pixels give the same row in any batch.

    bands: in the order of axis C; dimension: D; dtype: of the vectors, as the shard stores them;
    min_size: smallest chip edge in pixels; config and preprocess: JSON without floats, hashed with the
    weights into the `space`; precision: the class of its arithmetic, which the space does not depend on;
    tolerance: what `precision.tolerance_of` says of that class, {"kind": "bits"} for "exact"; device: its
    str() names it.
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
    @property
    def device(self) -> object: ...

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        """(N, D) of the chips `pixels` (N, C, H, W), raw DN, bands as `self.bands`.

        offset: the DN that stands for reflectance 0 (1000 for Sentinel-2 baseline ≥ 04.00, else 0).
        Raises InputError, which names the row, for a chip that has no vector.
        """
        ...


def load_encoder(
    name: str,
    bands: Collection[str],
    *,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    precision: str | None = None,
) -> Encoder:
    """The encoder `name`, ready on `device`, for a scene that has `bands`.

    name: "exact" takes the bank that reads most of `bands`; "exact-s2-l2a" and so on name one; all others are
    the registry's, and need the `checkpoint` with their weights.
    device: "auto" (CUDA where torch sees one), "cpu", "cuda" or "cuda:N". precision: of `precision.py`, for
    published encoders; None: fp32, on CUDA bf16.
    Raises UsageError for an unknown name or weights that are missing or not pinned, InputError where the
    scene lacks a band, Malformed for weights that are not the pinned ones.
    """
    if name != "exact" and name not in BANKS:
        return _load_published(name, bands, device, checkpoint, precision)
    if checkpoint is not None or precision not in (None, "exact"):
        raise UsageError(
            f"encoder {name} brings its weights and has one precision",
            hint="leave --weights and --precision out",
        )
    bank = bank_name(name, bands)
    _check_bands(bank, bands_of(bank), bands)
    from .exact import ExactEncoder  # imports torch: 1.6 s that `--help` must not pay

    return ExactEncoder(read_bank(bank), device=device)


def _load_published(
    name: str, bands: Collection[str], device: str, checkpoint: Checkpoint | None, precision: str | None
) -> Encoder:
    entry = find_entry(name)
    _check_bands(name, entry.bands, bands)
    if checkpoint is None:
        raise UsageError(
            f"encoder {name} needs its weights: nothing is downloaded",
            hint=f"fetch {entry.model.url} and give --weights FILE",
        )
    from .published import load_published  # imports torch

    chosen = None if precision is None else parse_precision(precision)
    return load_published(entry, checkpoint, device=device, precision=chosen)


def _check_bands(name: str, needed: Collection[str], bands: Collection[str]) -> None:
    missing = [band for band in needed if band not in bands]
    if missing:
        raise InputError(
            f"encoder {name} needs the band{'s' * (len(missing) > 1)} {', '.join(missing)}, "
            f"the scene has {', '.join(sorted(bands)) or 'none'}",
            hint=f"give a scene with {', '.join(needed)}",
        )


def bank_name(name: str, bands: Collection[str]) -> str:
    """Of "exact", the richest bank whose bands are all there, else the one that is nearest to it."""
    if name in BANKS:
        return name
    if name != "exact":
        raise UsageError(f"no bank is named {name!r}", hint=f"one of exact, {', '.join(sorted(BANKS))}")
    have = set(bands)
    sharing = [bank for bank in BANKS if have & set(bands_of(bank))] or list(BANKS)
    return min(sharing, key=lambda bank: (len(set(bands_of(bank)) - have), -len(bands_of(bank)), bank))
