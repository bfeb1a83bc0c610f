"""What the numbers in a file are, and how they become the integers that are hashed and encoded.

Integer files are taken as they are. Real numbers are brought to int16 with -32768 for no data:

    dn            as they are, rounded            reflectance   times 10 000, rounded
    db            0.01 dB: times 100, rounded     power         100 · 10 · log10(value): 0.01 dB

So Sentinel-1 pixels are always hundredths of a decibel, finer than speckle by far. A power of zero or less
has no decibels: no data. Rounding is to even; log10 is the C library's, so in rare cases another machine's
`power` pixel is 0.01 dB away. FORMATS.md, 4.2 (Major TOM's Sentinel-1 is linear power), 4.4 (SSL4EO's is dB).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError

Meaning = Literal["dn", "reflectance", "db", "power"]
MEANINGS: Final[tuple[Meaning, ...]] = ("dn", "reflectance", "db", "power")
VOID: Final = -32768

_FACTORS: Final = {"dn": 1.0, "reflectance": 10_000.0, "db": 100.0, "power": 100.0}
_LIMIT: Final = 32_767
_UNITS: Final[dict[str, Meaning]] = {"db": "db", "decibel": "db", "power": "power", "linear": "power"}
_HUNDREDTHS: Final = "0.01 db"
_DB_IN_NAME: Final = re.compile(r"(?<![A-Za-z0-9])dB(?![A-Za-z0-9])", re.IGNORECASE)
_CLASSES: Final = {"dn": "optical", "reflectance": "optical", "db": "radar", "power": "radar"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file's numbers become pixels of `dtype`. meaning None: integers, as they are.

    void: the value that marks no data in the file (NaN always does); nodata: the one in the pixels.
    """

    meaning: Meaning | None
    dtype: str
    void: float | None
    nodata: int | None


def to_integers(numbers: NDArray[np.number], meaning: Meaning, void: float | None) -> NDArray[np.int16]:
    """int16 pixels of real numbers, -32768 for no data; see above."""
    real = numbers.astype(np.float64)
    empty = ~np.isfinite(real)
    if void is not None:
        empty |= real == void
    if meaning == "power":
        empty |= ~(real > 0)
        real = 10 * np.log10(np.where(empty, 1.0, real))
    scaled = np.rint(np.where(empty, 0.0, real) * _FACTORS[meaning])
    pixels = scaled.clip(-_LIMIT, _LIMIT).astype(np.int16)
    pixels[empty] = VOID
    return pixels


def reading(
    name: str,
    dtype: str,
    nodata: float | None,
    *,
    radar: bool,
    units: Sequence[str | None] = (),
    told: Meaning | None = None,
    known: Meaning | None = None,
) -> tuple[Reading, tuple[str, ...]]:
    """How the file `name` of `dtype` is read, and the assumption behind it.

    What the publisher told comes first, then what the format is known for, its units, its name. Raises
    InputError where nothing says what real numbers, or radar integers, are.
    """
    stated = {unit.strip().lower() for unit in units if unit and unit.strip()}
    integers = not dtype.startswith("float")
    if integers and (not radar or stated == {_HUNDREDTHS}):
        whole = int(nodata) if nodata is not None and float(nodata).is_integer() else None
        return Reading(None, dtype, nodata, whole), (("values: 0.01 dB",) if radar else ())
    if integers:
        raise InputError(
            f"{name} holds {dtype} radar values without a unit, decibels or linear power are expected",
            hint="calibrate it (gamma0 or sigma0; docs/sources.md), write real numbers and say which: "
            "--values power, --values db; or write int16 with the unit '0.01 dB'",
        )
    meaning, why = _meaning(name, stated, told, known)
    if meaning is None or (_CLASSES[meaning] == "radar") != radar:
        expected = "db or power" if radar else "dn or reflectance"
        raise InputError(
            f"{name} holds {dtype} values, and nothing says whether they are "
            f"{'decibels or linear power' if radar else 'DN or reflectance'}",
            hint=f"say it: --values {expected.replace(' or ', ', --values ')}",
        )
    return Reading(meaning, "int16", nodata, VOID), (f"values: {meaning}, {why}; rounded to int16",)


def _meaning(
    name: str, units: set[str], told: Meaning | None, known: Meaning | None
) -> tuple[Meaning | None, str]:
    if told is not None:
        return told, "said by the publisher"
    if known is not None:
        return known, "as this kind of file holds"
    if len(units) == 1 and (by_unit := _UNITS.get(next(iter(units)))):
        return by_unit, "by the file's unit"
    return ("db", "by the file's name") if _DB_IN_NAME.search(name) else (None, "")
