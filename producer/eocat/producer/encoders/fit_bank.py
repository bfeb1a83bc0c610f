"""Fits a filter bank once: patches of real images, ZCA-whitened, rounded to int7 (DESIGN section 3).

    python -m eocat.producer.encoders.fit_bank exact-s2-l2a banks/ --source scenes/ --source new.tif@1000 …

A maker, not part of producing: the bank that it prints is pinned in `bank.BANKS`, and verifying never refits.
`@1000` is the DN offset of that source. docs/banks.md has the commands of the banks that ship.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from eocat.verify.digest import digest_bytes
from eocat.verify.errors import InputError

from .bank import BAND_SETS, MAX_SHIFT, MAX_WEIGHT, file_name, format_bank
from .exact import X_MAX, answer_digest, known_chip, normalise

MAX_FITTED_SHIFT = (
    5  # in clear sky B10 is all but constant; amplified more, a thin cirrus would leave 15 bits
)
SIGMA_BITS = 10  # a band's shift brings its standard deviation near 2^10, so that ±16 sigma fit 15 bits
PATCHES = 60_000  # drawn for the covariance
Image = NDArray[np.int32]  # (C, H, W), DN after the scene's offset, or backscatter in 0.01 dB
SIGNED = ("exact-s1",)  # banks of decibels


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted bank, with the float filters (k, k, C, F) that were rounded; scaled so that max |w| is 63."""

    filters: NDArray[np.int8]
    offsets: NDArray[np.int32]
    shifts: NDArray[np.int8]
    exact_filters: NDArray[np.float64]


def fit(
    images: Sequence[Image], *, size: int, count: int, bias: float, seed: int, iterations: int = 0
) -> Fit:
    """Filters from `count` random patches of size×size pixels, ZCA-whitened by the covariance of `PATCHES`.

    iterations: of spherical k-means on the whitened patches, which start it; 0 takes them as they are.

    bias: added to the eigenvalues, in units of a band's variance; it damps the directions that hold noise.
    Coates & Ng 2012, "Learning feature representations with k-means", section 3; Rolf et al. 2021, methods.
    """
    rng = np.random.default_rng(seed)
    offsets, shifts = fit_scale(images)
    drawn = np.stack(list(_draw(images, size, PATCHES, rng)))
    x = shift_pixels(drawn, offsets, shifts).transpose(0, 2, 3, 1).reshape(PATCHES, -1) / 2**SIGMA_BITS
    values, vectors = np.linalg.eigh(np.cov(x.T))
    whiten = (vectors / np.sqrt(values + bias)) @ vectors.T
    white = (x - x.mean(0)) @ whiten
    norms = np.linalg.norm(white, axis=1)
    keep = norms > np.quantile(norms, 0.1)  # flat patches would make filters of noise
    directions = white[keep] / norms[keep, None]
    exact = (_cluster(directions, count, iterations) @ whiten).T
    exact *= MAX_WEIGHT / np.abs(exact).max(0)
    shape = (size, size, len(offsets), count)
    return Fit(np.rint(exact).astype(np.int8).reshape(shape), offsets, shifts, exact.reshape(shape))


def _cluster(directions: NDArray[np.float64], count: int, iterations: int) -> NDArray[np.float64]:
    """`count` unit vectors: the first directions, moved to the mean direction of their nearest ones."""
    centres = directions[:count]
    for _ in range(iterations):
        nearest = (directions @ centres.T).argmax(1)
        # the centre itself weighs next to nothing, but is what remains of an empty cluster
        sums = np.stack([directions[nearest == i].sum(0) for i in range(count)]) + 1e-6 * centres
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return centres


def fit_scale(images: Sequence[Image]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """(offsets, shifts) of the bands: rounded mean, and log2 of what brings sigma nearest to 2^10."""
    pixels = np.concatenate([image.reshape(len(image), -1) for image in images], axis=1)
    shifts = np.rint(SIGMA_BITS - np.log2(pixels.std(1))).clip(-MAX_SHIFT, MAX_FITTED_SHIFT)
    return np.rint(pixels.mean(1)).astype(np.int32), shifts.astype(np.int8)


def shift_pixels(
    dn: NDArray[np.int32], offsets: NDArray[np.int32], shifts: NDArray[np.int8]
) -> NDArray[np.int64]:
    """15-bit pixels of DN (…, C, H, W), as the encoder makes them, in plain numpy."""
    x = dn.astype(np.int64) - offsets[:, None, None]
    shifted = np.floor(np.ldexp(x.astype(np.float64), shifts[:, None, None]))  # exact: |x| < 2^17
    return shifted.clip(-X_MAX - 1, X_MAX).astype(np.int64)


def reference_sums(dn: NDArray[np.int32], fitted: Fit) -> NDArray[np.int64]:
    """Pooled sums (2F,) of one chip (C, H, W) in plain int64 numpy: what every kernel must reproduce."""
    size, _, _, count = fitted.filters.shape
    x = shift_pixels(dn, fitted.offsets, fitted.shifts)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2)).transpose(1, 2, 3, 4, 0)
    y = windows.reshape(-1, size * size * len(x)) @ fitted.filters.reshape(-1, count).astype(np.int64)
    return np.concatenate([np.maximum(y, 0).sum(0), np.maximum(-y, 0).sum(0)])


def build_bank(name: str, fitted: Fit, facts: dict[str, Any]) -> bytes:
    """The bank's bytes, with the answer that every machine must give to `known_chip`."""
    chip = known_chip(len(fitted.offsets), facts["depth"]).astype(np.int32)
    answer = answer_digest(normalise(reference_sums(chip, fitted)))
    facts = {"name": name, "bands": list(BAND_SETS[name]), "known_answer": answer, **facts}
    return format_bank(fitted.filters, fitted.offsets, fitted.shifts, facts)


def read_images(
    sources: Sequence[str], bands: Sequence[int], *, first_half: bool, decibels: bool = False
) -> list[Image]:
    """Images of the sources `PATH[@OFFSET]`, files or folders of .tif and .jpg; bands: numbers from 1.

    decibels: real numbers in dB become whole 0.01 dB; else DN, cut off at 0.
    """
    images = []
    for source in sources:
        path, _, offset = source.partition("@")
        for file in _files(Path(path), first_half=first_half):
            with rasterio.open(file) as raster:
                read = raster.read(bands)
            if decibels:
                images.append(np.rint(100 * read.astype(np.float64)).astype(np.int32))
            else:
                images.append(np.maximum(read.astype(np.int32) - int(offset or 0), 0))
    return images


def _files(path: Path, *, first_half: bool) -> list[Path]:
    """The images at `path`; first_half: of each folder, by the number that ends the name (`River_12.jpg`)."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in {".tif", ".jpg"})
    if not found:
        raise InputError(f"source {path} holds no .tif or .jpg file")
    if not first_half:
        return found
    folders: dict[Path, list[Path]] = {}
    for file in sorted(found, key=lambda p: int(p.stem.rsplit("_", 1)[1])):
        folders.setdefault(file.parent, []).append(file)
    return [file for files in folders.values() for file in files[: len(files) // 2]]


def _draw(images: Sequence[Image], size: int, count: int, rng: np.random.Generator) -> Iterator[Image]:
    for image in (images[i] for i in rng.integers(0, len(images), count)):
        top, left = (int(rng.integers(0, edge - size + 1)) for edge in image.shape[1:])
        yield image[:, top : top + size, left : left + size]


def main() -> None:
    parser = argparse.ArgumentParser(description="fit, write and name a filter bank")
    parser.add_argument("name", choices=sorted(BAND_SETS))
    parser.add_argument("folder", type=Path, help="where the bank is written")
    parser.add_argument("--source", action="append", required=True, metavar="PATH[@OFFSET]")
    parser.add_argument("--band-numbers", help="comma-separated, from 1; the first ones if absent")
    parser.add_argument("--first-half", action="store_true", help="of each folder, by file number")
    parser.add_argument("--description", required=True, help="what the sources are, for the bank's facts")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--size", type=int, default=3)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--bias-permille", type=int, default=100, help="ZCA bias in 1/1000")
    parser.add_argument("--iterations", type=int, default=0, help="of k-means; 0: plain random patches")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    bands = range(1, len(BAND_SETS[args.name]) + 1)
    numbers = [int(n) for n in args.band_numbers.split(",")] if args.band_numbers else list(bands)
    signed = args.name in SIGNED
    images = read_images(args.source, numbers, first_half=args.first_half, decibels=signed)
    bias = args.bias_permille / 1000
    fitted = fit(
        images, size=args.size, count=args.count, bias=bias, seed=args.seed, iterations=args.iterations
    )
    facts = {
        "version": args.version,
        "licence": args.licence,
        "depth": 8 if args.name == "exact-rgb" else 16,
        **({"signed": True} if signed else {}),
        "sources": {"description": args.description, "images": len(images)},
        "fit": {
            "seed": args.seed,
            "zca_bias_permille": args.bias_permille,
            "patches": PATCHES,
            "kmeans_iterations": args.iterations,
        },
    }
    data = build_bank(args.name, fitted, facts)
    sha256 = digest_bytes(data).sha256
    (args.folder / file_name(args.name, sha256)).write_bytes(data)
    sys.stdout.write(f'"{args.name}": "{sha256}",\n')


if __name__ == "__main__":
    main()
