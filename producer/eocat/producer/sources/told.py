"""What the publisher says of scenes where their files do not: part of the recipe, so it is signed."""

import re
from dataclasses import dataclass
from typing import Any, Final

from eocat.verify.errors import UsageError

from .values import MEANINGS, Meaning

_BAND: Final = re.compile(r"B(0[1-9]|1[0-2]|8A)|VV|VH|HH|HV|red|green|blue")
MAX_OFFSET: Final = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """values: what the numbers of a file are; offset: the DN that stands for reflectance 0.

    bands: names in the order of a file's bands ("VV"), or for what a file calls its band ("nir=B08").
    """

    values: Meaning | None = None
    offset: int | None = None
    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values is not None and self.values not in MEANINGS:
            raise UsageError(f"values {self.values!r} are not one of {', '.join(MEANINGS)}")
        if self.offset is not None and not 0 <= self.offset <= MAX_OFFSET:
            raise UsageError(f"offset {self.offset} is not in 0..{MAX_OFFSET}")
        names = [text.rpartition("=")[2] for text in self.bands]
        for name in names:
            if not _BAND.fullmatch(name):
                raise UsageError(
                    f"{name[:40]!r} is no band", hint="B01 … B12, B8A, VV, VH, HH, HV, red, green or blue"
                )
        if len(set(names)) < len(names) or len({"=" in text for text in self.bands}) > 1:
            raise UsageError(
                f"bands {','.join(self.bands)} name a band twice, or mix names with NAME=BAND",
                hint="--bands VV,VH by order, or --bands nir=B08,red=B04 by what the file calls them",
            )

    def band_called(self, text: str) -> str | None:
        """The band for what a file calls `text`, without regard to case."""
        pairs = [pair.rpartition("=") for pair in self.bands]
        return next((band for called, _, band in pairs if called.casefold() == text.casefold()), None)

    def bands_by_order(self, count: int) -> tuple[str, ...] | None:
        """The names of a file's `count` bands, if that many were told in order."""
        ordered = bool(self.bands) and "=" not in self.bands[0] and len(self.bands) == count
        return self.bands if ordered else None

    def parameters(self) -> dict[str, Any]:
        """As it stands in a statement."""
        return {"values": self.values, "offset": self.offset, "bands": list(self.bands)}
