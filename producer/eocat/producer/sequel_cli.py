"""The commands for signed events after the first: supersede, obsolete, withdraw, copy, update, attest."""

# Heavy imports stand inside the functions, so that `--help` is quick.

from pathlib import Path
from typing import Annotated, Any

import typer

from eocat.verify.edge.cli import DEFAULT_API
from eocat.verify.edge.terminal import answer, answer_json, note
from eocat.verify.errors import ConfigError, InputError

app = typer.Typer(no_args_is_help=True, add_completion=False)

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The item's folder, as 'eocat produce' has written it.")
]
Key = Annotated[str, typer.Option(help="Name of the signing key.")]
Api = Annotated[str, typer.Option(help="The catalogue that holds the item.", envvar="EOCAT_API")]
Actor = Annotated[str | None, typer.Option(help="Who acts (default: the key's name).")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence that users will read.")]
Json = Annotated[bool, typer.Option("--json", help="The signed statement as JSON.")]


@app.command()
def supersede(
    folder: Folder,
    by: Annotated[str, typer.Option(metavar="COLLECTION/ITEM", help="The item that takes its place.")],
    key: Key,
    reason: Annotated[str | None, typer.Option(help="Why, in a sentence.")] = None,
    api: Api = DEFAULT_API,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Sign that another item takes this one's place."""
    _sign(folder, {"event": "SUPERSEDE", "successor": by, "reason": reason}, key, api, actor, as_json)


@app.command()
def obsolete(
    folder: Folder,
    reason: Reason,
    key: Key,
    api: Api = DEFAULT_API,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Sign that an item is out of date."""
    _sign(folder, {"event": "OBSOLETE", "reason": reason}, key, api, actor, as_json)


@app.command()
def withdraw(
    folder: Folder,
    reason: Reason,
    key: Key,
    api: Api = DEFAULT_API,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Sign that an item must not be used. Nothing can follow."""
    _sign(folder, {"event": "WITHDRAW", "reason": reason}, key, api, actor, as_json)


@app.command()
def copy(
    folder: Folder,
    location: Annotated[str, typer.Option(help="Public address of the copy.")],
    key: Key,
    api: Api = DEFAULT_API,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Sign, as a mirror, that the same files are at another place."""
    _sign(folder, {"event": "COPY", "location": location}, key, api, actor, as_json)


@app.command()
def update(
    folder: Folder,
    reason: Reason,
    key: Key,
    api: Api = DEFAULT_API,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Sign the place and time that the folder's item.json says now; files and rows stay."""
    from .sequel import projection_in

    event = {"event": "UPDATE", "reason": reason, "projection": projection_in(folder)}
    _sign(folder, event, key, api, actor, as_json)


@app.command()
def attest(
    folder: Folder,
    receipt: Annotated[
        Path, typer.Argument(metavar="RECEIPT", help="As 'eocat verify --recompute K --receipt' writes it.")
    ],
    key: Key,
    api: Api = DEFAULT_API,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Sign, as an auditor, that rows of an item were made again, and how they came out."""
    from eocat.verify.evidence import read_limited
    from eocat.verify.receipt import MAX_RECEIPT_BYTES, parse_receipt

    found = parse_receipt(read_limited(receipt, MAX_RECEIPT_BYTES))
    if (item := item_in(folder)) != found.item:
        raise InputError(f"{receipt} is a receipt of {found.item}, {folder} holds {item}")
    event = {"event": "ATTEST", "create": found.create, "recompute": found.recompute.model_dump()}
    _sign(folder, event, key, api, actor, as_json)


def item_in(folder: Path) -> str:
    """The item whose folder it is, as its attestation says."""
    from eocat.verify.evidence import read_envelopes
    from eocat.verify.projection import ATTESTATION

    from .documents import file_name
    from .sequel import history_of

    path = folder / file_name(ATTESTATION)
    if not path.is_file():
        raise ConfigError(f"{folder} is no shard's folder", hint="name OUT/COLLECTION/ITEM")
    return history_of(read_envelopes(path)[:1]).create.item


def _sign(folder: Path, event: dict[str, Any], key: str, api: str, actor: str | None, as_json: bool) -> None:
    from eocat.verify.edge.fetch import fetch_envelopes

    from .passphrase import open_key
    from .sequel import append_event

    item = item_in(folder)
    signer = open_key(key)
    collection, name = item.split("/")
    held = fetch_envelopes(f"{api.rstrip('/')}/collections/{collection}/items/{name}")
    statement = append_event(folder, held, event, signer, actor=actor or signer.name)
    if as_json:
        answer_json(statement.model_dump(by_alias=True))
    else:
        answer(f"{item}  {statement.predicate.event} {statement.predicate.seq} signed by {signer.name}")
        note(f"hint: 'eocat register {folder}' brings it to the catalogue")
