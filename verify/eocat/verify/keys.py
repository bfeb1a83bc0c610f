"""Ed25519 public keys, read strictly. Private keys never enter this room.

A key id is derived: SHA-256 of `"ed25519:"` and the raw key, in hex; it is never read from a file. The
library accepts low-order points, under which one signature fits many messages, and encodings with a second
spelling; both are refused here, when the key is loaded (RFC 8032, section 5.1.3; "Taming the many EdDSAs").
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import Malformed

ALGORITHM = "ed25519"
KEY_BYTES = 32

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A usable Ed25519 key: canonical encoding, on the curve, not of low order; Malformed otherwise."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise Malformed(f"Ed25519 key has {len(self.raw)} bytes, expected {KEY_BYTES}")
        point = _decode_point(self.raw)
        if point is None:
            raise Malformed("Ed25519 key is not the canonical encoding of a curve point")
        if _times_8_is_neutral(point):
            raise Malformed("Ed25519 key is a low-order point, under which one signature fits many messages")

    @property
    def key_id(self) -> str:
        return hashlib.sha256(f"{ALGORITHM}:".encode() + self.raw).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `message`; S ≥ L is refused by the library."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_key(text: str) -> PublicKey:
    """The key spelled `ed25519:<base64>`, as policies and `.pub` files hold it."""
    algorithm, _, encoded = text.partition(":")
    if algorithm != ALGORITHM:
        raise Malformed(f"key {text[:40]!r} does not begin with '{ALGORITHM}:'")
    return PublicKey(decode_base64(encoded, what="public key"))


def format_key(key: PublicKey) -> str:
    return f"{ALGORITHM}:{base64.b64encode(key.raw).decode()}"


def decode_base64(text: str, *, what: str) -> bytes:
    """Bytes of standard base64 with padding, in its one spelling (no spare bits, no URL alphabet)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what} is not standard base64 with padding") from None
    if base64.b64encode(data).decode() != text:
        raise Malformed(f"{what} is base64 in a second spelling")
    return data


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
