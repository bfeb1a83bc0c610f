"""The commands `eocat trace`: traces of own items in the Copernicus format, and the key that signs them."""

# Heavy imports stand inside the functions, so that `--help` is quick.

from pathlib import Path
from typing import Annotated, Literal

import typer

from eocat.verify.edge.terminal import answer, answer_json, note
from eocat.verify.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Traces of own items for the Copernicus traceability service.")

Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]


@app.command("key")
def new(
    name: Annotated[str, typer.Argument(help="Letters, digits, '-' and '_'.")],
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the key file unencrypted.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long its certificate is valid.")] = 365,
    as_json: Json = False,
) -> None:
    """Make an ECDSA key and certificate. EOCAT_KEY_PASSPHRASE has the passphrase, or it is asked for."""
    from eocat.verify.certificate import parse_certificate

    from .passphrase import passphrase
    from .signer import keys_folder, new_trace_key

    key = new_trace_key(name, None if no_passphrase else passphrase(name, new=True), days=days)
    certificate = parse_certificate(key.certificate)
    path = keys_folder() / f"{name}.trace.crt"
    if as_json:
        answer_json({"name": name, "spki": certificate.spki, "certificate": str(path)})
        return
    answer(f"trace key {name}, public key sha256 {certificate.spki}\ncertificate: {path}")
    note("hint: who pins that digest in the member 'cdse' of a policy accepts the traces (docs/lineage.md)")


@app.command()
def export(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="Items' folders, as 'eocat produce' writes them.")
    ],
    key: Annotated[str, typer.Option(help="Name of the trace key.")],
    event: Annotated[
        Literal["CREATE", "COPY", "DELETE", "OBSOLETE"], typer.Option(help="What happened to the files.")
    ] = "CREATE",
    reason: Annotated[
        str | None, typer.Option(help="Of an OBSOLETE (default: as the item's history says).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File for the body of PUT /v1/traces (else stdout)."),
    ] = None,
) -> None:
    """Sign traces of items, ready to be registered: 1 to 50, all of one event."""
    from .passphrase import passphrase
    from .signer import is_encrypted, read_trace_key
    from .traces import export_traces

    signer = read_trace_key(key, passphrase(key, new=False) if is_encrypted(key, trace=True) else None)
    body, made = export_traces(folders, event, signer, reason=reason)
    if out is None:
        answer(body.decode())
        return
    try:
        out.write_bytes(body)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}") from None
    for trace in made:
        answer(f"{trace.event}  {trace.product.name}  blake3 {trace.product.hash[:16]}…")
    note(f"hint: curl -X PUT -H 'Authorization: Bearer …' --data @{out} SERVICE/v1/traces registers them")
