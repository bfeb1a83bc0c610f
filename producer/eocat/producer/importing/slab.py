"""The rows that become one shard, and what is looked for in them before they do.

A slab holds at most SLAB_BYTES of vectors, so that an import of any size goes through bounded memory.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError
from eocat.verify.row import MAX_DIMENSION

from ..chips import Chip
from ..footprint import Point

SLAB_BYTES: Final = 96 << 20
SLAB_ROWS: Final = 65_536
UNKNOWN_WINDOW: Final = (0, 0, 0)  # x, y, size: the pixels that a row was made from were not stated


@dataclass(frozen=True, slots=True)
class Facts:
    """A file of vectors, opened. rows: of a slab, at most; count: of the file, before any row is left out.

    dtype: of the vectors as they are kept; emb: what the file says of its encoder and times.
    """

    path: Path
    dimension: int
    dtype: str
    original_dtype: str
    rows: int
    count: int
    emb: Mapping[str, Any] = field(default_factory=dict)


class Opened(Protocol):
    """A file of vectors and its rows."""

    @property
    def facts(self) -> Facts: ...
    def slabs(self) -> Iterator["Slab"]: ...


@dataclass(frozen=True, slots=True)
class Slab:
    """Rows as read, in the file's order. starts, ends: µs; windows: (x, y, size); vectors: (N, D)."""

    ids: Sequence[str]
    footprints: Sequence[dict[str, Any]]
    centres: Sequence[Point]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sources: Sequence[str]
    cells: Sequence[str | None]
    windows: Sequence[tuple[int, int, int]]
    vectors: NDArray[np.floating]
    assumptions: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()  # by the reader, such as pixels of no land

    def __len__(self) -> int:
        return len(self.ids)

    def chips(self) -> list[Chip]:
        return [
            Chip(name, x, y, size, footprint, at, cell)
            for name, (x, y, size), footprint, at, cell in zip(
                self.ids, self.windows, self.footprints, self.centres, self.cells, strict=True
            )
        ]

    def take(self, places: NDArray[np.intp]) -> "Slab":
        taken: dict[str, Any] = {name: getattr(self, name)[places] for name in ("starts", "ends", "vectors")}
        for name in ("ids", "footprints", "centres", "sources", "cells", "windows"):
            values = getattr(self, name)
            taken[name] = [values[place] for place in places]
        return replace(self, **taken)


def rows_of_slab(dimension: int, itemsize: int) -> int:
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InputError(f"vectors have {dimension} values, 1 to {MAX_DIMENSION} are expected")
    return max(1, min(SLAB_ROWS, SLAB_BYTES // (dimension * itemsize)))


class Judge:
    """Looks for rows that no catalogue should have, over all slabs of one file. drop: faults to leave out."""

    def __init__(self, label: str, drop: frozenset[str]) -> None:
        self._label, self._drop = label, drop
        self._seen: list[NDArray[np.uint64]] = []
        self._row = 0

    def judged(self, slab: Slab) -> tuple[Slab, Counter[str]]:
        """The slab without the rows that are to be left out, and how many by fault; else InputError."""
        faults = dict(self._faults(slab))
        left_out = Counter(dict(slab.left_out))
        keep = np.ones(len(slab), bool)
        for fault, rows in faults.items():
            if fault not in self._drop:
                raise self._refusal(fault, slab, rows)
            left_out[fault] += int((rows & keep).sum())
            keep &= ~rows
        self._row += len(slab)
        return slab.take(np.flatnonzero(keep)), left_out

    def _faults(self, slab: Slab) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        odd: NDArray[np.bool_] = ~np.isfinite(slab.vectors).all(axis=1)
        zero: NDArray[np.bool_] = np.all(slab.vectors == 0, axis=1)
        for fault, rows in (("nan", odd), ("zero", zero), ("duplicate", self._duplicates(slab))):
            if rows.any():
                yield fault, rows

    def _duplicates(self, slab: Slab) -> NDArray[np.bool_]:
        """Rows whose id, or whose footprint with time and source, came before: 8 bytes of each are kept."""
        again = np.zeros(len(slab), bool)
        keyed = zip(slab.footprints, slab.starts.tolist(), slab.sources, strict=True)
        places = [(str(shape["coordinates"]), start, source) for shape, start, source in keyed]
        for kind, keys in enumerate((slab.ids, places)):
            hashes = np.array([_hash(key) for key in keys], np.uint64)
            first = np.zeros(len(slab), bool)
            first[np.unique(hashes, return_index=True)[1]] = True
            if len(self._seen) <= kind:
                self._seen.append(np.empty(0, np.uint64))
            again |= ~first | np.isin(hashes, self._seen[kind])
            self._seen[kind] = np.union1d(self._seen[kind], hashes)
        return again

    def _refusal(self, fault: str, slab: Slab, rows: NDArray[np.bool_]) -> InputError:
        first, count = int(np.flatnonzero(rows)[0]), int(rows.sum())
        what = {
            "nan": "vectors that are missing, NaN or infinite",
            "zero": "vectors of zeros, which have no direction",
            "duplicate": "rows whose id, or footprint with time and source, came before",
        }[fault]
        return InputError(
            f"{self._label} has {count} {what}; the first is row {self._row + first}, {slab.ids[first][:60]}",
            hint=f"correct the file, or leave such rows out, which the statement will count: --drop {fault}",
        )


def _hash(key: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
