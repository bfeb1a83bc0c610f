"""The windows of a scene, in an order that decodes every block once and in bounded memory.

Windows come from the top to the bottom. Each raster file goes through in strips of whole blocks, decoded
ahead by other processes as far as the memory allows, and a strip is let go when no window needs it any more.
So a Sentinel-2 tile never lies in memory whole, and no JPEG 2000 block is decoded twice.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from .decoders import Decoders, Strip
from .encoding import Allocate
from .sources import BandFile, Scene
from .sources.gdal import Grid, open_raster, strip_rows

AHEAD_BYTES: Final = 512 << 20  # of strips decoded or being decoded; what the next windows need may exceed it


class Square(Protocol):
    """A window of `size` × `size` pixels of the reference grid; (x, y) is its upper-left pixel."""

    @property
    def x(self) -> int: ...
    @property
    def y(self) -> int: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _File:
    """One raster file of the scene. places: of its bands among those asked for; step: see `Scene.step`."""

    path: str
    name: str
    bands: tuple[int, ...]
    places: tuple[int, ...]
    step: int
    grid: Grid
    strip_rows: int
    strips: dict[int, Future[NDArray[Any]]] = field(default_factory=dict)  # by number, as long as needed

    def numbers(self, top: int, bottom: int) -> range:
        """The strips that hold rows `top` to `bottom` (exclusive) of the reference grid."""
        height = self.strip_rows * self.step
        return range(top // height, (bottom - 1) // height + 1)

    def strip(self, scene: Scene, number: int) -> Strip:
        top = number * self.strip_rows
        rows = min(self.strip_rows, self.grid.height - top)
        return Strip(scene, self.path, self.name, self.bands, top, rows, self.grid.width, scene.dtype)

    def cut(self, square: Square, out: NDArray[Any]) -> None:
        """Copy the square's pixels of these bands into `out` (C, size, size), coarse ones replicated."""
        rows = np.arange(square.y, square.y + square.size) // self.step
        columns = np.arange(square.x, square.x + square.size) // self.step
        across = slice(columns[0], columns[-1] + 1)
        for number in self.numbers(square.y, square.y + square.size):
            lines = np.flatnonzero(rows // self.strip_rows == number)
            local = rows[lines] - number * self.strip_rows
            part = self.strips[number].result()[:, local[0] : local[-1] + 1, across]
            for place, band in zip(self.places, part, strict=True):
                fine = band if self.step == 1 else band[local - local[0]][:, columns - columns[0]]
                out[place, lines[0] : lines[-1] + 1] = fine


class Windows:
    """The pixels of squares of one size in one scene, batch by batch. Close it when it is left early.

    Raises ValueError for a square outside the scene or of another size, InputError for a missing band and
    for a damaged file.
    """

    def __init__(
        self, scene: Scene, bands: Sequence[str], squares: Sequence[Square], decoders: Decoders
    ) -> None:
        for square in squares:
            if not (
                0 <= square.x <= scene.width - square.size and 0 <= square.y <= scene.height - square.size
            ):
                raise ValueError(
                    f"window {square.x},{square.y} of {square.size} pixels is not inside {scene.id}"
                )
        if len({square.size for square in squares}) > 1:
            raise ValueError("windows of several sizes cannot make a batch")
        self._scene, self._squares, self._decoders = scene, squares, decoders
        self._files = _files(scene, bands)
        self._order = sorted(range(len(squares)), key=lambda i: (squares[i].y, squares[i].x))
        self._ahead = self._plan()
        self._channels = len(bands)
        self.held_bytes = 0

    @property
    def is_submitted(self) -> bool:
        """Whether the decoders have got every strip."""
        return not self._ahead

    def decode_ahead(self, limit_bytes: int) -> None:
        """Hand strips to the decoders as long as all that are held stay below `limit_bytes`."""
        while self._ahead and self.held_bytes + self._ahead[0].strip.size_bytes <= limit_bytes:
            self._submit(self._ahead.popleft())

    def batches(
        self, count: int, pool: Executor, allocate: Allocate = np.empty
    ) -> Iterator[tuple[list[int], NDArray[Any]]]:
        """(numbers of up to `count` squares, their pixels (n, C, size, size)); `pool` cuts them out.

        allocate: makes the array of the pixels.
        """
        for begin in range(0, len(self._order), count):
            numbers = self._order[begin : begin + count]
            size = self._squares[numbers[0]].size
            self._require(self._squares[numbers[-1]].y + size)
            self.decode_ahead(AHEAD_BYTES)
            pixels = allocate((len(numbers), self._channels, size, size), self._scene.dtype)
            list(pool.map(self._cut, numbers, pixels))
            following = self._order[begin + count : begin + count + 1]
            self._release(self._squares[following[0]].y if following else self._scene.height)
            self.decode_ahead(AHEAD_BYTES)
            yield numbers, pixels

    def close(self) -> None:
        """Take back what the decoders have not begun, and let go of all strips."""
        self._ahead.clear()
        for file in self._files:
            for strip in file.strips.values():
                strip.cancel()
            file.strips.clear()

    def _cut(self, number: int, out: NDArray[Any]) -> None:
        for file in self._files:
            file.cut(self._squares[number], out)

    def _plan(self) -> "deque[_Planned]":
        """Every strip that a square needs, in the order of need."""
        planned: dict[tuple[int, int], _Planned] = {}
        for i in self._order:
            top = self._squares[i].y
            for place, file in enumerate(self._files):
                for number in file.numbers(top, top + self._squares[i].size):
                    if (place, number) not in planned:
                        planned[place, number] = _Planned(file, number, file.strip(self._scene, number))
        return deque(planned.values())

    def _require(self, bottom: int) -> None:
        """Hand over all strips that begin above row `bottom`, whatever they hold."""
        while self._ahead and self._ahead[0].top < bottom:
            self._submit(self._ahead.popleft())

    def _submit(self, planned: "_Planned") -> None:
        planned.file.strips[planned.number] = self._decoders.submit(planned.strip)
        self.held_bytes += planned.strip.size_bytes

    def _release(self, top: int) -> None:
        """Let go of the strips that lie above row `top`."""
        for file in self._files:
            for number in [n for n in file.strips if (n + 1) * file.strip_rows * file.step <= top]:
                self.held_bytes -= file.strip(self._scene, number).size_bytes
                del file.strips[number]


@dataclass(frozen=True, slots=True)
class _Planned:
    file: _File
    number: int
    strip: Strip

    @property
    def top(self) -> int:
        """Its first row on the reference grid."""
        return self.number * self.file.strip_rows * self.file.step


def _files(scene: Scene, bands: Sequence[str]) -> list[_File]:
    """The raster files that hold the bands, each with those of its bands that are asked for."""
    by_path: defaultdict[str, list[tuple[int, BandFile]]] = defaultdict(list)
    for place, source in enumerate(scene.sources(bands)):
        by_path[source.path].append((place, source))
    files = []
    for path, members in by_path.items():
        places, sources = zip(*members, strict=True)
        try:
            with closing(open_raster(path)) as handle:
                rows = strip_rows(handle)
        except RasterioError as error:
            raise scene.damaged(sources[0].name) from error
        indexes = tuple(source.index for source in sources)
        grid = sources[0].grid
        files.append(_File(path, sources[0].name, indexes, places, scene.step(sources[0]), grid, rows))
    return files
