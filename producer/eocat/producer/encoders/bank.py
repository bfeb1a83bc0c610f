"""Filter banks: the fitted weights of the exact encoder as small, digest-named safetensors files.

A bank is read only if its bytes have the SHA-256 that is pinned here, and it is never refitted: whitening
needs LAPACK, whose last bits differ between builds (docs/banks.md tells where each bank comes from).
This module owns the format; the arithmetic is in `exact.py`, the fit in `fit_bank.py`.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from eocat.verify.canonical import encode, parse, parse_canonical
from eocat.verify.digest import digest_bytes
from eocat.verify.errors import Malformed, UsageError

FORMAT = "eocat-bank-1"
MAX_BYTES = 1 << 20
MAX_WEIGHT = 63  # with u8·s8 multiply-add of CPUs without VNNI, 2·255·|w| must stay below 2^15
MAX_SHIFT = 8  # left or right; 16-bit DN stay far inside int32

_S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
BAND_SETS: dict[str, tuple[str, ...]] = {
    "exact-s2-l1c": _S2,
    "exact-s2-l2a": tuple(band for band in _S2 if band != "B10"),  # atmospheric correction drops cirrus
    "exact-s2-10m": ("B02", "B03", "B04", "B08"),
    "exact-rgb": ("red", "green", "blue"),
    "exact-s1": ("VV", "VH"),
}
BANKS: dict[str, str] = {  # name → SHA-256 of its file, as fit_bank prints it
    "exact-s2-l1c": "c1c3cbe1becffa2032d02dc6c6e3e51b8126cd7c5d1f7824d9a5819a21490e74",
    "exact-s2-l2a": "9b8aad91e779a35d4071dca80b2e11c271081d44227059fa9e364ace6cd8a234",
    "exact-s2-10m": "63024fa47653b3cb34c342978799119f963db1d94af3a67769cd67276c55de5f",
    "exact-rgb": "f76663e507c5f624ac3d99674b35d2216495b5d7c18196f9f941fdba9041ad68",
    "exact-s1": "35590786ba68b8a573d17cda9e50a76cc2219c609d82c39c69431e213ba01b5a",
}


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights: name, lower-case hex digests, size in bytes."""

    name: str
    sha256: str
    blake3: str
    size: int


@dataclass(frozen=True, slots=True)
class Bank:
    """A parsed bank.

    filters: int8 (k, k, C, F), |w| ≤ 63, rows down, columns right, bands as in `bands`.
    offsets: int32 (C,), DN taken from each band; shifts: int8 (C,), then times 2^shift (floor if negative).
    facts: version, licence, depth (8 or 16, bits of the pixels), signed (decibels: pixels below 0 count),
    known_answer (SHA-256 of the vector of
    `known_chip`), sources, seed and fit parameters. file: its digests.
    """

    name: str
    bands: tuple[str, ...]
    filters: NDArray[np.int8]
    offsets: NDArray[np.int32]
    shifts: NDArray[np.int8]
    facts: dict[str, Any]
    file: Weights

    def __post_init__(self) -> None:
        self._check_filters()
        channels = len(self.bands)
        expected = (("offsets", self.offsets, np.int32), ("shifts", self.shifts, np.int8))
        for what, array, dtype in expected:
            if array.shape != (channels,) or array.dtype != dtype:
                raise Malformed(
                    f"{what} of bank {self.name}: expected {channels} of {dtype.__name__}, "
                    f"found {array.dtype} {array.shape}"
                )
        if int(np.abs(self.shifts.astype(np.int32)).max()) > MAX_SHIFT:
            raise Malformed(f"shifts of bank {self.name} must lie in -{MAX_SHIFT}..{MAX_SHIFT}")

    def _check_filters(self) -> None:
        shape, channels = self.filters.shape, len(self.bands)
        square = len(shape) == 4 and shape[0] == shape[1] and shape[2] == channels and min(shape) > 0
        if not square or self.filters.dtype != np.int8:
            raise Malformed(
                f"filters of bank {self.name}: expected int8 (k, k, {channels}, F), "
                f"found {self.filters.dtype} {shape}"
            )
        if int(np.abs(self.filters.astype(np.int32)).max()) > MAX_WEIGHT:
            raise Malformed(f"filters of bank {self.name} must lie in -{MAX_WEIGHT}..{MAX_WEIGHT}")


def bands_of(name: str) -> tuple[str, ...]:
    """The bands that the bank `name` reads, in order."""
    return BAND_SETS[name]


def file_name(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:12]}.safetensors"


def read_bank(name: str) -> Bank:
    """The bank `name` that ships with this package; Malformed where its bytes are not the pinned ones."""
    if name not in BANKS:
        raise UsageError(f"no bank is named {name!r}", hint=f"one of {', '.join(sorted(BANKS))}")
    file = resources.files(__package__) / "banks" / file_name(name, BANKS[name])
    try:
        return parse_bank(file.read_bytes(), sha256=BANKS[name])
    except FileNotFoundError:
        raise Malformed(f"bank {file.name} is not in this installation", hint="install eocat again") from None


def parse_bank(data: bytes, *, sha256: str) -> Bank:
    """The bank in `data`, which must have the digest `sha256` (lower-case hex); Malformed if not."""
    digests = digest_bytes(data)
    if digests.sha256 != sha256:
        raise Malformed(
            f"filter bank has sha256 {digests.sha256}, expected {sha256}",
            hint="the file was changed or is another version: install eocat again",
        )
    facts = _read_facts(data)
    try:
        tensors = load(data)
        name, bands = facts.pop("name"), tuple(facts.pop("bands"))
        file = Weights(file_name(name, sha256), digests.sha256, digests.blake3, digests.size)
        return Bank(name, bands, tensors["filters"], tensors["offsets"], tensors["shifts"], facts, file)
    except (SafetensorError, KeyError) as error:
        raise Malformed(f"filter bank {sha256[:12]} is not {FORMAT}: {error}") from None


def format_bank(
    filters: NDArray[np.int8], offsets: NDArray[np.int32], shifts: NDArray[np.int8], facts: dict[str, Any]
) -> bytes:
    """The bytes of a bank: the same values give the same bytes.

    safetensors sorts tensors but not metadata, so all facts travel in one canonical JSON string; and it
    writes the memory of an array whatever its strides, so each is made contiguous first.
    """
    text = encode({"format": FORMAT, **facts}).decode()
    tensors = {"filters": filters, "offsets": offsets, "shifts": shifts}
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return save(contiguous, metadata={"eocat": text})


def _read_facts(data: bytes) -> dict[str, Any]:
    """The canonical JSON of the header's one metadata key (safetensors: u64 length, JSON header, tensors)."""
    length = int.from_bytes(data[:8], "little")
    if len(data) > MAX_BYTES or length > len(data) - 8:
        raise Malformed(f"filter bank of {len(data)} bytes is cut short or above {MAX_BYTES} bytes")
    header = parse(data[8 : 8 + length], what="header of a filter bank")  # space-padded, so not canonical
    try:
        text = header["__metadata__"]["eocat"]
    except (KeyError, TypeError):
        raise Malformed("filter bank has no facts in its header") from None
    facts = parse_canonical(str(text).encode(), what="facts of a filter bank")
    if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
        raise Malformed(f"filter bank is not of format {FORMAT}")
    return facts
