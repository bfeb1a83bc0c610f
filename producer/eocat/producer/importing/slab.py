"""The rows that become one shard, and what is looked for in them before they do.

A slab holds at most SLAB_BYTES of vectors, so that an import of any size goes through bounded memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError
from eocat.verify.row import MAX_DIMENSION

from .footprints import Footprints

SLAB_BYTES: Final = 96 << 20
SLAB_ROWS: Final = 65_536
_EXPONENT: Final = np.uint16(0x7C00)  # of float16: all its bits are set in NaN and infinity alone


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
    """Rows as read, in the file's order. starts, ends: µs; vectors: (N, D).

    windows: (N, 3), x, y, size; zeros where the pixels that a row was made from were not stated.
    """

    ids: Sequence[str]
    footprints: Footprints
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sources: Sequence[str]
    cells: Sequence[str | None]
    windows: NDArray[np.int64]
    vectors: NDArray[np.floating]
    assumptions: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()  # by the reader, such as pixels of no land

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: NDArray[np.intp]) -> "Slab":
        taken: dict[str, Any] = {
            name: getattr(self, name)[places] for name in ("starts", "ends", "windows", "vectors")
        }
        for name in ("ids", "sources", "cells"):
            values = getattr(self, name)
            taken[name] = [values[place] for place in places.tolist()]
        return replace(self, footprints=self.footprints.take(places), **taken)


def unknown_windows(count: int) -> NDArray[np.int64]:
    return np.zeros((count, 3), np.int64)


def rows_of_slab(dimension: int, itemsize: int) -> int:
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InputError(f"vectors have {dimension} values, 1 to {MAX_DIMENSION} are expected")
    return max(1, min(SLAB_ROWS, SLAB_BYTES // (dimension * itemsize)))


class Seen:
    """Hashes of all keys so far, 8 bytes each, in sorted runs.

    Each run is more than twice as long as the next, so that their number, and how often a hash is moved, grow
    with the logarithm of the number of slabs.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def add(self, keys: Iterable[object]) -> NDArray[np.bool_]:
        """Which of the keys came before, here or in an earlier call."""
        hashes = np.array([hash(key) for key in keys], np.int64)  # 64 bits, keyed by a secret of the process
        run, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), bool)
        again[first] = False
        for before in self._runs:
            places = np.searchsorted(before, hashes)
            again |= before.take(places, mode="clip") == hashes
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = _merged(self._runs.pop(), run)
        if run.size:
            self._runs.append(run)
        return again


def _merged(run: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.union1d(run, other)


class Judge:
    """Looks for rows that no catalogue should have, over all slabs of one file. drop: faults to leave out."""

    def __init__(self, label: str, drop: frozenset[str]) -> None:
        self._label, self._drop = label, drop
        self._ids, self._places = Seen(), Seen()
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
        return slab if keep.all() else slab.take(np.flatnonzero(keep)), left_out

    def _faults(self, slab: Slab) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        zero = ~np.asarray(slab.vectors.any(axis=1))
        for fault, rows in (
            ("nan", _odd(slab.vectors)),
            ("zero", zero),
            ("duplicate", self._duplicates(slab)),
        ):
            if rows.any():
                yield fault, rows

    def _duplicates(self, slab: Slab) -> NDArray[np.bool_]:
        """Rows whose id, or whose footprint with time and source, came before: 8 bytes of each are kept."""
        places = zip(slab.footprints.wkb, slab.starts.tolist(), slab.sources, strict=True)
        return self._ids.add(slab.ids) | self._places.add(places)

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


def _odd(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows have a value that is NaN or infinite."""
    if vectors.dtype == np.float16:  # numpy would widen each value first
        finite = vectors.view(np.uint16) & _EXPONENT != _EXPONENT
    else:
        finite = np.isfinite(vectors)
    return np.asarray(~finite.all(axis=1))
