"""Text towers: a sentence as a vector of an image encoder's space, so that text can search images.

The contract is `TextEncoder`; `load_text_encoder` makes one from the weights file of the image encoder, so
that both have one `space` digest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eocat.verify.errors import InputError, UsageError
from eocat.verify.statement import space_digest

from .checkpoint import Checkpoint
from .clip_tokens import ClipTokenizer, load_tokenizer
from .device import choose_device
from .published import config_of, load_net, preprocess_of
from .registry import Entry, find_text_model


class TextEncoder(Protocol):
    """Vectors of texts, one row each; name, dimension and space are those of the image encoder."""

    @property
    def name(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def space(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """(N, D) float16, not normalised; InputError for an empty text."""
        ...


class ClipTextEncoder:
    """CLIP's text tower; passes the contract `TextEncoder`. float32: a query is one text."""

    def __init__(
        self,
        entry: Entry,
        net: torch.nn.Module,
        tokenizer: ClipTokenizer,
        space: str,
        *,
        device: str = "auto",
    ) -> None:
        self.name, self.dimension, self.space = entry.name, entry.model.dimension, space
        self._device = choose_device(device)
        self._net, self._tokenizer = net.to(self._device).eval(), tokenizer

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float16]:
        if empty := [row for row, text in enumerate(texts) if not text.strip()]:
            raise InputError(f"text {empty[0]} is empty", hint="describe what you look for, in English")
        if not texts:
            return np.empty((0, self.dimension), np.float16)
        tokens = torch.tensor([self._tokenizer.encode(text) for text in texts], device=self._device)
        made: NDArray[np.float32] = self._net(tokens).float().cpu().numpy()
        return made.astype(np.float16)


def load_text_encoder(
    entry: Entry, checkpoint: Checkpoint, *, tokenizer: Path | None = None, device: str = "auto"
) -> TextEncoder:
    """The text tower of `entry`, from the weights file of its image tower.

    tokenizer: a vocabulary file, by default that of the installed open_clip_torch. Raises UsageError for an
    encoder without a text tower that can be run here.
    """
    model = find_text_model(entry)
    if not model.parameters.get("causal", True):
        raise UsageError(
            f"the tokenizer of {entry.name} is not available offline", hint="choose a CLIP encoder for text"
        )
    words = load_tokenizer(tokenizer)
    net, weights = load_net(model, checkpoint)
    space = space_digest(config_of(entry), preprocess_of(entry), [weights.sha256])
    return ClipTextEncoder(entry, net, words, space, device=device)
