"""A small encoder that computes in floats, with seeded random weights, as published models do."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eocat.producer.encoders import Weights
from eocat.producer.encoders.precision import Precision, tolerance_of
from eocat.verify.digest import digest_bytes

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass
class FloatEncoder:
    """Patches through two random layers. runs_in: the arithmetic, if it is not what `precision` says."""

    bands: tuple[str, ...]
    seed: int = 0
    precision: Precision = "fp32"
    dtype: str = "float32"
    runs_in: str | None = None
    declared: dict[str, Any] = field(default_factory=dict)

    name, version, licence, dimension, min_size, device = "float-test", "1", "Apache-2.0", 64, 8, "cpu"

    @property
    def weights(self) -> tuple[Weights, ...]:
        found = digest_bytes(b"seed 0")  # what it says; `seed` is what it does
        return (Weights("random.safetensors", found.sha256, found.blake3, found.size),)

    @property
    def config(self) -> dict[str, Any]:
        return {"architecture": "two random layers", "dimension": self.dimension}

    @property
    def preprocess(self) -> dict[str, Any]:
        return {"bands": list(self.bands), "input": "uint16"}

    @property
    def tolerance(self) -> dict[str, Any]:
        return tolerance_of(self.precision) | self.declared

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.floating]:
        kind = DTYPES[self.runs_in or self.precision]
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.randn(64, 64 * len(self.bands), generator=generator).to(kind) / 16
        second = torch.randn(self.dimension, 64, generator=generator).to(kind) / 8
        x = torch.from_numpy((pixels.astype(np.float32) - offset - 2000) / 1000)
        patches = torch.nn.functional.unfold(x, 8, stride=8).transpose(1, 2).to(kind)
        hidden = torch.relu(patches @ first.T).mean(1)
        return (torch.relu(hidden @ second.T) + 0.01).float().numpy().astype(self.dtype)
