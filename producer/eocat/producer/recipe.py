"""The recipe of a collection: all that, with the scene's bytes, decides the bytes of a shard."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from eocat.verify import canonical
from eocat.verify.errors import UsageError
from eocat.verify.statement import WeightsFile

from .encoders.precision import Precision
from .sources.told import Told

LAYOUTS = ("tile", "majortom")
EDGES = ("drop", "shift")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How scenes become rows.

    chip_size, stride: pixels of the scene's reference grid (the stride counts for tiles only).
    max_nodata_percent, max_cloud_percent: chips with a greater share of such pixels are left out; at 100 % no
    cloud mask is asked for. edge: what is done with the rest of a scene that holds no whole tile: it is
    dropped, or the last tile is shifted back to the border. told: what the publisher said of the scenes.
    precision: the class of arithmetic that the encoder ran in.
    """

    encoder: str
    space: str
    bands: tuple[str, ...]
    layout: str  # one of LAYOUTS
    chip_size: int
    stride: int
    max_nodata_percent: int
    max_cloud_percent: int = 100
    edge: str = "drop"  # one of EDGES
    told: Told = field(default_factory=Told)
    precision: Precision = "exact"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout {self.layout!r} is not one of {', '.join(LAYOUTS)}")
        if self.edge not in EDGES:
            raise UsageError(f"edge {self.edge!r} is not one of {', '.join(EDGES)}")
        shares = (self.max_nodata_percent, self.max_cloud_percent)
        if self.chip_size < 1 or self.stride < 1 or not all(0 <= share <= 100 for share in shares):
            raise UsageError(
                f"chip size {self.chip_size}, stride {self.stride} or a share of {shares} % is out of range"
            )

    def parameters(self) -> dict[str, Any]:
        """As it stands in a statement."""
        return asdict(self) | {"bands": list(self.bands), "told": self.told.parameters()}

    def task(self, files: Sequence[WeightsFile], start: str, end: str) -> str:
        """Content address (hex) of one shard: the scene's files and times under this recipe."""
        scene = {"files": [file.model_dump() for file in files], "start": start, "end": end}
        return sha256(canonical.encode({"recipe": self.parameters(), "scene": scene})).hexdigest()
