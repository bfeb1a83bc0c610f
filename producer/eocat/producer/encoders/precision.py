"""Precision classes: in which arithmetic an encoder runs, and so how closely it can be run again.

Measured (torch 2.13, ResNet50 and ViT-S): float32 kernels of other CPUs differ by 1e-14 in 1 - cosine,
storing as float16 adds 2.4e-8, bfloat16 against float32 differs by up to 6e-5. The bands below leave room
for another device and no more: a statement may not declare a wider one for its class.
"""

from typing import Any, Final, Literal

from eocat.verify.errors import UsageError

Precision = Literal["exact", "fp32", "bf16", "fp16"]

COSINE_BANDS: Final[dict[str, int]] = {  # 1 - cosine of a vector made again, at most, in parts per billion
    "fp32": 1_000,
    "fp16": 10_000,
    "bf16": 100_000,
}


def tolerance_of(precision: Precision) -> dict[str, Any]:
    """As it stands in a statement: {"kind": "bits"}, or {"kind": "cosine", "parts_per_billion": …}."""
    if precision == "exact":
        return {"kind": "bits"}
    return {"kind": "cosine", "parts_per_billion": COSINE_BANDS[precision], "precision": precision}


def parse_precision(text: str) -> Precision:
    """The class of that name, of those that a published encoder can run in; UsageError for another."""
    if text not in COSINE_BANDS:
        raise UsageError(f"precision {text!r} is not one of {', '.join(COSINE_BANDS)}")
    return text  # type: ignore[return-value]  # mypy does not narrow by a dict's keys
