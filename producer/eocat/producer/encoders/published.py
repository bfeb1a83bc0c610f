"""A published encoder with its weights: registry entry, net and preprocessing behind the contract `Encoder`.

The net runs in evaluation mode (a famous pipeline forgot `eval()`, so that batch norm saw the batch), in the
arithmetic of its precision class; pooling and everything before the net is float32. Vectors are stored as
float16, not normalised. TF32 is off in class fp32. Decided in docs/decisions: what a space depends on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eocat.verify.errors import InputError

from .bank import Weights
from .checkpoint import Checkpoint, fill, parse_checkpoint, read_checkpoint, select_keys
from .device import choose_device, device_batches
from .layouts import LAYOUTS
from .nets import build_net
from .precision import Precision, tolerance_of
from .preprocess import check_steps, preprocess
from .registry import INPUTS, Entry, Model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MIN_SIZE = 16  # a smaller chip, blown up to the size of a model, would show nothing but the interpolation
BATCHES = {"cpu": 32, "cuda": 128}  # chips in the net at once, whatever the caller's batch


class PublishedEncoder:
    """An encoder of the registry; passes the contract `Encoder`. precision None: fp32, on CUDA bf16."""

    dtype = "float16"
    min_size = MIN_SIZE

    def __init__(
        self, entry: Entry, net: torch.nn.Module, weights: Weights, *, device: str = "auto",
        precision: Precision | None = None,
    ) -> None:  # fmt: skip
        check_steps(entry.steps, len(entry.bands), entry.size)
        self.entry = entry
        self.name, self.bands = entry.name, entry.bands
        self.licence = entry.family.licence
        self.version = weights.sha256[:12]
        self.dimension = entry.model.dimension
        self.weights: tuple[Weights, ...] = (weights,)
        self.device = choose_device(device)
        self.precision: Precision = precision or ("bf16" if self.device.type == "cuda" else "fp32")
        self.net = net.to(self.device, DTYPES[self.precision]).eval()
        if entry.model.architecture in {"resnet", "convnextv2"}:
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    @property
    def tolerance(self) -> dict[str, Any]:
        return tolerance_of(self.precision)

    @property
    def config(self) -> dict[str, Any]:
        return config_of(self.entry)

    @property
    def preprocess(self) -> dict[str, Any]:
        return preprocess_of(self.entry)

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        """(N, D) float16 of chips (N, C, H, W); see `Encoder.encode`."""
        self._check(pixels, offset)
        vectors = np.empty((len(pixels), self.dimension), np.float16)
        first = 0
        for batch in device_batches(pixels, BATCHES.get(self.device.type, 32), self.device):
            made = self._run(batch, offset).cpu().numpy()
            with np.errstate(over="ignore"):  # a value beyond float16 is refused below
                vectors[first : first + len(made)] = made
            first += len(made)
        self._check_vectors(vectors)
        return vectors

    @torch.inference_mode()
    def _run(self, batch: torch.Tensor, offset: int) -> torch.Tensor:
        """float32 (N, D) of integer pixels on the device."""
        x = batch.to(torch.float32)
        if self.entry.input == "dn":
            x = (x - offset).clamp_(min=0)
        x = preprocess(x, self.entry.steps).to(DTYPES[self.precision])
        with _without_tf32():
            features: torch.Tensor = self.net(x)
        return features.float()

    def _check(self, pixels: NDArray[np.integer[Any]], offset: int) -> None:
        channels = len(self.bands)
        if pixels.ndim != 4 or pixels.shape[1] != channels or min(pixels.shape[2:]) < self.min_size:
            raise InputError(
                f"pixels for {self.name} must be (N, {channels}, H, W) with H, W ≥ {self.min_size}, "
                f"found {pixels.shape}"
            )
        kinds = {"uint8": ("uint8",), "centidecibel": ("int16",), "dn": ("uint16", "int16", "int32")}
        allowed = kinds[self.entry.input]
        if pixels.dtype.newbyteorder("=") not in [np.dtype(kind) for kind in allowed]:
            raise InputError(f"pixels for {self.name} must be {' or '.join(allowed)}, found {pixels.dtype}")
        if not 0 <= offset <= 10_000 or (offset and self.entry.input != "dn"):
            raise InputError(
                f"DN offset of {self.name} must lie in 0..10000, for reflectance only, found {offset}"
            )

    def _check_vectors(self, vectors: NDArray[np.float16]) -> None:
        bad = ~np.isfinite(vectors).all(1) | ~vectors.any(1)
        if bad.any():
            raise InputError(
                f"chip in row {int(bad.argmax())} has no vector: zero, or more than float16 holds",
                hint="drop chips without data before encoding",
            )


def config_of(entry: Entry) -> dict[str, Any]:
    """What the space digest covers beside weights and preprocessing; the precision is no part of it."""
    return {
        "architecture": entry.model.architecture,
        "parameters": dict(entry.model.parameters),
        "family": entry.family.title,
        "pooling": entry.model.pooling,
        "normalisation": "none; float32 rounded once to float16",
        "dimension": entry.model.dimension,
    }


def preprocess_of(entry: Entry) -> dict[str, Any]:
    return {
        "bands": list(entry.bands),
        "input": INPUTS[entry.input],
        "size": entry.size,
        "steps": [dict(step) for step in entry.steps],
    }


def load_published(
    entry: Entry, checkpoint: Checkpoint, *, device: str = "auto", precision: Precision | None = None
) -> PublishedEncoder:
    """The encoder with the weights of that file, whose bytes must have the pinned or given SHA-256."""
    net, weights = load_net(entry.model, checkpoint)
    return PublishedEncoder(entry, net, weights, device=device, precision=precision)


def load_net(model: Model, checkpoint: Checkpoint) -> tuple[torch.nn.Module, Weights]:
    """The net of `model`, filled and ready; digests of the file."""
    data, weights = read_checkpoint(checkpoint, pinned=model.sha256, prefix=model.prefix)
    tensors = parse_checkpoint(data, weights.name)
    del data
    return build_filled(model, tensors, weights.name), weights


def build_filled(model: Model, tensors: dict[str, torch.Tensor], name: str) -> torch.nn.Module:
    chosen = select_keys(tensors, strip=model.strip, drop=model.drop)
    net = build_net(model.architecture, dict(model.parameters))
    fill(net, LAYOUTS[model.layout](chosen), name)
    with torch.no_grad():  # tensors of inference mode could not be brought to another precision
        if prepare := getattr(net, "prepare", None):
            prepare()
    return net


@contextmanager
def _without_tf32() -> Iterator[None]:
    """CUDA multiplies float32 with 24 bits, not with TF32's 11; nothing on a CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
