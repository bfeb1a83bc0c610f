"""The vector of a picture that someone searches with, for a catalogue that has the collection's encoder.

The catalogue does not import the producer; it finds `encode_image` through the entry point group
`eocat.encode_query`. Only encoders that bring their weights (the `exact` banks) can be made from a name.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError, Malformed

from .encoders import Encoder, load_encoder
from .encoders.bank import BANKS, bands_of
from .run import space_of

MAX_EDGE = 1_024  # pixels
DRIVERS = ["PNG", "JPEG", "GTiff"]
_DTYPES = ("uint8", "uint16", "int16")


def encode_image(data: bytes, *, encoder: str, space: str, offset: int) -> NDArray[np.float16]:
    """(D,) of one picture, as the encoder `encoder` of space `space` (hex) makes of a chip.

    data: PNG, JPEG or GeoTIFF of at most 1,024 × 1,024 whole numbers, bands in the encoder's order.
    offset: the number that stands for reflectance 0. Raises InputError, Malformed.
    """
    made = _encoder(encoder)
    if space_of(made) != space:
        raise InputError(f"encoder {encoder} of this catalogue is another than that of the collection")
    pixels = _read(data, made)
    vectors: NDArray[np.float16] = made.encode(pixels[None], offset=offset)
    return np.asarray(vectors[0])


@lru_cache(maxsize=4)
def _encoder(name: str) -> Encoder:
    if name not in BANKS:
        raise InputError(f"encoder {name} needs weights that this catalogue does not have: send a vector")
    return load_encoder(name, bands_of(name), device="cpu")


def _read(data: bytes, encoder: Encoder) -> NDArray[np.integer]:
    """(C, H, W), its size known before it is decoded."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.MemoryFile(data) as file, file.open(driver=DRIVERS) as source:
            shape, dtypes = (source.count, source.height, source.width), set(source.dtypes)
            if max(shape[1:]) > MAX_EDGE or min(shape[1:]) < encoder.min_size:
                raise InputError(
                    f"image is {shape[2]} × {shape[1]}, expected {encoder.min_size} to {MAX_EDGE}"
                )
            if shape[0] != len(encoder.bands) or not dtypes <= set(_DTYPES):
                raise InputError(
                    f"image has {shape[0]} bands of {', '.join(sorted(dtypes))}, encoder {encoder.name} takes"
                    f" {len(encoder.bands)} of {' or '.join(_DTYPES)}: {', '.join(encoder.bands)}"
                )
            pixels: NDArray[np.integer] = source.read()
            return pixels
    except RasterioError:
        raise Malformed("image is neither PNG, JPEG nor GeoTIFF") from None
