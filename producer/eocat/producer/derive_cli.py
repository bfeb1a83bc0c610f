"""The command `eocat derive`."""

# Heavy imports (torch, pyarrow) stand inside the command, so that `--help` is quick.

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs
from eocat.verify.edge.trust_cli import Trust
from eocat.verify.errors import InputError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def derive(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="Items' folders, as 'eocat produce' writes them.")
    ],
    collection: Annotated[str, typer.Option(help="Id of the collection that the new item belongs to.")],
    item: Annotated[str, typer.Option(help="Id of the new item.")],
    out: Annotated[Path, typer.Option(help="Where COLLECTION/ITEM is written.")],
    key: Annotated[str, typer.Option(help="Name of the signing key.")],
    bbox: Annotated[
        str, typer.Option(metavar="W,S,E,N", help="Rows that meet this box, in degrees; W > E across ±180°.")
    ],
    publisher: Annotated[str | None, typer.Option(help="Who publishes (default: the key's name).")] = None,
    trust: Trust = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same facts as JSON.")] = False,
) -> None:
    """Sign a part of existing items as an item of its own, whose rows anybody can hold against theirs.

    The items must be VERIFIED at level 2 under your trust policy, as their folders stand.
    """
    with needs("producer"):
        from .derive import derive_subset

    from eocat.verify.check import check
    from eocat.verify.evidence import read_folder
    from eocat.verify.report import Outcome
    from eocat.verify.trust_store import load_policy

    from .passphrase import open_key

    for name, text in (("--collection", collection), ("--item", item)):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", text):
            raise UsageError(f"{name} {text[:80]!r} is no identifier", hint="letters, digits, '.', '_', '-'")
    box, signer, now = parse_box(bbox), open_key(key), datetime.now(UTC)
    policy = load_policy(trust, now)
    for folder in folders:
        report = check(read_folder(folder), policy, now=now, require=2)
        if report.outcome is not Outcome.VERIFIED:
            raise InputError(
                f"{folder} is {report.outcome.name}, and only what is VERIFIED is derived from",
                hint=f"'eocat verify {folder}' says why",
            )
    made = derive_subset(
        folders, collection=collection, item=item, out=out, signer=signer,
        publisher=publisher or signer.name, box=box,
    )  # fmt: skip
    if as_json:
        answer_json({"item": made.item, "folder": str(made.folder), "rows": made.rows, "rowRoot": made.root})
    else:
        answer(f"{made.folder}  {made.rows} rows  root {made.root[:16]}…")


def parse_box(text: str) -> tuple[float, float, float, float]:
    """(west, south, east, north); UsageError unless they are four plain numbers of degrees in their order."""
    parts = text.split(",")
    if len(parts) == 4 and all(re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{1,15})?", part) for part in parts):
        west, south, east, north = (float(part) for part in parts)
        if -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90:
            return west, south, east, north
    raise UsageError(f"box {text[:80]!r} is not west,south,east,north in degrees", hint="as in 12,45,13.5,46")
