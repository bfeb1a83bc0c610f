"""Every encoder keeps the promises of `eocat.producer.encoders.contract`: a subclass gets a test for each."""

import pytest

from eocat.producer.encoders import Encoder
from eocat.producer.encoders.contract import CHECKS, draw_pixels

__all__ = ["EncoderContract", "draw_pixels"]


class EncoderContract:
    """Subclasses give the fixture `encoder`."""

    @pytest.mark.parametrize("promise", CHECKS)
    def test_promise(self, encoder: Encoder, promise: str) -> None:
        assert CHECKS[promise](encoder)
