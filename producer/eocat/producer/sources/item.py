"""Scene from a STAC Item, local or remote: the assets that are bands, fetched where they are remote.

An asset is a band by its `bands` or `eo:bands`, or by its key; of several for one band the GeoTIFF is taken,
of the finest pixels. Relative hrefs are looked for below the Item's own folder, or joined to its address. A
checksum that the Item states (`file:checksum`, SHA-256) is held against what came.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

from eocat.verify.canonical import MAX_BYTES, parse
from eocat.verify.digest import digest_file
from eocat.verify.errors import InputError

from .bands import BAND_ORDER, band_named
from .folder import band_scene, mask_of
from .gdal import local_path, probe
from .raster import side_files
from .remote import fetch, is_remote
from .scene import Scene, SourceFile
from .stac import read_item
from .told import Told

SUFFIX: Final = ".json"
COMMON_NAMES: Final = {  # Earth Search's keys for the bands of Sentinel-2, and STAC's common names
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06",
    "rededge3": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10", "swir16": "B11",
    "swir22": "B12",
}  # fmt: skip

_METRES: Final = re.compile(r"_(\d+)m$")
_SHA256: Final = re.compile(r"1220([0-9a-f]{64})")
_WAY_OUT: Final = "fetch the files into one folder and give that"


@dataclass(frozen=True, slots=True)
class _Asset:
    key: str
    band: str  # or "SCL"
    href: str
    rank: tuple[bool, int]  # GeoTIFF first, then the finest
    size: int | None
    sha256: str | None


def read_item_scene(address: str, told: Told) -> Scene:
    """The scene of the Item at a path or address. Raises InputError, and Unavailable for what is not had."""
    path = fetch(address, limit=MAX_BYTES) if is_remote(address) else Path(address)
    facts = read_item(path)
    if facts is None:
        raise InputError(f"{path.name} is no STAC Item", hint="give an Item's JSON, not a Collection's")
    chosen: dict[str, _Asset] = {}
    for asset in _assets(path, told):
        if asset.band not in chosen or asset.rank < chosen[asset.band].rank:
            chosen[asset.band] = asset
    classified = chosen.pop("SCL", None)
    if not chosen:
        raise InputError(f"STAC Item {path.name} has no asset that is a band", hint=_WAY_OUT)
    files = {band: _local(chosen[band], address) for band in BAND_ORDER if band in chosen}
    rasters = {band: probe(local_path(file), file.name) for band, file in files.items()}
    beside, mask = [SourceFile(f"{facts.id}/{path.name}", path)], None
    if classified:
        mask, raster = mask_of(_local(classified, address))
        beside += side_files(raster, folder=facts.id)
    return band_scene(Path(facts.id), rasters, told, item=facts, files=beside, mask=mask)


def _assets(path: Path, told: Told) -> Iterator[_Asset]:
    item: dict[str, Any] = parse(path.read_bytes(), what=path.name)
    sentinel2 = "sentinel-2" in str(item["properties"].get("constellation", "")) or "s2:" in str(
        item["properties"]
    )
    assets = item.get("assets")
    for key, asset in (assets if isinstance(assets, dict) else {}).items():
        href = asset.get("href") if isinstance(asset, dict) else None
        if not isinstance(href, str) or not re.search(
            r"\.(tiff?|jp2)$", href.partition("?")[0], re.IGNORECASE
        ):
            continue
        band = (
            "SCL" if re.fullmatch(r"scl(_20m)?", key, re.IGNORECASE) else _band(key, asset, told, sentinel2)
        )
        if band is None:
            continue
        metres = _METRES.search(key)
        size, checksum = asset.get("file:size"), _SHA256.fullmatch(str(asset.get("file:checksum")))
        yield _Asset(
            key=key,
            band=band,
            href=href,
            rank=(
                not re.search(r"\.tiff?$", href.partition("?")[0], re.IGNORECASE),
                int(metres[1]) if metres else 0,
            ),
            size=size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None,
            sha256=checksum[1] if checksum else None,
        )


def _band(key: str, asset: dict[str, Any], told: Told, sentinel2: bool) -> str | None:
    """The one band of the asset; None for none and for a picture of several."""
    listed = asset.get("bands") or asset.get("eo:bands")
    if isinstance(listed, list) and len(listed) > 1:
        return None
    names = [str(entry.get("name")) for entry in listed or [] if isinstance(entry, dict)]
    for name in (*names, key):
        common = COMMON_NAMES.get(name.lower()) if sentinel2 else None
        if band := told.band_called(name) or common or band_named(name, told):
            return band
    return None


def _local(asset: _Asset, address: str) -> Path:
    """The asset's file, fetched if need be, with the sum that the Item states."""
    if is_remote(asset.href) or is_remote(address):
        path = fetch(_joined(address, asset.href), size=asset.size)
    else:
        folder = Path(address).absolute().parent
        path = (folder / asset.href).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise InputError(
                f"asset {asset.key} of {Path(address).name} is no file below its folder: {asset.href[:120]}",
                hint=_WAY_OUT,
            )
    if asset.sha256 and digest_file(path).sha256 != asset.sha256:
        raise InputError(
            f"asset {asset.key}, {path.name}, is not the file whose checksum its Item states",
            hint="fetch both again; what is in the cache under EOCAT_HOME may be older",
        )
    return path


def _joined(base: str, href: str) -> str:
    """As urljoin, which knows nothing of s3://."""
    if is_remote(href):
        return href
    scheme, _, rest = base.partition("://")
    try:
        return f"{scheme}://" + urljoin(f"http://{rest}", href).removeprefix("http://")
    except ValueError as error:
        raise InputError(f"an asset's href is no address: {error}", hint=_WAY_OUT) from None
