"""The commands of the producer: `eocat keys`, `eocat produce`; others in root_cli.py and sequel_cli.py."""

# Heavy imports (torch, rasterio, pyarrow) stand inside the commands, so that `--help` is quick.

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eocat.verify.errors import ConfigError, InputError
from eocat.verify.terminal import answer, answer_json, needs, note, progress_bar
from eocat.verify.trust_cli import Trust

from .root_cli import app as root_app
from .sequel_cli import app as sequel_app
from .trace_cli import app as trace_app

if TYPE_CHECKING:
    from .produce import Produced
    from .run import Run
    from .signer import KeyFile
    from .sources import Scene

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make signed shards of embeddings.")
keys_app = typer.Typer(no_args_is_help=True, help="Signing keys, in the keys folder of the home folder.")
app.add_typer(keys_app, name="keys")
app.add_typer(root_app, name="root")
app.add_typer(trace_app, name="trace")
app.add_typer(sequel_app)  # without a name: its commands stand beside produce

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
    from eocat.verify.keys import format_key
    from eocat.verify.trust_cli import read_public_key

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


@app.command()
def produce(
    scenes: Annotated[
        list[Path], typer.Argument(metavar="SCENE…", help="GeoTIFFs, folders of bands, SAFE products.")
    ],
    collection: Annotated[str, typer.Option(help="Id of the collection that the shards belong to.")],
    out: Annotated[Path, typer.Option(help="Where COLLECTION/ITEM folders are written.")],
    key: Annotated[str, typer.Option(help="Name of the signing key.")],
    encoder: Annotated[str, typer.Option(help="'exact', or one of its banks by name.")] = "exact",
    layout: Annotated[Literal["tile", "majortom"], typer.Option(help="Where the chips lie.")] = "tile",
    size: Annotated[int, typer.Option(min=1, help="Edge of a chip in pixels.")] = 224,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Pixels between tiles (default: the chip's size).")
    ] = None,
    max_nodata: Annotated[
        int, typer.Option(min=0, max=100, help="Leave out chips with more no-data, in percent.")
    ] = 50,
    max_cloud: Annotated[
        int, typer.Option(min=0, max=100, help="Leave out chips with more cloud, in percent (needs a mask).")
    ] = 100,
    edge: Annotated[
        Literal["drop", "shift"], typer.Option(help="The rest at the border: no chip, or a last one shifted.")
    ] = "drop",
    values: Annotated[
        Literal["dn", "reflectance", "db", "power"] | None,
        typer.Option(help="What real numbers are, where the files do not say."),
    ] = None,
    offset: Annotated[
        int | None, typer.Option(min=0, help="DN of reflectance 0, where the files do not say or are wrong.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Names of the bands: by order (VV,VH), or of files (nir=B08).")
    ] = None,
    interval: Annotated[
        str | None, typer.Option("--datetime", help="Time or interval, where the scene does not say.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", "--license", help="SPDX id of the vectors.")] = "other",
    publisher: Annotated[str | None, typer.Option(help="Who publishes (default: the key's name).")] = None,
    source_prefix: Annotated[
        str | None, typer.Option(help="Public address under which the scenes lie.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            exists=True,
            help="Folder of SCENE.json Items and SCENE.traces.json (default: beside each scene).",
        ),
    ] = None,
    accept_damaged: Annotated[
        bool,
        typer.Option(
            "--accept-damaged",
            help="Use a source that differs from its own manifest or Item; the statement then says so.",
        ),
    ] = False,
    trust: Trust = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Chips encoded at once.")] = 16,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: one per CPU.")] = None,
    as_json: Json = False,
) -> None:
    """Turn scenes into signed shards. A shard that is there already is left as it is.

    A scene that cannot be used is reported and the run goes on; the exit code is then that of the last error.
    """
    with needs("producer"):
        import torch

        from .sources import Told, find_scenes

    from eocat.verify.trust_store import load_policy

    from .evidence import EvidenceRules
    from .interval import parse_interval
    from .output import write_collection
    from .run import prepare_run

    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    signer = open_key(key)
    failed: list[InputError] = []

    def refuse(error: InputError) -> None:
        failed.append(error)
        note(f"eocat: error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))

    told = Told(values, offset, tuple(bands.split(",")) if bands else ())
    found = find_scenes(scenes, told, refuse=refuse)
    if not found:
        raise typer.Exit(failed[-1].exit_code)
    run = prepare_run(
        found,
        signer,
        collection=collection,
        out=out,
        encoder=encoder,
        layout=layout,
        chip_size=size,
        stride=stride,
        max_nodata_percent=max_nodata,
        max_cloud_percent=max_cloud,
        edge=edge,
        told=told,
        interval=parse_interval(interval) if interval else None,
        licence=licence,
        publisher=publisher,
        source_prefix=source_prefix,
        device=device,
        batch=batch,
        threads=threads,
        evidence=EvidenceRules(evidence, lambda: load_policy(trust, datetime.now(UTC)).cdse, accept_damaged),
    )
    done: list[Produced] = []
    for scene in found:
        try:
            done.append(produce_one(scene, run))
        except InputError as error:
            refuse(error)
    write_collection(run)
    _show(done, as_json)
    if failed:
        note(f"{len(failed)} of {len(done) + len(failed)} scenes could not be used")
        raise typer.Exit(failed[-1].exit_code)


def produce_one(scene: "Scene", run: "Run") -> "Produced":
    from .produce import produce_scene

    with progress_bar() as advance:
        return produce_scene(scene, run, lambda done, total: advance(f"chips of {scene.id}", done, total))


def _show(done: "list[Produced]", as_json: bool) -> None:
    if as_json:
        answer_json(
            [
                {
                    "item": p.item,
                    "folder": str(p.folder),
                    "rows": p.rows,
                    "leftOut": p.left_out,
                    "rowRoot": p.root,
                    "seconds": round(p.seconds, 3),
                    "fresh": p.fresh,
                }
                for p in done
            ]
        )
        return
    for p in done:
        state = f"{p.seconds:.1f} s" if p.fresh else "was there already"
        left_out = f", {p.left_out} chips left out" if p.left_out else ""
        answer(f"{p.folder}  {p.rows} rows  root {p.root[:16]}…  {state}{left_out}")


def open_key(name: str) -> "KeyFile":
    from .signer import is_encrypted, read_key

    return read_key(name, passphrase(name, new=False) if is_encrypted(name) else None)


def passphrase(name: str, *, new: bool) -> bytes:
    """From EOCAT_KEY_PASSPHRASE, else asked for at the terminal."""
    if (given := os.environ.get("EOCAT_KEY_PASSPHRASE")) is not None:
        if not given:
            raise ConfigError(
                "EOCAT_KEY_PASSPHRASE is empty", hint="set a passphrase, or use --no-passphrase"
            )
        return given.encode()
    if not sys.stdin.isatty():
        raise ConfigError(
            f"key {name} needs a passphrase and there is no terminal to ask at",
            hint="set EOCAT_KEY_PASSPHRASE, or make the key with --no-passphrase",
        )
    answered: str = typer.prompt(
        f"passphrase of key {name}", hide_input=True, confirmation_prompt=new, err=True
    )
    return answered.encode()
