"""The commands of the producer: `eocat keys`, `eocat synthetic`; the others are in the modules *_cli.py."""

# Heavy imports (torch, rasterio, pyarrow) stand inside the commands, so that `--help` is quick.

from pathlib import Path
from typing import Annotated

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, note
from eocat.verify.errors import ConfigError

from .derive_cli import app as derive_app
from .encoders_cli import app as encoders_app
from .import_cli import app as import_app
from .passphrase import passphrase
from .produce_cli import app as produce_app
from .root_cli import app as root_app
from .sequel_cli import app as sequel_app
from .trace_cli import app as trace_app

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make signed shards of embeddings.")
keys_app = typer.Typer(no_args_is_help=True, help="Signing keys, in the keys folder of the home folder.")
app.add_typer(keys_app, name="keys")
app.add_typer(root_app, name="root")
app.add_typer(encoders_app, name="encoders")
app.add_typer(trace_app, name="trace")
app.add_typer(produce_app)  # without a name: its command stands beside the others
app.add_typer(derive_app)
app.add_typer(import_app)
app.add_typer(sequel_app)

Json = Annotated[bool, typer.Option("--json", help="The same facts as JSON.")]


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Letters, digits, '-' and '_'.")],
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the key file unencrypted.")
    ] = False,
    ml_dsa: Annotated[
        bool, typer.Option("--ml-dsa", help="With an ML-DSA-44 partner, which signs whatever the key signs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key. The passphrase comes from EOCAT_KEY_PASSPHRASE or is asked for."""
    from .signer import new_key, public_key_path

    key = new_key(name, None if no_passphrase else passphrase(name, new=True), ml_dsa=ml_dsa)
    if as_json:
        partner = {"partnerKeyId": key.partner.key_id} if key.partner else {}
        answer_json(
            {"name": name, "keyId": key.public.key_id, "public": str(public_key_path(name))} | partner
        )
        return
    answer(f"key {name}, id {key.public.key_id}")
    if key.partner:
        answer(f"ML-DSA-44 partner, id {key.partner.key_id}")
    answer(f"public key: {public_key_path(name)}")
    note("hint: 'eocat trust init KEY.pub --collection ID' makes a policy that trusts it")


@keys_app.command("list")
def keys_list(as_json: Json = False) -> None:
    """The names of the keys in the keys folder."""
    from .signer import key_names

    names = key_names()
    if as_json:
        answer_json(names)
    else:
        for name in names:
            answer(name)


@keys_app.command("show")
def keys_show(name: str, as_json: Json = False) -> None:
    """A key's public part and its id. The private key is not opened."""
    from eocat.verify.edge.trust_cli import read_public_key
    from eocat.verify.keys import format_key

    from .signer import public_key_path

    path = public_key_path(name)
    if not path.is_file():
        raise ConfigError(f"there is no key {name} in {path.parent}", hint=f"eocat keys new {name}")
    _, key, partner = read_public_key(str(path))
    if as_json:
        second = {"partner": format_key(partner), "partnerKeyId": partner.key_id} if partner else {}
        answer_json({"name": name, "keyId": key.key_id, "key": format_key(key)} | second)
        return
    for half in (key, partner):
        if half:
            answer(f"{format_key(half)} {name}\nkey id {half.key_id}")


@app.command()
def synthetic(
    path: Annotated[Path, typer.Argument(metavar="OUT.tif", help="The GeoTIFF to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another coast.")] = 1,
    size: Annotated[int, typer.Option(min=64, max=10_980, help="Pixels of 10 m a side.")] = 1120,
) -> None:
    """Write an invented Sentinel-2 L2A scene to try things on. It is labelled synthetic."""
    with needs("producer"):
        from .synthetic import write_scene

    if path.exists():
        raise ConfigError(f"{path} exists already", hint="name another file")
    try:
        answer(str(write_scene(path, seed=seed, size=size)))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None
