"""The commands of the verify room: `eocat verify`, and `eocat trust` from trust_cli.py."""

# Heavy imports (cryptography, pyarrow, pydantic) stand inside the commands, so that `--help` is quick.

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import EocatError, Malformed, Unavailable
from .source_cli import app as source_app
from .terminal import answer, answer_json, note
from .trust_cli import Json, Trust
from .trust_cli import app as trust_app

if TYPE_CHECKING:
    from .evidence import Evidence
    from .report import Report

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Check what a catalogue says, trusting nobody."
)
app.add_typer(trust_app, name="trust")
app.add_typer(source_app, name="source")

DEFAULT_API = "http://127.0.0.1:8765"


@app.command()
def verify(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET…", help="collection/item, a URL, an Item file, a folder, or a saved hit."
        ),
    ],
    trust: Trust = None,
    require: Annotated[
        int | None,
        typer.Option(min=1, max=5, help="The level to pass (default: 3 if the policy names a log, else 2)."),
    ] = None,
    rows_only: Annotated[
        bool, typer.Option("--rows-only", help="Accept the signed rows in any encoding of the file.")
    ] = False,
    sources: Annotated[
        Path | None,
        typer.Option(file_okay=False, exists=True, help="Folder of source scenes and weights, for level 4."),
    ] = None,
    recompute: Annotated[
        int, typer.Option(min=0, metavar="K", help="Make K rows again from --sources, for level 5.")
    ] = 0,
    api: Annotated[
        str, typer.Option(help="The catalogue that collection/item is asked from.", envvar="EOCAT_API")
    ] = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Check items, shards or hits against their signed history. Exit 0 only if every one is VERIFIED."""
    from .check import check
    from .hit import check_hit
    from .report import PRECEDENCE
    from .trust_store import load_policy

    now = datetime.now(UTC)
    policy = load_policy(trust, now)
    reports = []
    for target in targets:
        try:
            with _gathered(target, api) as found:
                if isinstance(found, bytes):
                    report = check_hit(found, policy, target=target, now=now, require=require)
                else:
                    report = check(
                        found,
                        policy,
                        now=now,
                        require=require,
                        rows_only=rows_only,
                        sources=sources,
                        recompute=recompute,
                    )
        except Exception as error:  # noqa: BLE001  one target must not hide the others' verdicts
            report = _not_judged(target, error, now, require or 1)
        reports.append(report)
        if not as_json:
            answer(report.to_text())
    if as_json:
        answer_json([report.to_json() for report in reports])
    outcomes = {report.outcome for report in reports}
    raise typer.Exit(next(outcome for outcome in PRECEDENCE if outcome in outcomes).value)


def _not_judged(target: str, error: Exception, now: datetime, require: int) -> "Report":
    """A refusal as a report: what could not be had or read, and, last, what nobody thought of."""
    from .report import Outcome, Report, Step

    if isinstance(error, Malformed | Unavailable):
        outcome, text = Outcome(error.exit_code), str(error)
        if error.hint:
            note(f"hint: {error.hint}")
    elif isinstance(error, EocatError) or os.environ.get("EOCAT_DEBUG"):
        raise error
    else:
        outcome, text = Outcome.MALFORMED, f"not judged, unexpected {type(error).__name__}: {error}"
    return Report(target, now, require, 0, (Step("evidence", text, outcome),))


@contextmanager
def _gathered(target: str, api: str) -> Iterator["Evidence | bytes"]:
    """The evidence that `target` names, or a saved hit's bytes; downloads last as long as the context."""
    from . import canonical
    from .evidence import read_folder, read_item_file, read_limited
    from .fetch import fetch_item
    from .hit import MAX_HIT_BYTES, is_hit

    path = Path(target)
    if target.startswith(("http://", "https://")):
        url = target
    elif path.is_dir():
        yield read_folder(path)
        return
    elif path.is_file():
        data = read_limited(path, MAX_HIT_BYTES)
        yield (
            data
            if is_hit(canonical.parse(data, what=target, limit_bytes=MAX_HIT_BYTES))
            else read_item_file(path)
        )
        return
    elif target.count("/") == 1 and not target.startswith((".", "/")):
        collection, item = target.split("/")
        url = f"{api.rstrip('/')}/collections/{collection}/items/{item}"
    else:
        raise Unavailable(
            f"{target} is no file or folder here",
            hint="name collection/item, a URL, an Item file, a folder or a saved hit",
        )
    with TemporaryDirectory(prefix="eocat-verify-") as folder:
        yield fetch_item(url, Path(folder))
