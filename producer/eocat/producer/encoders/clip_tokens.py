"""CLIP's byte pair encoding (Radford et al. 2021): text to token numbers, without a network or torch.

The vocabulary is the file `bpe_simple_vocab_16e6.txt.gz` of openai/CLIP (MIT), which the wheel of
open_clip_torch holds; it is read from there (the package is found, not imported), or from a file, and only
with its digest. Rules read in open_clip 3.3.0 `tokenizer.py`. Of ftfy, which it runs first, all that concerns
well-formed text is here (quotes, ligatures, full-width letters, NFC); its repair of broken encodings is not.
"""

import gzip
import html
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Final

from eocat.verify.digest import digest_bytes
from eocat.verify.errors import Malformed, MissingExtra

VOCABULARY_SHA256: Final = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
VOCABULARY_NAME: Final = "bpe_simple_vocab_16e6.txt.gz"
MERGES: Final = 49152 - 256 - 2
CONTEXT: Final = 77
_MAX_TEXT: Final = 10_000  # characters; a context holds 75 tokens
_SUFFIXES: Final = ("'re", "'ve", "'ll", "'s", "'t", "'m", "'d")
_END: Final = "</w>"
_QUOTES: Final = str.maketrans(
    dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)


@dataclass(frozen=True, slots=True)
class ClipTokenizer:
    """numbers: token → number; ranks: pair of tokens → how early it is merged."""

    numbers: dict[str, int]
    ranks: dict[tuple[str, str], int]

    @property
    def start(self) -> int:
        return len(self.numbers)

    @property
    def end(self) -> int:
        """The highest number: the tower pools at its place."""
        return len(self.numbers) + 1

    def encode(self, text: str, *, context: int = CONTEXT) -> list[int]:
        """Token numbers: start, text, end, zeros up to `context`; a longer text is cut, the end stays."""
        tokens = [self.start, *self._tokens(text), self.end][:context]
        if len(tokens) == context:
            tokens[-1] = self.end
        return tokens + [0] * (context - len(tokens))

    def _tokens(self, text: str) -> Iterator[int]:
        for word in split_words(clean(text)):
            symbols = [_BYTES[byte] for byte in word.encode()]
            for token in self._merge((*symbols[:-1], symbols[-1] + _END)):
                yield self.numbers[token]

    def _merge(self, word: tuple[str, ...]) -> tuple[str, ...]:
        """The word with its earliest pair joined everywhere, again and again."""
        while len(word) > 1:
            best = min(pairwise(word), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            joined: list[str] = []
            for symbol in word:
                if joined and (joined[-1], symbol) == best and not joined[-1].startswith("\0"):
                    joined[-1] = "\0" + joined[-1] + symbol  # marked, so that "aaa" joins its first two alone
                else:
                    joined.append(symbol)
            word = tuple(symbol.removeprefix("\0") for symbol in joined)
        return word


def clean(text: str) -> str:
    """Plain quotes and letters, entities resolved twice, runs of white space as one blank, lower case."""
    plain = "".join(
        unicodedata.normalize("NFKC", char)
        if "\ufb00" <= char <= "\ufb06" or "\uff01" <= char <= "\uffef"
        else char
        for char in text[:_MAX_TEXT].translate(_QUOTES)
    )
    text = unicodedata.normalize("NFC", plain)
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def split_words(text: str) -> Iterator[str]:
    """Contractions, runs of letters, single digits, runs of anything else but white space."""
    place = 0
    while place < len(text):
        suffix = next((s for s in _SUFFIXES if text.startswith(s, place)), None)
        kind = _kind(text[place])
        if suffix:
            end = place + len(suffix)
        elif kind == "digit":
            end = place + 1
        else:
            end = place + 1
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "blank" or suffix:
            yield text[place:end]
        place = end


def _kind(char: str) -> str:
    if char.isspace():
        return "blank"
    return {"L": "letter", "N": "digit"}.get(unicodedata.category(char)[0], "other")


def _byte_symbols() -> dict[int, str]:
    """A printable character for each byte: itself, or one from 256 on."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_BYTES: Final = _byte_symbols()


def parse_vocabulary(text: str, *, merges: int = MERGES) -> ClipTokenizer:
    """A tokenizer of merges, one "left right" a line after a first line of comment; Malformed if too few."""
    pairs = [tuple(line.split()) for line in text.split("\n")[1 : merges + 1]]
    if len(pairs) != merges or any(len(pair) != 2 for pair in pairs):
        raise Malformed(f"CLIP vocabulary has not the {merges} merges that it must have")
    single = list(_BYTES.values())
    tokens = [*single, *(symbol + _END for symbol in single), *("".join(pair) for pair in pairs)]
    ranks = {(pair[0], pair[1]): rank for rank, pair in enumerate(pairs)}
    return ClipTokenizer({token: number for number, token in enumerate(tokens)}, ranks)


def load_tokenizer(path: Path | None = None) -> ClipTokenizer:
    """The tokenizer of the vocabulary at `path`, else of the one in the wheel of open_clip_torch."""
    try:
        data = (path or _vocabulary_of_open_clip()).read_bytes()
    except OSError as error:
        raise MissingExtra(
            f"the vocabulary of CLIP is not there: {error.strerror or error}",
            hint="pip install 'eocat[models]', or give --tokenizer bpe_simple_vocab_16e6.txt.gz",
        ) from None
    if (found := digest_bytes(data).sha256) != VOCABULARY_SHA256:
        raise Malformed(f"CLIP vocabulary has sha256 {found}, expected {VOCABULARY_SHA256}")
    return parse_vocabulary(gzip.decompress(data).decode())


def _vocabulary_of_open_clip() -> Path:
    """Where the wheel holds it; the package itself is not imported (it wants torchvision)."""
    spec = find_spec("open_clip")
    places: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    return Path(next(iter(places), "open_clip")) / VOCABULARY_NAME
