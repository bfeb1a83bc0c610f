"""Which rows a recomputation makes again, drawn where nobody could foresee them (docs/format.md, 7.1)."""

import secrets
from hashlib import sha256


def draw_rows(seed: bytes, count: int, wanted: int) -> list[int]:
    """`wanted` different rows of 0..count-1 (all, if there are fewer), sorted; the same for the same seed."""
    rows: set[int] = set()
    number = 0
    while len(rows) < min(wanted, count):
        digest = sha256(seed + number.to_bytes(8, "big")).digest()
        rows.add(int.from_bytes(digest[:16], "big") % count)  # 2^128 over count: no bias to speak of
        number += 1
    return sorted(rows)


def seed_of(checkpoint: str | None, item: str) -> bytes:
    """What the producer cannot foresee. checkpoint: the cosigned note, where there is one."""
    return sha256((checkpoint or secrets.token_hex(32)).encode() + item.encode()).digest()
