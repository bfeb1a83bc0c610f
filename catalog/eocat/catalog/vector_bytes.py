"""Vectors as pgvector sends and reads them: `halfvec_send`, `vector_send`, and the text of its input."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def read_vector(sent: bytes, dtype: str) -> NDArray[np.floating]:
    """The values of what pgvector's send function gives: dimension, zero, big-endian numbers."""
    return np.frombuffer(sent, np.dtype(dtype).newbyteorder(">"), offset=4)


def read_vectors(sent: Sequence[bytes], dtype: str) -> NDArray[np.floating]:
    """(N, D) values of N ≥ 1 vectors of one dimension."""
    return np.stack([read_vector(one, dtype) for one in sent])


def format_vector(values: NDArray[np.floating]) -> str:
    """Text that pgvector reads: the shortest decimals, which stand for the very same values."""
    return "[" + ",".join(map(repr, values.astype(np.float64).tolist())) + "]"
