"""Chips: layouts, footprints, order. What a row's geometry and number rest on."""

import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from eocat.producer.chips import (
    fault_of,
    fragment_offsets,
    hilbert_order,
    majortom_chips,
    tile_chips,
    valid_share,
)
from eocat.producer.footprint import quadrangle
from eocat.producer.grid import cell_named
from eocat.producer.hilbert import hilbert_distance, hilbert_index
from eocat.producer.recipe import Recipe
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.sources.gdal import Grid
from eocat.producer.sources.scene import BandFile, Clouds, make_scene
from eocat.verify.errors import InputError, UsageError


def scene_on(crs: str, left: float, top: float, *, side: int, pixel: float = 10) -> Scene:
    """A scene without files: chips look at nothing but its grid."""
    grid = Grid(crs, Affine(pixel, 0, left, 0, -pixel, top), side, side)
    band = BandFile("B02", "nowhere.tif", 1, "nowhere.tif", grid, "uint16")
    return make_scene(id="s", product="raster", band_files=[band], files=[], nodata=None, offset=0)


def rings(geometry: dict[str, Any]) -> list[list[list[float]]]:
    polygons = geometry["coordinates"]
    return [polygons[0]] if geometry["type"] == "Polygon" else [polygon[0] for polygon in polygons]


def area(ring: list[list[float]]) -> float:
    """Twice the signed area: positive for counter-clockwise."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))


class TestTiles:
    def test_they_cover_what_whole_windows_can(self) -> None:
        chips = tile_chips(scene_on("EPSG:32633", 400000, 5000000, side=100), size=30, stride=30)
        assert [(chip.x, chip.y) for chip in chips[:4]] == [(0, 0), (30, 0), (60, 0), (0, 30)]
        assert len(chips) == 9
        assert chips[3].id == "s/0_30"
        assert chips[3].grid_cell is None

    def test_a_stride_below_the_size_overlaps(self) -> None:
        assert len(tile_chips(scene_on("EPSG:32633", 400000, 5000000, side=100), size=50, stride=25)) == 9

    def test_the_rest_at_the_border_is_dropped_or_a_last_chip_is_shifted_to_it(self) -> None:
        scene = scene_on("EPSG:32633", 400000, 5000000, side=100)
        chips = tile_chips(scene, size=30, stride=30, edge="shift")
        assert sorted({chip.x for chip in chips}) == [0, 30, 60, 70]
        assert len(chips) == 16
        assert len(tile_chips(scene, size=50, stride=50, edge="shift")) == 4, "nothing is left over"

    def test_a_scene_smaller_than_a_chip_is_refused(self) -> None:
        with pytest.raises(InputError, match="a chip of 224 does not fit") as caught:
            tile_chips(scene_on("EPSG:32633", 400000, 5000000, side=100), size=224, stride=224)
        assert caught.value.hint == "choose --size 100 or less"

    @pytest.mark.parametrize("numbers", [{"size": 0, "stride": 1}, {"size": 1, "stride": -1}])
    def test_sizes_are_positive(self, numbers: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="at least 1 pixel"):
            tile_chips(scene_on("EPSG:32633", 400000, 5000000, side=100), **numbers)

    def test_corners_are_the_projected_corners(self) -> None:
        scene = scene_on("EPSG:32736", 617300, 9625100, side=224)
        ring = rings(tile_chips(scene, size=224, stride=224)[0].geometry)[0]
        to_lonlat = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True)
        corners = [(617300, 9622860), (619540, 9622860), (619540, 9625100), (617300, 9625100)]
        expected = [list(to_lonlat.transform(*corner)) for corner in corners]
        assert ring == [pytest.approx(point, abs=1e-9) for point in [*expected, expected[0]]]
        assert area(ring) > 0


class TestMajorTom:
    @pytest.mark.parametrize("name", ["637U_59R", "38D_378R", "0U_120R"])
    def test_a_scene_of_one_cell_has_its_fragments(self, name: str) -> None:
        cell = cell_named(name)
        crs = f"EPSG:{cell.epsg}"
        east, north = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(cell.west, cell.south)
        left, top = math.floor(east / 10) * 10 - 500, math.floor(north / 10) * 10 + 10_680 - 200
        chips = majortom_chips(scene_on(crs, left, top, side=1100), size=224)
        assert {chip.grid_cell for chip in chips} == {name}
        assert len(chips) == 25
        assert chips[7].id == f"s/{name}/1_2"
        assert (chips[7].x - chips[0].x, chips[7].y - chips[0].y) == (422, 211), "line 1, column 2"
        assert chips[1].centre[0] > chips[0].centre[0], "the second lies east of the first, not south"
        # the picture's corner in whole pixels, half a pixel off at most
        assert abs(left + 10 * chips[0].x - (east - 340)) <= 5
        assert abs(top - 10 * chips[0].y - (north - 340 + 10_680)) <= 5
        assert {chip.x - chips[0].x for chip in chips} == {0, 211, 422, 633, 844}

    def test_a_tile_of_110_km_has_its_hundred_whole_cells(self) -> None:
        chips = majortom_chips(scene_on("EPSG:32633", 399960, 5100000, side=10_980), size=1068)
        assert 81 <= len(chips) <= 100
        assert all(0 <= chip.x <= 10_980 - 1068 and 0 <= chip.y <= 10_980 - 1068 for chip in chips)
        assert len({chip.grid_cell for chip in chips}) == len(chips)

    def test_cells_of_the_neighbour_zone_are_left_to_it(self) -> None:
        chips = majortom_chips(scene_on("EPSG:32633", 199_980, 5100000, side=10_980), size=1068)
        assert {cell_named(chip.grid_cell or "").epsg for chip in chips} == {32633}

    def test_published_crops_start_at_the_cells_pixels(self, shared_data: Path) -> None:
        for scene in find_scenes([shared_data / "terramesh_cells" / "S2L2A"]):
            *name, x, y = scene.id.split("_")
            cell = cell_named("_".join(name))
            assert scene.crs == f"EPSG:{cell.epsg}"
            to_utm = Transformer.from_crs("EPSG:4326", scene.crs, always_xy=True)
            east, north = to_utm.transform(cell.west, cell.south)
            assert scene.transform.c == pytest.approx(east - 340 + 2640 * int(x), abs=1e-6)
            assert scene.transform.f == pytest.approx(north - 340 + 10_680 - 2640 * int(y), abs=1e-6)

    def test_a_scene_without_a_whole_cell_points_to_tiles(self) -> None:
        with pytest.raises(InputError, match="holds no whole Major TOM cell") as caught:
            majortom_chips(scene_on("EPSG:32633", 400000, 5000000, side=224), size=224)
        assert "--layout tile" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("crs", "pixel"), [("EPSG:32633", 20.0), ("EPSG:3857", 10.0), ("EPSG:4326", 1e-4)]
    )
    def test_another_grid_points_to_tiles(self, crs: str, pixel: float) -> None:
        with pytest.raises(InputError, match="needs a UTM zone and 10 m") as caught:
            majortom_chips(scene_on(crs, 10, 50, side=2000, pixel=pixel), size=224)
        assert "--layout tile" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("size", "offsets"),
        [(224, (0, 211, 422, 633, 844)), (384, (0, 342, 684)), (1068, (0,)), (600, (0, 468))],
    )
    def test_fragments_begin_where_the_published_ones_do(self, size: int, offsets: tuple[int, ...]) -> None:
        assert fragment_offsets(size) == offsets

    def test_a_fragment_larger_than_a_cell_is_refused(self) -> None:
        with pytest.raises(UsageError, match="larger than a Major TOM cell"):
            fragment_offsets(1069)


class TestFootprint:
    def test_across_the_antimeridian_it_has_two_right_handed_parts(self) -> None:
        line, _ = Transformer.from_crs("EPSG:4326", "EPSG:32701", always_xy=True).transform(-180, -18)
        scene = scene_on("EPSG:32701", line - 400, 8_000_000, side=100)
        geometry = tile_chips(scene, size=100, stride=100)[0].geometry
        crossing = quadrangle([(179.9, 10.0), (-179.8, 10.0), (-179.8, 10.3), (179.9, 10.3)], "chip")
        for case in (geometry, crossing):
            assert case["type"] == "MultiPolygon"
            west, east = rings(case)
            assert max(x for x, _ in west) == 180
            assert min(x for x, _ in east) == -180
            assert area(west) > 0
            assert area(east) > 0

    @pytest.mark.parametrize("edge", [180.0, -180.0])
    def test_touching_the_antimeridian_is_not_crossing_it(self, edge: float) -> None:
        for low, sign in ((179.5, 1), (-179.5, -1)):
            x = sorted([low, edge if edge * low > 0 else -edge])
            geometry = quadrangle([(x[0], 0.0), (x[1], 0.0), (x[1], 1.0), (x[0], 1.0)], "chip")
            assert geometry["type"] == "Polygon"
            assert {point[0] for point in rings(geometry)[0]} == {low, 180.0 * sign}

    def test_a_corner_given_on_the_other_side_of_the_antimeridian_is_brought_over(self) -> None:
        geometry = quadrangle([(179.5, 0.0), (-180.0, 0.0), (-180.0, 1.0), (179.5, 1.0)], "chip")
        assert geometry["type"] == "Polygon"
        assert {point[0] for point in rings(geometry)[0]} == {179.5, 180.0}

    def test_zero_has_no_sign(self) -> None:
        ring = rings(quadrangle([(-0.1, -0.1), (0.0, -1e-12), (-1e-12, -0.0), (-0.1, -0.0)], "chip"))[0]
        assert not any(math.copysign(1, value) < 0 for point in ring for value in point if value == 0)

    def test_a_chip_around_a_pole_is_refused(self) -> None:
        with pytest.raises(InputError, match="surrounds a pole"):
            tile_chips(scene_on("EPSG:3031", -5000, 5000, side=1000), size=1000, stride=1000)

    @given(st.floats(-180, 180), st.floats(-89, 88), st.floats(1e-4, 1))
    def test_area_is_kept_by_the_cut(self, west: float, south: float, side: float) -> None:
        east = west + side if west + side <= 180 else west + side - 360
        corners = [(west, south), (east, south), (east, south + side), (west, south + side)]
        parts = rings(quadrangle(corners, "chip"))
        assert sum(area(part) for part in parts) == pytest.approx(2 * side * side, rel=1e-3)
        assert all(part[0] == part[-1] and area(part) > 0 for part in parts)
        assert all(-180 <= x <= 180 for part in parts for x, _ in part)


class TestOrder:
    def test_the_curve_visits_every_cell_of_a_corner_once_step_by_step(self) -> None:
        """The first 4^5 distances fill the 32 × 32 corner, each a neighbour of the one before."""
        x, y = np.divmod(np.arange(1024), 32)
        cells = dict(zip(hilbert_distance(x, y).tolist(), zip(x, y, strict=True), strict=True))
        assert sorted(cells) == list(range(1024))
        path = [cells[i] for i in range(1024)]
        assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in pairwise(path))

    def test_its_ends_are_the_lower_corners(self) -> None:
        last = (1 << 16) - 1
        assert (hilbert_distance(0, 0), hilbert_distance(last, 0)) == (0, 2**32 - 1)
        assert (hilbert_index(-180, -90), hilbert_index(180, -90)) == (0, 2**32 - 1)

    def test_neighbours_on_the_ground_are_near_in_the_order(self) -> None:
        chips = hilbert_order(
            tile_chips(scene_on("EPSG:32633", 399960, 5100000, side=10_980), size=549, stride=549)
        )
        steps = [math.dist((a.x, a.y), (b.x, b.y)) for a, b in pairwise(chips)]
        assert sum(step < 1200 for step in steps) > 0.9 * len(steps)

    def test_ties_go_by_time_then_by_id(self) -> None:
        chip = tile_chips(scene_on("EPSG:32633", 399960, 5100000, side=100), size=100, stride=100)[0]
        chips = [dataclasses.replace(chip, id=name) for name in ("b/0_0", "a/0_0", "c/0_0")]
        assert [c.id[0] for c in hilbert_order(chips)] == ["a", "b", "c"]
        times = {"a": 2, "b": 2, "c": 1}
        assert [c.id[0] for c in hilbert_order(chips, start=lambda c: times[c.id[0]])] == ["c", "a", "b"]


def test_a_chip_is_left_out_for_the_first_of_its_faults() -> None:
    scene = dataclasses.replace(scene_on("EPSG:32633", 400000, 5000000, side=8), nodata=9)
    chip = tile_chips(scene, size=4, stride=4)[0]
    recipe = Recipe("e", "s", ("B02",), "tile", 4, 4, 50, precision="exact", max_cloud_percent=50)
    cloudy = np.zeros((4, 4), bool)  # of 2 pixels each: one of the chip's four is cloudy, then three
    cloudy[0, 0] = True
    pixels = np.ones((1, 4, 4), np.uint16)
    assert fault_of(chip, pixels, scene, recipe, Clouds(cloudy, 2)) == ""
    cloudy[:2, :2] = [[True, True], [True, False]]
    assert fault_of(chip, pixels, scene, recipe, Clouds(cloudy, 2)) == "cloud"
    assert fault_of(chip, pixels, scene, recipe, None) == ""
    assert fault_of(chip, pixels * 0, scene, recipe, None) == "empty"
    assert fault_of(chip, pixels * 9, scene, recipe, Clouds(cloudy, 2)) == "nodata"


def test_a_pixel_is_valid_if_one_band_has_data() -> None:
    pixels = np.zeros((3, 4, 4), np.uint16)
    pixels[1, :, 0] = 7
    assert valid_share(pixels, 0) == 0.25
    assert valid_share(pixels, None) == 1.0
    assert valid_share(pixels, 9) == 1.0
