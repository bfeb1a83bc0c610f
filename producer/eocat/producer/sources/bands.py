"""Band names over all sensors: how files spell them, and the product type that a set of them tells."""

from collections.abc import Sequence

from .sentinel1 import POLARISATIONS, polarisation_in
from .sentinel2 import L1C_BANDS, L2A_BANDS, RGB_BANDS, band_in
from .told import Told

BAND_ORDER = (*L1C_BANDS, *RGB_BANDS, *POLARISATIONS)


def band_named(text: str, told: Told) -> str | None:
    """The one band that a file name, description or variable names; None for none or several."""
    if band := told.band_called(text):
        return band
    if text.lower() in RGB_BANDS:
        return text.lower()
    optical, radar = band_in(text), polarisation_in(text)
    band = optical or radar if not (optical and radar) else None
    return told.band_called(band) or band if band else None


def is_radar(band: str) -> bool:
    return band in POLARISATIONS


def product_of(bands: Sequence[str], dtype: str) -> str:
    """The product type that bands tell: of Sentinel-2 only a whole set counts, and never 8-bit values."""
    found = set(bands)
    if found <= set(POLARISATIONS):
        return "sentinel-1"
    if dtype != "uint8" and found == set(L1C_BANDS):
        return "sentinel-2-l1c"
    if dtype != "uint8" and found == set(L2A_BANDS):
        return "sentinel-2-l2a"
    return "raster"
