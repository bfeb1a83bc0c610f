"""Real vectors to benchmark with, and more of the same kind.

`real_vectors`: `exact-rgb` (512 numbers) of overlapping 32-pixel chips of the Sentinel-2 imagery in
../shared/data: Cape Lookout, Denmark, EuroSAT; chips of one colour are left out, equal vectors kept once.

`resampled`: each record's vector lies between two real ones that are at most 200 apart in the scene, at a
share drawn from 0 to 0.5, plus Gaussian noise of 2 % of its length, at length 1. Records of one product draw
from one window of 8,000 consecutive chips, so that what is near on the ground is alike, as it really is.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHIP, WINDOW, NEAR = 32, 8_000, 200
NOISE = 0.02


def real_vectors(shared: Path, cache: Path) -> NDArray[np.float16]:
    """(N, 512), in the order of the scenes; kept in `cache`, as they take some minutes."""
    if cache.is_file():
        return np.asarray(np.load(cache))
    from eocat.producer.encoders import load_encoder

    encoder = load_encoder("exact-rgb", ("red", "green", "blue"), device="cpu")
    parts = []
    for chips in _chips(shared):
        lively = chips[chips.reshape(len(chips), -1).std(axis=1) > 0]
        for first in range(0, len(lively), 256):
            batch = np.ascontiguousarray(lively[first : first + 256])
            parts.append(encoder.encode(batch, offset=0))
    vectors = np.concatenate(parts)
    _, first_of_each = np.unique(vectors, axis=0, return_index=True)
    vectors = vectors[np.sort(first_of_each)]
    np.save(cache, vectors)
    return vectors


def resampled(real: NDArray[np.float16], counts: list[int], seed: int) -> Iterator[NDArray[np.float16]]:
    """For each product (count, 512) vectors like those of one part of the scenes."""
    random = np.random.default_rng(seed)
    for count in counts:
        start = random.integers(0, len(real) - WINDOW)
        places = start + random.integers(0, WINDOW, count)
        others = np.clip(places + random.integers(-NEAR, NEAR + 1, count), 0, len(real) - 1)
        share = random.uniform(0, 0.5, (count, 1)).astype(np.float32)
        mixed = (1 - share) * real[places].astype(np.float32) + share * real[others].astype(np.float32)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        mixed += random.normal(scale=NOISE / np.sqrt(mixed.shape[1]), size=mixed.shape)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        yield mixed.astype(np.float16)


def _chips(shared: Path) -> Iterator[NDArray[np.uint8]]:
    """(N, 3, 32, 32) of each scene."""
    import rasterio
    from PIL import Image

    bands = []
    for name in ("B04", "B03", "B02"):
        (path,) = (shared / "s2_cape_lookout_10m").glob(f"*{name}.tiff")
        with rasterio.open(path) as source:
            bands.append(source.read(1))
    yield _windows(np.stack(bands), 6)
    with rasterio.open(shared / "s2_denmark_rgb" / "RGB_small.tif") as source:
        denmark = source.read((1, 2, 3)).astype(np.float32)
    yield _windows((denmark / denmark.max() * 255).astype(np.uint8), 6)
    images = sorted((shared / "eurosat_rgb").rglob("*.jpg"))
    yield np.concatenate([_windows(np.asarray(Image.open(path)).transpose(2, 0, 1), 16) for path in images])


def _windows(image: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    views = np.lib.stride_tricks.sliding_window_view(image, (CHIP, CHIP), axis=(1, 2))
    picked = views[:, ::stride, ::stride].transpose(1, 2, 0, 3, 4)
    return picked.reshape(-1, len(image), CHIP, CHIP)
