"""Short codes of vectors, by which the index chooses candidates: a centred PCA (decision 0019).

A code is where a vector of unit length lies on the axes along which a sample of the collection's rows differs
most; Euclidean distance between codes stands for cosine distance. It needs no signature: what it chooses is
compared again in full, so that a wrong code can cost recall, which is measured, but never a wrong distance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CODE_DIMENSION = 64
SAMPLE_ROWS = 16_384

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Projection:
    """mean: (D,) float32. axes: (C, D) float32, orthonormal rows, the widest first; C = min(64, D)."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @property
    def dimension(self) -> int:
        """Numbers in a code."""
        return len(self.axes)

    def encode(self, vectors: Floats) -> NDArray[np.float16]:
        """(N, C) codes of the vectors (N, D) of any length; of a zero vector, that of the origin."""
        codes: NDArray[np.float16] = ((unit_length(vectors) - self.mean) @ self.axes.T).astype(np.float16)
        return codes

    def to_bytes(self) -> bytes:
        """Little-endian float32: the mean, then the axes."""
        return np.concatenate([self.mean[None, :], self.axes]).astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, dimension: int) -> "Projection":
        parts = np.frombuffer(data, "<f4").reshape(-1, dimension)
        return cls(parts[0], parts[1:])


def fit(sample: Floats) -> Projection:
    """The projection of a sample (N, D) of at least one row."""
    rows = unit_length(sample)
    mean = rows.mean(axis=0)
    centred = rows - mean
    count, dimension = centred.shape
    wanted = min(CODE_DIMENSION, dimension)
    if dimension <= count:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, np.argsort(values)[::-1][:wanted]].T
    else:
        axes = np.linalg.svd(centred, full_matrices=False)[2][:wanted]
    return Projection(mean, np.ascontiguousarray(axes, np.float32))


def unit_length(vectors: Floats) -> NDArray[np.float32]:
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return scaled
