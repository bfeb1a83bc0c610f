"""`eocat demo`: the main job end to end on its real parts, then two attacks that it must refuse.

    1 scene      an invented one, or the user's            6 search    a STAC client finds the items
    2 key        a demo key, and a policy that trusts it   7 similar   a chip finds itself first
    3 produce    chips, vectors, signed shards             8 verify    the hit, offline; the item, over HTTP
    4 up         database and service                      9 tamper    one byte of a shard
    5 register   verify, admit, load                      10 tamper    one value of a database vector

All of it stays under HOME/demo, so a second run finds most things done. Nothing here is a shortcut: every
step calls what the command of that name calls.
"""

# Heavy imports stand inside the functions, so that `eocat --help` is quick.

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eocat.verify.edge.terminal import answer, needs, progress_bar
from eocat.verify.errors import EocatError
from eocat.verify.home import home

if TYPE_CHECKING:
    from eocat.catalog.database import Database
    from eocat.producer.output import Produced
    from eocat.verify.policy import Policy
    from eocat.verify.report import Outcome, Report

app = typer.Typer(add_completion=False)

KEY = "demo"
CHIP_SIZE, STRIDE = 112, 56
SEED = 20_261_120


class DemoFailed(EocatError):
    """A step did not end as it must: eocat itself is at fault, or something in its way."""

    exit_code = 1


@app.command()
def demo(
    scene: Annotated[
        Path | None, typer.Option(help="A scene, or a folder of scenes (default: an invented one).")
    ] = None,
    interval: Annotated[
        str | None, typer.Option("--datetime", help="When it was taken, where the files do not say.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the service.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the service.")] = 8765,
) -> None:
    """Show everything: from a scene to a verified hit, then two tampered ones refused."""
    with needs("producer"):
        import torch  # noqa: F401  # the missing extra is named before anything is begun
    with needs("serve"):
        import stac_fastapi.pgstac  # noqa: F401

    began = time.perf_counter()
    folder = home() / "demo"
    with _step(1, "scene") as say:
        scenes = _find_scene(scene, folder, say)
    with _step(2, "key") as say:
        policy = _trust(folder, say)
    with _step(3, "produce") as say:
        shards = _produce(scenes, folder, interval, say)
    with _step(4, "up") as say:
        database, url = _up(host, port, say)
    with _step(5, "register") as say:
        _register(database, shards, policy, say)
    with _step(6, "search") as say:
        _search(url, shards, say)
    with _step(7, "similar") as say:
        hit = _similar(url, shards[0], say)
    with _step(8, "verify") as say:
        _verify(url, shards[0], hit, folder, policy, say)
    with _step(9, "tamper: one byte of a shard") as say:
        _tamper_with_file(shards[0], folder, policy, say)
    with _step(10, "tamper: one value of a database vector") as say:
        _tamper_with_database(database, url, shards[0], policy, say)
    answer(f"\nAll of it took {time.perf_counter() - began:.1f} s. The catalogue goes on running at {url}")
    answer(f"  eocat similar '{_item(shards[0])}#0' --api {url}")
    answer(f"  eocat verify {_item(shards[0])} --api {url} --trust {folder / 'policy.json'}")
    answer(f"  eocat verify {folder / 'hit.json'} --trust {folder / 'policy.json'}")
    answer("  eocat down")


@contextmanager
def _step(number: int, title: str) -> Iterator[list[str]]:
    """One step: the lines put into what it gives are printed below its name and time."""
    lines: list[str] = []
    began = time.perf_counter()
    try:
        yield lines
    except EocatError:
        answer(f"{number:>2} {title:<40} FAILED")
        raise
    answer(f"{number:>2} {title:<40} {time.perf_counter() - began:5.1f} s")
    for line in lines:
        answer(f"     {line}")


def _find_scene(path: Path | None, folder: Path, say: list[str]) -> list[Any]:
    from eocat.producer.sources import find_scenes
    from eocat.producer.synthetic import write_scene

    if path is None:
        path = folder / "coast.tif"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_scene(path, seed=SEED)
        say.append("an invented coast, labelled synthetic in its Item")
    scenes = find_scenes([path])
    for scene in scenes:
        say.append(
            f"{scene.id}: {scene.width} × {scene.height} pixels, {len(scene.bands)} bands, {scene.crs}"
        )
    return scenes


def _trust(folder: Path, say: list[str]) -> "Policy":
    """The demo's own key and policy: the user's trust is left alone."""
    from eocat.producer.signer import key_names, new_key, read_key
    from eocat.verify.policy import draft_policy, read_policy

    key = read_key(KEY, None) if KEY in key_names() else new_key(KEY, None)
    policy_file = folder / "policy.json"
    if not policy_file.exists():
        policy_file.parent.mkdir(parents=True, exist_ok=True)
        policy_file.write_bytes(draft_policy({KEY: key.public}, ["*"], datetime.now(UTC), days=365))
    policy = read_policy(policy_file)
    say.append(f"ed25519 {policy.keys[0].public.key_id[:16]}…, trusted by {policy_file}")
    return policy


def _produce(scenes: list[Any], folder: Path, interval: str | None, say: list[str]) -> "list[Produced]":
    import os

    import torch

    from eocat.producer.encoders import bank_name
    from eocat.producer.interval import parse_interval
    from eocat.producer.output import write_collection
    from eocat.producer.passphrase import open_key
    from eocat.producer.produce_cli import Summary, produce_all
    from eocat.producer.run import prepare_run

    torch.set_num_threads(os.cpu_count() or 1)
    signer = open_key(KEY)
    run = prepare_run(
        scenes,
        collection=f"demo-{bank_name('exact', scenes[0].bands)}",
        out=folder / "shards",
        chip_size=CHIP_SIZE,
        stride=STRIDE,
        interval=parse_interval(interval) if interval else None,
        publisher="eocat demo",
        threads=os.cpu_count() or 1,
    )
    summary = Summary()
    produce_all(scenes, run, signer, summary)
    if summary.refused:
        raise summary.refused[-1][1]
    shards = summary.shards
    write_collection(run)
    rows, fresh = sum(shard.rows for shard in shards), sum(shard.fresh for shard in shards)
    say.append(f"{rows} chips → {run.encoder.name}, {run.encoder.dimension} × {run.encoder.dtype}")
    say.append(f"{len(shards)} signed shards in {run.folder}, {fresh} of them new")
    return shards


def _up(host: str, port: int, say: list[str]) -> "tuple[Database, str]":
    from eocat.catalog import serving
    from eocat.catalog.database import find_database
    from eocat.catalog.schema import migrate

    with progress_bar() as progress:
        database = find_database(home(), progress=progress)
        migrate(database, progress)
    running = serving.start(home(), host, port)
    kind = "embedded PostgreSQL" if database.embedded else "external PostgreSQL"
    say.append(f"{kind} with PostGIS, pgvector and pgSTAC; STAC API at {running.url}")
    return database, running.url


def _register(database: "Database", shards: "list[Produced]", policy: "Policy", say: list[str]) -> None:
    from eocat.catalog.admission import register

    for admission in register(database, [shard.folder for shard in shards], policy):
        if admission.exit_code:
            raise DemoFailed(f"{admission.folder} was refused: {admission.reason}")
        say.append(f"{admission.item}: {admission.status}, {admission.rows} rows")


def _search(url: str, shards: "list[Produced]", say: list[str]) -> None:
    from eocat.catalog.client import Catalogue

    for shard in shards:
        item = _document(shard)
        found = Catalogue(url).search(
            collections=[item["collection"]],
            bbox=item["bbox"],
            datetime=f"{item['properties']['start_datetime']}/{item['properties']['end_datetime']}",
            limit=100,
        )
        if item["id"] not in {feature["id"] for feature in found}:
            raise DemoFailed(f"pystac-client does not find {item['id']} by its box and time")
    say.append(f"pystac-client finds {len(shards)} of {len(shards)} items by box and time")


def _similar(url: str, shard: "Produced", say: list[str]) -> dict[str, Any]:
    from eocat.catalog.client import Catalogue

    answered = Catalogue(url).similar(_like_first_row(shard) | {"limit": 5})
    for feature in answered["features"]:
        row = feature["properties"]
        say.append(f"{row['distance']:.6f}  {row['collection']}/{row['item']}#{row['row']}")
    hit: dict[str, Any] = answered["features"][0]
    if (hit["properties"]["item"], hit["properties"]["row"]) != (shard.item, 0):
        raise DemoFailed("the nearest neighbour of a chip is not the chip itself")
    say.append(f"found by {answered['method']} search among {answered['candidates']} candidates")
    return hit


def _verify(
    url: str, shard: "Produced", hit: dict[str, Any], folder: Path, policy: "Policy", say: list[str]
) -> None:
    from tempfile import TemporaryDirectory

    from eocat.verify.check import check
    from eocat.verify.edge.fetch import fetch_item
    from eocat.verify.hit import check_hit, format_hit
    from eocat.verify.report import Outcome

    saved = folder / "hit.json"
    saved.write_bytes(format_hit(hit))
    report = check_hit(saved.read_bytes(), policy, target=str(saved), now=datetime.now(UTC))
    _expect(report, Outcome.VERIFIED, say)
    with TemporaryDirectory() as downloads:
        address = f"{url}/collections/{hit['properties']['collection']}/items/{shard.item}"
        report = check(fetch_item(address, Path(downloads)), policy, now=datetime.now(UTC))
    _expect(report, Outcome.VERIFIED, say)


def _tamper_with_file(shard: "Produced", folder: Path, policy: "Policy", say: list[str]) -> None:
    import shutil

    from eocat.verify.check import check
    from eocat.verify.evidence import read_folder
    from eocat.verify.report import Outcome

    copy = folder / "tampered"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(shard.folder, copy)
    data = bytearray((copy / "embeddings.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "embeddings.parquet").write_bytes(data)
    say.append(f"bit 0 of byte {len(data) // 2} of {copy / 'embeddings.parquet'} is flipped")
    _expect(check(read_folder(copy), policy, now=datetime.now(UTC)), Outcome.TAMPERED, say)


def _tamper_with_database(
    database: "Database", url: str, shard: "Produced", policy: "Policy", say: list[str]
) -> None:
    """An insider edits a vector; the service answers with it, and the hit's proof fails. It is put back."""
    import json

    from eocat.catalog.client import Catalogue
    from eocat.verify.hit import check_hit
    from eocat.verify.report import Outcome

    collection = _document(shard)["collection"]
    place = [collection, shard.item, collection]
    select = """SELECT c.shard_id, c.half::text FROM eocat.chip c JOIN eocat.shard s USING (shard_id)
                WHERE s.collection = %s AND s.item_id = %s AND c.collection = %s AND c.row = 0"""
    update = "UPDATE eocat.chip SET half = %s::halfvec WHERE collection = %s AND shard_id = %s AND row = 0"
    with database.connect(autocommit=True) as connection:
        shard_id, original = connection.execute(select, place).fetchone() or (None, "")
        values = json.loads(original)
        values[0] += 0.0625
        connection.execute(update, [json.dumps(values), collection, shard_id])
        say.append(f"value 0 of row 0 is now {values[0]:.6g}")
        try:
            answered = Catalogue(url).similar(_like_first_row(shard))
        finally:
            connection.execute(update, [original, collection, shard_id])
    hit = json.dumps(answered["features"][0]).encode()
    _expect(check_hit(hit, policy, target="the hit", now=datetime.now(UTC)), Outcome.TAMPERED, say)
    say.append("the value is put back")


def _expect(report: "Report", outcome: "Outcome", say: list[str]) -> None:
    failed = next((step.text for step in report.steps if step.outcome is report.outcome), "")
    say.append(f"{report.target}  {report.outcome.name} (exit {report.outcome.value})")
    say.append(f"  {failed}" if failed else f"  level {report.level}")
    if report.outcome is not outcome:
        raise DemoFailed(
            f"{report.target} is {report.outcome.name}, it must be {outcome.name}:\n{report.to_text()}"
        )


def _like_first_row(shard: "Produced") -> dict[str, Any]:
    """The request for the row nearest to the shard's own first row, with its proof."""
    collection = _document(shard)["collection"]
    like = {"collection": collection, "item": shard.item, "row": 0}
    return {"like": like, "collections": [collection], "limit": 1, "include_proof": True}


def _document(shard: "Produced") -> dict[str, Any]:
    from eocat.verify import canonical

    document: dict[str, Any] = canonical.parse((shard.folder / "item.json").read_bytes(), what="item")
    return document


def _item(shard: "Produced") -> str:
    return f"{_document(shard)['collection']}/{shard.item}"
