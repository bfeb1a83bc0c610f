"""Zarr version 2 in a zip, read strictly: the arrays of SSL4EO-S12 and TerraMesh. Zarr v2 specification.

A zip may be a file of its own or a member of a tar. Chunks are decompressed into the size that the metadata
promise, never more; of numcodecs only Blosc and Zstd are used, since others of its codecs run code.
"""

import io
import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError, MissingExtra

from .locator import Locator
from .values import to_integers

MAX_CHUNK_BYTES: Final = 1 << 30
MAX_SELECTED_BYTES: Final = 2 << 30
MAX_METADATA_BYTES: Final = 1 << 20

_HINT: Final = "a zip of Zarr version 2 is expected, as SSL4EO-S12 and TerraMesh publish it; fetch it again"


@dataclass(frozen=True, slots=True)
class Array:
    """An array's metadata. dimensions: xarray's names of the axes."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compressor: str | None
    text: bool  # variable-length UTF-8
    separator: str
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]


class ZarrZip:
    """The arrays of one group."""

    def __init__(self, archive: zipfile.ZipFile, label: str) -> None:
        self._archive, self.label = archive, label
        self._names = set(archive.namelist())
        self.arrays = {
            name.removesuffix("/.zarray"): self._array(name.removesuffix("/.zarray"))
            for name in sorted(self._names)
            if name.endswith("/.zarray")
        }

    def read(self, name: str, index: Sequence[int] = ()) -> NDArray[Any]:
        """array[index], whole in its remaining axes; object dtype for texts."""
        array = self.arrays[name]
        rest = array.shape[len(index) :]
        if math.prod(rest) * array.dtype.itemsize > MAX_SELECTED_BYTES:
            raise self._refusal(f"{name} is too large: {rest} of {array.dtype}")
        out = np.empty(rest, array.dtype)
        fixed = [i // chunk for i, chunk in zip(index, array.chunks, strict=False)]
        inner = tuple(i % chunk for i, chunk in zip(index, array.chunks, strict=False))
        chunks = array.chunks[len(index) :]
        for place in itertools.product(*(range(-(-s // c)) for s, c in zip(rest, chunks, strict=True))):
            part = np.asarray(self._chunk(array, (*fixed, *place))[inner])  # of one value it is a scalar
            target = tuple(
                slice(p * c, min((p + 1) * c, s)) for p, c, s in zip(place, chunks, rest, strict=True)
            )
            out[target] = part[tuple(slice(0, t.stop - t.start) for t in target)]
        return out

    def _chunk(self, array: Array, place: Sequence[int]) -> NDArray[Any]:
        """A whole chunk; those at the border are padded, as the format has it."""
        name = f"{array.name}/{array.separator.join(str(i) for i in place) or '0'}"
        if name not in self._names:
            raise self._refusal(f"{name} is missing")
        data = self._bytes(name, MAX_CHUNK_BYTES)
        if array.text:
            return np.array(_texts(data), object).reshape(array.chunks)
        size = math.prod(array.chunks) * array.dtype.itemsize
        try:
            plain = _decompress(data, array.compressor, size)
        except (ValueError, RuntimeError, zlib.error) as error:
            raise self._refusal(f"{name} cannot be decompressed: {error}") from None
        if len(plain) != size:
            raise self._refusal(f"{name} has {len(plain)} bytes, {size} are expected")
        return np.frombuffer(plain, array.dtype).reshape(array.chunks)

    def _array(self, name: str) -> Array:
        attributes = self._json(f"{name}/.zattrs") if f"{name}/.zattrs" in self._names else {}
        members = self._json(f"{name}/.zarray")
        try:
            return _parse_array(name, members, attributes)
        except (KeyError, TypeError, ValueError) as error:
            raise self._refusal(f"{name}/.zarray cannot be read: {error}") from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            members = json.loads(self._bytes(name, MAX_METADATA_BYTES))
        except ValueError:
            members = None
        if not isinstance(members, dict):
            raise self._refusal(f"{name} is no JSON object")
        return members

    def _bytes(self, name: str, limit: int) -> bytes:
        if self._archive.getinfo(name).file_size > limit:
            raise self._refusal(f"{name} is larger than {limit} bytes")
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise self._refusal(f"{name} cannot be unpacked: {error}") from None

    def _refusal(self, what: str) -> InputError:
        return InputError(f"{self.label}: {what}", hint=_HINT)


def _parse_array(name: str, members: dict[str, Any], attributes: dict[str, Any]) -> Array:
    filters = members["filters"] or []
    text = [entry["id"] for entry in filters] == ["vlen-utf8"]
    compressor = members["compressor"]["id"] if members["compressor"] else None
    shape, chunks = (tuple(members[key]) for key in ("shape", "chunks"))
    if (
        members["zarr_format"] != 2
        or members["order"] != "C"
        or (filters and not text)
        or len(shape) != len(chunks)
        or not all(isinstance(n, int) and n > 0 for n in (*shape, *chunks))
    ):
        raise ValueError("version, order, filters or shape are none that eocat reads")
    dtype = np.dtype(members["dtype"])
    if dtype.hasobject != text or math.prod(chunks) * dtype.itemsize > MAX_CHUNK_BYTES:
        raise ValueError(f"chunks of {chunks} {dtype} are not read")
    dimensions = tuple(str(part) for part in attributes.get("_ARRAY_DIMENSIONS", ()))
    separator = members.get("dimension_separator", ".")
    return Array(name, shape, chunks, dtype, compressor, text, separator, dimensions, attributes)


def _decompress(data: bytes, compressor: str | None, size: int) -> bytes:
    """The chunk's bytes. ValueError for another compressor, or where the header claims another size."""
    if compressor is None:
        return data
    if compressor in ("zlib", "gzip"):
        return zlib.decompressobj(31 if compressor == "gzip" else 15).decompress(data, size + 1)
    blosc, zstd = _codecs()
    if compressor == "blosc":
        if int.from_bytes(data[4:8], "little") != size:
            raise ValueError("its header claims another size")
        return bytes(blosc.decode(data))
    if compressor == "zstd":
        return bytes(zstd.decode(data, np.empty(size, np.uint8)))
    raise ValueError(f"compressor {compressor[:20]!r} is not blosc, zstd, zlib or gzip")


def _codecs() -> tuple[Any, Any]:
    try:
        from numcodecs import Blosc, Zstd
    except ImportError:
        raise MissingExtra(
            "Zarr needs numcodecs, which is not installed", hint="pip install 'eocat[producer]'"
        ) from None
    return Blosc(), Zstd()


def _texts(data: bytes) -> list[str]:
    """VLenUTF8: u32 count, then for each u32 bytes and the text."""
    count, position, texts = int.from_bytes(data[:4], "little"), 4, []
    for _ in range(min(count, len(data) // 4)):
        length = int.from_bytes(data[position : position + 4], "little")
        texts.append(data[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return texts


@contextmanager
def opened_zip(path: str, offset: int, size: int, label: str) -> Iterator[ZarrZip]:
    """The zip at `offset` of a file (size 0: the whole file); raises InputError for a broken one."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path as the locator has it
            if size:
                file.seek(offset)
            with zipfile.ZipFile(io.BytesIO(file.read(size)) if size else file) as archive:
                yield ZarrZip(archive, label)
    except zipfile.BadZipFile as error:
        raise InputError(f"{label} is no readable zip: {error}", hint=_HINT) from None


class SliceHandle:
    """The bands of one sample and time, in memory."""

    def __init__(self, pixels: NDArray[np.integer]) -> None:
        self._pixels = pixels
        self.block_rows = self.height = pixels.shape[1]

    def read(self, bands: Sequence[int], top: int, out: NDArray[np.integer]) -> None:
        for target, band in zip(out, bands, strict=True):
            target[:] = self._pixels[band - 1, top : top + target.shape[0]]

    def close(self) -> None:
        """Nothing is held open."""


def open_slice(locator: Locator) -> SliceHandle:
    """The pixels (band, y, x) of a locator into a zip of Zarr."""
    offset, size, name, *index = locator.place
    with opened_zip(locator.path, int(offset), int(size), locator.path.rpartition("/")[2]) as group:
        numbers = group.read(str(name), [int(i) for i in index])
    pixels = numbers if locator.meaning is None else to_integers(numbers, locator.meaning, locator.void)
    return SliceHandle(pixels if pixels.ndim == 3 else pixels[None])
