"""The Major TOM grid, against what its own code answers (FORMATS.md, 4.1; ../shared/data/majortom_grid)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eocat.producer.grid import LAST_ROW, ROW_STEP, Cell, cell_at, cell_named, column_count
from eocat.verify.errors import InputError

PAIRS = [
    (52.2297, 21.0122, "581U_143R"),
    (36.2, 28.0, "403U_251R"),
    (-1.2921, 36.8219, "15D_409R"),
    (-0.1807, -78.4678, "3D_874L"),
    (78.2232, 15.6267, "870U_35R"),
    (-77.85, 166.67, "867D_389R"),
    (-16.8, -179.99, "188D_1917R"),
    (10, -179.9999, "111U_1973R"),
    (10, 179.9999, "111U_1973R"),
    (10, 180, "111U_1973R"),
    (10, -180, "111U_1973R"),
    (7.75, 180, "86U_1985R"),  # 180 / step comes out above 1986 in doubles
    (1e-6, 1e-6, "0U_0R"),
    (0, 0, "1D_1L"),
    (5, 0, "55U_1L"),
    (0, 5, "1D_55R"),
    (84.9, 10, "945U_9R"),
    (89, 10, "946U_9R"),
    (-84.9, 10, "946D_9R"),
]

CORNERS = [
    ("7D_1308R", -0.6287425149700709, 117.48502994011977, 32750),
    ("38D_378R", -3.41317365269461, 34.01149712571856, 32736),
    ("282D_485L", -25.329341317365277, -48.19210598951145, 32722),
    ("433D_629L", -38.89221556886227, -72.57692307692304, 32718),
    ("609U_541L", 54.700598802395206, -84.09326424870466, 32616),
    ("637U_59R", 57.21556886227546, 9.78801843317973, 32632),
    ("922D_249L", -82.81437125748504, -178.5657370517928, 32701),
    ("0U_2004L", 0, -180, 32601),
]


@pytest.mark.parametrize(("latitude", "longitude", "name"), PAIRS)
def test_a_point_is_in_the_cell_that_the_published_code_names(
    latitude: float, longitude: float, name: str
) -> None:
    assert cell_at(latitude, longitude).name == name


@pytest.mark.parametrize("file", ["random_3000.json", "edge_cases.json"])
def test_every_point_of_the_real_answers_but_the_defect(shared_data: Path, file: str) -> None:
    cases = json.loads((shared_data / "majortom_grid" / file).read_text())
    points = [(c["lat"], c["lon"], c["cell"]) if isinstance(c, dict) else tuple(c) for c in cases]
    assert len(points) >= 29
    for latitude, longitude, name in points:
        if latitude <= -LAST_ROW * ROW_STEP:
            assert name == "946U_9R"  # the defect: the far south gets the northernmost row
            with pytest.raises(InputError, match="south of the Major TOM grid"):
                cell_at(latitude, longitude)
        else:
            assert cell_at(latitude, longitude).name == name


@pytest.mark.parametrize(("name", "south", "west", "epsg"), CORNERS)
def test_corner_and_zone_of_a_cell(name: str, south: float, west: float, epsg: int) -> None:
    cell = cell_named(name)
    assert (cell.south, cell.west) == pytest.approx((south, west), abs=1e-12)
    assert cell.epsg == epsg


def test_the_grid_has_its_published_number_of_cells() -> None:
    assert sum(column_count(row) for row in range(-LAST_ROW, LAST_ROW + 1)) == 5_094_350


@given(st.floats(-84.97, 90), st.floats(-180, 180))
def test_the_name_leads_back_to_the_cell(latitude: float, longitude: float) -> None:
    cell = cell_at(latitude, longitude)
    assert cell_named(cell.name) == cell


@pytest.mark.parametrize(
    "name", ["0D_1R", "1U_0L", "01U_1R", "947U_1R", "0U_2004R", "0U_2005L", "1U", "1u_1R", "1U_1R ", "١U_1R"]
)
def test_no_other_name_is_a_cell(name: str) -> None:
    with pytest.raises(InputError, match="no cell of the Major TOM"):
        cell_named(name)


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(90.1, 0), (0, 180.1), (float("nan"), 0), (0, float("nan"))]
)
def test_a_point_off_the_globe_is_refused(latitude: float, longitude: float) -> None:
    with pytest.raises(InputError, match="no point on the globe"):
        cell_at(latitude, longitude)


def test_the_footprint_reaches_to_the_next_lines() -> None:
    cell = cell_named("637U_59R")
    ring = cell.footprint["coordinates"][0]
    assert ring[0] == [9.788018433, 57.215568862]
    assert ring[2] == pytest.approx([60 / 59 * cell.west, cell.south + ROW_STEP], abs=1e-9)


def test_the_footprint_of_the_straddling_cell_is_cut_at_the_antimeridian() -> None:
    parts = Cell(111, 1973).footprint
    assert parts["type"] == "MultiPolygon"
    (west,), (east,) = parts["coordinates"]
    assert max(x for x, _ in west) == 180
    assert min(x for x, _ in east) == -180
