"""Preprocessing as data: a list of steps, each a table with one key, run in order on float32 pixels.

    {"resize": 224}                      to 224×224, bilinear with antialias, half-pixel centres
    {"crop": 224}                        the middle 224×224
    {"divide": "10000"}, {"divide": ["3558", "8160"]}   by one number, or by one for each band
    {"multiply": "255"}
    {"clip": ["0", "1"]}
    {"standardise": {"mean": [...], "std": [...]}}      (x - mean) / std of each band
    {"two_sigma": {"mean": [...], "std": [...]}}        mean - 2 std … mean + 2 std to 0 … 1, clipped
    {"levels": 255}                      floor(255 x) / 255, as a cast to uint8 leaves it

Nothing depends on the other chips of a batch. Resizing is torchvision's `Resize(antialias=True)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch.nn import functional

from eocat.verify.errors import Malformed


def preprocess(x: torch.Tensor, steps: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """float32 (N, C, H', W') of float32 pixels (N, C, H, W) after all `steps`."""
    for step in steps:
        ((name, value),) = step.items()
        x = STEPS[name](x, value)
    return x


def check_steps(steps: Sequence[Mapping[str, Any]], channels: int, size: int) -> None:
    """Malformed unless every step is known and one chip of any size comes out as (channels, size, size)."""
    for step in steps:
        if len(step) != 1 or next(iter(step)) not in STEPS:
            raise Malformed(f"preprocessing step {dict(step)!r} is not one of {', '.join(STEPS)}")
    found = tuple(preprocess(torch.zeros(1, channels, 40, 40), steps).shape)
    if found != (1, channels, size, size):
        raise Malformed(f"preprocessing gives {found}, expected {(1, channels, size, size)}")


def _resize(x: torch.Tensor, size: int) -> torch.Tensor:
    if x.shape[2:] == (size, size):
        return x
    return functional.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _crop(x: torch.Tensor, size: int) -> torch.Tensor:
    top, left = (round((edge - size) / 2) for edge in x.shape[2:])
    return x[:, :, top : top + size, left : left + size]


def _divide(x: torch.Tensor, value: str | Sequence[str]) -> torch.Tensor:
    return x / (float(value) if isinstance(value, str) else _per_band(value, x))


def _multiply(x: torch.Tensor, value: str) -> torch.Tensor:
    return x * float(value)


def _clip(x: torch.Tensor, value: Sequence[str]) -> torch.Tensor:
    return x.clamp(float(value[0]), float(value[1]))


def _standardise(x: torch.Tensor, value: Mapping[str, Sequence[str]]) -> torch.Tensor:
    mean, std = (_per_band(value[key], x) for key in ("mean", "std"))
    return (x - mean) / std


def _two_sigma(x: torch.Tensor, value: Mapping[str, Sequence[str]]) -> torch.Tensor:
    mean, std = (_per_band(value[key], x) for key in ("mean", "std"))
    return ((x - (mean - 2 * std)) / (4 * std)).clamp(0, 1)


def _levels(x: torch.Tensor, value: int) -> torch.Tensor:
    return (x * value).floor() / value


def _per_band(values: Sequence[str], x: torch.Tensor) -> torch.Tensor:
    return torch.tensor([float(value) for value in values], device=x.device)[:, None, None]


STEPS: Final[dict[str, Callable[[torch.Tensor, Any], torch.Tensor]]] = {
    "resize": _resize,
    "crop": _crop,
    "divide": _divide,
    "multiply": _multiply,
    "clip": _clip,
    "standardise": _standardise,
    "two_sigma": _two_sigma,
    "levels": _levels,
}
