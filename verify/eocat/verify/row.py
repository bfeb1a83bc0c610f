"""The row leaf `eocat-row/v1`: what one row of a shard signs (docs/format.md, section 2).

Binary and length-prefixed: no printed floats (the largest published set hashes a printed vector, which
elides most of its values) and no concatenation that two different rows could share.
"""

import hashlib
import struct
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import Malformed
from .geometry import parse_wkb

LEAF_FORMAT = "eocat-row/v1"
DTYPES = {"float16": 1, "float32": 2}  # name → code in the leaf
MAX_DIMENSION = 1 << 16
UNKNOWN_INPUT = bytes(32)

_HALF_EXPONENT = np.uint16(0x7C00)  # all its bits are set in NaN and infinity alone
_PIXEL_DTYPES = {"uint8": 1, "uint16": 2, "int16": 3}


@dataclass(frozen=True, slots=True)
class Row:
    """One chip's row: valid by construction, Malformed otherwise.

    id: NFC text, unique in its shard. geometry: WKB of geometry.py. start, end: µs since 1970 UTC,
    start ≤ end. input_digest: 32 bytes (`pixels_digest`; zeros: unknown). dtype: a key of DTYPES.
    vector: the little-endian bytes of the values, all finite.
    """

    id: str
    geometry: bytes
    start: int
    end: int
    input_digest: bytes
    dtype: str
    vector: bytes

    def __post_init__(self) -> None:
        if not _is_name(self.id):
            raise Malformed(f"row id {self.id[:40]!r} is not 1 to 65535 bytes of NFC text without NUL")
        parse_wkb(self.geometry)
        if not -(1 << 63) <= self.start <= self.end < 1 << 63:
            raise Malformed(f"row {self.id}: time {self.start}..{self.end} µs is not an interval")
        if len(self.input_digest) != 32:
            raise Malformed(f"row {self.id}: input digest has {len(self.input_digest)} bytes, expected 32")
        if self.dtype not in DTYPES:
            raise Malformed(f"row {self.id}: dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        check_vectors(self.values()[None, :], self.id)

    def values(self) -> NDArray[np.floating]:
        """The vector, shape (D,), in its declared dtype."""
        item_bytes = np.dtype(self.dtype).itemsize
        if not self.vector or len(self.vector) % item_bytes or len(self.vector) > MAX_DIMENSION * item_bytes:
            raise Malformed(f"row {self.id}: {len(self.vector)} vector bytes do not hold {self.dtype} values")
        return np.frombuffer(self.vector, np.dtype(self.dtype).newbyteorder("<"))


def _is_name(text: str) -> bool:
    if any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in text):
        return False
    return 1 <= len(text.encode()) <= 0xFFFF and unicodedata.is_normalized("NFC", text)


def check_vectors(vectors: NDArray[np.floating], what: str) -> None:
    """Raise Malformed if a value of `vectors` (any shape) is NaN or infinite."""
    if vectors.dtype == np.dtype("<f2"):  # numpy would widen each value first, ten times slower
        finite = (vectors.view(np.uint16) & _HALF_EXPONENT != _HALF_EXPONENT).all()
    else:
        finite = np.isfinite(vectors).all()
    if not finite:
        raise Malformed(f"{what}: a vector holds NaN or an infinite value")


def encode_row(row: Row) -> bytes:
    """The leaf's bytes, before the Merkle tree's 0x00 prefix and hash."""
    identity = row.id.encode()
    return b"".join((
        LEAF_FORMAT.encode() + b"\n",
        struct.pack("<H", len(identity)),
        identity,
        struct.pack("<I", len(row.geometry)),
        row.geometry,
        struct.pack("<qq", row.start, row.end),
        row.input_digest,
        struct.pack("<BI", DTYPES[row.dtype], row.values().size),
        row.vector,
    ))  # fmt: skip


def pixels_digest(pixels: NDArray[np.integer]) -> bytes:
    """SHA-256 (32 bytes) of a chip's integer pixels before any normalisation.

    pixels: (C, H, W), uint8, uint16 or int16, bands in the encoder's order. The digest also covers
    dtype and shape, so that no two chips of different shape share one.
    """
    code = _PIXEL_DTYPES.get(pixels.dtype.name)
    if code is None or pixels.ndim != 3:
        raise Malformed(
            f"pixels are {pixels.dtype.name} {pixels.shape}, expected (C, H, W) of uint8, uint16 or int16"
        )
    head = b"eocat-pixels/v1\n" + struct.pack("<BIII", code, *pixels.shape)
    little_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    return hashlib.sha256(head + little_endian.tobytes()).digest()
