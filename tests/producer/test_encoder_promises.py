"""The contract can fail: for each promise an encoder that breaks it, and the check that says so."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eocat.producer.encoders import load_encoder
from eocat.producer.encoders.bank import BAND_SETS
from eocat.producer.encoders.contract import CHECKS, BrokenPromise, check_encoder
from eocat.producer.encoders.exact import ExactEncoder
from eocat.producer.encoders.precision import tolerance_of


class Honest(ExactEncoder):
    """The exact encoder, so that one thing can be broken in each of its children."""

    def __init__(self) -> None:
        self.__dict__ |= vars(load_encoder("exact-rgb", BAND_SETS["exact-rgb"], device="cpu"))


class Nameless(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.licence = ""


class WithFloats(Honest):
    @property
    def config(self) -> dict[str, Any]:
        return {"dropout": 0.5}


class LooseTolerance(Honest):
    tolerance: dict[str, Any] = tolerance_of("bf16") | {"parts_per_billion": 500_000_000}


class Forgetful(Honest):
    """Every run differs."""

    calls = 0

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        Forgetful.calls += 1
        return super().encode(pixels, offset=offset) * np.float16(1 + Forgetful.calls / 64)


class SeesTheBatch(Honest):
    """What batch norm in training mode does."""

    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        made = super().encode(pixels, offset=offset)
        return made + made.mean(0) if len(made) else made


class Narrow(Honest):
    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        return super().encode(pixels, offset=offset)[:, 1:]


class TakesAnything(Honest):
    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        return np.ones((len(pixels), self.dimension), np.float16)


class Writes(Honest):
    def encode(self, pixels: NDArray[np.integer[Any]], *, offset: int) -> NDArray[np.float16]:
        made = super().encode(pixels, offset=offset)
        pixels += 1
        return made


class WrongSteps(Honest):
    @property
    def preprocess(self) -> dict[str, Any]:
        return super().preprocess | {"steps": [{"sharpen": 2}], "size": 64}


@pytest.mark.parametrize(
    ("kind", "broken"),
    [(Nameless, "identity"), (WithFloats, "documents"), (LooseTolerance, "documents"),
     (Forgetful, "determinism"), (SeesTheBatch, "batch invariance"), (Narrow, "dimension"),
     (TakesAnything, "refusals"), (Writes, "pixels unchanged"), (WrongSteps, "preprocessing")],
)  # fmt: skip
def test_a_broken_promise_is_found(kind: type[ExactEncoder], broken: str) -> None:
    with pytest.raises(BrokenPromise):
        CHECKS[broken](kind())  # type: ignore[call-arg]


def test_an_honest_encoder_keeps_them_all() -> None:
    assert [finding.name for finding in check_encoder(Honest()) if finding.passed] == list(CHECKS)
