"""The Python client: search, similar and verify, with answers as Arrow and GeoPandas."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogue import fetch_all, new_database, running
from log_world import LogWorld
from shard_maker import square

from eocat.catalog.ask import read_area
from eocat.catalog.client import Catalogue
from eocat.catalog.database import Database
from eocat.verify.errors import InputError, Malformed, Unavailable, UsageError
from eocat.verify.report import Outcome


@pytest.fixture(scope="module")
def world(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        made = LogWorld(database, tmp_path_factory.mktemp("out"))
        for item, west in (("a", 11.0), ("b", 12.0)):
            made.add(item, west=west, count=9)
        yield made


@pytest.fixture(scope="module")
def catalogue(world: LogWorld) -> Iterator[Catalogue]:
    with running(world.database) as url:
        yield Catalogue(url)


def test_items_as_tables(catalogue: Catalogue, tmp_path: Path) -> None:
    items = catalogue.search(collections=["demo"], sortby=["-id"], limit=100)
    assert [item["id"] for item in items] == ["b", "a"]
    assert items.to_arrow()["id"].to_pylist() == ["b", "a"]
    frame = items.to_geopandas()
    assert list(frame["table:row_count"]) == [9, 9]
    assert frame.crs == "OGC:CRS84"
    items.write_parquet(tmp_path / "items.parquet")
    assert list(geopandas.read_parquet(tmp_path / "items.parquet")["id"]) == ["b", "a"]
    assert len(catalogue.search(collections=["demo"], bbox=[0, 0, 1, 1])) == 0
    assert catalogue.search(collections=["demo"], bbox=[0, 0, 1, 1]).to_arrow().num_rows == 0
    assert [item["id"] for item in catalogue.search(intersects=square(11.9, 45, 2))] == ["b"]


def test_hits_as_tables(catalogue: Catalogue, tmp_path: Path) -> None:
    hits = catalogue.similar(like="demo/a#4", limit=12, include_vector=True)
    table = hits.to_arrow()
    assert table.num_rows == 12
    assert (table["item"][0].as_py(), table["row"][0].as_py()) == ("a", 4)
    distances = table["distance"].to_numpy()
    assert (np.diff(distances) >= 0).all()
    vectors = np.stack(table["vector"].to_numpy(zero_copy_only=False))
    cosine = 1 - vectors @ vectors[0] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[0])
    assert np.abs(cosine - distances).max() < 1e-3
    assert table["start_datetime"].type == pa.timestamp("us", tz="UTC")
    assert table["start_datetime"][0].as_py() == datetime(2024, 5, 1, 9, 30, 31, 123456, tzinfo=UTC)
    frame = hits.to_geopandas()
    assert frame.crs == "OGC:CRS84"
    assert frame.geometry.iloc[0].equals(geopandas.GeoSeries.from_wkb([table["geometry"][0].as_py()])[0])
    hits.write_parquet(tmp_path / "hits.parquet")
    assert list(geopandas.read_parquet(tmp_path / "hits.parquet")["row"]) == table["row"].to_pylist()
    with duckdb.connect() as own:
        [(count,)] = own.sql(f"SELECT count(*) FROM '{tmp_path}/hits.parquet' WHERE distance < 3").fetchall()
    assert count == 12
    assert b"geo" in pq.read_schema(tmp_path / "hits.parquet").metadata


def test_no_hit_is_a_table_too(catalogue: Catalogue) -> None:
    hits = catalogue.similar(like={"point": [11, 46]}, bbox=[0, 0, 1, 1])
    assert hits.features == []
    assert hits.to_arrow().num_rows == 0
    assert len(hits.to_geopandas()) == 0


def test_items_and_hits_are_verified_without_trusting_the_catalogue(
    catalogue: Catalogue, world: LogWorld
) -> None:
    assert catalogue.verify("demo/a", world.policy).outcome is Outcome.VERIFIED
    hits = catalogue.similar(like="demo/a#0", limit=2, include_proof=True)
    hit = hits.features[1]
    assert catalogue.verify_hit(hit, world.policy).outcome is Outcome.VERIFIED
    hit["properties"]["end_datetime"] = "2024-05-02T00:00:00Z"
    assert catalogue.verify_hit(hit, world.policy).outcome is not Outcome.VERIFIED
    [(folder,)] = fetch_all(world.database, "SELECT location FROM eocat.shard WHERE item_id = 'b'")
    path = Path(folder) / "embeddings.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert catalogue.verify("demo/b", world.policy).outcome is Outcome.TAMPERED
    path.write_bytes(data)


def test_refusals_and_absence_are_told_apart(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="no row 99"):
        catalogue.similar(like="demo/a#99")
    with pytest.raises(UsageError, match="cloudiness"):
        catalogue.search(filter="cloudiness < 3")
    with pytest.raises(UsageError, match="COLLECTION/ITEM#ROW"):
        catalogue.similar(like="a#b#c")
    for ask in (lambda api: api.search(), lambda api: api.similar(like="1,1")):
        with pytest.raises(Unavailable, match="cannot be reached"):
            ask(Catalogue("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (square(1, 2, 3), "Polygon"),
        ({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}, "Point"),
        (
            {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": square(1, 2, 3)}]},
            "Polygon",
        ),
        (
            {
                "type": "FeatureCollection",
                "features": [{"geometry": square(1, 2, 3)}, {"geometry": square(5, 2, 3)}],
            },
            "GeometryCollection",
        ),
    ],
)
def test_areas_are_read_from_what_gis_programs_write(tmp_path: Path, value: object, kind: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(value))
    assert read_area(path)["type"] == kind


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"type": "Feature", "geometry": null}',
             '{"type": "FeatureCollection", "features": []}',
             '{"type": "Topology"}', '{"type": "FeatureCollection", "features": [7]}'],
)  # fmt: skip
def test_what_is_no_area_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no GeoJSON geometry"):
        read_area(path)
    path.write_text("{")
    with pytest.raises(Malformed):
        read_area(path)
