"""The engine `ray`: real nodes, one killed midway; the shards are those of one machine."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eocat.producer.choice import Refused
from eocat.producer.output import Produced, write_collection
from eocat.producer.produce import produce
from eocat.producer.run import Run, prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.synthetic import write_scene

ray = pytest.importorskip("ray", reason="NOT RUN: ray is not installed (pip install --group ray)")
pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning"
)

DATA = ("embeddings.parquet", "row-hashes.bin", "thumbnail.png")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    folder = tmp_path_factory.mktemp("scenes")
    for seed in range(8):
        write_scene(folder / f"scene-{seed}.tif", seed=seed, size=128)
    return find_scenes([folder])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of two CPUs each, in processes of this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    nodes.second = nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def run_over(scenes: list[Scene], out: Path) -> Run:
    return prepare_run(
        scenes, publisher="p", collection="c", out=out, chip_size=32, stride=8, device="cpu", threads=1
    )


def data_files(out: Path) -> dict[str, bytes]:
    names = [*DATA, "collection.json", "model.json"]
    return {str(path.relative_to(out)): path.read_bytes() for name in names for path in out.rglob(name)}


def test_a_killed_worker_and_a_killed_node_lose_nothing(
    cluster: Any, scenes: list[Scene], signer: KeyFile, tmp_path: Path
) -> None:
    """A worker dies after the first shard, a node after the third; every shard is there once, the same."""
    from eocat.producer.ray_engine import produce_on_ray

    local, spread = run_over(scenes, tmp_path / "local"), run_over(scenes, tmp_path / "ray")
    assert not any(isinstance(one, Refused) for one in produce(scenes, local, signer))
    write_collection(local)

    made: list[Produced] = []
    for one in produce_on_ray(scenes, spread, signer):
        assert isinstance(one, Produced)
        made.append(one)
        if len(made) == 1:
            os.kill(worker_processes()[0], signal.SIGKILL)
        if len(made) == 3:
            cluster.remove_node(cluster.second, allow_graceful=False)
    write_collection(spread)
    assert sorted(one.item for one in made) == sorted(scene.id for scene in scenes)
    assert all(one.fresh for one in made)
    assert data_files(tmp_path / "ray") == data_files(tmp_path / "local")
    assert not list((tmp_path / "ray").glob("c/.tmp-*"))
    for one in made:
        assert (one.folder / "attestation.jsonl").is_file()


def worker_processes() -> list[int]:
    """The actors of the engine, as Ray names their processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert found
    return found


def test_the_worker_sees_no_key(scenes: list[Scene], tmp_path: Path) -> None:
    """What travels to workers is the run, and it has no place for a key."""
    from ray import cloudpickle

    from eocat.producer.ray_engine import Worker

    portable = cloudpickle.dumps((Worker, run_over(scenes, tmp_path), scenes[0]))
    assert b"signer" not in portable
    assert b"KeyFile" not in portable
