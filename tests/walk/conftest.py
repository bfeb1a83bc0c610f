"""The walk's own catalogue: the 12 + 3 real places produced, signed, registered and served."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from catalogue import new_database, running
from logged_world import Logged, logged_world
from world import World

from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.producer.output import write_collection
from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import find_scenes
from eocat.verify.policy import draft_policy, parse_policy

COLLECTION = "places"
PLACES = ("satclip_s2_patches", "terramesh_cells/S2L2A")  # 12 + 3, Sentinel-2 L2A of twelve bands
INTERVAL = (datetime(2015, 6, 23, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC))


@pytest.fixture(scope="session")
def world(embedded: Database, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("walk")
    signer = KeyFile.generate("walker")
    policy_file = folder / "policy.json"
    policy_file.write_bytes(draft_policy({"walker": signer.public}, [COLLECTION], datetime.now(UTC), days=1))
    policy = parse_policy(policy_file.read_bytes())
    torch.set_num_threads(os.cpu_count() or 1)
    scenes = find_scenes([shared_data / place for place in PLACES])
    run = prepare_run(
        scenes,
        publisher="walker",
        collection=COLLECTION,
        out=folder,
        chip_size=112,
        stride=56,
        interval=INTERVAL,
    )
    shards = [produce_scene(scene, run, signer) for scene in scenes]
    write_collection(run)
    with new_database(embedded) as database:
        for admission in register(database, [run.folder], policy):
            assert admission.status == "registered", admission.reason
        with running(database) as url:
            yield World(url, policy, policy_file, shards, database)


@pytest.fixture(scope="session")
def logged(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    with logged_world(embedded, tmp_path_factory.mktemp("level3")) as found:
        yield found
