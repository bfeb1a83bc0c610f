"""Datasets whose files tell little and whose names and places tell the rest. FORMATS.md, 4.2 and 4.5.

EuroSAT       CLASS/CLASS_n.tif: the 13 bands of level 1C with B8A last, not after B08
BigEarthNet   one folder a patch, one file a band; times in the patch's name; Sentinel-1 in decibels
Major TOM     ROW/CELL/PRODUCT/BAND.tif, Core unpacked; the product alone does not name a patch
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from eocat.verify.errors import InputError

from ..grid import cell_named
from .sentinel1 import times_in
from .sentinel2 import L1C_BANDS, time_in
from .values import Meaning

EUROSAT_BANDS: Final = (*(band for band in L1C_BANDS if band != "B8A"), "B8A")
_EUROSAT: Final = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)
_BIGEARTHNET_S1: Final = re.compile(r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6}_\d\d[A-Z]{3}_\d+_\d+")


def is_eurosat(path: Path) -> bool:
    """Whether a file's name and folder are those of EuroSAT, such as River/River_248."""
    return path.parent.name in _EUROSAT and re.fullmatch(rf"{path.parent.name}_\d+", path.stem) is not None


def known_meaning(name: str) -> Meaning | None:
    """What the real numbers of a patch are, if its name says of which dataset it is."""
    return "db" if _BIGEARTHNET_S1.search(name) else None


def majortom_cell(folder: Path) -> str | None:
    """The grid cell of a PRODUCT folder in Major TOM's ROW/CELL/PRODUCT; None for another folder."""
    try:
        cell = cell_named(folder.absolute().parent.name).name
    except InputError:
        return None
    return cell if folder.absolute().parents[1].name == cell.partition("_")[0] else None


def times_named(name: str) -> tuple[datetime, datetime] | None:
    """Begin and end of the acquisition that the name of a product or patch tells."""
    if times := times_in(name):
        return times
    time = time_in(name)
    return (time, time) if time else None
