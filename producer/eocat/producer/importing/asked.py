"""What an import was asked to do: part of the statement, so that a reader knows what was told, not read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from eocat.verify import canonical
from eocat.verify.errors import UsageError
from eocat.verify.statement import Encoder, WeightsFile, space_digest

FAULTS: Final = ("zero", "nan", "duplicate")  # rows that can be left out when the publisher says so
COLUMNS: Final = ("id", "embedding", "geometry", "start", "end", "source", "cell", "lon", "lat")
CLAIM: Final = "as the publisher of the imported files claims; not checked"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller says beyond the files.

    columns: eocat's name of a column (COLUMNS) → the file's. crs: of the coordinates, whatever is declared.
    footprint_metres: side of the square around points. drop: of FAULTS. every: of a dense grid, each n-th
    pixel of each n-th line. grid, table, registry: files beside arrays. shape: (H, W, D) of cells in files.
    """

    columns: dict[str, str] = field(default_factory=dict)
    crs: str | None = None
    footprint_metres: int | None = None
    interval: tuple[datetime, datetime] | None = None
    transpose: bool = False
    drop: frozenset[str] = frozenset()
    every: int = 1
    grid: Path | None = None
    table: Path | None = None
    registry: Path | None = None
    shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if odd := sorted(set(self.columns) - set(COLUMNS)):
            raise UsageError(f"{odd[0][:40]!r} is no column that is read", hint=f"of {', '.join(COLUMNS)}")
        if odd := sorted(self.drop - set(FAULTS)):
            raise UsageError(f"{odd[0][:40]!r} cannot be dropped", hint=f"of {', '.join(FAULTS)}")

    def parameters(self) -> dict[str, Any]:
        """As it stands in a statement."""
        return {
            "columns": dict(sorted(self.columns.items())),
            "crs": self.crs,
            "footprint_metres": self.footprint_metres,
            "transpose": self.transpose,
            "drop": sorted(self.drop),
            "every": self.every,
            "shape": list(self.shape) if self.shape else None,
        }


@dataclass(frozen=True, slots=True)
class ImportRecipe:
    """The recipe of an import, as a run's: what with the files' bytes decides the bytes of a shard."""

    layout: str
    encoder: Encoder
    preprocess: dict[str, Any]
    options: Options

    @property
    def space(self) -> str:
        return space_digest(
            self.encoder.config, self.preprocess, [part.sha256 for part in self.encoder.weights]
        )

    def parameters(self) -> dict[str, Any]:
        return {"import": self.layout, "space": self.space, "options": self.options.parameters()}

    def task(self, files: Sequence[WeightsFile], number: int, rows: int) -> str:
        """Content address (hex) of shard `number` of the files, in shards of at most `rows` rows."""
        scene = {"files": [file.model_dump() for file in files], "number": number, "rows": rows}
        return sha256(canonical.encode({"recipe": self.parameters(), "scene": scene})).hexdigest()


@dataclass(frozen=True, slots=True)
class Import:
    """One run of `eocat import`; passes for `output.Asked`."""

    recipe: ImportRecipe
    collection: str
    out: Path
    publisher: str
    licence: str
    source_prefix: str | None

    @property
    def folder(self) -> Path:
        return self.out / self.collection


def claimed_encoder(name: str, version: str, dimension: int, *, licence: str) -> Encoder:
    """The encoder as the imported files, or their publisher, name it. Its weights were not seen."""
    return Encoder(
        name=name,
        version=version,
        licence=licence,
        weights=[],
        config={"architecture": name, "version": version, "dimension": dimension, "claim": CLAIM},
    )
