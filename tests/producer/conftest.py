"""Fixtures of the producer's tests: a small synthetic scene, a key, and a run over them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eocat.producer.output import Produced
from eocat.producer.produce import produce_scene
from eocat.producer.run import Run, prepare_run
from eocat.producer.signer import KeyFile, new_key
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.synthetic import write_scene


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic scene of 320 × 320 pixels: 25 tiles of 64."""
    return write_scene(tmp_path_factory.mktemp("scene") / "coast.tif", seed=7, size=320)


@pytest.fixture(scope="session")
def scene(scene_file: Path) -> Scene:
    (found,) = find_scenes([scene_file])
    return found


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    """A key in a home folder of its own, unencrypted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EOCAT_HOME", str(tmp_path_factory.mktemp("home")))
        return new_key("tester", None)


@pytest.fixture(scope="session")
def prepare(scene: Scene) -> Callable[..., Run]:
    """`prepare(out, **options)`: a run over the synthetic scene, chips of 64 pixels unless said otherwise."""

    def prepared(out: Path, **options: Any) -> Run:
        return prepare_run(
            [scene], **{"collection": "coast", "out": out, "publisher": "tester", "chip_size": 64, **options}
        )

    return prepared


@pytest.fixture(scope="session")
def shard(
    scene: Scene, prepare: Callable[..., Run], signer: KeyFile, tmp_path_factory: pytest.TempPathFactory
) -> Produced:
    """A shard of the synthetic scene, freshly made; tests read it only."""
    return produce_scene(scene, prepare(tmp_path_factory.mktemp("produced") / "out"), signer)
