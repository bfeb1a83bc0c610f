"""Admission: what verifies enters whole and once, what does not verify leaves no trace."""

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from catalogue import counts, fetch_all, new_database
from shard_maker import DrawnEncoder, draw_vectors, new_signer, policy_for, write_shard

from eocat.catalog.admission import PGSTAC_LOCK, Admission, register
from eocat.catalog.database import Database
from eocat.catalog.shard_folders import find_shards
from eocat.producer.signer import KeyFile
from eocat.verify.canonical import encode
from eocat.verify.errors import InputError, Unavailable
from eocat.verify.policy import Policy
from eocat.verify.row import LEAF_FORMAT
from eocat.verify.shard import Shard
from eocat.verify.statement import Rows

NOTHING = {"collection": 0, "shard": 0, "chip": 0, "event": 0, "item": 0}


@pytest.fixture
def catalogue(embedded: Database) -> Iterator[Database]:
    with new_database(embedded) as database:
        yield database


@pytest.fixture(scope="module")
def signer() -> KeyFile:
    return new_signer()


@pytest.fixture(scope="module")
def policy(signer: KeyFile) -> Policy:
    return policy_for(signer)


def admit_one(database: Database, folder: Path, policy: Policy) -> Admission:
    (admission,) = register(database, [folder], policy)
    return admission


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_database_holds_the_signed_rows_bit_for_bit(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy, dtype: str
) -> None:
    """Every part of every leaf."""
    start = datetime(2024, 5, 1, 9, 30, 31, 123457, tzinfo=UTC)
    folder = write_shard(
        tmp_path,
        "demo",
        "s",
        signer=signer,
        count=300,
        encoder=DrawnEncoder(dimension=48, dtype=dtype),
        start=start,
    )
    assert admit_one(catalogue, folder, policy) == Admission(folder, "demo/s", "registered", 300)
    [(count, root)] = fetch_all(catalogue, "SELECT row_count, row_root FROM eocat.shard")
    claim = {
        "count": count,
        "root": root.hex(),
        "dtype": dtype,
        "dimension": 48,
        "crs": "OGC:CRS84",
        "leaf": LEAF_FORMAT,
    }
    rows = [
        row
        for batch in Shard.open(folder / "embeddings.parquet", Rows(**claim, inputDigests=True)).batches()
        for row in batch.rows()
    ]
    stored = fetch_all(
        catalogue,
        """SELECT row, id, ST_AsBinary(geometry, 'NDR'), start_time, input_digest,
                  coalesce(halfvec_send(half), vector_send(single)) FROM eocat.chip ORDER BY row""",
    )
    assert [one[0] for one in stored] == list(range(300))
    for row, (_, row_id, wkb, moment, digest, vector) in zip(rows, stored, strict=True):
        assert (row_id, wkb, moment, digest) == (row.id, row.geometry, start, row.input_digest)
        assert (
            vector
            == struct.pack(">HH", 48, 0)
            + row.values().astype(f">f{2 if dtype == 'float16' else 4}").tobytes()
        )


def test_the_second_time_changes_nothing(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    folder = write_shard(tmp_path, "demo", "s", signer=signer)
    admit_one(catalogue, folder, policy)
    before = counts(catalogue)
    again = admit_one(catalogue, folder, policy)
    assert (again.status, again.exit_code) == ("already registered", 0)
    assert counts(catalogue) == before


def test_a_moved_folder_is_found_at_its_new_place(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    write_shard(tmp_path / "old", "demo", "s", signer=signer)
    register(catalogue, [tmp_path / "old"], policy)
    (tmp_path / "old").rename(tmp_path / "new")
    assert [a.status for a in register(catalogue, [tmp_path / "new"], policy)] == ["already registered"]
    assert fetch_all(catalogue, "SELECT location FROM eocat.shard") == [(str(tmp_path / "new/demo/s"),)]


@pytest.mark.parametrize(
    ("damage", "code", "outcome"),
    [
        (lambda folder: flip_byte(folder / "embeddings.parquet"), 20, "TAMPERED"),
        (lambda folder: flip_byte(folder / "row-hashes.bin"), 20, "TAMPERED"),
        (lambda folder: edit_item(folder, "eocat:row_root", "0" * 64), 20, "TAMPERED"),
        (lambda folder: remove_attestation(folder), 10, "UNSIGNED"),
        (lambda folder: (folder / "thumbnail.png").unlink(), 60, "UNAVAILABLE"),
        (lambda folder: (folder / "attestation.jsonl").write_bytes(b"{}\n"), 50, "MALFORMED"),
        (lambda folder: (folder.parent / "collection.json").unlink(), 3, None),
        (lambda folder: edit_model(folder, "0" * 64), 3, None),
    ],
    ids=[
        "bytes",
        "row hashes",
        "item",
        "unsigned",
        "file missing",
        "not an envelope",
        "no collection",
        "other model",
    ],
)
def test_what_does_not_verify_leaves_no_trace(
    catalogue: Database,
    tmp_path: Path,
    signer: KeyFile,
    policy: Policy,
    damage: object,
    code: int,
    outcome: str,
) -> None:
    folder = write_shard(tmp_path, "demo", "s", signer=signer)
    damage(folder)  # type: ignore[operator]
    admission = admit_one(catalogue, folder, policy)
    assert (admission.status, admission.exit_code, admission.outcome) == ("refused", code, outcome)
    assert admission.reason
    assert counts(catalogue) == NOTHING


def test_a_key_that_the_policy_does_not_name_admits_nothing(catalogue: Database, tmp_path: Path) -> None:
    folder = write_shard(tmp_path, "demo", "s", signer=new_signer("stranger"))
    admission = admit_one(catalogue, folder, policy_for(new_signer()))
    assert (admission.exit_code, admission.outcome) == (22, "UNTRUSTED")
    assert counts(catalogue) == NOTHING


def test_one_bad_shard_does_not_stop_the_others(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    folders = [write_shard(tmp_path, "demo", name, signer=signer, count=10) for name in ("a", "b", "c")]
    flip_byte(folders[1] / "embeddings.parquet")
    seen: list[tuple[int, int]] = []
    admissions = register(
        catalogue, [tmp_path], policy, progress=lambda _, done, total: seen.append((done, total))
    )
    assert [a.status for a in admissions] == ["registered", "refused", "registered"]
    assert seen[-1] == (3, 3)
    assert counts(catalogue) == {"collection": 1, "shard": 2, "chip": 20, "event": 4, "item": 2}


def test_nothing_is_overwritten(catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy) -> None:
    """A second statement for an item is refused, also after the item is gone (no resurrection)."""
    first = write_shard(tmp_path / "1", "demo", "s", signer=signer, seed=1)
    second = write_shard(tmp_path / "2", "demo", "s", signer=signer, seed=2)
    admit_one(catalogue, first, policy)
    before = counts(catalogue)
    refused = admit_one(catalogue, second, policy)
    assert (refused.status, refused.exit_code) == ("refused", 3)
    assert "nothing is overwritten" in refused.reason
    assert counts(catalogue) == before
    delete_item(catalogue, "s")
    assert admit_one(catalogue, second, policy).status == "refused"
    assert admit_one(catalogue, first, policy).status == "registered"
    assert counts(catalogue) == before


def test_an_item_of_someone_elses_is_not_overwritten(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    """An Item that came into pgSTAC by another way stays as it is."""
    write_shard(tmp_path, "demo", "a", signer=signer, count=5)
    register(catalogue, [tmp_path], policy)
    other = fetch_all(catalogue, "SELECT pgstac.get_item('a', 'demo')")[0][0] | {"id": "b"}
    with catalogue.connect() as connection:
        connection.execute("SELECT pgstac.create_item(%s)", [json.dumps(other)])
    refused = admit_one(catalogue, write_shard(tmp_path, "demo", "b", signer=signer, count=5), policy)
    assert (refused.status, refused.exit_code) == ("refused", 3)
    assert counts(catalogue) == {"collection": 1, "shard": 1, "chip": 5, "event": 2, "item": 2}


def test_a_collection_keeps_one_embedding_space(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    one, two = DrawnEncoder(dimension=16), DrawnEncoder(dimension=16, seed=5)
    admit_one(catalogue, write_shard(tmp_path / "1", "demo", "a", signer=signer, encoder=one), policy)
    before = counts(catalogue)
    refused = admit_one(
        catalogue, write_shard(tmp_path / "2", "demo", "b", signer=signer, encoder=two), policy
    )
    [(space,)] = fetch_all(catalogue, "SELECT encode(space, 'hex') FROM eocat.collection")
    assert refused.exit_code == 3
    assert refused.reason.count("in space") == 2
    assert space in refused.reason
    assert counts(catalogue) == before


def test_attack_65_a_file_that_changes_after_it_was_verified_is_not_admitted(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    """Attack 65: after verification another whole shard of the same shape takes the file's place."""
    folder = write_shard(tmp_path / "1", "demo", "s", signer=signer, seed=1)
    other = write_shard(tmp_path / "2", "demo", "s", signer=signer, seed=2)

    def swap(text: str, done: int, total: int) -> None:
        if text.startswith("verifying"):
            shutil.copy(other / "embeddings.parquet", folder / "embeddings.parquet")

    (admission,) = register(catalogue, [folder], policy, progress=swap)
    assert (admission.status, admission.exit_code, admission.outcome) == ("refused", 20, "TAMPERED")
    assert counts(catalogue) == NOTHING


def test_unfinished_folders_do_not_count(tmp_path: Path, signer: KeyFile) -> None:
    done = write_shard(tmp_path, "demo", "done", signer=signer, count=5)
    shutil.copytree(done, tmp_path / "demo" / ".tmp-half")
    (tmp_path / "demo" / "no-item").mkdir()
    for named in (tmp_path, tmp_path / "demo", done):
        assert find_shards([named]) == [done]
    assert find_shards([tmp_path, done]) == [done]
    with pytest.raises(InputError, match="no finished shard"):
        find_shards([tmp_path / "demo" / "no-item"])


LOADER = """
import sys
from pathlib import Path
from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.verify.policy import read_policy
owner, home, policy, *folders = sys.argv[1:]
database, trusted = Database(owner, owner, None, Path(home)), read_policy(Path(policy))
for admission in register(database, [Path(folder) for folder in folders], trusted):
    print(admission.status, admission.reason)
"""


def start_loader(database: Database, policy: Policy, path: Path, *folders: Path) -> subprocess.Popen[str]:
    """A process of its own that registers `folders`."""
    path.write_bytes(encode(policy.model_dump()))
    arguments = [
        sys.executable,
        "-c",
        LOADER,
        database.owner,
        str(database.home),
        str(path),
        *map(str, folders),
    ]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_killed_loader_leaves_all_or_nothing(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    """Killed after the rows are copied and before the Item is there; the next run finishes the work."""
    write_shard(tmp_path / "out", "demo", "first", signer=signer, count=10)
    register(catalogue, [tmp_path / "out"], policy)
    before = counts(catalogue)
    write_shard(tmp_path / "out", "demo", "second", signer=signer, count=20)
    with catalogue.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [PGSTAC_LOCK])  # the loader waits here, rows copied
        with start_loader(catalogue, policy, tmp_path / "policy.json", tmp_path / "out") as loader:
            wait_until_blocked(catalogue, loader)
            loader.send_signal(signal.SIGKILL)
    assert loader.returncode == -signal.SIGKILL
    wait_until_alone(catalogue)
    assert counts(catalogue) == before
    assert sorted(a.status for a in register(catalogue, [tmp_path / "out"], policy)) == [
        "already registered",
        "registered",
    ]
    assert counts(catalogue) == {"collection": 1, "shard": 2, "chip": 30, "event": 4, "item": 2}


def test_loaders_side_by_side_lose_nothing(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    """Two loaders of one collection and one of another: pgSTAC alone deadlocks here."""
    for number in range(6):
        write_shard(tmp_path / "out", f"c{number % 2}", f"s{number}", signer=signer, count=10)
    loaders = [
        start_loader(catalogue, policy, tmp_path / f"policy-{number}.json", tmp_path / "out" / name)
        for number, name in enumerate(("c0", "c1", "c0"))
    ]
    said = [loader.communicate(timeout=120)[0] for loader in loaders]
    assert [loader.returncode for loader in loaders] == [0, 0, 0], said
    assert "refused" not in "".join(said)
    assert counts(catalogue) == {"collection": 2, "shard": 6, "chip": 60, "event": 12, "item": 6}


def test_extent_and_queryables_follow_the_items(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    write_shard(tmp_path, "demo", "a", signer=signer, west=10, properties={"platform": "sentinel-2a"})
    write_shard(tmp_path, "demo", "b", signer=signer, west=50, start=datetime(2025, 1, 1, tzinfo=UTC))
    register(catalogue, [tmp_path], policy)
    (tmp_path / "demo/collection.json").write_text((tmp_path / "demo/collection.json").read_text())
    stored = fetch_all(catalogue, "SELECT pgstac.get_collection('demo')")[0][0]
    west, _, east, _ = stored["extent"]["spatial"]["bbox"][0]
    assert (west, round(east)) == (10, 50)
    assert stored["extent"]["temporal"]["interval"][0][0].startswith("2024-05-01T09:30:31.123456")
    queryables = fetch_all(catalogue, "SELECT pgstac.get_queryables('demo')")[0][0]["properties"]
    assert queryables["platform"]["type"] == "string"
    assert queryables["eo:cloud_cover"]["type"] == "number"


def test_indexes_are_dropped_for_a_large_load_and_made_again(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    def indexes() -> dict[str, int]:
        query = "SELECT relname::text, oid::bigint FROM pg_class WHERE relname ~ '^chip_.*_(geometry|time)$'"
        return {name.rsplit("_", 1)[1]: oid for name, oid in fetch_all(catalogue, query)}

    def load(name: str, count: int) -> dict[str, int]:
        vectors = draw_vectors(count, 8, seed=count)
        out = tmp_path / name
        write_shard(
            out, "demo", name, signer=signer, vectors=vectors, encoder=DrawnEncoder(dimension=8), step=0.001
        )
        assert register(catalogue, [out], policy)[0].status == "registered"
        return indexes()

    small = load("small", 50)
    assert set(small) == {"geometry", "time"}
    larger = load("larger", 60)
    assert set(larger) == {"geometry", "time"}
    assert larger["geometry"] != small["geometry"]
    smaller = load("smaller", 40)
    assert smaller == larger


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit_item(folder: Path, name: str, value: str) -> None:
    item = json.loads((folder / "item.json").read_text())
    item["properties"][name] = value
    (folder / "item.json").write_text(json.dumps(item))


def remove_attestation(folder: Path) -> None:
    item = json.loads((folder / "item.json").read_text())
    del item["assets"]["attestation"]
    (folder / "item.json").write_text(json.dumps(item))


def edit_model(folder: Path, space: str) -> None:
    path = folder.parent / "model.json"
    model = json.loads(path.read_text())
    model["properties"]["eocat:space"] = space
    path.write_text(json.dumps(model))


def delete_item(database: Database, item: str) -> None:
    with database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        connection.execute("SELECT pgstac.delete_item(%s, 'demo')", [item])


def wait_until_blocked(database: Database, loader: subprocess.Popen[str]) -> None:
    """Until some connection of the database waits for an advisory lock."""
    query = """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    deadline = time.monotonic() + 60
    while fetch_all(database, query) == [(0,)]:
        assert loader.poll() is None, "the loader ended before the lock"
        assert time.monotonic() < deadline, "the loader never came to the lock"
        time.sleep(0.05)


def wait_until_alone(database: Database) -> None:
    """Until the server has noticed that the killed client is gone."""
    query = """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'"""
    deadline = time.monotonic() + 60
    while fetch_all(database, query) != [(0,)]:
        assert time.monotonic() < deadline, "the killed loader's connection stays"
        time.sleep(0.05)


def test_the_first_and_the_last_year_are_kept(
    catalogue: Database, tmp_path: Path, signer: KeyFile, policy: Policy
) -> None:
    folder = write_shard(
        tmp_path,
        "demo",
        "s",
        signer=signer,
        start=datetime(1, 1, 1, tzinfo=UTC),
        end=datetime(9999, 12, 31, tzinfo=UTC),
    )
    assert admit_one(catalogue, folder, policy).status == "registered"
    query = (
        "SELECT DISTINCT extract(year FROM start_time)::int, extract(year FROM end_time)::int FROM eocat.chip"
    )
    assert fetch_all(catalogue, query) == [(1, 9999)]


def test_a_lost_database_is_said_in_one_sentence(tmp_path: Path, signer: KeyFile, policy: Policy) -> None:
    write_shard(tmp_path, "demo", "s", signer=signer, count=5)
    nowhere = f"host={tmp_path} dbname=nothing connect_timeout=2"
    with pytest.raises(Unavailable, match="does not answer"):
        register(Database(nowhere, nowhere, None, tmp_path / "home"), [tmp_path], policy)
