"""The Major TOM grid of about 10 km cells, in closed form. FORMATS.md, section 4.1.

Rows are lines of latitude 180 / 2004 degrees apart; each row has its own number of columns, so that
cells stay near 10 km wide. A cell bears the name of its south-west corner and holds the points north and
east of it: (south, north] × (west, east].

Two rules of the published code come from numpy's index -1. West of the first column line a point belongs to
the row's last column: kept, since that cell straddles the antimeridian. At or below the lowest row line a
point would get the northernmost row, 946U: a defect, refused here.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from eocat.verify.errors import InputError

from .footprint import quadrangle

CELL_KM: Final = 10
EARTH_RADIUS_KM: Final = 6378.137
ROW_COUNT: Final = math.ceil(math.pi * EARTH_RADIUS_KM / CELL_KM)  # 2004, from pole to pole
ROW_STEP: Final = 180 / ROW_COUNT  # degrees of latitude
LAST_ROW: Final = math.floor(85 / ROW_STEP)  # 946: the grid ends at 85 degrees

_NAME: Final = re.compile(r"(0|[1-9][0-9]{0,2})([UD])_(0|[1-9][0-9]{0,3})([RL])")


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A cell by its row (south negative) and column (west negative)."""

    row: int
    column: int

    @property
    def name(self) -> str:
        """Such as "581U_143R": up or down from the equator, right or left of Greenwich."""
        rows = f"{self.row}U" if self.row >= 0 else f"{-self.row}D"
        columns = f"{self.column}R" if self.column >= 0 else f"{-self.column}L"
        return f"{rows}_{columns}"

    @property
    def south(self) -> float:
        return self.row * ROW_STEP

    @property
    def west(self) -> float:
        return self.column * column_step(self.row)

    @property
    def epsg(self) -> int:
        """The UTM zone of the south-west corner, with the exceptions for Norway and Svalbard."""
        return (32700 if self.south < 0 else 32600) + _utm_zone(self.south, self.west)

    @property
    def footprint(self) -> dict[str, Any]:
        """GeoJSON in longitude and latitude up to the next lines, cut at the antimeridian."""
        south, north = self.south, self.south + ROW_STEP
        west, east = self.west, self.west + column_step(self.row)
        corners = ((west, south), (east, south), (east, north), (west, north))
        return quadrangle([(_wrap(x), y) for x, y in corners], f"cell {self.name}")


def cell_at(latitude: float, longitude: float) -> Cell:
    """The cell that holds the point (degrees, -180 to 180).

    Raises InputError for a point off the globe, and for one at or below the lowest row line (-84.97°).
    """
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise InputError(f"latitude {latitude}, longitude {longitude} is no point on the globe")
    row = min(math.ceil(latitude / ROW_STEP) - 1, LAST_ROW)
    if row < -LAST_ROW:
        raise InputError(
            f"latitude {latitude} is south of the Major TOM grid, which ends at {-LAST_ROW * ROW_STEP}"
        )
    first, last = _columns(row)
    column = min(math.ceil(longitude / column_step(row)) - 1, last)  # 180° can come out above the last line
    return Cell(row, column if column >= first else last)


def cell_named(name: str) -> Cell:
    """The cell of that name; raises InputError for a name that the grid does not have."""
    if match := _NAME.fullmatch(name):
        row = int(match[1]) if match[2] == "U" else -int(match[1])
        column = int(match[3]) if match[4] == "R" else -int(match[3])
        cell, (first, last) = Cell(row, column), _columns(row)
        if abs(row) <= LAST_ROW and first <= column <= last and cell.name == name:  # "0D" is spelled 0U
            return cell
    raise InputError(
        f"{name[:40]!r} is no cell of the Major TOM 10 km grid, one such as 581U_143R is expected"
    )


def column_count(row: int) -> int:
    """How many columns the row has: their number is taken at its southern line."""
    parallel = 2 * math.pi * EARTH_RADIUS_KM * math.cos(math.radians(row * ROW_STEP))
    return math.ceil(parallel / CELL_KM)


def column_step(row: int) -> float:
    """Degrees of longitude between the row's column lines."""
    return 360 / column_count(row)


def _columns(row: int) -> tuple[int, int]:
    """The row's westernmost and easternmost column; of an odd number the middle one starts at Greenwich."""
    count = column_count(row)
    return -(count // 2), (count - 1) // 2


def _utm_zone(latitude: float, longitude: float) -> int:
    if 56 <= latitude < 64 and 3 <= longitude < 12:
        return 32
    if 72 <= latitude < 84:
        for east, zone in ((9, 31), (21, 33), (33, 35), (42, 37)):
            if 0 <= longitude < east:
                return zone
    return math.floor((longitude + 180) / 6) % 60 + 1


def _wrap(longitude: float) -> float:
    return longitude - 360 if longitude > 180 else longitude
