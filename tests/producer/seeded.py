"""Weights that any library can make from their names alone: the same key and shape give the same numbers.

They stand in for published weights, which cannot be fetched here, in the true layout of keys and shapes.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch

_SCALE = re.compile(r"(norm\w*|bn\d|ln_\w+|downsample\.1|input_norm|norm_out|ls\d)\.(weight|gamma)$")


def seeded_tensors(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Tensors by key: small random numbers; near 1 for scales of norms, positive for running variances."""
    return {key: _tensor(key, tuple(shape)) for key, shape in shapes.items()}


def _tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1  # keeps features of one magnitude
    values = np.random.default_rng(seed).normal(0, spread, shape)
    if key.endswith("running_var"):
        values = np.abs(values) + 0.5
    elif _SCALE.search(key):
        values = values + 1
    return torch.from_numpy(values.astype(np.float32))


def shapes_of(module: torch.nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def seeded_pixels(channels: int, size: int, count: int = 2) -> torch.Tensor:
    """float32 (count, channels, size, size), smooth enough for convolutions to have something to say."""
    rng = np.random.default_rng(channels * 1000 + size)
    coarse = rng.normal(0, 1, (count, channels, size // 8, size // 8))
    return torch.from_numpy(np.kron(coarse, np.ones((8, 8))).astype(np.float32))
