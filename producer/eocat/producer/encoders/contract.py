"""What every encoder promises (DESIGN section 3), as checks that run on any encoder with any weights.

The tests run them on small random weights, `eocat encoders check` on the user's real ones. A check returns a
sentence on what was seen; it raises `BrokenPromise` where the encoder does not hold its promise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eocat.verify.canonical import encode
from eocat.verify.errors import InputError

from . import Encoder
from .precision import tolerance_of

Pixels = NDArray[np.integer[Any]]
CHIPS = 3


class BrokenPromise(Exception):
    """What an encoder promised and did not do."""


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    passed: bool
    seen: str


def check_encoder(encoder: Encoder) -> list[Finding]:
    """One finding for each promise, in the order of `CHECKS`."""
    found = []
    for name, check in CHECKS.items():
        try:
            found.append(Finding(name, passed=True, seen=check(encoder)))
        except (BrokenPromise, InputError) as error:
            found.append(Finding(name, passed=False, seen=str(error)))
    return found


def draw_pixels(encoder: Encoder, count: int, size: int, *, seed: int = 0) -> Pixels:
    """Smooth seeded chips (count, C, size, size) in the range of the encoder's sensor."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(300, 4000, (count, len(encoder.bands), -(-size // 8), -(-size // 8)))
    pixels = np.kron(coarse, np.ones((8, 8), np.int64))[..., :size, :size] + rng.integers(
        0, 200, (count, len(encoder.bands), size, size)
    )
    kind = encoder.preprocess["input"]
    if kind == "uint8":
        return (pixels // 17).astype(np.uint8)
    return (-pixels // 2).astype(np.int16) if "dB" in kind else pixels.astype(np.uint16)


def check_agreement(encoder: Encoder, found: NDArray[np.float16], expected: NDArray[np.float16]) -> str:
    """Equal bytes where the encoder promises its bits, else 1 - cosine within its tolerance."""
    if encoder.tolerance["kind"] == "bits":
        _promise(found.tobytes() == expected.tobytes(), "the bits differ")
        return "the same bits"
    a, b = found.astype(np.float64), expected.astype(np.float64)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    billionths = round(float(max(0, (1 - cosines).max())) * 1e9)
    allowed = encoder.tolerance["parts_per_billion"]
    _promise(billionths <= allowed, f"1 - cosine is {billionths}e-9, promised are {allowed}e-9")
    return f"1 - cosine at most {billionths}e-9 (allowed {allowed}e-9)"


def check_identity(encoder: Encoder) -> str:
    _promise(all((encoder.name, encoder.version, encoder.licence)), "name, version or licence is empty")
    bands = encoder.bands
    _promise(len(set(bands)) == len(bands) > 0, f"bands {bands} are none, or one stands twice")
    for part in encoder.weights:
        _promise(len(part.sha256) == len(part.blake3) == 64 and part.size > 0, f"digests of {part.name}")
    return f"{encoder.name} {encoder.version}, {encoder.licence}, bands {', '.join(bands)}"


def check_documents(encoder: Encoder) -> str:
    """config, preprocess and tolerance are canonical JSON without floats: a statement holds them."""
    for value in (encoder.config, encoder.preprocess, encoder.tolerance):
        encode(value)
        floats = [leaf for leaf in _leaves(value) if isinstance(leaf, float)]
        _promise(not floats, f"a statement holds no floats, found {floats[:1]}")
    tolerance = tolerance_of(encoder.precision)
    _promise(encoder.tolerance == tolerance, f"tolerance of {encoder.precision} is {tolerance}")
    return f"precision {encoder.precision}"


def check_dimension(encoder: Encoder) -> str:
    pixels = _chips(encoder)
    vectors = encoder.encode(pixels, offset=0)
    expected = (len(pixels), encoder.dimension)
    _promise(vectors.shape == expected, f"vectors are {vectors.shape}, promised {expected}")
    _promise(vectors.dtype == np.dtype(encoder.dtype), f"vectors are {vectors.dtype}")
    _promise(bool(np.isfinite(vectors).all()), "a vector is not finite")
    _promise(bool(vectors.any(1).all()), "a vector is zero")
    _promise(len(np.unique(vectors, axis=0)) == len(pixels), "different chips have equal vectors")
    _promise(encoder.encode(pixels[:0], offset=0).shape == (0, encoder.dimension), "no chips give rows")
    return f"{encoder.dimension} × {encoder.dtype}"


def check_determinism(encoder: Encoder) -> str:
    pixels = _chips(encoder)
    return check_agreement(encoder, encoder.encode(pixels, offset=0), encoder.encode(pixels, offset=0))


def check_batch_invariance(encoder: Encoder) -> str:
    """A chip has the same row alone, in a batch and in another place of it."""
    pixels = _chips(encoder)
    alone = np.concatenate([encoder.encode(chip[None], offset=0) for chip in pixels])
    check_agreement(encoder, encoder.encode(pixels[::-1], offset=0)[::-1], alone)
    return check_agreement(encoder, encoder.encode(pixels, offset=0), alone)


def check_evaluation_mode(encoder: Encoder) -> str:
    """No module is in training mode, and encoding leaves every running statistic as it is."""
    net = getattr(encoder, "net", None)
    if net is None:
        return "no net with modes"
    training = [name or "the net" for name, module in net.named_modules() if module.training]
    _promise(not training, f"{len(training)} modules are in training mode, the first is {training[:1]}")
    before = {key: value.clone() for key, value in net.state_dict().items() if "running" in key}
    encoder.encode(_chips(encoder)[:2], offset=0)
    changed = [
        key for key, value in net.state_dict().items() if key in before and (value != before[key]).any()
    ]
    _promise(not changed, f"encoding changed {', '.join(changed[:2])}")
    return f"eval(), {len(before)} running statistics unchanged"


def check_pixels_unchanged(encoder: Encoder) -> str:
    pixels = _chips(encoder)
    before = pixels.copy()
    encoder.encode(pixels, offset=0)
    _promise(np.array_equal(before, pixels), "encoding changed the caller's pixels")
    return "the caller's pixels are unchanged"


def check_refusals(encoder: Encoder) -> str:
    """A band too few, and chips below the smallest size, are refused."""
    pixels = _chips(encoder)
    small = pixels[..., : encoder.min_size - 1, :]
    for what, wrong in (("a band too few", pixels[:, 1:]), ("too small a chip", small)):
        try:
            encoder.encode(wrong, offset=0)
        except InputError:
            continue
        raise BrokenPromise(f"{what} was not refused")
    return f"{len(encoder.bands)} bands, chips of {encoder.min_size} pixels or more"


def check_preprocessing(encoder: Encoder) -> str:
    """Constant bands come out as the steps say, worked out in decimals without torch."""
    steps = encoder.preprocess.get("steps")
    if steps is None:
        return "in the integers of the known answer"
    import torch

    from .preprocess import preprocess

    dark, step = _range(encoder.preprocess["input"])
    values = [dark + step * band for band in range(len(encoder.bands))]
    chip = torch.tensor(values, dtype=torch.float32)[None, :, None, None].expand(1, -1, 24, 24)
    expected = [preprocessed_value(value, steps, band) for band, value in enumerate(values)]
    found = preprocess(chip, steps)
    errors = (found - torch.tensor([float(e) for e in expected])[None, :, None, None]).abs()
    _promise(float(errors.max()) < 1e-4, f"bands of {values[:3]}… give {found[0, :3, 0, 0].tolist()}")
    size = encoder.preprocess["size"]
    return f"{encoder.bands[0]} = {values[0]} gives {float(expected[0]):.4f}, at {size} × {size}"


def preprocessed_value(value: int, steps: Sequence[dict[str, Any]], band: int) -> Decimal:
    """One pixel of a constant chip after all `steps`, in decimals; geometry does nothing to a constant."""
    x = Decimal(value)
    for step in steps:
        ((name, given),) = step.items()
        if name in {"divide", "multiply"}:
            factor = Decimal(given if isinstance(given, str) else given[band])
            x = x / factor if name == "divide" else x * factor
        elif name == "clip":
            x = min(max(x, Decimal(given[0])), Decimal(given[1]))
        elif name == "standardise":
            x = (x - Decimal(given["mean"][band])) / Decimal(given["std"][band])
        elif name == "two_sigma":
            mean, std = Decimal(given["mean"][band]), Decimal(given["std"][band])
            x = min(max((x - (mean - 2 * std)) / (4 * std), Decimal(0)), Decimal(1))
        elif name == "levels":
            x = (x * given).to_integral_value("ROUND_FLOOR") / given
        elif name not in {"resize", "crop"}:
            raise BrokenPromise(f"preprocessing step {name} is unknown")
    return x


CHECKS: Final[dict[str, Callable[[Encoder], str]]] = {
    "identity": check_identity,
    "documents": check_documents,
    "preprocessing": check_preprocessing,
    "dimension": check_dimension,
    "evaluation mode": check_evaluation_mode,
    "determinism": check_determinism,
    "batch invariance": check_batch_invariance,
    "pixels unchanged": check_pixels_unchanged,
    "refusals": check_refusals,
}


def _chips(encoder: Encoder) -> Pixels:
    return draw_pixels(encoder, CHIPS, max(24, encoder.min_size))


def _range(kind: str) -> tuple[int, int]:
    """A value of the first band, and how much more each further band gets."""
    if kind == "uint8":
        return 3, 17
    return (-2300, 101) if "dB" in kind else (40, 311)


def _promise(kept: bool, otherwise: str) -> None:
    if not kept:
        raise BrokenPromise(otherwise)


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]
