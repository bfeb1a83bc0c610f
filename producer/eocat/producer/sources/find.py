"""Scenes from what the user names: files, products, folders of them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from eocat.verify.errors import InputError

from .folder import read_band_folder
from .raster import read_raster
from .safe import is_safe_folder, read_safe
from .scene import Scene
from .sentinel2 import band_in

RASTERS: Final = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg"})
MAX_DEPTH: Final = 4  # folders below the named one

_EXPECTED: Final = "give a GeoTIFF, a folder of one-band files, or a Sentinel-2 SAFE product (folder or .zip)"
_TO_GEOTIFF: Final = (
    "write it as a GeoTIFF with integer values and its reference system (rasterio, gdal_translate)"
)
_REFUSED: Final = {
    ".npz": ("is a NumPy archive and has no georeference", _TO_GEOTIFF),
    ".npy": ("is a NumPy array and has no georeference", _TO_GEOTIFF),
    ".nc": ("is a NetCDF file, which is not read", _TO_GEOTIFF),
    ".zarr": ("is a Zarr store, which is not read", _TO_GEOTIFF),
}


Reader = Callable[[], Scene]


def find_scenes(paths: Sequence[Path], *, refuse: Callable[[InputError], None] | None = None) -> list[Scene]:
    """The scenes in the files and folders named, sorted by id; no pixel is decoded.

    A folder is a SAFE product, or one scene if a file's name tells its band, or else a scene per raster file;
    folders in it are searched too. Raises InputError for what cannot be used and for an id that comes twice;
    with `refuse`, a scene that cannot be used is told to it and passed over.
    """
    by_id: dict[str, Scene] = {}
    for read in [reader for path in paths for reader in _readers(path)]:
        try:
            scene = read()
        except InputError as error:
            if refuse is None:
                raise
            refuse(error)
            continue
        if scene.id in by_id:
            first = by_id[scene.id].files[0].path
            raise InputError(
                f"scene {scene.id} comes twice: {first} and {scene.files[0].path}",
                hint="name each scene once; several products of one place belong in several runs",
            )
        by_id[scene.id] = scene
    return [by_id[identifier] for identifier in sorted(by_id)]


def _readers(path: Path) -> list[Reader]:
    """What would read each scene at `path`; InputError if there is none."""
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=_EXPECTED)
    if path.is_file():
        return [partial(_read_file, path)]
    if readers := _folder_readers(path, depth=0):
        return readers
    raise InputError(f"{path} holds no scene", hint=_EXPECTED)


def _read_file(path: Path) -> Scene:
    suffix = path.suffix.lower()
    if suffix in RASTERS:
        return read_raster(path)
    if suffix == ".zip":
        return read_safe(path)
    message, hint = _REFUSED.get(suffix, ("is of no type that holds a scene", _EXPECTED))
    raise InputError(f"{path.name} {message}", hint=hint)


def _folder_readers(folder: Path, *, depth: int) -> list[Reader]:
    """Depth first, in the order of names; hidden entries and links to folders are passed over."""
    if is_safe_folder(folder):
        return [partial(read_safe, folder)]
    children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    files = [child for child in children if child.is_file()]
    rasters = [file for file in files if file.suffix.lower() in RASTERS]
    if any(band_in(file.name) for file in rasters):
        readers: list[Reader] = [partial(read_band_folder, folder, rasters)]
    else:
        readers = [
            partial(_read_file, file) for file in files if file in rasters or file.suffix.lower() == ".zip"
        ]
    if depth < MAX_DEPTH:
        folders = (child for child in children if child.is_dir() and not child.is_symlink())
        readers += [reader for child in folders for reader in _folder_readers(child, depth=depth + 1)]
    if not readers and (refused := [file for file in files if file.suffix.lower() in _REFUSED]):
        return [partial(_read_file, refused[0])]  # raises the sentence that says why
    return readers
