"""The operator's commands: rebuild (docs/operations.md) and audit (docs/similarity.md)."""

# Heavy imports stand inside the commands, so that `--help` is quick.

from pathlib import Path
from typing import Annotated

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, progress_bar
from eocat.verify.errors import InputError

from .options import Home, Json, Trust, home_folder, open_catalogue

app = typer.Typer()


@app.command()
def rebuild(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Folders of all shards that were registered.")
    ],
    trust: Trust = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the database again: the log from its files in the home, Items and rows from the shards.

    Into an empty database, or one restored from a backup, which is brought up to date. Exit 0 only if every
    item of the log that is not withdrawn is there again.
    """
    with needs("serve"):
        from .admission import register
        from .admitted import exit_code
        from .log_restore import missing_items, restore_log

        with progress_bar() as progress:
            database, policy = open_catalogue(home, trust, progress)
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


@app.command()
def audit(
    collections: Annotated[
        list[str] | None, typer.Argument(metavar="COLLECTION…", help="Default: all that have an index.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, max=10_000, help="Rows to look for.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Draws the rows: the same seed, the same rows.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Measure the recall of the indexes against exact search, and store it: answers show it from then on.

    An index that is due and not there is built first. How many candidates an answer compares is set, too: the
    fewest that find 99.8 % of the ten nearest.
    """
    with needs("serve"):
        from dataclasses import asdict

        from . import recall, vector_index
        from .database import find_database
        from .indexer import build_if_due

        with progress_bar() as progress:
            database = find_database(home_folder(home), progress=progress)
            with database.connect(autocommit=True) as connection:
                for collection in vector_index.due(connection):
                    if not collections or collection in collections:
                        build_if_due(database, collection, progress)
                progress("measuring", 0, 0)
                rows = connection.execute("SELECT collection FROM eocat.vector_index ORDER BY collection")
                indexed = [row[0] for row in rows]
                wanted = collections or indexed
                audits = recall.audit(database, connection, wanted, queries=queries, seed=seed)
    if as_json:
        answer_json([asdict(one) for one in audits])
        return
    for one in audits:
        answer(
            f"{one.collection}  recall@{recall.K} {one.recall:.4f} over {one.queries} rows of {one.rows}, "
            f"{one.candidates} candidates compared"
        )
    for collection in sorted(set(wanted) - {one.collection for one in audits}):
        answer(f"{collection}  exact: it has no index")
