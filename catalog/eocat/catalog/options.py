"""What several of the catalogue's commands take, and the catalogue that they work on."""

# Heavy imports (psycopg) stand inside the function, so that `--help` is quick.

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eocat.verify.home import home as default_home

if TYPE_CHECKING:
    from eocat.verify.policy import Policy

    from .database import Database
    from .prefix import Progress

Home = Annotated[
    Path | None, typer.Option("--home", help="Where database, keys and logs are (default: EOCAT_HOME).")
]
Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]
Trust = Annotated[
    Path | None, typer.Option("--trust", help="Trust policy (default: trust/policy.json of the home folder).")
]


def home_folder(home: Path | None) -> Path:
    return (home or default_home()).absolute()


def open_catalogue(home: Path | None, trust: Path | None, progress: "Progress") -> "tuple[Database, Policy]":
    """The database of the home, or of EOCAT_DATABASE_URL, brought up to date; and whose shards it admits."""
    from eocat.verify.trust_store import load_policy

    from .database import find_database
    from .schema import migrate

    place = home_folder(home)
    policy = load_policy(trust or (place / "trust" if home else None), datetime.now(UTC))
    database = find_database(place, progress=progress)
    migrate(database, progress)
    return database, policy
