"""Makes a large scene of thirteen bands in the form of Sentinel-2 L1C, as a tiled GeoTIFF, for benchmarks.

The land is that of `eocat synthetic`, laid side by side until it fills the scene; so it compresses as such
land does, and no picture of the size has to be drawn.
"""

from pathlib import Path

import numpy as np
import rasterio

from eocat.producer.sources.sentinel2 import L1C_BANDS
from eocat.producer.synthetic import write_scene

DRAWN = 1120


def make_cog(path: Path, size: int, *, compress: str = "deflate") -> Path:
    """A GeoTIFF of `size` × `size` pixels, thirteen bands of uint16, blocks of 512, band after band."""
    with rasterio.open(write_scene(path.with_name("drawn.tif"), seed=1, size=DRAWN)) as drawn:
        bands = [drawn.read(index) for index in range(1, drawn.count + 1)]
        profile = drawn.profile | {
            "count": len(L1C_BANDS), "height": size, "width": size, "blockxsize": 512, "blockysize": 512,
            "compress": compress, "num_threads": "all_cpus", "bigtiff": "yes",
        }  # fmt: skip
        tags = {"TIFFTAG_DATETIME": "", **drawn.tags()}
    bands.insert(10, bands[0] // 8 + 1)  # B10 is nearly dark
    times = -(-size // DRAWN)
    with rasterio.open(path, "w", **profile) as scene:
        for index, band in enumerate(bands, start=1):
            scene.write(np.tile(band, (times, times))[:size, :size], index)
        scene.descriptions = L1C_BANDS
        scene.update_tags(**{name: value for name, value in tags.items() if value})
    path.with_name("drawn.tif").unlink()
    return path
