"""The commands that bring evidence to where it is to be checked: `eocat bundle`, `fetch` and `prove`."""

# Heavy imports (cryptography, pydantic) stand inside the commands, so that `--help` is quick.

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, UsageError
from ..home import home, trust_folder
from .terminal import answer, answer_json, note, progress_bar
from .trust_cli import Json, Trust

DEFAULT_API = "http://127.0.0.1:8765"

app = typer.Typer(no_args_is_help=True, add_completion=False)

Api = Annotated[
    str, typer.Option(help="The catalogue that collection/item is asked from.", envvar="EOCAT_API")
]
Target = Annotated[str, typer.Argument(metavar="ITEM", help="collection/item, its URL, or its folder.")]


@app.command()
def bundle(
    item: Target,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write (default: <item>.eocat here).")
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, exists=True, help="Folder of source scenes: their manifests and traces go along."
        ),
    ] = None,
    api: Api = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Write an item's documents, events and proofs into one file, for 'eocat verify' without a network."""
    from ..bundle import SUFFIX, format_bundle
    from ..trust_store import TrustStore
    from .bundling import bundle_of
    from .target import documents_of

    evidence = documents_of(item, api)
    made = bundle_of(evidence, sources, TrustStore(trust_folder()))
    data = format_bundle(made)
    target = out or Path(Path(item.rstrip("/")).name + SUFFIX)
    try:
        target.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from None
    facts = {
        "bundle": str(target), "bytes": len(data), "events": len(made.envelopes),
        "logProof": made.log_proof is not None, "roots": len(made.roots), "traces": len(made.traces),
        "manifests": len(made.manifests),
    }  # fmt: skip
    if as_json:
        answer_json(facts)
        return
    proof = "with its log proof" if made.log_proof else "without a log proof"
    answer(f"{target}  {len(data)} bytes, {len(made.envelopes)} events, {proof}")
    note(f"nothing was judged: check it with 'eocat verify {target} --files DIR'")


@app.command()
def fetch(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="collection/item or its URL.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The item's folder: a new one, or its own.")],
    trust: Trust = None,
    require: Annotated[
        int | None, typer.Option(min=1, max=5, help="The level to pass, as of verify.")
    ] = None,
    api: Api = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Bring what a folder lacks of an item: its events, log proof and files. Judged before it is written.

    A second run resumes where one broke off. Exit code and report are those of 'eocat verify DIR'.
    """
    from ..trust_store import load_policy
    from .bringing import bring
    from .target import Question, item_url

    url = item_url(item, api)
    if url is None:
        raise UsageError(f"{item} is a file or folder here", hint="name collection/item or its URL")
    now = datetime.now(UTC)
    question = Question(load_policy(trust, now), now, require, home=home())
    with progress_bar() as progress:
        report = bring(url, folder, question, progress)
    if as_json:
        answer_json(report.to_json())
    else:
        answer(report.to_text())
    raise typer.Exit(report.outcome.value)


@app.command()
def prove(
    row: Annotated[
        str,
        typer.Argument(metavar="ITEM#ROW", help="An item (collection/item, URL, folder) and a row."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the row with its proof, for 'eocat verify'.")
    ] = None,
    trust: Trust = None,
    require: Annotated[int | None, typer.Option(min=1, max=3, help="The level to pass.")] = None,
    api: Api = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Prove one row from a few range reads of the item's files: neither a service nor a whole file."""
    from ..trust_store import load_policy
    from .target import Question
    from .target import prove as prove_in

    item, _, number = row.rpartition("#")
    if not item or not (number.isascii() and number.isdigit() and len(number) <= 10):
        raise UsageError(f"{row!r} is not ITEM#ROW", hint="such as coasts/coast#0")
    now = datetime.now(UTC)
    report, hit = prove_in(item, int(number), Question(load_policy(trust, now), now, require), api)
    if out is not None and hit is not None and report.outcome.value == 0:
        try:
            out.write_bytes(hit)
        except OSError as error:
            raise ConfigError(f"{out} cannot be written: {error.strerror}") from None
    if as_json:
        answer_json(report.to_json())
    else:
        answer(report.to_text())
    raise typer.Exit(report.outcome.value)
