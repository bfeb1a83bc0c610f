"""The commands that bring shards into a catalogue: `eocat register`, and `eocat token` for who is afar."""

# Heavy imports (psycopg, numpy, requests) stand inside the commands, so that `--help` is quick.

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, note, progress_bar
from eocat.verify.errors import UsageError

from .options import Home, Json, Trust, home_folder, open_catalogue
from .table import table

if TYPE_CHECKING:
    from .admitted import Admission
    from .tokens import TokenStore

app = typer.Typer()
tokens = typer.Typer(no_args_is_help=True, help="Tokens of publishers who register over HTTP.")
app.add_typer(tokens, name="token")


@app.command()
def register(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Folders of shards, as 'eocat produce' writes them.")
    ],
    trust: Trust = None,
    home: Home = None,
    api: Annotated[
        str | None,
        typer.Option("--api", help="Send them to this catalogue's 'eocat serve --writes' instead."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the token for --api; - is standard input.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify shards and admit those that pass. Exit 0 only if every one is in the catalogue."""
    from .admitted import exit_code

    if (api is None) != (token_file is None):
        raise UsageError("--api and --token-file go together")
    if api is not None and (trust is not None or home is not None):
        raise UsageError("--trust and --home are the other catalogue's, not yours to choose")
    if api is not None and token_file is not None:
        admissions = _submit(api, token_file, directories)
    else:
        admissions = _admit(directories, trust, home)
    if as_json:
        answer_json([admission.to_json() for admission in admissions])
    else:
        for admission in admissions:
            answer(admission.to_text())
    raise typer.Exit(exit_code(admissions))


def _admit(directories: list[Path], trust: Path | None, home: Path | None) -> "list[Admission]":
    """Into the catalogue of this machine's home, or of EOCAT_DATABASE_URL."""
    with needs("serve"):
        from .admission import register as admit

        with progress_bar() as progress:
            database, policy = open_catalogue(home, trust, progress)
            return admit(database, directories, policy, progress=progress)


def _submit(api: str, token_file: Path, directories: list[Path]) -> "list[Admission]":
    """Into a catalogue afar."""
    from .intake_client import submit
    from .tokens import read_token

    with progress_bar() as progress:
        return submit(api, read_token(token_file), directories, progress=progress)


@tokens.command("new")
def new_token(
    name: Annotated[str, typer.Argument(help="Whose it is, for lists and logs.")],
    collections: Annotated[
        list[str], typer.Option("--collection", "-c", help="Where it may write; * is everywhere. Repeatable.")
    ],
    actions: Annotated[
        list[str] | None,
        typer.Option(
            "--action",
            help="register (the default), update, supersede, obsolete, withdraw, copy. Repeatable.",
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="How long it is valid.")] = 90,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a token for a publisher who registers over HTTP. It is printed once and kept nowhere."""
    store = _store(home)
    text = store.new(name, collections, actions or ["register"], days, datetime.now(UTC))
    if as_json:
        answer_json({"id": text.split("_")[1], "token": text})
    else:
        answer(text)
    note("give it to the publisher over a safe way: it is not shown again")


@tokens.command("list")
def list_tokens(home: Home = None, as_json: Json = False) -> None:
    """List the tokens: who may write what, and until when."""
    now = datetime.now(UTC)
    found = [(token, token.state(now)) for token in _store(home).list()]
    if as_json:
        answer_json([
            {"id": token.id, "state": state, **token.file.model_dump(exclude={"type", "sha256"})}
            for token, state in found
        ])  # fmt: skip
        return
    rows = [
        (token.id, token.file.name, state, token.file.expires, " ".join(token.file.collections),
         " ".join(token.file.actions))
        for token, state in found
    ]  # fmt: skip
    table(("id", "name", "state", "expires", "collections", "actions"), rows)


@tokens.command("revoke")
def revoke_token(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As 'eocat token list' shows it.")],
    home: Home = None,
) -> None:
    """Make a token useless from now on."""
    token = _store(home).revoke(id_, datetime.now(UTC))
    answer(f"{token.id}  revoked  {token.file.name}")


def _store(home: Path | None) -> "TokenStore":
    from .tokens import TokenStore

    return TokenStore(home_folder(home))
