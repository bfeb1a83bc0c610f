"""What the tests of the walk share."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from eocat.catalog.client import Catalogue
from eocat.catalog.database import Database
from eocat.producer.output import Produced
from eocat.verify.policy import Policy


@dataclass(frozen=True)
class World:
    """A served catalogue of the real places, and what a client has: an address and a policy."""

    url: str
    policy: Policy
    policy_file: Path
    shards: list[Produced]
    database: Database

    @property
    def api(self) -> Catalogue:
        return Catalogue(self.url)


def can_unshare() -> bool:
    """Whether a network namespace without routes can be had here, to prove that offline means offline."""
    try:
        return subprocess.run(["unshare", "--net", "--map-root-user", "true"], check=False).returncode == 0
    except FileNotFoundError:
        return False
