"""The recipe of a collection: all that, with the scene's bytes, decides the bytes of a shard."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from eocat.verify import canonical
from eocat.verify.errors import UsageError
from eocat.verify.statement import WeightsFile

LAYOUTS = ("tile", "majortom")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How scenes become rows.

    chip_size, stride: pixels of the scene's reference grid (the stride counts for tiles only).
    max_nodata_percent: chips with a greater share of no-data pixels are left out.
    """

    encoder: str
    space: str
    bands: tuple[str, ...]
    layout: str  # one of LAYOUTS
    chip_size: int
    stride: int
    max_nodata_percent: int

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout {self.layout!r} is not one of {', '.join(LAYOUTS)}")
        if self.chip_size < 1 or self.stride < 1 or not 0 <= self.max_nodata_percent <= 100:
            raise UsageError(
                f"chip size {self.chip_size}, stride {self.stride} or no-data share "
                f"{self.max_nodata_percent} % is out of range"
            )

    def parameters(self) -> dict[str, Any]:
        """As it stands in a statement."""
        return asdict(self) | {"bands": list(self.bands)}

    def task(self, files: Sequence[WeightsFile], start: str, end: str) -> str:
        """Content address (hex) of one shard: the scene's files and times under this recipe."""
        scene = {"files": [file.model_dump() for file in files], "start": start, "end": end}
        return sha256(canonical.encode({"recipe": self.parameters(), "scene": scene})).hexdigest()
