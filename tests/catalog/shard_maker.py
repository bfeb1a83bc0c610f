"""Signed shards with drawn vectors, written by the producer's own output module: only pixels are missing.

The vectors are clustered (a Gaussian mixture with a decaying spectrum), since real embeddings are: an
approximate index over uniform noise would be tested on what never occurs.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eocat.producer.chips import Chip
from eocat.producer.draft import write_draft
from eocat.producer.encoders import Weights
from eocat.producer.identify import Identified
from eocat.producer.output import finish, write_collection
from eocat.producer.receipt import Meter
from eocat.producer.recipe import Recipe
from eocat.producer.run import Run, space_of
from eocat.producer.shard_writer import ChipRows
from eocat.producer.signer import KeyFile
from eocat.producer.sources.scene import Scene
from eocat.verify.canonical import encode
from eocat.verify.digest import digest_bytes
from eocat.verify.keys import format_key
from eocat.verify.policy import Policy, parse_policy
from eocat.verify.statement import WeightsFile, format_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_DRAWN = digest_bytes(b"drawn")
WEIGHTS = Weights("drawn.bin", _DRAWN.sha256, _DRAWN.blake3, _DRAWN.size)


@dataclass(frozen=True)
class DrawnEncoder:
    """Stands where an encoder's name and space are asked; its vectors are drawn, never encoded."""

    dimension: int = 32
    dtype: str = "float16"
    seed: int = 0
    name: str = "drawn"
    version: str = "1"
    licence: str = "CC0-1.0"
    bands: tuple[str, ...] = ("B04", "B03", "B02")
    min_size: int = 1
    weights: tuple[Weights, ...] = (WEIGHTS,)
    preprocess: dict[str, Any] = field(default_factory=lambda: {"input": "uint8"})
    precision: str = "exact"
    tolerance: dict[str, Any] = field(default_factory=lambda: {"kind": "bits"})
    device: str = "cpu"

    @property
    def config(self) -> dict[str, Any]:
        return {"architecture": "drawn", "dimension": self.dimension, "dtype": self.dtype, "seed": self.seed}


def new_signer(name: str = "example") -> KeyFile:
    return KeyFile(name, Ed25519PrivateKey.generate())


def policy_for(*signers: KeyFile, collections: tuple[str, ...] = ("*",)) -> Policy:
    keys = [
        {
            "name": signer.name,
            "key": format_key(signer.public),
            "roles": ["producer"],
            "collections": list(collections),
            "notBefore": "2020-01-01T00:00:00Z",
            "notAfter": "2100-01-01T00:00:00Z",
            "compromisedSince": None,
        }
        for signer in signers
    ]
    policy = {"type": "eocat-policy/v1", "version": 1, "expires": "2100-01-01T00:00:00Z", "thresholds": {}}
    return parse_policy(encode({**policy, "keys": keys}))


def draw_vectors(count: int, dimension: int, *, seed: int, dtype: str = "float16", clusters: int = 40) -> Any:
    """(count, dimension) unit vectors around `clusters` centres, with a spectrum that decays as 1/√k."""
    random = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(np.arange(1, dimension + 1))
    centres = np.random.default_rng(7).normal(size=(clusters, dimension)) * spectrum  # shared by all shards
    values = (
        centres[random.integers(0, clusters, count)] + 0.6 * random.normal(size=(count, dimension)) * spectrum
    )
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def square(west: float, south: float, size: float) -> dict[str, Any]:
    east, north = round(west + size, 9), round(south + size, 9)
    west, south = round(west, 9), round(south, 9)
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def chips_at(item: str, count: int, *, west: float, south: float, step: float = 0.01) -> list[Chip]:
    """`count` squares of `step` degrees, row by row in a square block, with real footprints."""
    side = int(np.ceil(np.sqrt(count)))
    places = [(index % side, index // side) for index in range(count)]
    return [
        Chip(f"{item}/{x * 64}_{y * 64}", x * 64, y * 64, 64, square(west + x * step, south + y * step, step),
             (west + (x + 0.5) * step, south + (y + 0.5) * step), None)
        for x, y in places
    ]  # fmt: skip


def write_shard(
    out: Path,
    collection: str,
    item: str,
    *,
    signer: KeyFile,
    count: int = 60,
    west: float = 11.0,
    south: float = 46.0,
    step: float = 0.01,
    start: datetime = datetime(2024, 5, 1, 9, 30, 31, 123456, tzinfo=UTC),
    end: datetime | None = None,
    encoder: DrawnEncoder | None = None,
    seed: int = 1,
    vectors: Any = None,
    chips: list[Chip] | None = None,
    properties: dict[str, Any] | None = None,
) -> Path:
    """One signed shard folder, and its collection's documents over all shards there; returns the folder."""
    encoder = encoder or DrawnEncoder()
    if vectors is None:
        vectors = draw_vectors(count, encoder.dimension, seed=seed, dtype=encoder.dtype)
    chips = chips or chips_at(item, len(vectors), west=west, south=south, step=step)
    recipe = Recipe(encoder.name, space_of(encoder), encoder.bands, "tile", 64, 64, 0)
    run = Run(encoder, recipe, collection, out, "CC-BY-4.0", "Example Publisher", None, None, "cpu", 32, 1)
    end = end or start
    scene = Scene(
        item, "raster", encoder.bands, (), "EPSG:4326", Affine.identity(), 64, 64, "uint16",
        start, end, None, 0,
        {"platform": "sentinel-2a", "gsd": 10, "eo:cloud_cover": 12.5, **(properties or {})}, (), (),
    )  # fmt: skip
    digests = [digest_bytes(f"{item} {index}".encode()).sha256 for index in range(len(chips))]
    rows = ChipRows(
        chips,
        item,
        microseconds(start),
        microseconds(end),
        [bytes.fromhex(digest) for digest in digests],
        vectors,
    )
    name = digest_bytes(item.encode())
    files = (WeightsFile(name=f"{item}.tif", sha256=name.sha256, blake3=name.blake3, size=len(item)),)
    identified = Identified(scene, format_time(start), format_time(end), files, (), "0" * 64)
    finish(write_draft(identified, rows, run, Meter(encoder).lap()), run, signer)
    write_collection(run)
    return run.folder / item


def microseconds(moment: datetime) -> int:
    passed = moment - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
