"""Nearest neighbours against brute force in numpy: exact answers are exact, the index keeps recall and k.

24,000 clustered rows in six shards, above EXACT_ROWS, so that the planner really chooses between the two.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from catalogue import fetch_all, new_database
from numpy.typing import NDArray
from shard_maker import DrawnEncoder, chips_at, draw_vectors, new_signer, policy_for, square, write_shard
from stac_fastapi.pgstac.db import con_init

from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.catalog.partitions import EXACT_ROWS
from eocat.catalog.query import parse_body
from eocat.catalog.similar import Answer, find
from eocat.catalog.space import NotFound, TwoSpaces
from eocat.producer.chips import Chip
from eocat.verify.errors import Malformed

SHARDS, ROWS, DIMENSION, STEP = 6, 4_000, 32, 0.01
START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Drawn:
    """The catalogue's rows as they were drawn: what an answer is held against."""

    database: Database
    vectors: NDArray[np.floating]  # (N, D)
    centres: NDArray[np.floating]  # (N, 2) degrees
    months: NDArray[np.integer]  # (N,)
    keys: list[tuple[str, int]]  # (item, row)

    def nearest(self, query: NDArray[np.floating], keep: NDArray[np.bool_], k: int) -> NDArray[np.floating]:
        """Cosine distances of the k nearest kept rows, ascending."""
        rows = self.vectors[keep].astype(np.float64)
        query = query.astype(np.float64)
        similarity = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        return np.sort(1 - similarity)[:k]

    def ask(self, **request: Any) -> Answer:
        return ask(self.database, **request)

    def distances(self, answer: Answer) -> NDArray[np.floating]:
        """Distances of the answered rows, from the drawn vectors."""
        return np.array([neighbour.distance for neighbour in answer.neighbours])


def ask(database: Database, **request: Any) -> Answer:
    async def answer() -> Answer:
        connection = await asyncpg.connect(database.asyncpg_dsn(), server_settings=database.server_settings())
        try:
            await con_init(connection)  # as the service's pool does
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await find(connection, parse_body(json.dumps(request).encode()))
        finally:
            await connection.close()

    return asyncio.run(answer())


@pytest.fixture(scope="module")
def drawn(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawn]:
    """Six shards in one collection, one a month, on places apart; s5 lies on both sides of ±180°."""
    out, signer, encoder = tmp_path_factory.mktemp("shards"), new_signer(), DrawnEncoder(dimension=DIMENSION)
    parts, centres = [], []
    for number in range(SHARDS):
        vectors = draw_vectors(ROWS, DIMENSION, seed=number)
        chips = (
            across_the_antimeridian("s5")
            if number == 5
            else chips_at(f"s{number}", ROWS, west=10.0 * number, south=40, step=STEP)
        )
        write_shard(
            out, "demo", f"s{number}", signer=signer, encoder=encoder, vectors=vectors, chips=chips,
            start=START + timedelta(days=31 * number),
            properties={"platform": "a" if number % 2 else "b", "season": number},
        )  # fmt: skip
        parts.append(vectors)
        centres += [chip.centre for chip in chips]
    with new_database(embedded) as database:
        admissions = register(database, [out], policy_for(signer))
        assert [a.status for a in admissions] == ["registered"] * SHARDS, admissions
        yield Drawn(
            database,
            np.concatenate(parts),
            np.array(centres),
            np.repeat(np.arange(SHARDS), ROWS),
            [(f"s{number}", row) for number in range(SHARDS) for row in range(ROWS)],
        )


def across_the_antimeridian(item: str) -> list[Chip]:
    """Half of the chips west of the line, half east of it."""
    east = chips_at(item, ROWS // 2, west=-179.9, south=40, step=STEP)
    west = [
        Chip(f"{chip.id}w", chip.x + 10_000, chip.y, chip.size, square(179.0, 40 + index * 1e-4, 1e-4),
             (179.00005, 40.00005 + index * 1e-4), None)
        for index, chip in enumerate(east)
    ]  # fmt: skip
    return [*east, *west]


QUERY = draw_vectors(1, DIMENSION, seed=99)[0]


def vector(query: NDArray[np.floating] = QUERY) -> dict[str, list[float]]:
    return {"vector": query.astype(np.float64).tolist()}


FILTERS: dict[str, tuple[dict[str, Any], Any]] = {
    "everything": ({}, lambda d: np.ones(len(d.keys), bool)),
    "box": ({"bbox": [0.1, 40.1, 0.3, 40.2]}, lambda d: inside(d, 0.1, 40.1, 0.3, 40.2)),
    "box of six numbers": ({"bbox": [0.1, 40.1, 0, 0.3, 40.2, 9]}, lambda d: inside(d, 0.1, 40.1, 0.3, 40.2)),
    "box across ±180°": ({"bbox": [170, 30, -170, 50]}, lambda d: d.months == 5),
    "polygon": (
        {
            "intersects": {
                "type": "Polygon",
                "coordinates": [[[20, 39], [20.3, 39], [20.3, 41], [20, 41], [20, 39]]],
            }
        },
        lambda d: inside(d, 20, 39, 20.3, 41),
    ),
    "open interval": ({"datetime": "2024-04-01T00:00:00Z/.."}, lambda d: d.months >= 3),
    "instant": ({"datetime": "2024-02-01T00:00:00Z"}, lambda d: d.months == 1),
    "CQL2 text": (
        {"filter": "platform = 'a' AND season < 4"},
        lambda d: (d.months % 2 == 1) & (d.months < 4),
    ),
    "CQL2 JSON": (
        {"filter": {"op": "in", "args": [{"property": "season"}, [0, 2]]}, "filter-lang": "cql2-json"},
        lambda d: (d.months == 0) | (d.months == 2),
    ),
    "all together": (
        {"filter": "season <= 1", "bbox": [9.9, 39, 10.05, 41], "datetime": "../2024-03-01T00:00:00Z"},
        lambda d: inside(d, 9.9, 39, 10.05, 41) & (d.months <= 1),
    ),
    "nothing": ({"bbox": [100, 0, 101, 1]}, lambda d: np.zeros(len(d.keys), bool)),
}


def inside(drawn: Drawn, west: float, south: float, east: float, north: float) -> NDArray[np.bool_]:
    """Chips that touch the box: those whose centre lies within half a chip of it."""
    x, y = drawn.centres.T
    half = STEP / 2 + 1e-9
    kept: NDArray[np.bool_] = (
        (x >= west - half) & (x <= east + half) & (y >= south - half) & (y <= north + half)
    )
    return kept & (drawn.months < 5)


@pytest.mark.parametrize("name", FILTERS)
def test_exact_answers_are_those_of_brute_force(drawn: Drawn, name: str) -> None:
    """Also above every bound; the candidates counted are the rows that pass the filter."""
    request, keep = FILTERS[name]
    kept = keep(drawn)
    answer = drawn.ask(like=vector(), limit=20, exact=True, **request)
    assert answer.method == "exact"
    assert answer.candidates == kept.sum()
    np.testing.assert_allclose(drawn.distances(answer), drawn.nearest(QUERY, kept, 20), atol=2e-6)


def test_answers_come_nearest_first_and_name_their_rows(drawn: Drawn) -> None:
    answer = drawn.ask(like=vector(), limit=50, exact=True)
    shards = dict(fetch_all(drawn.database, "SELECT shard_id, item_id FROM eocat.shard"))
    distances = drawn.distances(answer)
    assert (np.diff(distances) >= 0).all()
    for neighbour in answer.neighbours[:5]:
        place = drawn.keys.index((shards[neighbour.shard_id], neighbour.row))
        row = drawn.vectors[place].astype(np.float64)
        cosine = (
            row @ QUERY.astype(np.float64) / np.linalg.norm(row) / np.linalg.norm(QUERY.astype(np.float64))
        )
        assert neighbour.distance == pytest.approx(1 - cosine, abs=2e-6)


def test_the_planner_scans_few_rows_and_asks_the_index_for_many(drawn: Drawn) -> None:
    assert len(drawn.keys) > EXACT_ROWS
    assert drawn.ask(like=vector()).method == "index"
    assert drawn.ask(like=vector(), **FILTERS["box"][0]).method == "exact"
    assert drawn.ask(like=vector(), exact=True).method == "exact"


def test_the_index_has_recall_of_at_least_0_95(drawn: Drawn) -> None:
    """recall@10 over 50 queries that are no rows of the catalogue."""
    everything = np.ones(len(drawn.keys), bool)
    hits = 0
    for query in draw_vectors(50, DIMENSION, seed=1234):
        answer = drawn.ask(like=vector(query), limit=10, exact=False)
        assert answer.method == "index"
        hits += (drawn.distances(answer) <= drawn.nearest(query, everything, 10)[-1] + 1e-6).sum()
    recall = hits / 500
    print(f"recall@10 = {recall:.3f}")
    assert recall >= 0.95


@pytest.mark.parametrize("exact", [None, False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_never_fewer_than_there_are(drawn: Drawn, name: str, exact: bool | None) -> None:
    """min(k, survivors) rows at every selectivity, whichever way they are found."""
    request, keep = FILTERS[name]
    for limit in (1, 10, 1000):
        more = {} if exact is None else {"exact": exact}
        answer = drawn.ask(like=vector(), limit=limit, **request, **more)
        assert len(answer.neighbours) == min(limit, keep(drawn).sum())
        assert len(set(answer.neighbours)) == len(answer.neighbours)


@pytest.mark.parametrize("share", [0.2, 0.05, 0.01, 0.001])
def test_filtered_answers_keep_their_recall(drawn: Drawn, share: float) -> None:
    """Where the index alone would lose rows (0.05 to 0.3 of them found at 0.1 %), the planner scans."""
    width = share * STEP * 64 * SHARDS
    request = {"bbox": [0, 39, width, 41]}
    kept = inside(drawn, 0, 39, width, 41)
    answer = drawn.ask(like=vector(), limit=10, **request)
    np.testing.assert_allclose(drawn.distances(answer), drawn.nearest(QUERY, kept, 10), atol=2e-6)


def test_like_a_row_finds_the_row_itself_first(drawn: Drawn) -> None:
    answer = drawn.ask(like={"collection": "demo", "item": "s3", "row": 17}, limit=3)
    first = answer.neighbours[0]
    shards = dict(fetch_all(drawn.database, "SELECT shard_id, item_id FROM eocat.shard"))
    assert (shards[first.shard_id], first.row) == ("s3", 17)
    assert first.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("point", "row"), [([10.055, 40.005], 5), ([9.0, 40.005], 0)], ids=["covering", "nearest"]
)
def test_like_a_point_takes_the_chip_that_covers_it_or_lies_nearest(
    drawn: Drawn, point: list[float], row: int
) -> None:
    answer = drawn.ask(like={"point": point}, limit=1, datetime="2024-02-01T00:00:00Z")
    assert answer.neighbours[0].row == row
    assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("like", "sentence"),
    [
        ({"vector": [0.0] * DIMENSION}, "zero"),
        ({"vector": [1.0] * (DIMENSION + 1)}, f"has {DIMENSION + 1} numbers"),
        ({"vector": [1e6] * DIMENSION}, "float16 cannot"),
        ({"vector": [1e-12] * DIMENSION}, "zero"),
    ],
    ids=["zero", "dimension", "too large", "too small"],
)
def test_an_unfit_vector_is_refused_in_a_sentence(drawn: Drawn, like: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence):
        drawn.ask(like=like)


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        ({"like": {"collection": "demo", "item": "s0", "row": ROWS}}, "row 4000 of demo/s0"),
        ({"like": {"collection": "demo", "item": "s0", "row": 2**52}}, "no row"),
        ({"like": {"collection": "demo", "item": "absent", "row": 0}}, "demo/absent"),
        ({"like": {"collection": "absent", "item": "s0", "row": 0}}, "absent"),
        ({"like": vector(), "collections": ["demo", "models"]}, "models"),
    ],
)
def test_what_is_not_there_is_named(drawn: Drawn, request_: dict[str, Any], what: str) -> None:
    with pytest.raises(NotFound, match=what):
        drawn.ask(**request_)


def test_a_property_that_no_item_has_is_refused(drawn: Drawn) -> None:
    with pytest.raises(Malformed, match="filter names cloudiness"):
        drawn.ask(like=vector(), filter="cloudiness < 3")


def test_two_spaces_are_never_compared(embedded: Database, tmp_path: Path) -> None:
    """Refused with both digests; without `collections` a row is compared within its own space."""
    signer = new_signer()
    for name, seed in (("one", 1), ("two", 2), ("three", 1)):
        encoder = DrawnEncoder(dimension=8, seed=seed)
        write_shard(tmp_path, name, "s", signer=signer, encoder=encoder, count=20)
    with new_database(embedded) as database:
        register(database, [tmp_path], policy_for(signer))
        spaces = {
            s for (s,) in fetch_all(database, "SELECT DISTINCT encode(space, 'hex') FROM eocat.collection")
        }
        row = {"collection": "one", "item": "s", "row": 0}
        for request in (
            {"like": {"vector": [1.0] * 8}},
            {"like": {"vector": [1.0] * 8}, "collections": ["one", "two"]},
            {"like": row, "collections": ["two"]},
            {"like": {"point": [11.0, 46.0]}},
        ):
            with pytest.raises(TwoSpaces) as refused:
                ask(database, **request)
            assert all(space in str(refused.value) for space in spaces)
        found = ask(database, like=row, limit=100)
        assert {neighbour.collection for neighbour in found.neighbours} == {"one", "three"}
        assert found.candidates == 40


def test_a_zero_row_has_no_distance_and_is_still_counted(embedded: Database, tmp_path: Path) -> None:
    signer, vectors = new_signer(), draw_vectors(5, 8, seed=1)
    vectors[2] = 0
    write_shard(tmp_path, "demo", "s", signer=signer, encoder=DrawnEncoder(dimension=8), vectors=vectors)
    with new_database(embedded) as database:
        register(database, [tmp_path], policy_for(signer))
        answer = ask(database, like={"vector": [1.0] * 8}, limit=5)
        assert [neighbour.distance is None for neighbour in answer.neighbours] == [False] * 4 + [True]


def test_an_empty_catalogue_says_so(embedded: Database) -> None:
    with new_database(embedded) as database, pytest.raises(NotFound, match="no embeddings yet"):
        ask(database, like={"vector": [1.0]})


def test_like_examples_is_the_mean_of_directions_less_that_of_the_negative_ones(drawn: Drawn) -> None:
    """Rows, vectors of any length and points alike; a row given twice weighs twice."""
    one, two, three = (drawn.vectors[place].astype(np.float64) for place in (10, 4_020, 8_030))
    like = {
        "positive": [{"collection": "demo", "item": "s0", "row": 10}, {"vector": (7 * two).tolist()}],
        "negative": [{"collection": "demo", "item": "s2", "row": 30}],
    }
    unit = [v / np.linalg.norm(v) for v in (one, two, three)]
    wanted = (unit[0] + unit[1]) / 2 - unit[2]
    answer = drawn.ask(like=like, limit=20, exact=True)
    everything = np.ones(len(drawn.keys), bool)
    np.testing.assert_allclose(drawn.distances(answer), drawn.nearest(wanted, everything, 20), atol=2e-3)
    alone = drawn.ask(like={"positive": [{"point": [10.055, 40.005]}]}, limit=1, exact=True)
    assert alone.neighbours[0].distance == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("like", "sentence"),
    [
        ({"positive": [vector()], "negative": [vector()]}, "cancel out"),
        ({"positive": []}, "at least 1"),
        ({"positive": [vector()] * 51}, "at most 50"),
        ({"negative": [vector()]}, "positive"),
        ({"positive": [{"positive": [vector()]}]}, "vector, point, row"),
        ({"positive": [{"vector": [0.0] * DIMENSION}]}, "zero"),
        ({"positive": [vector()], "negative": [{"vector": [1.0]}]}, "has 1 numbers"),
        ({"positive": [vector()], "weight": 2}, "weight"),
    ],
)
def test_unfit_examples_are_refused_in_a_sentence(drawn: Drawn, like: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence):
        drawn.ask(like=like)
