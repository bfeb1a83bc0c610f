"""`eocat import`: published layouts become verified shards that say so; what is wrong in them is named."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_embeddings import (
    OFFSETS,
    geo,
    point,
    square,
    vectors,
    write_array,
    write_cells,
    write_clay,
    write_earth_index,
    write_majortom,
    write_tessera,
)
from stac_validation import StacSchemas
from test_produce import policy_for
from typer.testing import CliRunner

from eocat.producer.cli import app
from eocat.producer.signer import KeyFile, new_key
from eocat.verify.check import check
from eocat.verify.digest import digest_file
from eocat.verify.dsse import parse_envelope
from eocat.verify.errors import EocatError
from eocat.verify.evidence import read_envelopes, read_folder
from eocat.verify.report import Outcome
from eocat.verify.statement import Create, parse_statement


class Importer:
    """Runs the command in a home of its own; what it refuses is raised or noted as a caller sees it."""

    def __init__(self, folder: Path, signer: KeyFile) -> None:
        self.out, self.signer = folder / "out", signer

    def __call__(self, layout: str, *paths: Path, options: str = "") -> tuple[int, list[dict[str, Any]], str]:
        command = [
            "import",
            layout,
            *map(str, paths),
            "--collection",
            "c",
            "--out",
            str(self.out),
            "--key",
            "k",
        ]
        result = CliRunner().invoke(app, [*command, "--json", *options.split()])
        errors = result.stderr
        if isinstance(result.exception, EocatError):
            errors += f"eocat: error: {result.exception}\nhint: {result.exception.hint}"
        found = json.loads(result.stdout) if result.stdout.strip() else []
        return result.exit_code, found, errors

    def shard(self, layout: str, *paths: Path, options: str = "") -> Path:
        """The one shard of an import that must succeed and verify."""
        code, found, errors = self(layout, *paths, options=options)
        assert (code, len(found)) == (0, 1), errors
        folder = Path(found[0]["folder"])
        report = check(read_folder(folder), policy_for(self.signer), now=datetime.now(UTC))
        assert report.outcome is Outcome.VERIFIED, report.to_text()
        return folder

    def refusal(self, layout: str, *paths: Path, options: str = "") -> str:
        code, found, errors = self(layout, *paths, options=options)
        assert code
        assert not found
        assert "hint: " in errors
        return errors


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Importer:
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    return Importer(tmp_path, new_key("k", None))


def create_of(folder: Path) -> Create:
    (envelope,) = read_envelopes(folder / "attestation.jsonl")
    return parse_statement(parse_envelope(envelope).payload).predicate


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "embeddings.parquet").to_pylist()


MAJORTOM = "--encoder SSL4EO-S12-ResNet50-DINO --transpose"


class TestStatement:
    def test_it_says_that_nothing_was_computed_here(self, run: Importer, tmp_path: Path) -> None:
        path = write_earth_index(tmp_path / "21MNT.parquet")
        folder = run.shard("earth-index", path)
        create = create_of(folder)
        assert (create.origin, create.rows.inputDigests, create.tolerance) == ("imported", False, {})
        assert {row["input_digest"] for row in rows_of(folder)} == {bytes(32)}
        (source,) = create.sources
        assert [file.sha256 for file in source.files] == [digest_file(path).sha256]
        assert (create.encoder.name, create.encoder.version) == ("dinov2_vits14_softcon", "2.0.0")
        assert "not checked" in create.encoder.config["claim"]
        assert create.encoder.weights == []
        assert create.projection.start_datetime == "2023-01-01T00:00:00Z"

    def test_the_vectors_are_the_files_bit_for_bit(self, run: Importer, tmp_path: Path) -> None:
        path = write_earth_index(tmp_path / "21MNT.parquet")
        published = {row["id"]: row["embedding"] for row in pq.read_table(path).to_pylist()}
        assert {row["id"]: row["embedding"] for row in rows_of(run.shard("earth-index", path))} == published

    def test_its_documents_are_valid_stac(self, run: Importer, tmp_path: Path, shared_data: Path) -> None:
        folder = run.shard("clay", write_clay(tmp_path / "clay.parquet"), options="--encoder clay-v0")
        schemas = StacSchemas(shared_data / "stac_schemas")
        for path in (folder / "item.json", folder.parent / "collection.json", folder.parent / "model.json"):
            assert schemas.errors(json.loads(path.read_text())) == [], path.name

    def test_an_encoder_that_nobody_names_is_asked_for(self, run: Importer, tmp_path: Path) -> None:
        assert "does not say which encoder" in run.refusal("clay", write_clay(tmp_path / "clay.parquet"))


class TestResume:
    def test_a_second_run_finds_what_is_there(self, run: Importer, tmp_path: Path) -> None:
        path = write_earth_index(tmp_path / "a.parquet")
        before = run.shard("earth-index", path)
        content = {file.name: file.read_bytes() for file in before.iterdir()}
        code, found, _ = run("earth-index", path)
        assert (code, found[0]["fresh"]) == (0, False)
        assert {file.name: file.read_bytes() for file in before.iterdir()} == content

    def test_a_large_file_is_cut_and_an_interrupted_import_goes_on(
        self, run: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The third shard's place is taken by a file: two are made, and the next run makes the rest."""
        monkeypatch.setattr("eocat.producer.importing.slab.SLAB_ROWS", 10)
        path = write_earth_index(tmp_path / "a.parquet", count=25)
        (run.out / "c").mkdir(parents=True)
        (run.out / "c" / "a-00002").write_text("in the way")
        code, _, _ = run("earth-index", path)
        assert code
        assert sorted(p.name for p in (run.out / "c").glob("a-*")) == ["a-00000", "a-00001", "a-00002"]
        (run.out / "c" / "a-00002").unlink()
        code, found, _ = run("earth-index", path)
        assert [(shard["rows"], shard["fresh"]) for shard in found] == [(10, False), (10, False), (5, True)]

    def test_other_options_never_overwrite(self, run: Importer, tmp_path: Path) -> None:
        path = write_clay(tmp_path / "clay.parquet")
        run.shard("clay", path, options="--encoder clay-v0")
        code, _, errors = run("clay", path, options="--encoder clay-v0 --drop zero")
        assert code
        assert "nothing is overwritten" in errors

    def test_files_of_two_spaces_do_not_enter_one_collection(self, run: Importer, tmp_path: Path) -> None:
        first = write_earth_index(tmp_path / "a.parquet")
        other = write_earth_index(tmp_path / "b.parquet", dimension=16)
        code, found, errors = run("earth-index", first, other)
        assert (code, len(found)) == (3, 1)
        assert "b.parquet is of another space than the files before it" in errors
        code, found, errors = run("earth-index", other)
        assert code
        assert not found
        assert "of space" in errors


class TestMajorTom:
    def test_transposed_footprints_are_refused(self, run: Importer, tmp_path: Path) -> None:
        errors = run.refusal("majortom", write_majortom(tmp_path / "m.parquet"), options="--encoder x")
        assert "the footprints of cell 637U_59R are transposed" in errors
        assert "--transpose puts them right" in errors

    def test_and_are_put_right_when_asked(self, run: Importer, tmp_path: Path) -> None:
        wrong = run.shard("majortom", write_majortom(tmp_path / "m.parquet"), options=MAJORTOM)
        right = write_majortom(tmp_path / "n.parquet", transposed=False)
        turned = {row["id"]: row for row in rows_of(wrong)}
        run.out = tmp_path / "other"
        for row in rows_of(run.shard("majortom", right, options="--encoder x")):
            assert row["geometry"] == pytest.approx(turned[row["id"]]["geometry"]) or near(
                row["bbox"], turned[row["id"]]["bbox"]
            )
            assert row["window"] == turned[row["id"]]["window"]
            _, line, column = row["id"].split("-")
            assert (row["window"]["x"], row["window"]["y"]) == (int(column), int(line))
        assert "footprints: transposed back" in create_of(wrong).parameters["assumptions"]

    def test_right_footprints_are_not_turned(self, run: Importer, tmp_path: Path) -> None:
        path = write_majortom(tmp_path / "m.parquet", transposed=False)
        assert "are not transposed" in run.refusal("majortom", path, options=MAJORTOM)
        assert "borne out by the order of rows" in str(
            create_of(run.shard("majortom", path, options="--encoder x")).parameters["assumptions"]
        )

    def test_what_the_order_does_not_tell_is_said(self, run: Importer, tmp_path: Path) -> None:
        path = write_majortom(tmp_path / "m.parquet")
        table = pq.read_table(path)
        pq.write_table(table.take(np.random.default_rng(1).permutation(len(table))), path)
        folder = run.shard("majortom", path, options="--encoder x")
        assert "does not tell whether they are right" in str(create_of(folder).parameters["assumptions"])

    def test_rows_carry_cell_product_and_time(self, run: Importer, tmp_path: Path) -> None:
        folder = run.shard("majortom", write_majortom(tmp_path / "m.parquet"), options=MAJORTOM)
        rows = rows_of(folder)
        assert len(rows) == 2 * len(OFFSETS) ** 2
        assert {row["grid_cell"] for row in rows} == {"637U_59R", "637U_60R"}
        assert {row["start_datetime"] for row in rows} == {datetime(2022, 7, 6, 8, 56, 11, tzinfo=UTC)}
        assert len({row["source"] for row in rows}) == 2

    def test_a_cell_that_the_grid_lacks_is_refused(self, run: Importer, tmp_path: Path) -> None:
        path = write_majortom(tmp_path / "m.parquet")
        table = pq.read_table(path)
        cells = pa.array(["0D_1R"] * len(table))
        pq.write_table(table.set_column(table.column_names.index("grid_cell"), "grid_cell", cells), path)
        assert "is no cell of the Major TOM" in run("majortom", path, options=MAJORTOM)[2]


def near(a: dict[str, float], b: dict[str, float]) -> bool:
    return all(abs(a[side] - b[side]) < 1e-8 for side in a)


class TestReferenceSystems:
    def test_the_published_file_that_declares_metres_over_degrees(
        self, run: Importer, shared_data: Path
    ) -> None:
        path = shared_data / "embedding_samples" / "planet" / "sample_embeddings.parquet"
        columns = "--encoder planet --columns embedding=embedding,geometry=geometry,start=datetime"
        errors = run.refusal("parquet", path, options=columns)
        assert "declares EPSG:3857, but its coordinates, such as (-48.31" in errors
        assert "--crs OGC:CRS84" in errors
        told = f"{columns} --crs OGC:CRS84"
        assert "has 2 vectors that are missing" in run.refusal("parquet", path, options=told)
        create = create_of(run.shard("parquet", path, options=f"{told} --drop nan"))
        assert (create.rows.count, create.parameters["left_out"]) == (3, {"nan": 2})
        assert create.projection.bbox == pytest.approx([-48.3292, -10.1862, -48.3196, -10.1767], abs=2e-3)
        assert "reference system: OGC:CRS84, said by the publisher" in create.parameters["assumptions"]

    def test_metres_are_brought_to_degrees(self, run: Importer, tmp_path: Path) -> None:
        wkb = square(500_000, 5_000_000, 2240)
        path = write_table(tmp_path / "t.parquet", [wkb], crs="EPSG:32633")
        folder = run.shard("parquet", path, options=TABLE)
        assert create_of(folder).projection.bbox[:2] == pytest.approx([15, 45.15], abs=0.01)
        assert "declares" in Importer(tmp_path / "2", run.signer).refusal(
            "parquet", write_table(tmp_path / "u.parquet", [wkb], crs="OGC:CRS84"), options=TABLE
        )

    def test_the_published_schema_without_rows(self, run: Importer, shared_data: Path) -> None:
        path = shared_data / "embedding_samples" / "earth_index" / "21MNT.parquet"
        assert "has no rows" in run.refusal("earth-index", path)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_points_become_squares_of_the_size_that_is_told(
        self, run: Importer, tmp_path: Path, order: str
    ) -> None:
        path = write_table(tmp_path / "t.parquet", [point(180, 10, order), point(20, 60, order)])
        assert "has a point for a footprint" in run.refusal("parquet", path, options=TABLE)
        folder = run.shard("parquet", path, options=TABLE + " --footprint 320")
        boxes = [row["bbox"] for row in sorted(rows_of(folder), key=lambda row: row["id"])]
        assert boxes[0]["xmin"] > boxes[0]["xmax"], "cut at the antimeridian"
        assert (boxes[1]["ymax"] - boxes[1]["ymin"]) * 111_320 == pytest.approx(320)


TABLE = "--encoder e --columns embedding=v,geometry=g --datetime 2023-01-01/2023-12-31"


def write_table(
    path: Path, geometries: list[bytes], *, rows: np.ndarray | None = None, crs: str = "OGC:CRS84"
) -> Path:
    values = vectors(len(geometries)) if rows is None else rows
    table = pa.table({"g": geometries, "v": pa.array(values.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table.replace_schema_metadata(geo(crs, "g")), path)
    return path


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "value", "message"),
        [
            ("zero", 0.0, "vectors of zeros"),
            ("nan", np.nan, "missing, NaN or infinite"),
            ("nan", np.inf, "missing, NaN or infinite"),
        ],
    )
    def test_odd_vectors_are_refused_or_dropped_and_counted(
        self, run: Importer, tmp_path: Path, fault: str, value: float, message: str
    ) -> None:
        rows = vectors(5)
        rows[3] = value
        path = write_table(tmp_path / "t.parquet", [square(i, 1) for i in range(5)], rows=rows)
        errors = run.refusal("parquet", path, options=TABLE)
        assert message in errors
        assert "the first is row 3" in errors
        folder = run.shard("parquet", path, options=f"{TABLE} --drop {fault}")
        assert create_of(folder).rows.count == 4
        assert create_of(folder).parameters["left_out"] == {fault: 1}

    def test_rows_that_came_before_are_found_over_slabs(
        self, run: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("eocat.producer.importing.slab.SLAB_ROWS", 3)
        path = write_table(tmp_path / "t.parquet", [square(i % 5, 1) for i in range(6)])
        code, _, errors = run("parquet", path, options=TABLE)
        assert code
        assert "came before; the first is row 5" in errors

    def test_another_dimension_is_refused(self, run: Importer, tmp_path: Path) -> None:
        table = pa.table({"g": [square(1, 1), square(2, 2)], "v": [[1.0, 2.0], [1.0]]})
        pq.write_table(table, tmp_path / "t.parquet")
        errors = run.refusal("parquet", tmp_path / "t.parquet", options=TABLE)
        assert "row 1 of t.parquet has a vector of 1 values, others have 2" in errors

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--encoder e", "needs at least the columns embedding and geometry"),
            ("--encoder e --columns embedding=v,geometry=nowhere", "has no column nowhere"),
            ("--encoder e --columns embedding=v,geometry=g", "does not say when its rows are of"),
            ("--encoder e --columns embedding=g,geometry=g", "a list of floating-point numbers is expected"),
            ("--encoder e --columns volume=v", "is no column that is read"),
            (TABLE + " --drop odd", "cannot be dropped"),
            (TABLE + " --crs EPSG:0", "is not known"),
        ],
    )
    def test_what_is_missing_is_named(
        self, run: Importer, tmp_path: Path, options: str, message: str
    ) -> None:
        path = write_table(tmp_path / "t.parquet", [square(1, 1)])
        assert message in run.refusal("parquet", path, options=options)

    @pytest.mark.parametrize("wkb", [b"", b"\x01\x03", b"\x01\x02\x00\x00\x00", point(1, 1) + b"x"])
    def test_broken_geometries_are_refused(self, run: Importer, tmp_path: Path, wkb: bytes) -> None:
        path = write_table(tmp_path / "t.parquet", [square(1, 1), wkb])
        assert "row 1 of t.parquet has a geometry" in run.refusal("parquet", path, options=TABLE)

    def test_a_point_on_no_globe_is_refused_in_every_slab(
        self, run: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("eocat.producer.importing.slab.SLAB_ROWS", 3)
        path = write_table(tmp_path / "t.parquet", [square(i, 1 if i < 4 else 91) for i in range(5)])
        code, _, errors = run("parquet", path, options=TABLE)
        assert code
        assert "row t/4 has the point (4, 91), which is no longitude and latitude" in errors

    def test_a_footprint_without_area_is_refused(self, run: Importer, tmp_path: Path) -> None:
        path = write_table(tmp_path / "t.parquet", [square(1, 1), square(2, 2, 0)])
        assert "row t/1 has a footprint without area" in run.refusal("parquet", path, options=TABLE)

    @pytest.mark.parametrize(("odd", "row"), [("noon", 2), (None, 3)])
    def test_a_time_that_is_none_is_named_with_its_row(
        self, run: Importer, tmp_path: Path, odd: str | None, row: int
    ) -> None:
        days = ["2024-05-01", "2024-05-02", "2024-05-01", "2024-05-03"]
        days[row] = odd
        table = pa.table({"g": [square(i, 1) for i in range(4)], "v": vectors(4).tolist(), "t": days})
        pq.write_table(table, tmp_path / "t.parquet")
        options = "--encoder e --columns embedding=v,geometry=g,start=t"
        errors = run.refusal("parquet", tmp_path / "t.parquet", options=options)
        assert f"row {row} of t.parquet: t is '{odd}', a time" in errors

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet"])
    def test_a_broken_file_is_refused(self, run: Importer, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "t.parquet").write_bytes(content)
        assert "is no readable Parquet file" in run.refusal("parquet", tmp_path / "t.parquet", options=TABLE)


class TestDense:
    def test_a_tessera_tile_is_quantised_values_times_scales_on_land(
        self, run: Importer, tmp_path: Path
    ) -> None:
        path = write_tessera(tmp_path / "tessera")
        folder = run.shard("tessera", path)
        create, rows = create_of(folder), rows_of(folder)
        assert (create.rows.count, create.parameters["left_out"]) == (11 * 12, {"nodata": 12})
        assert create.projection.end_datetime == "2023-12-31T23:59:59.999999Z"
        assert len(create.sources[0].files) == 3
        quantised = np.load(path).astype(np.float32)
        scales = np.load(path.with_name(f"{path.stem}_scales.npy"))
        for row in rows[::17]:
            x, y = row["window"]["x"], row["window"]["y"]
            assert np.array_equal(row["embedding"], quantised[y, x] * scales[y, x])
        assert json.loads((folder.parent / "collection.json").read_text())["emb:type"] == "pixel"

    def test_every_nth_pixel(self, run: Importer, tmp_path: Path) -> None:
        folder = run.shard("tessera", write_tessera(tmp_path / "tessera"), options="--every 4")
        assert {(r["window"]["x"] % 4, r["window"]["y"] % 4) for r in rows_of(folder)} == {(0, 0)}
        assert create_of(folder).rows.count == 6

    def test_without_its_landmask_nobody_knows_where_it_lies(self, run: Importer, tmp_path: Path) -> None:
        path = write_tessera(tmp_path / "tessera")
        next((tmp_path / "tessera" / "landmasks").iterdir()).rename(tmp_path / "mask.tiff")
        assert "its landmask grid_0.15_52.05.tiff is not there" in run.refusal("tessera", path)
        run.shard("tessera", path, options=f"--grid {tmp_path / 'mask.tiff'}")

    def test_files_are_held_against_the_registry(self, run: Importer, tmp_path: Path) -> None:
        path = write_tessera(tmp_path / "tessera")
        files = (path, path.with_name(f"{path.stem}_scales.npy"))
        lines = [f"{'/'.join(file.parts[-3:])} {digest_file(file).sha256}" for file in files]
        registry = tmp_path / "registry_2023.txt"
        registry.write_text("\n".join(lines) + "\n")
        run.shard("tessera", path, options=f"--registry {registry}")
        registry.write_text("\n".join([lines[0][:-1] + "0", lines[1]]) + "\n")
        assert "is not the file that registry_2023.txt lists" in run.refusal(
            "tessera", path, options=f"--registry {registry}"
        )

    def test_an_array_of_objects_is_refused(self, run: Importer, tmp_path: Path) -> None:
        path = write_tessera(tmp_path / "tessera")
        np.save(path, np.array([print], object), allow_pickle=True)
        assert "is no readable .npy array" in run.refusal("tessera", path)

    def test_cells_in_flat_files(self, run: Importer, tmp_path: Path) -> None:
        path = write_cells(tmp_path / "mmearth")
        code, found, errors = run("majortom-cells", path, options="--encoder mmearth --shape 5,5,3")
        assert code == 0, errors
        assert [shard["rows"] for shard in found] == [25, 25]
        rows = rows_of(Path(found[1]["folder"]))
        assert {row["grid_cell"] for row in rows} == {"637U_60R"}
        values = np.fromfile(tmp_path / "mmearth" / "part_0.dat", np.float32).reshape(2, 5, 5, 3)
        for row in rows:
            assert np.array_equal(row["embedding"], values[1, row["window"]["y"], row["window"]["x"]])
        assert (
            "does not hold cell"
            in Importer(tmp_path / "2", run.signer)(
                "majortom-cells", path, options="--encoder mmearth --shape 5,5,4"
            )[2]
        )

    def test_an_array_with_a_table(self, run: Importer, tmp_path: Path) -> None:
        array, table = write_array(tmp_path)
        options = f"--encoder e --table {table} --columns id=name,lon=x,lat=y,start=day --footprint 100"
        rows = rows_of(run.shard("npy", array, options=options))
        published = np.load(array)
        for row in rows:
            number = int(row["id"][1:])
            assert np.array_equal(row["embedding"], published[number])
            assert row["start_datetime"] == datetime(2024, 5, number + 1, tzinfo=UTC)
        table.write_text(table.read_text().rpartition("p6")[0])
        assert "has 6 rows, vectors.npy has 7 vectors" in run.refusal("npy", array, options=options)
