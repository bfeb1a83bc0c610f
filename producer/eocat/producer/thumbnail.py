"""A shard's thumbnail: the first three principal components of its vectors as red, green and blue."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_CELLS: Final = 512  # along the longer side: larger layouts are thinned
MIN_PIXELS: Final = 256
_AT_ONCE: Final = 1 << 22  # values that are held as float64


def write_thumbnail(windows: NDArray[np.integer], vectors: NDArray[np.floating], path: Path) -> None:
    """A PNG with one cell per chip, where the chip lies in its scene; empty places are transparent.

    windows: (N, 3), x, y and size of each chip. vectors: (N, D). Components are stretched to 0..255 between
    their 2nd and 98th percentile.
    """
    colours = _stretch(principal_components(vectors))
    step = max(1, int(windows[:, 2].min()))
    columns, lines = windows[:, 0] // step, windows[:, 1] // step
    columns, lines = columns - columns.min(), lines - lines.min()
    thin = max(columns.max() + 1, lines.max() + 1) // MAX_CELLS + 1
    columns, lines = columns // thin, lines // thin
    picture = np.zeros((lines.max() + 1, columns.max() + 1, 4), np.uint8)
    picture[lines, columns, :3] = colours
    picture[lines, columns, 3] = 255
    scale = -(-MIN_PIXELS // max(picture.shape[:2]))
    Image.fromarray(picture.repeat(scale, 0).repeat(scale, 1)).save(path, format="PNG", optimize=False)


def principal_components(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Projection on the three leading components, (N, 3); each one's largest weight is positive."""
    count = max(1, _AT_ONCE // vectors.shape[1])
    parts = [vectors[first : first + count] for first in range(0, len(vectors), count)]
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / len(vectors)
    spread = sum(centred.T @ centred for centred in (part - mean for part in parts))
    _, directions = np.linalg.eigh(spread)
    leading = directions[:, ::-1][:, :3]
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), range(leading.shape[1])])
    projected = np.concatenate([(part - mean) @ leading for part in parts])
    return np.pad(projected, ((0, 0), (0, 3 - projected.shape[1])))


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = np.percentile(values, [2, 98], axis=0)
    span = np.where(high > low, high - low, 1)
    stretched: NDArray[np.uint8] = np.rint(np.clip((values - low) / span, 0, 1) * 255).astype(np.uint8)
    return stretched
