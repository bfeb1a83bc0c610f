"""`eocat derive`: a part of signed items as an item of its own, every row of which is one of theirs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stac_validation import StacSchemas
from test_produce import policy_for

from eocat.producer.derive import Derived, _meets, derive_subset
from eocat.producer.derive_cli import parse_box
from eocat.producer.output import write_collection
from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run
from eocat.producer.signer import KeyFile, new_key
from eocat.producer.sources import find_scenes
from eocat.producer.synthetic import write_scene
from eocat.verify.check import check
from eocat.verify.errors import ConfigError, InputError, UsageError
from eocat.verify.evidence import read_folder
from eocat.verify.report import Outcome
from eocat.verify.shard import BBOX


@dataclass(frozen=True)
class World:
    out: Path
    folders: list[Path]
    signer: KeyFile
    box: tuple[float, float, float, float]  # the west half of the scenes

    def derive(self, out: Path, item: str = "west", **other: object) -> Derived:
        values = {"box": self.box, "folders": self.folders} | other
        folders = values.pop("folders")
        return derive_subset(
            folders, collection="part", item=item, out=out, signer=self.signer, publisher="p", **values
        )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("derive")
    for seed, name in enumerate(("first", "second")):
        write_scene(folder / f"{name}.tif", seed=seed, size=128)
    scenes, signer = find_scenes([folder]), KeyFile.generate("p")
    run = prepare_run(scenes, publisher="tester", collection="coasts", out=folder / "out", chip_size=32)
    shards = [produce_scene(scene, run, signer) for scene in scenes]
    write_collection(run)
    west, south, east, north = json.loads((shards[0].folder / "item.json").read_text())["bbox"]
    box = (west, south, west + 0.4 * (east - west), north)
    return World(folder / "out", [shard.folder for shard in shards], signer, box)


def test_every_row_of_a_subset_can_be_held_against_its_parents(
    world: World, tmp_path: Path, shared_data: Path
) -> None:
    made = world.derive(tmp_path)
    assert made.rows == 16, "two of four columns of chips, of two scenes"
    policy, now = policy_for(world.signer), datetime.now(UTC)
    report = check(read_folder(made.folder), policy, now=now)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 2), report.to_text()
    (lineage,) = [
        step
        for step in check(read_folder(made.folder), policy, now=now, sources=world.out).steps
        if step.name == "lineage"
    ]
    assert lineage.outcome is None
    assert (
        "derived from 2 items, 2 at hand with the named root: all 16 rows are rows of theirs" in lineage.text
    )

    rows = pq.read_table(made.folder / "embeddings.parquet").to_pylist()
    parents = [
        row for folder in world.folders for row in pq.read_table(folder / "embeddings.parquet").to_pylist()
    ]
    assert all(row in parents for row in rows)
    item = json.loads((made.folder / "item.json").read_text())
    schemas = StacSchemas(shared_data / "stac_schemas")
    for document in (item, json.loads((tmp_path / "part" / "collection.json").read_text())):
        assert schemas.errors(document) == []
    assert [link["title"] for link in item["links"] if link["rel"] == "derived_from"] == [
        "coasts/first", "coasts/second",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == [
        "collection.json", "model.json", "west",
    ]  # fmt: skip


def test_a_parent_that_gives_no_row_is_not_named(world: World, tmp_path: Path) -> None:
    made = world.derive(tmp_path, folders=world.folders[:1])
    assert made.rows == 8
    with pytest.raises(UsageError, match="no row of the items meets the box"):
        world.derive(tmp_path, "none", box=(0.0, 0.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="exists already"):
        world.derive(tmp_path)
    with pytest.raises(UsageError, match="stands twice"):
        world.derive(tmp_path, "twice", folders=world.folders[:1] * 2)


def test_a_parent_whose_rows_are_not_the_signed_ones_is_refused(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "coasts" / "first"
    copy.mkdir(parents=True)
    for file in world.folders[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    data = bytearray((copy / "embeddings.parquet").read_bytes())
    at = data.index(pq.read_table(copy / "embeddings.parquet")["embedding"][0].values.to_numpy().tobytes())
    data[at] ^= 1
    (copy / "embeddings.parquet").write_bytes(data)
    with pytest.raises(InputError, match="are not the signed ones"):
        world.derive(tmp_path / "out", folders=[copy])
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def boxes(*sides: tuple[float, float, float, float]) -> pa.Table:
    names = ("xmin", "ymin", "xmax", "ymax")
    return pa.table({"bbox": pa.array([dict(zip(names, box, strict=True)) for box in sides], BBOX)})


def test_boxes_meet_across_the_antimeridian() -> None:
    table = boxes((10, 0, 11, 1), (179, 0, -179, 1), (-180, 0, -179.5, 1), (170, 0, 171, 1))
    assert _meets(table, (9, -1, 10, 2)).tolist() == [True, False, False, False]
    assert _meets(table, (179.5, 0, -179.9, 1)).tolist() == [False, True, True, False]
    assert _meets(table, (-179.2, 0, -170, 1)).tolist() == [False, True, False, False]
    assert _meets(table, (-180, -90, 180, 90)).tolist() == [True] * 4
    assert _meets(table, (10, 2, 11, 3)).tolist() == [False] * 4


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,0,1,1", "0,1,1,0", "0,0,181,1", "1e1,0,1,1", "nan,0,1,1"]
)
def test_a_box_has_one_spelling(text: str) -> None:
    with pytest.raises(UsageError, match="west,south,east,north"):
        parse_box(text)
    assert parse_box("-10.5,0,10,90") == (-10.5, 0, 10, 90)


def test_the_command_takes_only_what_verifies(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    new_key("k", None)
    policy = tmp_path / "policy.json"
    policy.write_text(policy_for(world.signer).model_dump_json(exclude_unset=True))

    def eocat(*trust: object) -> "subprocess.CompletedProcess[str]":
        command = [
            sys.executable,
            "-m",
            "eocat.edge",
            "derive",
            str(world.folders[0]),
            "--collection",
            "part",
        ]
        command += ["--item", "west", "--out", str(tmp_path / "out"), "--key", "k"]
        command += ["--bbox", ",".join(f"{side:.6f}" for side in world.box), *map(str, trust)]
        return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)

    stranger = tmp_path / "other.json"
    stranger.write_text(policy_for(KeyFile.generate("x")).model_dump_json(exclude_unset=True))
    refused = eocat("--trust", stranger)
    assert (refused.returncode, "is UNTRUSTED" in refused.stderr) == (3, True), refused.stderr
    done = eocat("--trust", policy)
    assert (done.returncode, " 8 rows  root " in done.stdout) == (0, True), done.stderr
