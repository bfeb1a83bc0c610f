"""MOSAIKS in floats, as published: what the exact encoder's integers are compared with.

Random patches of the given images, ZCA-whitened, as float32 filters; positive and negative parts of the
responses summed over the chip; square root. Rolf et al. 2021, doi:10.1038/s41467-021-24638-z.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

PATCHES = 20_000


def mosaiks_filters(
    images: Sequence[NDArray[np.number]], *, size: int, count: int, bias: float = 1e-3, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(filters (count, C, size, size), mean (C,), std (C,)) of images (C, H, W)."""
    rng = np.random.default_rng(seed)
    pixels = np.concatenate([image.reshape(len(image), -1) for image in images], 1).astype(np.float64)
    mean, std = pixels.mean(1), pixels.std(1)
    drawn = []
    for image in (images[i] for i in rng.integers(0, len(images), PATCHES)):
        top, left = (int(rng.integers(0, edge - size + 1)) for edge in image.shape[1:])
        drawn.append(image[:, top : top + size, left : left + size])
    x = (np.stack(drawn) - mean[:, None, None]) / std[:, None, None]
    x = x.reshape(PATCHES, -1)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    whiten = (vectors / np.sqrt(values + bias)) @ vectors.T
    white = (x - x.mean(0)) @ whiten
    norms = np.linalg.norm(white, axis=1)
    chosen = (white / norms[:, None])[norms > np.quantile(norms, 0.1)][:count] @ whiten
    filters = chosen.reshape(count, -1, size, size).astype(np.float32)
    return filters, mean.astype(np.float32), std.astype(np.float32)


def mosaiks_vectors(
    images: NDArray[np.number],
    filters: NDArray[np.float32],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(N, 2 · count) of images (N, C, H, W)."""
    weights, made = torch.from_numpy(filters), []
    for image in images:
        x = torch.from_numpy((image.astype(np.float32) - mean[:, None, None]) / std[:, None, None])
        y = torch.nn.functional.conv2d(x[None], weights)[0].flatten(1)
        made.append(torch.cat([y.clamp(min=0).sum(1), (-y).clamp(min=0).sum(1)]).sqrt().numpy())
    return np.stack(made).astype(np.float64)
