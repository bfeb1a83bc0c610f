"""Public keys, read strictly: Ed25519, and ML-DSA-44 for a second signature. Private keys never enter here.

A key id is derived: SHA-256 of `"<algorithm>:"` and the raw key, in hex; it is never read from a file. The
library accepts low-order points, under which one signature fits many messages, and encodings with a second
spelling; both are refused here, when the key is loaded (RFC 8032, section 5.1.3; "Taming the many EdDSAs").
Every string of 1312 bytes is an ML-DSA-44 key in its one encoding (FIPS 204, algorithm 23).
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import cryptography
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import Malformed, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

Algorithm = Literal["ed25519", "ml-dsa-44"]
KEY_BYTES: dict[Algorithm, int] = {"ed25519": 32, "ml-dsa-44": 1312}

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A usable key, Malformed otherwise: Ed25519 is canonical, on the curve and not of low order.

    MissingExtra if the installed library does not know the algorithm: better here than at a signature.
    """

    raw: bytes
    algorithm: Algorithm = "ed25519"

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES[self.algorithm]:
            raise Malformed(
                f"{self.algorithm} key has {len(self.raw)} bytes, expected {KEY_BYTES[self.algorithm]}"
            )
        if self.algorithm == "ed25519":
            _check_ed25519(self.raw)
        else:
            _ml_dsa_44(self.raw)

    @property
    def key_id(self) -> str:
        return hashlib.sha256(f"{self.algorithm}:".encode() + self.raw).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over `message`; Ed25519's S ≥ L is refused by the library."""
        read = Ed25519PublicKey.from_public_bytes if self.algorithm == "ed25519" else _ml_dsa_44
        try:
            read(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_key(text: str) -> PublicKey:
    """The key spelled `<algorithm>:<base64>`, as policies and `.pub` files hold it."""
    name, _, encoded = text.partition(":")
    for algorithm in get_args(Algorithm):
        if name == algorithm:
            return PublicKey(decode_base64(encoded, what="public key"), algorithm)
    raise Malformed(f"key {text[:40]!r} does not begin with 'ed25519:' or 'ml-dsa-44:'")


def format_key(key: PublicKey) -> str:
    return f"{key.algorithm}:{base64.b64encode(key.raw).decode()}"


def decode_base64(text: str, *, what: str) -> bytes:
    """Bytes of standard base64 with padding, in its one spelling (no spare bits, no URL alphabet)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what} is not standard base64 with padding") from None
    if base64.b64encode(data).decode() != text:
        raise Malformed(f"{what} is base64 in a second spelling")
    return data


def _ml_dsa_44(raw: bytes) -> "MLDSA44PublicKey":
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        return MLDSA44PublicKey.from_public_bytes(raw)
    except (ImportError, UnsupportedAlgorithm):
        raise no_ml_dsa() from None


def no_ml_dsa() -> MissingExtra:
    """What to raise where the library does not know ML-DSA-44."""
    return MissingExtra(
        f"an ML-DSA-44 key needs the library cryptography 50 or newer with ML-DSA, here is "
        f"{cryptography.__version__}",
        hint="pip install --upgrade 'cryptography>=50'",
    )


@lru_cache(maxsize=1024)  # a policy's few keys are looked at for every event
def _check_ed25519(raw: bytes) -> None:
    point = _decode_point(raw)
    if point is None:
        raise Malformed("Ed25519 key is not the canonical encoding of a curve point")
    if _times_8_is_neutral(point):
        raise Malformed("Ed25519 key is a low-order point, under which one signature fits many messages")


def _decode_point(raw: bytes) -> tuple[int, int] | None:
    """The affine point (x, y) of a canonical encoding, else None."""
    encoded = int.from_bytes(raw, "little")
    sign, y = encoded >> 255, encoded & ((1 << 255) - 1)
    if y >= _P:
        return None
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if (x * x - x_squared) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if (x * x - x_squared) % _P or (x == 0 and sign):
        return None
    return (_P - x if x & 1 != sign else x), y


def _times_8_is_neutral(point: tuple[int, int]) -> bool:
    for _ in range(3):
        point = _double(point)
    return point == (0, 1)


def _double(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    product = _D * x * x * y * y % _P
    return (
        2 * x * y * pow(1 + product, -1, _P) % _P,
        (y * y + x * x) * pow(1 - product, -1, _P) % _P,
    )
