"""Scene from a Sentinel-2 SAFE product, level 1C or 2A, as a folder or as one .zip. FORMATS.md, section 4.6.

The product's metadata rule: PRODUCT_URI names it, IMAGE_FILE lists its bands, and the radiometric offset,
the special value for nodata, the times and the cloud cover are read from there. A band that they list and
the product lacks is no part of the scene; one that is there and empty is damage, and refused. Level 2A has
most bands at two or three resolutions: the finest is taken. The cloud mask is SCL, of level 2A, or else
MSK_CLASSI (baseline 04.00 and later) or MSK_CLOUDS. The sums in manifest.safe are not checked here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from eocat.verify.errors import InputError

from .cloud_gml import CloudPolygons, mask_grid
from .gdal import Grid, probe
from .safe_files import SafeFiles, open_safe
from .safe_xml import Element, parse_xml, text_of, texts_of
from .scene import BandFile, CloudClasses, CloudMask, Scene, make_scene, safe_id
from .sentinel2 import CLASSI_BANDS, CLASSI_CLOUDY, L1C_BANDS, SCL_CLOUDY, band_in, has_offset
from .stac import parse_time

_METADATA: Final = re.compile(r"MTD_MSIL(1C|2A)\.xml")
_IMAGE: Final = re.compile(
    r"(?P<path>GRANULE/[\w.-]+/IMG_DATA/(?:R\d0m/)?[\w.-]+_(?:B\d\d|B8A)(?:_(?P<metres>\d0)m)?)"
)
_QUANTIFICATION: Final = {"1C": "QUANTIFICATION_VALUE", "2A": "BOA_QUANTIFICATION_VALUE"}
_OFFSET: Final = {"1C": "RADIO_ADD_OFFSET", "2A": "BOA_ADD_OFFSET"}
_QI_MASKS: Final = (r"QI_DATA/MSK_CLASSI_B00\.jp2", r"QI_DATA/MSK_CLOUDS_B00\.gml")  # since and before 04.00
_MASKS: Final = {"1C": _QI_MASKS, "2A": (r"IMG_DATA/R20m/[\w.-]+_SCL_20m\.jp2", *_QI_MASKS)}
_EDITED: Final = "download the product again: its metadata were edited or cut"
_UNKNOWN_PRODUCT: Final = (
    "Sentinel-2 L1C and L2A products are read: their root holds MTD_MSIL1C.xml or MTD_MSIL2A.xml"
)


@dataclass(frozen=True, slots=True)
class _Product:
    """The product's files and its parsed root metadata."""

    files: SafeFiles
    level: str  # "1C" | "2A"
    metadata: str  # relative name of MTD_MSIL*.xml
    root: Element
    uri: str

    def text(self, tag: str) -> str:
        return text_of(self.root, tag, self.metadata)


def is_safe_folder(path: Path) -> bool:
    return path.suffix == ".SAFE" or any(_METADATA.fullmatch(child.name) for child in path.iterdir())


def read_safe(path: Path) -> Scene:
    """The scene of the SAFE folder or zip at `path`; raises InputError for a broken or foreign product."""
    with open_safe(path) as files:
        return _scene(_open(files), path)


def _open(files: SafeFiles) -> _Product:
    _refuse_sentinel1(files)
    names = [name for name in files.sizes if _METADATA.fullmatch(name)]
    if len(names) != 1:
        raise InputError(
            f"{files.label} holds {len(names)} files of Sentinel-2 product metadata, one is expected",
            hint=_UNKNOWN_PRODUCT,
        )
    root = parse_xml(files.read(names[0]), names[0])
    uri = text_of(root, "PRODUCT_URI", names[0])
    return _Product(files, names[0][8:10], names[0], root, uri)


def _refuse_sentinel1(files: SafeFiles) -> None:
    """Its images lie in the radar's own geometry, tied to the ground by points: nothing here places them."""
    if re.match(r"S1[A-D]_", files.root):
        raise InputError(
            f"{files.label} is a Sentinel-1 product: its images have ground control points and no grid",
            hint="calibrate it, lay it on a grid: SNAP's Calibration, Terrain-Flattening, Terrain-Correction "
            "(docs/sources.md has the commands); then eocat produce … --values power. Or take an RTC product",
        )


def _scene(product: _Product, path: Path) -> Scene:
    files = product.files
    images = _images(product)
    identifier, renamed = safe_id(product.uri.removesuffix(".SAFE"))
    start, end, tile_files, inferred = _time(product, images)
    bands = [_probe_band(files, band, images[band]) for band in L1C_BANDS if band in images]
    masks = _mask_names(product, images)
    elsewhere = () if files.root == product.uri else (f"id: PRODUCT_URI; the folder is called {files.root}",)
    return make_scene(
        id=identifier,
        product=f"sentinel-2-l{product.level.lower()}",
        band_files=bands,
        files=files.sources([product.metadata, *tile_files, *images.values(), *masks]),
        nodata=_nodata(product),
        offset=_offset(product),
        start=start,
        end=end,
        properties=_properties(product),
        assumptions=renamed + elsewhere + inferred,
        cloud_mask=_cloud_mask(product, path, masks, bands[0].grid),
    )


def _probe_band(files: SafeFiles, band: str, name: str) -> BandFile:
    raster = probe(files.gdal_path(name), name.rpartition("/")[2])
    return BandFile(band, raster.path, 1, raster.name, raster.grid, raster.dtype)


def _mask_names(product: _Product, images: dict[str, str]) -> list[str]:
    """The product's cloud mask, if it has one: of several kinds the first in _MASKS."""
    granule = re.escape("/".join(next(iter(images.values())).split("/")[:2]))
    for mask in _MASKS[product.level]:
        if names := sorted(name for name in product.files.sizes if re.fullmatch(f"{granule}/{mask}", name)):
            return names[:1]
    return []


def _cloud_mask(product: _Product, path: Path, names: list[str], grid: Grid) -> CloudMask | None:
    for name in names:
        if name.endswith(".gml"):
            return CloudPolygons(path.absolute(), name, mask_grid(grid))
        if name.endswith("_SCL_20m.jp2"):
            return CloudClasses((_probe_band(product.files, "clouds", name),), SCL_CLOUDY)
        return CloudClasses(_classi_bands(product.files, name), (1,))
    return None


def _classi_bands(files: SafeFiles, name: str) -> tuple[BandFile, ...]:
    """Opaque cloud and cirrus of MSK_CLASSI; raises InputError unless it has its three bands."""
    raster = probe(files.gdal_path(name), name.rpartition("/")[2])
    if len(raster.descriptions) != len(CLASSI_BANDS):
        raise InputError(
            f"{raster.name} has {len(raster.descriptions)} bands, {len(CLASSI_BANDS)} are expected: "
            f"{', '.join(CLASSI_BANDS)}",
            hint="fetch the product again: its mask was edited",
        )
    return tuple(
        BandFile("clouds", raster.path, index, raster.name, raster.grid, raster.dtype)
        for index, band in enumerate(CLASSI_BANDS, start=1)
        if band in CLASSI_CLOUDY
    )


def _images(product: _Product) -> dict[str, str]:
    """Band → its image file, the finest there is. Raises InputError if there is none, or an empty one."""
    finest: dict[str, tuple[int, str]] = {}
    listed = set()
    for name, metres in _listed_images(product):
        band = band_in(name.rpartition("/")[2])
        if band is None:
            continue
        listed.add(band)
        if name in product.files.sizes and (band not in finest or metres < finest[band][0]):
            finest[band] = (metres, name)
    if not finest:
        raise InputError(
            f"{product.files.label} holds no band: none of the {len(listed)} that its metadata list is there",
            hint="download the whole product, not its metadata alone",
        )
    if empty := sorted(band for band, (_, name) in finest.items() if product.files.sizes[name] == 0):
        raise InputError(
            f"{product.files.label} is damaged: {len(empty)} of {len(finest)} band files are empty "
            f"(0 bytes), the first is {finest[empty[0]][1].rpartition('/')[2]}",
            hint="download the product again and check it against its manifest.safe",
        )
    return {band: name for band, (_, name) in finest.items()}


def _listed_images(product: _Product) -> Iterator[tuple[str, int]]:
    """(relative name, metres per pixel or 0 where it does not say) of every band image in the metadata."""
    granules = [element for element in product.root.iter() if element.tag in ("Granule", "Granules")]
    if len(granules) != 1:
        raise InputError(
            f"{product.files.label} lists {len(granules)} granules, one tile is expected",
            hint="products before December 2016 hold many tiles: fetch the tile as a product of its own",
        )
    for tag in ("IMAGE_FILE", "IMAGE_FILE_2A"):
        for text in texts_of(granules[0], tag):
            if match := _IMAGE.fullmatch(text.removesuffix(".jp2")):
                yield f"{match['path']}.jp2", int(match["metres"] or 0)


def _time(product: _Product, images: dict[str, str]) -> tuple[datetime, datetime, list[str], tuple[str, ...]]:
    """(start, end, files read for it, assumptions): the tile's sensing time, or else the datatake's."""
    tile = "/".join(next(iter(images.values())).split("/")[:2]) + "/MTD_TL.xml"
    if tile in product.files.sizes:
        sensed = parse_time(text_of(parse_xml(product.files.read(tile), tile), "SENSING_TIME", tile), tile)
        return sensed, sensed, [tile], ()
    start, end = (
        parse_time(product.text(tag), product.metadata) for tag in ("PRODUCT_START_TIME", "PRODUCT_STOP_TIME")
    )
    return start, end, [], ("time: the datatake's, since the product lacks the tile's MTD_TL.xml",)


def _offset(product: _Product) -> int:
    """The offset to subtract from DN; raises InputError unless all bands share one and the scale is 10000."""
    scale = _integer(product, product.text(_QUANTIFICATION[product.level]))
    if scale != 10_000:
        raise InputError(
            f"{product.metadata} has quantification value {scale}, 10000 is expected", hint=_EDITED
        )
    offsets = {-_integer(product, text) for text in texts_of(product.root, _OFFSET[product.level])}
    if len(offsets) > 1:
        raise InputError(
            f"{product.metadata} has {len(offsets)} different band offsets, one is expected", hint=_EDITED
        )
    baseline = product.text("PROCESSING_BASELINE")
    if not offsets and has_offset(baseline) is not False:
        raise InputError(
            f"{product.metadata} has baseline {baseline[:16]!r} and no {_OFFSET[product.level]}, "
            "which products of baseline 04.00 and later state",
            hint=_EDITED,
        )
    return offsets.pop() if offsets else 0


def _nodata(product: _Product) -> int | None:
    """The special value that the metadata call NODATA."""
    for special in product.root.iter("Special_Values"):
        if text_of(special, "SPECIAL_VALUE_TEXT", product.metadata) == "NODATA":
            return _integer(product, text_of(special, "SPECIAL_VALUE_INDEX", product.metadata))
    return None


def _integer(product: _Product, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise InputError(
            f"{product.metadata} has {text[:24]!r} where a whole number is expected", hint=_EDITED
        )
    return int(text)


def _properties(product: _Product) -> dict[str, JsonValue]:
    properties: dict[str, JsonValue] = {
        "platform": product.text("SPACECRAFT_NAME").lower(),
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "s2:processing_baseline": product.text("PROCESSING_BASELINE"),
        "s2:product_uri": product.uri,
    }
    if tile := re.search(r"_T(\d\d[A-Z]{3})_", product.uri):
        properties["grid:code"] = f"MGRS-{tile[1]}"
    for text in texts_of(product.root, "Cloud_Coverage_Assessment"):
        if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?", text) and float(text) <= 100:
            properties["eo:cloud_cover"] = float(text)
    return properties
