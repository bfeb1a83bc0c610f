"""The vector of a picture or a text that someone searches with, for a catalogue that has the encoder.

The catalogue does not import the producer; it finds `encode_image` and `encode_text` through the entry
point group `eocat.encode_query`. The `exact` banks bring their weights. Those of a published encoder lie
in the folder EOCAT_QUERY_WEIGHTS, as `<encoder's name>.safetensors`, `.pth`, `.pt` or `.bin`: they are
loaded only if the collection's space is that of this very file. CLIP's vocabulary lies beside them, else
in the extra `models`.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eocat.verify.digest import digest_file
from eocat.verify.errors import InputError, Malformed, UsageError
from eocat.verify.statement import space_digest

from .encoders import Checkpoint, Encoder, load_encoder
from .encoders.bank import BANKS, bands_of
from .encoders.clip_tokens import VOCABULARY_NAME
from .encoders.published import config_of, preprocess_of
from .encoders.registry import find_entry
from .encoders.text import TextEncoder, load_text_encoder
from .run import space_of

FOLDER = "EOCAT_QUERY_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MAX_EDGE = 1_024  # pixels
DRIVERS = ["PNG", "JPEG", "GTiff"]
_DTYPES = ("uint8", "uint16", "int16")


def encode_image(data: bytes, *, encoder: str, space: str, offset: int) -> NDArray[np.float16]:
    """(D,) of one picture, as the encoder `encoder` of space `space` (hex) makes of a chip.

    data: PNG, JPEG or GeoTIFF of at most 1,024 × 1,024 whole numbers, bands in the encoder's order.
    offset: the number that stands for reflectance 0. Raises InputError, UsageError, Malformed.
    """
    made = _bank(encoder) if encoder in BANKS else _published(encoder, _weights(encoder, space))
    if space_of(made) != space:
        raise InputError(f"encoder {encoder} of this catalogue is another than that of the collection")
    pixels = _read(data, made)
    vectors: NDArray[np.float16] = made.encode(pixels[None], offset=offset)
    return np.asarray(vectors[0])


def encode_text(text: str, *, encoder: str, space: str) -> NDArray[np.float16]:
    """(D,) of a text, in the space `space` (hex) of the image encoder `encoder`.

    Raises UsageError for an encoder without a text tower that runs here, InputError for an empty text or
    weights that are not at hand, MissingExtra without a vocabulary.
    """
    if encoder in BANKS:
        raise UsageError(f"encoder {encoder} has no text tower: send a vector, a row, a point or a picture")
    vectors: NDArray[np.float16] = _text_tower(encoder, _weights(encoder, space)).encode([text])
    return np.asarray(vectors[0])


def _weights(name: str, space: str) -> Checkpoint:
    """The weights file of the encoder, which must be those of the space; nothing of it is loaded before."""
    entry = find_entry(name)
    folder = os.environ.get(FOLDER)
    paths = [Path(folder) / f"{name}{suffix}" for suffix in SUFFIXES] if folder else []
    path = next((one for one in paths if one.is_file()), None)
    if path is None:
        raise InputError(f"encoder {name} needs weights that this catalogue does not have: send a vector")
    digest = _digest(path, path.stat().st_mtime_ns)
    if space_digest(config_of(entry), preprocess_of(entry), [digest]) != space:
        raise InputError(f"the weights of {name} at this catalogue are not those of the collection")
    return Checkpoint(path, digest)


@lru_cache(maxsize=16)
def _digest(path: Path, changed_ns: int) -> str:
    """SHA-256 of the file as it is now; changed_ns: its time of change."""
    return digest_file(path).sha256


@lru_cache(maxsize=4)
def _bank(name: str) -> Encoder:
    return load_encoder(name, bands_of(name), device="cpu")


@lru_cache(maxsize=2)
def _published(name: str, checkpoint: Checkpoint) -> Encoder:
    return load_encoder(name, find_entry(name).bands, device="cpu", checkpoint=checkpoint)


@lru_cache(maxsize=2)
def _text_tower(name: str, checkpoint: Checkpoint) -> TextEncoder:
    beside = checkpoint.path.parent / VOCABULARY_NAME
    tokenizer = beside if beside.is_file() else None
    return load_text_encoder(find_entry(name), checkpoint, tokenizer=tokenizer, device="cpu")


def _read(data: bytes, encoder: Encoder) -> NDArray[np.integer]:
    """(C, H, W), its size known before it is decoded."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.MemoryFile(data) as file, file.open(driver=DRIVERS) as source:
            shape, dtypes = (source.count, source.height, source.width), set(source.dtypes)
            if max(shape[1:]) > MAX_EDGE or min(shape[1:]) < encoder.min_size:
                raise InputError(
                    f"image is {shape[2]} × {shape[1]}, expected {encoder.min_size} to {MAX_EDGE}"
                )
            if shape[0] != len(encoder.bands) or not dtypes <= set(_DTYPES):
                raise InputError(
                    f"image has {shape[0]} bands of {', '.join(sorted(dtypes))}, encoder {encoder.name} takes"
                    f" {len(encoder.bands)} of {' or '.join(_DTYPES)}: {', '.join(encoder.bands)}"
                )
            pixels: NDArray[np.integer] = source.read()
            return pixels
    except RasterioError:
        raise Malformed("image is neither PNG, JPEG nor GeoTIFF") from None
