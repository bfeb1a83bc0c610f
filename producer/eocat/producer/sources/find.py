"""Scenes from what the user names: files, products, folders of them, addresses of STAC Items."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from eocat.verify.errors import EocatError, InputError, Unavailable

from .core_parquet import SUFFIX as PARQUET
from .core_parquet import core_readers, is_core
from .folder import band_of_file, read_band_folder
from .item import SUFFIX as ITEM
from .item import read_item_scene
from .netcdf import SUFFIX as NETCDF
from .netcdf import read_netcdf
from .patches import is_patches, patch_readers
from .raster import read_raster
from .remote import is_remote
from .safe import is_safe_folder, read_safe
from .scene import Scene
from .told import Told

RASTERS: Final = frozenset({".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg"})
MAX_DEPTH: Final = 4  # folders below the named one

_EXPECTED: Final = (
    "give a GeoTIFF, a NetCDF file, a folder of one-band files, a Sentinel-2 SAFE product (folder or .zip), "
    "a STAC Item or its address, a Parquet file of Major TOM Core, or a .zarr.zip or .tar of SSL4EO-S12 or "
    "TerraMesh"
)
_TO_GEOTIFF: Final = (
    "write it as a GeoTIFF with integer values and its reference system (rasterio, gdal_translate)"
)
_REFUSED: Final = {
    ".npz": ("is a NumPy archive and has no georeference", _TO_GEOTIFF),
    ".npy": ("is a NumPy array and has no georeference", _TO_GEOTIFF),
    ".zarr": ("is a Zarr store, which is not read", _TO_GEOTIFF),
}

Reader = Callable[[], Iterable[Scene]]


def find_scenes(
    paths: Sequence[Path | str],
    told: Told | None = None,
    *,
    refuse: Callable[[EocatError], None] | None = None,
) -> list[Scene]:
    """The scenes in the files and folders, and of the Items at addresses, sorted by id; no pixel is decoded.

    A folder is a SAFE product, or one scene if a file's name tells its band, or else a scene per raster file;
    folders in it are searched too. told: what the files do not say. Raises InputError for what cannot be
    used and for an id that comes twice; with `refuse`, a scene that cannot be used is told to it and passed
    over.
    """
    told = told or Told()
    by_id: dict[str, Scene] = {}
    for read in [reader for path in paths for reader in _readers(path, told)]:
        try:
            scenes = list(read())
        except (InputError, Unavailable) as error:
            if refuse is None:
                raise
            refuse(error)
            continue
        for scene in scenes:
            if scene.id in by_id:
                first = by_id[scene.id].files[0].path
                raise InputError(
                    f"scene {scene.id} comes twice: {first} and {scene.files[0].path}",
                    hint="name each scene once; several products of one place belong in several runs",
                )
            by_id[scene.id] = _with_offset(scene, told)
    return [by_id[identifier] for identifier in sorted(by_id)]


def _with_offset(scene: Scene, told: Told) -> Scene:
    """The scene with the DN offset that the publisher told, if any: it replaces what the files say."""
    if told.offset is None or scene.product == "sentinel-1":
        return scene
    kept = tuple(text for text in scene.assumptions if not text.startswith("offset:"))
    said = f"offset: {told.offset}, said by the publisher; by the files it would be {scene.offset}"
    return replace(scene, offset=told.offset, assumptions=(*kept, said))


def _readers(named: Path | str, told: Told) -> list[Reader]:
    """What would read each scene at a path, or of the Item at an address; InputError if there is none."""
    if isinstance(named, str) and is_remote(named):
        return [lambda: [read_item_scene(named, told)]]
    path = Path(named)
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=_EXPECTED)
    if path.is_file():
        return _file_readers(path, told)
    if readers := list(_folder_readers(path, told, depth=0)):
        return readers
    raise InputError(f"{path} holds no scene", hint=_EXPECTED)


def _file_readers(path: Path, told: Told) -> list[Reader]:
    if is_patches(path):
        return patch_readers(path, told)
    if path.suffix.lower() == PARQUET:
        return core_readers(path, told)
    if path.suffix.lower() == ITEM:
        return [lambda: [read_item_scene(str(path), told)]]
    return [partial(_read_file, path, told)]


def _read_file(path: Path, told: Told) -> Iterable[Scene]:
    suffix = path.suffix.lower()
    if suffix in RASTERS:
        return [read_raster(path, told)]
    if suffix == NETCDF:
        return read_netcdf(path, told)
    if suffix == ".zip":
        return [read_safe(path)]
    message, hint = _REFUSED.get(suffix, ("is of no type that holds a scene", _EXPECTED))
    raise InputError(f"{path.name} {message}", hint=hint)


def _folder_readers(folder: Path, told: Told, *, depth: int) -> Iterator[Reader]:
    """Depth first, in the order of names; hidden entries and links to folders are passed over."""
    if is_safe_folder(folder):
        yield lambda: [read_safe(folder)]
        return
    children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    files = [child for child in children if child.is_file()]
    scenes = [file for file in files if _may_hold_scenes(file)]
    bands = [file for file in scenes if file.suffix.lower() in (*RASTERS, NETCDF)]
    nothing = True
    if any(_names_band(file, told) for file in bands):
        nothing = False
        yield lambda: read_band_folder(folder, bands, told)
    else:
        for file in scenes:
            nothing = False
            yield from _lazily(file, told)
    if depth < MAX_DEPTH:
        for child in children:
            if child.is_dir() and not child.is_symlink():
                for reader in _folder_readers(child, told, depth=depth + 1):
                    nothing = False
                    yield reader
    if nothing and (refused := [file for file in files if file.suffix.lower() in _REFUSED]):
        yield partial(_read_file, refused[0], told)  # raises the sentence that says why


def _may_hold_scenes(file: Path) -> bool:
    suffix = file.suffix.lower()
    return suffix in (*RASTERS, NETCDF, ".zip", ".tar") or (suffix == PARQUET and is_core(file))


def _lazily(file: Path, told: Told) -> Iterator[Reader]:
    """The file's readers; where the file cannot even be listed, one that says so when its turn comes."""
    try:
        yield from _file_readers(file, told)
    except InputError:
        yield lambda: [scene for read in _file_readers(file, told) for scene in read()]


def _names_band(file: Path, told: Told) -> bool:
    try:
        return band_of_file(file, told) is not None
    except InputError:
        return False  # a broken NetCDF file: what reads it as a scene says so
