"""The commands that ask a catalogue: `eocat search`, `similar` and `history`."""

# Heavy imports (numpy, pystac-client) stand inside the commands, so that `--help` is quick.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eocat.verify.edge.cli import DEFAULT_API
from eocat.verify.edge.terminal import answer_json, note
from eocat.verify.errors import ConfigError, InputError, UsageError

from .options import Json
from .table import table

if TYPE_CHECKING:
    from .client import Catalogue

app = typer.Typer()

Api = Annotated[str, typer.Option(help="The catalogue that is asked.", envvar="EOCAT_API")]
Collections = Annotated[
    list[str] | None, typer.Option("--collection", "-c", help="Only in this collection. Repeatable.")
]
Bbox = Annotated[
    str | None, typer.Option(help="west,south,east,north in degrees; west > east crosses ±180°.")
]
Datetime = Annotated[
    str | None, typer.Option(help="RFC 3339 time or interval, such as 2024-05-01T00:00:00Z/..")
]
Filter = Annotated[
    str | None,
    typer.Option("--filter", help="CQL2 text on item properties, such as \"platform = 'sentinel-2a'\"."),
]


Intersects = Annotated[
    Path | None, typer.Option(help="File with a GeoJSON geometry or features; excludes --bbox.")
]
Csv = Annotated[bool, typer.Option("--csv", help="A table with a heading, as CSV.")]
Parquet = Annotated[Path | None, typer.Option(help="Write a GeoParquet file.")]


@app.command()
def search(
    collections: Collections = None,
    bbox: Bbox = None,
    intersects: Intersects = None,
    datetime: Datetime = None,
    filter_: Filter = None,
    sortby: Annotated[
        str | None, typer.Option(help="Properties with commas between, each with - to go downwards.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Items at most.")] = 10,
    api: Api = DEFAULT_API,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Find items by place, time, collection and properties."""
    from .client import Catalogue

    items = Catalogue(api).search(
        collections=collections,
        **_area(bbox, intersects),
        datetime=datetime,
        filter=filter_,
        sortby=sortby.split(",") if sortby else None,
        limit=limit,
    )
    if parquet is not None:
        items.write_parquet(parquet)
        note(f"wrote {len(items)} items to {parquet}")
    if as_json:
        answer_json({"type": "FeatureCollection", "features": items})
        return
    rows = [
        (
            f"{item['collection']}/{item['id']}",
            item["properties"].get("datetime") or item["properties"].get("start_datetime") or "",
            " ".join(f"{value:g}" for value in item.get("bbox", [])),
            str(item["properties"].get("table:row_count", "")),
        )
        for item in items
    ]
    if parquet is None:
        table(("item", "time", "bbox", "rows"), rows, as_csv=as_csv)


@app.command()
def similar(
    like: Annotated[
        str | None,
        typer.Argument(
            metavar="LIKE",
            help="collection/item#row, LON,LAT (after -- if negative), a .npy or .json vector, or a picture.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="Instead of LIKE: what the chips show, in English, where the catalogue can encode it."
        ),
    ] = None,
    collections: Collections = None,
    bbox: Bbox = None,
    intersects: Intersects = None,
    datetime: Datetime = None,
    filter_: Filter = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Rows at most.")] = 10,
    exact: Annotated[
        bool | None, typer.Option("--exact/--index", help="Scan, or use the index (default: as is best).")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write one hit with its proof, for 'eocat verify'.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, max=100, help="Which hit to save.")] = 1,
    api: Api = DEFAULT_API,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Find the rows nearest to a row, a point, a vector, a picture or a text."""
    from .ask import read_like
    from .client import Catalogue

    if (like is None) == (text is None):
        raise UsageError("name either LIKE or --text", hint='eocat similar --text "a harbour"')
    request: dict[str, Any] = {"like": {"text": text} if like is None else read_like(like), "limit": limit}
    options = {
        "collections": collections,
        **_area(bbox, intersects),
        "datetime": datetime,
        "filter": filter_,
        "exact": exact,
    }
    request |= {name: value for name, value in options.items() if value is not None}
    if save is not None:
        request |= {"include_proof": True, "limit": max(rank, min(limit, 100))}
    found = Catalogue(api).similar(request)
    features = found.features
    if save is not None:
        if len(features) < rank:
            raise InputError(f"there are {len(features)} hits, so none of rank {rank} to save")
        _save(save, features[rank - 1], Catalogue(api))
        note(f"saved hit {rank} to {save}: check it with 'eocat verify {save}'")
    if parquet is not None:
        found.write_parquet(parquet)
        note(f"wrote {len(features)} rows to {parquet}")
    if as_json:
        answer_json(found)
        return
    rows = []
    for place, feature in enumerate(features, 1):
        row = feature["properties"]
        distance = "" if row["distance"] is None else f"{row['distance']:.6f}"
        time = row["datetime"] or f"{row['start_datetime']}/{row['end_datetime']}"
        rows.append(
            (str(place), distance, f"{row['collection']}/{row['item']}#{row['row']}", time, feature["id"])
        )
    if parquet is None:
        table(("rank", "distance", "row", "time", "chip"), rows, as_csv=as_csv)
    note(f"{found['method']}, {found['candidates']} candidates, space {found['space'][:16]}…")


@app.command()
def history(
    item: Annotated[str, typer.Argument(metavar="COLLECTION/ITEM")],
    api: Api = DEFAULT_API,
    as_json: Json = False,
) -> None:
    """Show an item's signed events as the catalogue tells them; 'eocat verify' checks them."""
    from eocat.verify import canonical
    from eocat.verify.dsse import parse_envelope
    from eocat.verify.events import parse_event

    from .client import Catalogue

    events = []
    for event in Catalogue(api).history(item)["events"]:
        envelope = parse_envelope(canonical.encode(event["envelope"]))
        statement = parse_event(envelope.payload)
        events.append({
            "seq": statement.predicate.seq,
            "event": statement.predicate.event,
            "claimedAt": statement.predicate.claimedAt,
            "actor": statement.predicate.actor,
            "recordedAt": event["recorded_at"],
            "payloadSha256": envelope.payload_digest,
            "keyIds": [signature.key_id for signature in envelope.signatures],
            "statement": statement.model_dump(by_alias=True),
        })  # fmt: skip
    if as_json:
        answer_json(events)
        return
    columns = ("seq", "event", "claimedAt", "actor", "payloadSha256")
    table(columns, [tuple(str(event[column]) for column in columns) for event in events])


def _area(bbox: str | None, intersects: Path | None) -> dict[str, Any]:
    """The one of the two that was given, as both kinds of search take it."""
    from .ask import read_area, read_numbers

    if bbox is not None and intersects is not None:
        raise UsageError("--bbox and --intersects exclude each other")
    return {
        "bbox": None if bbox is None else read_numbers(bbox, "--bbox"),
        "intersects": None if intersects is None else read_area(intersects),
    }


def _save(path: Path, hit: dict[str, Any], catalogue: "Catalogue") -> None:
    """Write the hit with its item's log proof, if the catalogue has that and it is of the same moment."""
    from eocat.verify.hit import format_hit, with_log_proof

    place = hit["properties"]
    try:
        logged = with_log_proof(hit, catalogue.log_proof(place["collection"], place["item"]))
    except UsageError:  # 404: a catalogue without a log
        logged = None
    if logged is None:
        note("the hit is saved without a log proof: the catalogue's log does not hold all its events yet")
    try:
        path.write_bytes(format_hit(logged or hit))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
