"""The command `eocat import`."""

# Heavy imports (pyarrow, rasterio, pyproj) stand inside the command, so that `--help` is quick.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, note, progress_bar
from eocat.verify.errors import InputError, UsageError

if TYPE_CHECKING:
    from .importing.asked import Import, Options
    from .importing.slab import Opened
    from .output import Produced

app = typer.Typer(no_args_is_help=True, add_completion=False)

Format = Literal["majortom", "clay", "earth-index", "tessera", "majortom-cells", "parquet", "npy"]


@app.command("import")
def import_(
    layout: Annotated[Format, typer.Argument(metavar="FORMAT", help="Layout of the files.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files of vectors.")],
    collection: Annotated[str, typer.Option(help="Id of the collection that the shards belong to.")],
    out: Annotated[Path, typer.Option(help="Where COLLECTION/ITEM folders are written.")],
    key: Annotated[str, typer.Option(help="Name of the signing key.")],
    encoder: Annotated[
        str | None, typer.Option(help="Encoder that the files are said to come from (default: by the file).")
    ] = None,
    encoder_version: Annotated[str | None, typer.Option(help="Its version.")] = None,
    interval: Annotated[
        str | None, typer.Option("--datetime", help="Time or interval, where the files do not say.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="NAME=COLUMN,…: id, embedding, geometry, lon, lat, start, end …"),
    ] = None,
    crs: Annotated[
        str | None, typer.Option(help="What the coordinates are in, whatever is declared.")
    ] = None,
    footprint: Annotated[
        int | None, typer.Option(min=1, help="Side in metres of the squares around points.")
    ] = None,
    transpose: Annotated[
        bool, typer.Option("--transpose", help="Put Major TOM's transposed footprints right.")
    ] = False,
    drop: Annotated[
        str | None, typer.Option(help="Leave out rows with these faults: zero, nan, duplicate.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Of dense grids, each n-th pixel of each n-th line.")] = 1,
    grid: Annotated[Path | None, typer.Option(help="GeoTIFF that says where a tile's pixels lie.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV or Parquet: places of an array's rows.")] = None,
    registry: Annotated[Path | None, typer.Option(help="Lines 'path sha256' of the files.")] = None,
    shape: Annotated[str | None, typer.Option(help="H,W,D of the cells in flat files.")] = None,
    licence: Annotated[str, typer.Option("--licence", "--license", help="SPDX id of the vectors.")] = "other",
    publisher: Annotated[str | None, typer.Option(help="Who publishes (default: the key's name).")] = None,
    source_prefix: Annotated[
        str | None, typer.Option(help="Public address under which the files lie.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same facts as JSON.")] = False,
) -> None:
    """Turn published embeddings into signed shards, without recomputing them; the statement says so.

    A file that cannot be used is reported and the import goes on; run again, it takes up the rest.
    """
    with needs("producer"):
        from .importing.asked import Options

    from .interval import parse_interval
    from .passphrase import open_key

    options = Options(
        columns=_pairs(columns),
        crs=crs,
        footprint_metres=footprint,
        interval=parse_interval(interval) if interval else None,
        transpose=transpose,
        drop=frozenset(drop.split(",")) if drop else frozenset(),
        every=every,
        grid=grid,
        table=table,
        registry=registry,
        shape=_shape(shape),
    )
    signer = open_key(key)
    done: list[Produced] = []
    failed: list[InputError] = []
    asked: Import | None = None
    for path in paths:
        try:
            opened, files = _open(path, layout, options)
            asked = _asked(
                opened, layout, options, asked, name=encoder, version=encoder_version, collection=collection,
                out=out, publisher=publisher or signer.name, licence=licence, source_prefix=source_prefix,
            )  # fmt: skip
            done += _imported(opened, files, asked, signer)
        except InputError as error:
            failed.append(error)
            note(f"eocat: error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
    if asked and done:
        from .importing.shard import write_import_documents

        write_import_documents(asked, kind="pixel" if layout in ("tessera", "majortom-cells") else "chip")
    _show(done, as_json)
    if failed:
        note(f"{len(failed)} of {len(paths)} files could not be used")
        raise typer.Exit(failed[-1].exit_code)


def _open(path: Path, layout: Format, options: "Options") -> "tuple[Opened, list[Path]]":
    from .importing.arrays import open_cells, open_rows, open_tessera
    from .importing.parquet import open_table

    if not path.is_file():
        raise InputError(f"{path} is not there or no file", hint="name the files of vectors themselves")
    openers: dict[str, Any] = {"tessera": open_tessera, "majortom-cells": open_cells, "npy": open_rows}
    if layout in openers:
        opened: tuple[Opened, list[Path]] = openers[layout](path, options)
        return opened
    return open_table(path, layout, options), [path]


def _asked(
    opened: "Opened", layout: str, options: "Options", before: "Import | None", *, name: str | None,
    version: str | None, collection: str, out: Path, publisher: str, licence: str, source_prefix: str | None,
) -> "Import":  # fmt: skip
    """The import of this file, which must be of the same space as the ones before."""
    from .importing.asked import CLAIM, Import, ImportRecipe, claimed_encoder
    from .run import check_collection

    facts = opened.facts
    emb = facts.emb
    model = emb.get("model", {}) if isinstance(emb.get("model"), dict) else {}
    claimed = name or str(model.get("id", "")) or ("tessera" if layout == "tessera" else "")
    if not claimed:
        raise UsageError(
            f"{facts.path.name} does not say which encoder made its vectors", hint="name it: --encoder NAME"
        )
    stated = licence if licence != "other" else str(emb.get("license", "other"))
    encoder = claimed_encoder(
        claimed, version or str(model.get("version", "unknown")), facts.dimension, licence="other"
    )
    recipe = ImportRecipe(layout, encoder, {"claim": CLAIM}, options)
    if before and before.recipe.space != recipe.space:
        raise InputError(
            f"{facts.path.name} is of another space than the files before it: {encoder.name} "
            f"{encoder.version}, {facts.dimension} values, against {before.recipe.encoder.name} "
            f"{before.recipe.encoder.version}, {before.recipe.encoder.config['dimension']}",
            hint="vectors of two spaces cannot be compared: import them into two collections",
        )
    asked = Import(recipe, collection, out.absolute(), publisher, stated, source_prefix)
    check_collection(asked.folder, recipe.space)
    return asked


def _imported(opened: "Opened", files: list[Path], asked: "Import", signer: Any) -> "list[Produced]":
    from .importing.shard import import_file

    with progress_bar() as advance:
        return list(import_file(opened, files, asked, signer, advance))


def _pairs(text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    if any(not (name and equals and column) for name, equals, column in pairs):
        raise UsageError(
            f"columns {text!r} are not NAME=COLUMN,…", hint="--columns embedding=emb,geometry=geom"
        )
    return {name: column for name, _, column in pairs}


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise UsageError(f"shape {text!r} is not H,W,D", hint="--shape 133,133,320")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _show(done: "list[Produced]", as_json: bool) -> None:
    if as_json:
        answer_json(
            [
                {"item": p.item, "folder": str(p.folder), "rows": p.rows, "leftOut": p.left_out,
                 "rowRoot": p.root, "fresh": p.fresh}
                for p in done
            ]
        )  # fmt: skip
        return
    for p in done:
        state = "imported" if p.fresh else "was there already"
        left_out = f", {p.left_out} rows left out" if p.left_out else ""
        answer(f"{p.folder}  {p.rows} rows  root {p.root[:16]}…  {state}{left_out}")
