"""From a scene to a signed shard: the same bytes every time, whole or not there, right for every reader."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from make_safe import make_safe
from stac_validation import StacSchemas

from eocat.producer.output import Produced, write_collection
from eocat.producer.produce import produce_scene
from eocat.producer.run import Run, prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import Scene, find_scenes
from eocat.verify.check import check
from eocat.verify.dsse import parse_envelope
from eocat.verify.errors import ConfigError, InputError
from eocat.verify.evidence import read_envelopes, read_folder
from eocat.verify.keys import format_key
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome
from eocat.verify.statement import Create, parse_statement

FILES = ("embeddings.parquet", "row-hashes.bin", "thumbnail.png")


def policy_for(signer: KeyFile) -> Policy:
    key = {
        "name": "tester", "key": format_key(signer.public), "roles": ["producer"], "collections": ["*"],
        "notBefore": "2020-01-01T00:00:00Z", "notAfter": "2100-01-01T00:00:00Z", "compromisedSince": None,
    }  # fmt: skip
    return Policy.model_validate(
        {
            "type": "eocat-policy/v1",
            "version": 1,
            "expires": "2100-01-01T00:00:00Z",
            "keys": [key],
            "thresholds": {},
        }
    )


def create_of(shard: Produced) -> Create:
    (envelope,) = read_envelopes(shard.folder / "attestation.jsonl")
    return parse_statement(parse_envelope(envelope).payload).predicate


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_produced_shard_verifies(shard: Produced, signer: KeyFile) -> None:
    report = check(read_folder(shard.folder), policy_for(signer), now=datetime.now(UTC))
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    assert report.level == 2


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 2), (64, 1)])
def test_batch_and_threads_do_not_change_a_byte(
    scene: Scene,
    shard: Produced,
    prepare: Callable[..., Run],
    signer: KeyFile,
    tmp_path: Path,
    batch: int,
    threads: int,
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        again = produce_scene(scene, prepare(tmp_path / "again", batch=batch, threads=threads), signer)
    finally:
        torch.set_num_threads(before)
    assert again.root == shard.root
    assert content(again.folder) == content(shard.folder)


def test_a_second_run_finds_the_shard_and_leaves_it(
    scene: Scene, shard: Produced, prepare: Callable[..., Run], signer: KeyFile
) -> None:
    before = {path.name: path.read_bytes() for path in shard.folder.iterdir()}
    again = produce_scene(scene, prepare(shard.folder.parents[1]), signer)
    assert (again.fresh, again.root, again.rows) == (False, shard.root, shard.rows)
    assert {path.name: path.read_bytes() for path in shard.folder.iterdir()} == before


def test_another_recipe_never_overwrites(
    scene: Scene, shard: Produced, prepare: Callable[..., Run], signer: KeyFile
) -> None:
    with pytest.raises(ConfigError, match="another scene or recipe, and nothing is overwritten"):
        produce_scene(scene, prepare(shard.folder.parents[1], stride=32), signer)


def test_the_statement_says_what_was_made_from_what(shard: Produced, scene: Scene, scene_file: Path) -> None:
    create = create_of(shard)
    (source,) = create.sources
    (file,) = source.files
    sums = subprocess.run(["sha256sum", scene_file], capture_output=True, text=True, check=True)
    assert file.sha256 == sums.stdout.split()[0]
    assert create.encoder.name == "exact-s2-l2a"
    assert create.origin == "computed"
    assert source.bands == list(scene.bands)
    assert create.rows.count == shard.rows == 25
    assert create.projection.datetime == "2024-06-01T10:00:31Z"
    assert create.parameters["chip_size"] == 64


def test_documents_are_valid_stac(shard: Produced, prepare: Callable[..., Run], shared_data: Path) -> None:
    write_collection(prepare(shard.folder.parents[1]))
    schemas = StacSchemas(shared_data / "stac_schemas")
    folder = shard.folder.parent
    for path in (shard.folder / "item.json", folder / "collection.json", folder / "model.json"):
        document = json.loads(path.read_text())
        assert schemas.errors(document) == [], path.name
    document["properties"]["mlm:name"] = "a name (with parentheses)"
    assert schemas.errors(document), "the schemas refuse what they must"


def test_the_item_of_a_synthetic_scene_says_so(shard: Produced) -> None:
    item = json.loads((shard.folder / "item.json").read_text())
    assert item["properties"]["eocat:synthetic"] is True


def test_geopandas_and_duckdb_read_the_shard(shard: Produced) -> None:
    path = shard.folder / "embeddings.parquet"
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_authority() == ("OGC", "CRS84")
    assert len(frame) == 25
    assert frame.geometry.is_valid.all()
    assert frame.geometry.iloc[0].exterior.is_ccw
    box = tuple(frame.geometry.iloc[3].bounds)
    assert frame["id"].iloc[3] in set(geopandas.read_parquet(path, bbox=box)["id"])
    own = duckdb.connect()  # the one of the module is everybody's
    count, dimension = own.execute(f"SELECT count(*), min(len(embedding)) FROM '{path}'").fetchone() or (
        0,
        0,
    )
    assert (count, dimension) == (25, 512)


def test_a_vector_lies_where_the_footer_says(shard: Produced) -> None:
    """Row i of n: data_page_offset + total_compressed_size − (n − i)·D·2 (docs/format.md, section 5)."""
    path = shard.folder / "embeddings.parquet"
    metadata = pq.read_metadata(path)
    column = metadata.row_group(0).column(metadata.num_columns - 1)
    rows, dimension = metadata.row_group(0).num_rows, 512
    table = pq.read_table(path)
    data = path.read_bytes()
    for row in (0, 11, rows - 1):
        start = column.data_page_offset + column.total_compressed_size - (rows - row) * dimension * 2
        found = np.frombuffer(data[start : start + dimension * 2], "<f2")
        assert found.tolist() == [float(value) for value in table["embedding"][row].as_py()]
    assert not column.has_dictionary_page
    assert column.compression == "UNCOMPRESSED"


def test_rows_follow_the_hilbert_curve(shard: Produced) -> None:
    table = pq.read_table(shard.folder / "embeddings.parquet", columns=["window"])
    windows = [(w["x"], w["y"]) for w in table["window"].to_pylist()]
    steps = [abs(ax - bx) + abs(ay - by) for (ax, ay), (bx, by) in pairwise(windows)]
    assert sum(steps) < 2 * 64 * len(windows), "neighbouring rows lie beside each other"


def test_a_scene_without_a_time_is_refused_and_taken_with_one(
    scene: Scene, prepare: Callable[..., Run], signer: KeyFile, tmp_path: Path
) -> None:
    timeless = replace(scene, start=None, end=None)
    with pytest.raises(InputError, match="does not say when it was taken"):
        produce_scene(timeless, prepare(tmp_path / "none"), signer)
    interval = (datetime(2017, 1, 1, tzinfo=UTC), datetime(2020, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
    projection = create_of(
        produce_scene(timeless, prepare(tmp_path / "some", interval=interval), signer)
    ).projection
    assert projection.datetime is None
    assert (projection.start_datetime, projection.end_datetime) == (
        "2017-01-01T00:00:00Z", "2020-12-31T23:59:59.999999Z",
    )  # fmt: skip


def test_two_spaces_do_not_enter_one_collection(prepare: Callable[..., Run], shard: Produced) -> None:
    out = shard.folder.parents[1]
    write_collection(prepare(out))
    with pytest.raises(ConfigError, match="is of space .* this encoder's is"):
        prepare(out, encoder="exact-s2-10m")


def test_a_folder_that_cannot_be_written_is_one_sentence(
    scene: Scene, prepare: Callable[..., Run], signer: KeyFile, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be written"):
        produce_scene(scene, prepare(tmp_path / "file"), signer)


@pytest.mark.parametrize(("level", "encoder"), [("1C", "exact-s2-l1c"), ("2A", "exact-s2-l2a")])
def test_a_safe_product_with_jpeg2000_bands(
    tmp_path: Path, signer: KeyFile, level: str, encoder: str
) -> None:
    """Bands of 10, 20 and 60 m, baseline 05.09 with its offset of 1000, every file in the statement."""
    (scene,) = find_scenes([make_safe(tmp_path, level)])
    run = prepare_run([scene], publisher="p", collection="safe", out=tmp_path / "out", chip_size=60)
    create = create_of(produce_scene(scene, run, signer))
    assert (create.encoder.name, create.rows.count) == (encoder, 4)
    assert create.parameters["offset"] == 1000
    names = {file.name.rpartition("/")[2] for file in create.sources[0].files}
    assert sum(name.endswith(".jp2") for name in names) == len(scene.bands)
    assert any(name.startswith("MTD_MSI") for name in names)


def test_kill_at_any_moment_leaves_a_whole_shard_or_none(
    scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after six different delays: what is there is whole, and the next run completes it."""
    home = tmp_path / "home"
    monkeypatch.setenv("EOCAT_HOME", str(home))
    command = [sys.executable, "-m", "eocat.edge"]
    subprocess.run([*command, "keys", "new", "k", "--no-passphrase"], check=True, capture_output=True)
    out = tmp_path / "out"
    options = ["--collection", "c", "--key", "k", "--size", "32", "--threads", "1"]
    produce = [*command, "produce", str(scene_file), *options, "--out"]
    began = time.monotonic()
    subprocess.run([*produce, tmp_path / "whole"], check=True, capture_output=True)
    whole_s = time.monotonic() - began
    for share in np.linspace(0.5, 1.0, 6):
        process = subprocess.Popen([*produce, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole_s * share)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in out.glob("c/[!.]*/"):
            assert {path.name for path in folder.iterdir()} >= {*FILES, "item.json", "attestation.jsonl"}
    subprocess.run([*produce, out], check=True, capture_output=True)
    assert content(out / "c" / "coast") == content(tmp_path / "whole" / "c" / "coast")
    assert not list((out / "c").glob(".tmp-*-*")), "leftovers of dead runs are cleared"
    assert os.listdir(out) == ["c"]  # noqa: PTH208
