"""The operator's commands: rebuild (docs/operations.md)."""

# Heavy imports stand inside the commands, so that `--help` is quick.

from pathlib import Path
from typing import Annotated

import typer

from eocat.verify.errors import InputError
from eocat.verify.home import home as default_home
from eocat.verify.terminal import answer, answer_json, needs, progress_bar

app = typer.Typer()

Home = Annotated[
    Path | None, typer.Option("--home", help="Where database, keys and logs are (default: EOCAT_HOME).")
]
Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]


@app.command()
def rebuild(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Folders of all shards that were registered.")
    ],
    trust: Annotated[
        Path | None,
        typer.Option("--trust", help="Trust policy (default: trust/policy.json of the home folder)."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the database again: the log from its files in the home, Items and rows from the shards.

    Into an empty database, or one restored from a backup, which is brought up to date. Exit 0 only if every
    item of the log that is not withdrawn is there again.
    """
    with needs("serve"):
        from datetime import UTC, datetime

        from eocat.verify.trust_store import load_policy

        from .admission import register
        from .admitted import exit_code
        from .database import find_database
        from .log_restore import missing_items, restore_log

        place = (home or default_home()).absolute()
        policy = load_policy(trust or (place / "trust" if home else None), datetime.now(UTC))
        with progress_bar() as progress:
            database = find_database(place, progress=progress)
            database.migrate(progress)
            progress("reading the log", 0, 0)
            restored = restore_log(database)
            admissions = register(database, directories, policy, progress=progress)
        missing = missing_items(database)
    if as_json:
        answer_json({
            "log": None if restored is None else {
                "size": restored.checkpoint.size, "entries": restored.entries, "events": restored.events,
            },
            "admissions": [admission.to_json() for admission in admissions],
            "missing": missing,
        })  # fmt: skip
    else:
        if restored is not None:
            size, entries, events = restored.checkpoint.size, restored.entries, restored.events
            answer(f"log  size {size}: {entries} entries restored, {events} of them events")
        for admission in admissions:
            answer(admission.to_text())
    if missing:
        raise InputError(
            f"the log has {len(missing)} items without a shard here: {', '.join(missing[:5])}"
            + (" …" if len(missing) > 5 else ""),
            hint="name the folders of all shards; a second run goes on from here",
        )
    raise typer.Exit(exit_code(admissions))
