"""One signed world for all attacks, and a folder to show its items in."""

from pathlib import Path

import pytest
from shown import Shown
from signed_world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("attacks") / "world")


@pytest.fixture
def shown(world: World, tmp_path: Path) -> Shown:
    """`alpha at last`: active after CREATE, REGISTER, COPY and UPDATE; exit code 0 as it is."""
    return Shown(tmp_path, world, world.honest[4])
