"""One run of the producer: an encoder and a recipe over scenes of one collection."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from eocat.verify import canonical
from eocat.verify.errors import ConfigError, UsageError
from eocat.verify.evidence import read_limited
from eocat.verify.statement import Encoder as EncoderClaim
from eocat.verify.statement import WeightsFile, space_digest

from .choice import Load, choose_encoder
from .encoders import Checkpoint, Encoder, load_encoder
from .evidence import BESIDE, EvidenceRules
from .recipe import Recipe
from .sources import Scene
from .sources.told import Told


@dataclass(frozen=True, slots=True)
class Run:
    """What all scenes of a run share, the signing key excepted: workers on other machines need all of it.

    out: absolute. batch: chips encoded at once; threads: of torch, and processes that decode.
    """

    encoder: Encoder
    recipe: Recipe
    collection: str
    out: Path
    licence: str
    publisher: str
    source_prefix: str | None
    interval: tuple[datetime, datetime] | None  # for scenes that do not say when they were taken
    device: str
    batch: int
    threads: int
    evidence: EvidenceRules = BESIDE
    checkpoint: Checkpoint | None = None  # of a published encoder
    resume: bool = False  # whether finished shards are found by the stamps of their sources (stamps.py)

    @property
    def folder(self) -> Path:
        return self.out / self.collection


def claim_of(encoder: Encoder) -> EncoderClaim:
    """The encoder as a statement names it."""
    return EncoderClaim(
        name=encoder.name,
        version=encoder.version,
        licence=encoder.licence,
        weights=[
            WeightsFile(name=w.name, sha256=w.sha256, blake3=w.blake3, size=w.size) for w in encoder.weights
        ],
        config=encoder.config,
    )


def space_of(encoder: Encoder) -> str:
    """Digest (hex) of the encoder's embedding space."""
    return space_digest(encoder.config, encoder.preprocess, [part.sha256 for part in encoder.weights])


def prepare_run(
    scenes: Sequence[Scene],
    *,
    collection: str,
    out: Path,
    publisher: str,
    encoder: str | Encoder = "exact",
    layout: str = "tile",
    chip_size: int = 224,
    stride: int | None = None,
    max_nodata_percent: int = 50,
    max_cloud_percent: int = 100,
    edge: str = "drop",
    told: Told | None = None,
    interval: tuple[datetime, datetime] | None = None,
    licence: str = "other",
    source_prefix: str | None = None,
    device: str = "auto",
    batch: int = 16,
    threads: int = 1,
    evidence: EvidenceRules = BESIDE,
    checkpoint: Checkpoint | None = None,
    precision: str | None = None,
    resume: bool = False,
) -> Run:
    """The run over `scenes` with an encoder that takes them all. stride: by default the chip's size.

    encoder: ready (choice.py), or the name of one. checkpoint, precision: of a published encoder; see
    `load_encoder`.

    Raises the error of a scene that the encoder cannot take, ConfigError where the collection's folder holds
    vectors of another embedding space.
    """
    if isinstance(encoder, str):
        load = partial(load_encoder, encoder, device=device, checkpoint=checkpoint, precision=precision)
        ready = _one_encoder(scenes, load)
    else:
        ready = encoder
    recipe = Recipe(
        encoder=ready.name,
        space=space_of(ready),
        bands=ready.bands,
        layout=layout,
        chip_size=chip_size,
        stride=stride or chip_size,
        max_nodata_percent=max_nodata_percent,
        max_cloud_percent=max_cloud_percent,
        edge=edge,
        told=told or Told(),
        precision=ready.precision,
    )
    run = Run(
        encoder=ready,
        recipe=recipe,
        collection=collection,
        out=out.absolute(),
        licence=licence,
        publisher=publisher,
        source_prefix=source_prefix,
        interval=interval,
        device=device,
        batch=batch,
        threads=threads,
        evidence=evidence,
        checkpoint=checkpoint,
        resume=resume,
    )
    check_collection(run.folder, run.recipe.space)
    return run


def _one_encoder(scenes: Sequence[Scene], load: Load) -> Encoder:
    choice = choose_encoder(scenes, load)
    if choice.encoder is None or choice.refused:
        raise choice.refused[0].error
    return choice.encoder


def check_collection(folder: Path, space: str) -> None:
    """Raises UsageError for a name that is no identifier, ConfigError for vectors of another space in it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", folder.name):
        raise UsageError(
            f"collection {folder.name[:80]!r} is no identifier",
            hint="letters, digits, '.', '_' and '-', at most 128, a letter or digit first",
        )
    path = folder / "collection.json"
    if not path.is_file():
        return
    found = canonical.parse(read_limited(path, canonical.MAX_BYTES), what=str(path)).get("eocat:space")
    if found != space:
        raise ConfigError(
            f"collection {folder.name} in {folder.parent} is of space {str(found)[:16]}…, "
            f"this encoder's is {space[:16]}…",
            hint="vectors of two spaces cannot be compared: choose another --collection",
        )
