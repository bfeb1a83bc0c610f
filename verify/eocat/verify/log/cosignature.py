"""Timestamped Ed25519 cosignatures of witnesses (C2SP tlog-cosignature, version 1, type 0x04).

A cosignature says: at this time, this checkpoint was the largest consistent tree that the witness had seen
of the log. Its body is the time and the signature, `u64 ‖ 64 bytes`. Which times are believed is left to
`quorum.py`. (ML-DSA-44 cosignatures, type 0x06, are not read: they count as those of an unknown key.)
"""

import struct

from ..keys import PublicKey

MAX_TIME_S = (1 << 63) - 1  # the specification's
_BODY = struct.Struct(">Q64s")


def cosigned_message(time_s: int, text: str) -> bytes:
    """What a witness signs: the POSIX time and the whole text of the checkpoint, extension lines included."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def format_cosignature(time_s: int, signature: bytes) -> bytes:
    """The body of a cosignature from its POSIX time and raw Ed25519 signature."""
    return _BODY.pack(time_s, signature)


def cosignature_time(body: bytes) -> int | None:
    """The POSIX time that a cosignature's body names, or None if it is no such body."""
    if len(body) != _BODY.size:
        return None
    time_s: int = _BODY.unpack(body)[0]
    return time_s if time_s <= MAX_TIME_S else None


def check_cosignature(key: PublicKey, body: bytes, text: str) -> int | None:
    """The POSIX time at which `key` cosigned the checkpoint `text`; None if `body` is not its cosignature."""
    time_s = cosignature_time(body)
    if time_s is None or not key.verifies(body[8:], cosigned_message(time_s, text)):
        return None
    return time_s
