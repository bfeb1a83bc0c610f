"""The commands of the log: `eocat log show`, `checkpoint`, `proof`, `cosign`, `audit` and `witness`."""

# Heavy imports stand inside the commands, so that `--help` is quick.

import sys
from pathlib import Path
from typing import Annotated

import typer

from eocat.verify.edge.cli import DEFAULT_API
from eocat.verify.edge.terminal import answer, answer_json, needs
from eocat.verify.errors import ConfigError, Unavailable, UsageError

from .options import Home, Json, home_folder

app = typer.Typer(no_args_is_help=True, help="The transparency log of a catalogue.")


@app.command()
def show(home: Home = None, as_json: Json = False) -> None:
    """Print this catalogue's public keys, for the log policy and the trust policy of those who check it."""
    from eocat.verify.keys import format_key
    from eocat.verify.log.note import format_vkey

    with needs("serve"):
        from .keyring import keys_folder, read_keyring

        place = home_folder(home)
        keyring = read_keyring(place)
    vkey, registrar = format_vkey(keyring.verifier), format_key(keyring.registrar)
    if as_json:
        answer_json({
            "origin": keyring.origin, "logKey": vkey, "registrarKey": registrar,
            "registrarKeyId": keyring.registrar.key_id, "folder": str(keys_folder(place)),
        })  # fmt: skip
        return
    answer(f"log {vkey}")
    answer(f"registrar {registrar}")


@app.command()
def checkpoint(home: Home = None, as_json: Json = False) -> None:
    """Bring the log up to what is committed, and print its newest checkpoint."""
    with needs("serve"):
        from .database import find_database
        from .log import advance, log_folder
        from .schema import migrate

        place = home_folder(home)
        database = find_database(place)
        migrate(database)
        newest = advance(database)
        note = log_folder(place).read_checkpoint()
    if note is None:
        raise ConfigError(f"the log of {place} has no checkpoint file")
    if as_json:
        answer_json({
            "origin": newest.origin, "size": newest.size, "root": newest.root.hex(), "note": note.decode(),
        })  # fmt: skip
    else:
        answer(note.decode().removesuffix("\n"))


@app.command()
def proof(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="collection/item, its URL, or its folder.")],
    event: Annotated[int, typer.Option(min=0, max=1023, help="Which event, by its seq.")] = 0,
    api: Annotated[
        str, typer.Option(help="The catalogue that collection/item is asked from.", envvar="EOCAT_API")
    ] = DEFAULT_API,
) -> None:
    """Print the C2SP tlog-proof of one event, for verifiers of other logs; its entry is the extra data."""
    from eocat.verify.edge.target import documents_of
    from eocat.verify.log.entry import entry_of, format_entry
    from eocat.verify.log.item_proof import parse_item_proof
    from eocat.verify.log.proof import format_proof, proof_of_event

    evidence = documents_of(item, api)
    if evidence.log_proof is None or not evidence.envelopes:
        raise Unavailable(f"no log proof came with {item}", hint="eocat fetch brings it into a folder")
    if event >= len(evidence.envelopes):
        raise UsageError(f"{item} has {len(evidence.envelopes)} events, so none with seq {event}")
    entry = format_entry(entry_of(evidence.envelopes[event]))
    made = proof_of_event(parse_item_proof(evidence.log_proof), entry, event)
    answer(format_proof(made).decode().removesuffix("\n"))


@app.command()
def audit(
    log: Annotated[
        str | None, typer.Argument(metavar="LOG", help="URL or folder of the log (default: HOME/log).")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The log's key as 'eocat log show' prints it, or its file.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Follow a log: its signature, all it held before, every entry, tile, event and head map."""
    from eocat.verify.log.note import parse_vkey

    from .log_audit import FolderSource, UrlSource
    from .log_audit import audit as follow

    place = home_folder(home)
    name = log or str(place / "log")
    source = UrlSource(name) if name.startswith(("http://", "https://")) else FolderSource(Path(name))
    if isinstance(source, FolderSource) and not source.folder.is_dir():
        raise UsageError(f"{name} is neither an http(s) address nor a folder")
    done = follow(source, parse_vkey(_key_text(key, place)), place)
    facts = {
        "origin": done.checkpoint.origin,
        "size": done.checkpoint.size,
        "root": done.checkpoint.root.hex(),
        "before": done.before,
        "events": done.events,
        "items": done.items,
    }
    if as_json:
        answer_json(facts)
    else:
        answer(
            f"{facts['origin']}  ok  size {facts['size']} (before {facts['before']}), "
            f"{facts['events']} events of {facts['items']} items, root {done.checkpoint.root.hex()[:16]}…"
        )


@app.command()
def cosign(home: Home = None, as_json: Json = False) -> None:
    """Ask the witnesses again, so that the published checkpoint has cosignatures of today."""
    with needs("serve"):
        from .database import find_database
        from .renewal import renew

        renewal = renew(find_database(home_folder(home)))
    newest, met = renewal.checkpoint, renewal.quorum_met
    if as_json:
        witnesses = [
            {"name": one.name, "outcome": one.outcome, "detail": one.detail} for one in renewal.asked
        ]
        answer_json({"origin": newest.origin, "size": newest.size, "witnesses": witnesses, "quorumMet": met})
    else:
        for one in renewal.asked:
            answer(f"{one.name}  {one.outcome}{one.detail and f': {one.detail}'}")
        answer(f"{newest.origin}  size {newest.size}  {'quorum' if met else 'no quorum'}")
    if not met:
        raise Unavailable("the witnesses that answered are no quorum", hint="eocat log cosign asks again")


@app.command()
def witness(
    log_key: Annotated[
        list[str],
        typer.Option("--log-key", help="Key of a log to follow, as 'eocat log show' prints it, or its file."),
    ],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of a new witness (default: <host name>/witness).")
    ] = None,
    home: Home = None,
) -> None:
    """Cosign other parties' logs, in the foreground: each checkpoint only if it extends the one before."""
    from eocat.verify.log.note import format_vkey, parse_vkey

    with needs("serve"):
        from .witness import open_witness
        from .witness_service import run

        place = home_folder(home)
        own = open_witness(place, [parse_vkey(_key_text(key, place)) for key in log_key], name)
    answer(f"witness {own.key.verifier.name} {format_vkey(own.key.verifier)}")
    sys.stdout.flush()  # it is waited for, and the rest of this command takes years
    run(own, host, port)


def _key_text(key: str | None, home: Path) -> str:
    """The key that was given, or that of this home's own log: never one that the log itself hands out."""
    from .keyring import keys_folder

    path = keys_folder(home) / "log.vkey" if key is None else Path(key)
    if key is not None and not path.is_file():
        return key.removeprefix("log ")
    try:
        return path.read_text("utf-8").removesuffix("\n").removeprefix("log ")
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            f"the log's key {path} cannot be read", hint="name it with --key; its owner has it"
        ) from None
