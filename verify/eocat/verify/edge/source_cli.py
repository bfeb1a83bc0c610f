"""The commands `eocat source`: upstream data held against what its publishers say of it, without a shard."""

# Heavy imports (cryptography, pydantic) stand inside the commands, so that `--help` is quick.

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, Malformed, Unavailable, UsageError
from .terminal import answer, answer_json, note
from .trust_cli import Json, Trust

app = typer.Typer(no_args_is_help=True, help="Source scenes: their manifests, checksums and traces.")


@app.command()
def check(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="SAFE folders or zips, other files, or STAC Items."),
    ],
    item: Annotated[
        Path | None,
        typer.Option(dir_okay=False, exists=True, help="STAC Item of the one PATH (default: NAME.json)."),
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(dir_okay=False, exists=True, help="Traces of the one PATH (default: NAME.traces.json)."),
    ] = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Hold products against their manifest.safe, their STAC Item and their Copernicus traces.

    Items and traces are found beside a product by its name. Exit codes are those of 'eocat verify'.
    """
    from ..lineage.upstream import Finding, UpstreamReport, check_upstream, look_beside
    from ..report import PRECEDENCE, Outcome, Step
    from ..trust_store import load_policy

    if len(paths) > 1 and (item or traces):
        raise UsageError(
            "--item and --traces belong to one PATH", hint="name one PATH, or put them beside each"
        )
    now = datetime.now(UTC)
    reports = []
    for path in paths:
        try:
            found = look_beside(path, item, traces)
            report = check_upstream(found, lambda: load_policy(trust, now).cdse, now)
        except (Malformed, Unavailable) as error:
            step = Step("source", str(error), Outcome(error.exit_code))
            report = UpstreamReport(str(path), (Finding(step),))
        reports.append(report)
        if not as_json:
            answer(report.to_text())
    if as_json:
        answer_json([report.to_json() for report in reports])
    outcomes = {report.outcome for report in reports}
    raise typer.Exit(next(outcome for outcome in PRECEDENCE if outcome in outcomes).value)


@app.command("traces")
def fetch(
    product: Annotated[
        str, typer.Argument(metavar="NAME|HASH", help="The product's file name (….SAFE.zip), or its hash.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File for the answer as it came, such as SCENE.traces.json."),
    ] = None,
    service: Annotated[
        str, typer.Option(help="Address of the traceability service.", envvar="EOCAT_TRACES")
    ] = "https://trace.dataspace.copernicus.eu/api",
    as_json: Json = False,
) -> None:
    """Fetch a product's traces from the Copernicus traceability service. None of it is judged yet."""
    from .service import fetch_traces

    data, traces = fetch_traces(product, service=service)
    if out is not None:
        try:
            out.write_bytes(data)
        except OSError as error:
            raise ConfigError(f"{out} cannot be written: {error.strerror}") from None
    if as_json:
        answer_json([trace.model_dump(exclude_none=True) for trace in traces])
        return
    for trace in traces:
        signed = "signed" if trace.is_signed else "NOT SIGNED"
        answer(f"{trace.event:<9} {trace.timestamp}  {trace.origin}  {trace.product.name}  {signed}")
    note("hint: 'eocat source check PRODUCT --traces FILE' judges them under the keys of your policy")
