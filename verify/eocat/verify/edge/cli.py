"""The commands of the verify room: `eocat verify`; `trust` is in trust_cli.py, the rest in offline_cli.py."""

# Heavy imports (cryptography, pyarrow, pydantic) stand inside the commands, so that `--help` is quick.

import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, EocatError, Malformed, Unavailable, UsageError
from ..home import home
from .offline_cli import DEFAULT_API as DEFAULT_API  # also for the other rooms' commands
from .offline_cli import Api
from .offline_cli import app as offline_app
from .source_cli import app as source_app
from .terminal import answer, answer_json, note
from .trust_cli import Json, Trust
from .trust_cli import app as trust_app

if TYPE_CHECKING:
    from ..report import Report

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Check what a catalogue says, trusting nobody."
)
app.add_typer(trust_app, name="trust")
app.add_typer(source_app, name="source")
app.add_typer(offline_app)  # without a name: bundle and fetch stand beside verify


@app.command()
def verify(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET…",
            help="collection/item, a URL, an Item file, a folder, a bundle, or a saved hit.",
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
    files: Annotated[
        Path | None,
        typer.Option(file_okay=False, exists=True, help="Folder of a bundle's data files."),
    ] = None,
    recompute: Annotated[
        int, typer.Option(min=0, metavar="K", help="Make K rows again from --sources, for level 5.")
    ] = 0,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="random|HEX",
            help="What draws the rows of --recompute: this machine, or 64 hex digits (default: the log's "
            "newest cosigned checkpoint; without a log, this machine).",
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(help="Write what --recompute found of the one TARGET here, for 'eocat attest'."),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="URL or folder of the log's own files (default: those of the catalogue that is asked).",
        ),
    ] = None,
    api: Api = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Check items, shards or hits against their signed history. Exit 0 only if every one is VERIFIED."""
    from ..report import PRECEDENCE
    from ..trust_store import load_policy
    from .target import Question, judge

    if receipt is not None and (len(targets) != 1 or not recompute):
        raise UsageError(
            "--receipt belongs to one TARGET with --recompute", hint="eocat verify TARGET --sources …"
        )
    now = datetime.now(UTC)
    question = Question(
        load_policy(trust, now),
        now,
        require,
        rows_only,
        sources,
        recompute,
        _seed(seed, recompute),
        files,
        log,
        home(),
    )
    reports = []
    for target in targets:
        try:
            report = judge(target, question, api)
        except Exception as error:  # noqa: BLE001  one target must not hide the others' verdicts
            report = _not_judged(target, error, now, require or 1)
        reports.append(report)
        if not as_json:
            answer(report.to_text())
    if as_json:
        answer_json([report.to_json() for report in reports])
    if receipt is not None:
        _write_receipt(receipt, reports[0], now)
    outcomes = {report.outcome for report in reports}
    raise typer.Exit(next(outcome for outcome in PRECEDENCE if outcome in outcomes).value)


def _seed(given: str | None, recompute: int) -> bytes | None:
    """The 32 bytes that draw the rows, where the user says how."""
    if given is None:
        return None
    if not recompute:
        raise UsageError(
            "--seed belongs to --recompute", hint="eocat verify TARGET --recompute 59 --seed random"
        )
    if given == "random":
        return secrets.token_bytes(32)
    if not re.fullmatch(r"[0-9a-f]{64}", given):
        raise UsageError(f"--seed {given[:80]!r} is neither 'random' nor 64 lower-case hex digits")
    return bytes.fromhex(given)


def _write_receipt(path: Path, report: "Report", now: datetime) -> None:
    from ..receipt import build_receipt

    try:
        path.write_bytes(build_receipt(report, now))
    except UsageError as error:
        note(str(error))  # no rows were compared: the report has its own exit code
        return
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    note(f"hint: 'eocat attest FOLDER {path} --key NAME' signs it as an event of the item")


def _not_judged(target: str, error: Exception, now: datetime, require: int) -> "Report":
    """A refusal as a report: what could not be had or read, and, last, what nobody thought of."""
    from ..report import Outcome, Report, Step

    if isinstance(error, Malformed | Unavailable):
        outcome, text = Outcome(error.exit_code), str(error)
        if error.hint:
            note(f"hint: {error.hint}")
    elif isinstance(error, EocatError) or os.environ.get("EOCAT_DEBUG"):
        raise error
    else:
        outcome, text = Outcome.MALFORMED, f"not judged, unexpected {type(error).__name__}: {error}"
    return Report(target, now, require, 0, (Step("evidence", text, outcome),))
