"""Every format that the verifier reads: what it prints is read again, and nothing has a second spelling.

FORMATS has a line for each parser of the room. For each, Hypothesis takes good examples apart (flips, cuts,
insertions, repeats, splices of two): the parser refuses what comes out with Malformed (or ValueError, where
pydantic asks it), or what it read, printed again, is
    `once`     the very bytes that were read: the format has one spelling
    `stable`   read as the same again: JSON that others print, or text with comments
    `only`     not printed by this room; then it is refused or read, and nothing else
An inventory at the end fails for a parser without a line.
"""

import ast
import base64
import functools
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lineage.make_product import manifest
from lineage.make_trace import full_product, make_identity, make_trace
from signed_world import World, make_world

from eocat.verify import bundle as bundles
from eocat.verify import canonical, certificate, digest, dsse, events, geometry, hit, keys, layout, policy
from eocat.verify import root as roots
from eocat.verify import statement as statements
from eocat.verify.errors import Malformed
from eocat.verify.evidence import split_envelopes
from eocat.verify.lineage import manifest as manifests
from eocat.verify.lineage import trace as traces
from eocat.verify.log import (
    absence,
    checkpoint,
    cosignature,
    entry,
    heads,
    item_proof,
    note,
    proof,
    quorum,
    tiles,
)
from eocat.verify.projection import project
from eocat.verify.receipt import parse_receipt

ROOM = Path(__file__).resolve().parents[2] / "verify" / "eocat" / "verify"
VECTORS = Path(__file__).resolve().parents[1] / "vectors"


@dataclass(frozen=True)
class Format:
    """parser: its name in the room. examples: good bytes, from the world."""

    parser: str
    parse: Callable[[bytes], Any]
    print: Callable[[Any], bytes] | None
    examples: Callable[[World], list[bytes]]
    spelling: Literal["once", "stable", "only"] = "once"

    @property
    def name(self) -> str:
        return self.parser


def text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(str(error)) from None


def dumped(model: Any) -> bytes:
    return canonical.encode(model.model_dump(by_alias=True))


def vectors(kind: str, *path: str | int) -> list[Any]:
    """A member of every good vector of that kind."""
    found = []
    for file in sorted((VECTORS / "good").glob(f"{kind}*.json")):
        value = json.loads(file.read_bytes())
        for step in path:
            value = value[step]
        found.append(value)
    assert found, kind
    return found


def envelopes(world: World) -> list[bytes]:
    return [line for state in world.honest for line in state.lines]


def payloads(world: World) -> list[bytes]:
    return [dsse.parse_envelope(line).payload for line in envelopes(world)]


def entries(world: World) -> list[bytes]:
    return [entry.format_entry(entry.entry_of(line)) for line in envelopes(world)]


def notes(world: World) -> list[bytes]:
    return [one.encode() for one in world.notes]


def log_policy(world: World) -> bytes:
    found: str = json.loads(world.logged)["log"]["policy"]
    return found.encode()


def tlog_proofs(world: World) -> list[bytes]:
    found = []
    for state in world.honest:
        document = item_proof.parse_item_proof(state.files["log-proof.json"])
        for seq, line in enumerate(state.lines):
            made = proof.proof_of_event(document, entry.format_entry(entry.entry_of(line)), seq)
            found.append(proof.format_proof(made))
    return found


def receipts(_: World) -> list[bytes]:
    found = []
    for vector in [value for values in vectors("history-attest", "envelopes") for value in values]:
        predicate = json.loads(dsse.parse_envelope(vector.encode()).payload)["predicate"]
        if predicate["event"] == "ATTEST":
            value = {"type": "eocat-receipt/v1", "item": predicate["item"], "create": predicate["create"]}
            found.append(canonical.encode(value | {"recompute": predicate["recompute"]}))
    assert found
    return found


def signed_trace(_: World) -> list[bytes]:
    made = [make_trace(), make_trace(full_product())]
    return [
        json.dumps([one.model_dump() for one in made]).encode(),
        json.dumps(made[0].model_dump()).encode(),
    ]


def polygons(world: World) -> list[bytes]:
    square = json.loads(world.honest[0].files["item.json"])["geometry"]
    two = {"type": "MultiPolygon", "coordinates": [square["coordinates"], square["coordinates"]]}
    return [geometry.format_wkb(square), geometry.format_wkb(two)]


def shards(world: World) -> list[bytes]:
    return [world.honest[0].files["embeddings.parquet"]]


def pages(data: bytes) -> list[Any]:
    stream = io.BytesIO(data)
    groups = layout.read_row_groups(stream)
    return [
        page for group in groups for column in group.columns for page in layout.read_pages(stream, column)
    ]


def moments(_: World) -> list[bytes]:
    return [
        b"2024-05-01T09:30:31Z",
        b"2024-05-01T09:30:31.25Z",
        b"0001-01-01T00:00:00Z",
        b"9999-12-31T23:59:59.999999Z",
    ]


def cosignatures(_: World) -> list[bytes]:
    return [
        cosignature.format_cosignature(time_s, bytes(range(64)))
        for time_s in (0, 1_700_000_000, (1 << 63) - 1)
    ]


def hit_in(data: bytes) -> Any:
    """The Feature, if it is a hit: printing one refuses what no verifier would read."""
    value = canonical.parse(data, limit_bytes=hit.MAX_HIT_BYTES)
    hit.format_hit(value)
    return value


def cosigned_at(body: bytes) -> tuple[int, bytes]:
    if (time_s := cosignature.cosignature_time(body)) is None:
        raise Malformed("no cosignature")
    return time_s, body[8:]


FORMATS = [
    Format(
        "parse",
        canonical.parse,
        canonical.encode,
        lambda w: [w.logged, w.honest[0].files["item.json"]],
        "stable",
    ),
    Format("parse_canonical", lambda b: canonical.parse_canonical(b, what="x"), canonical.encode, payloads),
    Format(
        "decode_base64",
        lambda b: keys.decode_base64(text(b), what="x"),
        base64.b64encode,
        lambda _: [b"", b"AA==", b"AAA=", b"+/+/", base64.b64encode(bytes(range(64)))],
    ),
    Format(
        "parse_key",
        lambda b: keys.parse_key(text(b)),
        lambda v: keys.format_key(v).encode(),
        lambda _: [one.encode() for one in vectors("key", "key")],
    ),
    Format("parse_envelope", dsse.parse_envelope, dsse.format_envelope, envelopes),
    Format(
        "split_envelopes",
        split_envelopes,
        lambda v: b"".join(one + b"\n" for one in v),
        lambda w: [state.files["attestation.jsonl"] for state in w.honest],
    ),
    Format("parse_event", events.parse_event, events.format_event, payloads),
    Format("parse_statement", statements.parse_statement, dumped, lambda w: payloads(w)[:1]),
    Format("parse_receipt", parse_receipt, dumped, receipts),
    Format(
        "parse_time",
        lambda b: statements.parse_time(text(b)),
        lambda v: statements.format_time(v).encode(),
        moments,
    ),
    Format("parse_wkb", geometry.parse_wkb, geometry.format_wkb, polygons),
    Format(
        "parse_multihash",
        lambda b: digest.parse_multihash(text(b)),
        lambda v: digest.format_multihash(*v).encode(),
        lambda _: [digest.format_multihash("sha2-256", "ab" * 32).encode(), b"1e20" + b"cd" * 32],
    ),
    Format("parse_policy", policy.parse_policy, dumped, lambda w: [w.logged, w.plain], "stable"),
    Format(
        "parse_root",
        roots.parse_root,
        roots.format_root,
        lambda w: [w.trust["1.root.json"], w.trust["2.root.json"]],
    ),
    Format(
        "parse_bundle",
        bundles.parse_bundle,
        bundles.format_bundle,
        lambda w: [state.bundle for state in w.honest],
    ),
    Format("format_hit", hit_in, hit.format_hit, lambda w: w.hits, "stable"),
    Format("parse_note", note.parse_note, note.format_note, notes),
    Format(
        "parse_vkey",
        lambda b: note.parse_vkey(text(b)),
        lambda v: note.format_vkey(v).encode(),
        lambda w: [
            line.split(b" ")[-1]
            for line in log_policy(w).split(b"\n")
            if line.startswith((b"log", b"witness"))
        ],
    ),
    Format(
        "parse_decimal",
        lambda b: note.parse_decimal(text(b), limit=1 << 40, what="x"),
        lambda v: str(v).encode(),
        lambda _: [b"0", b"7", b"1099511627776", b"10"],
    ),
    Format(
        "parse_checkpoint",
        lambda b: checkpoint.parse_checkpoint(text(b)),
        lambda v: checkpoint.format_checkpoint(v).encode(),
        lambda w: [note.parse_note(one).text.encode() for one in notes(w)],
    ),
    Format("cosignature_time", cosigned_at, lambda v: cosignature.format_cosignature(*v), cosignatures),
    Format("parse_entry", entry.parse_entry, entry.format_entry, entries),
    Format(
        "parse_heads",
        heads.parse_heads,
        heads.format_heads,
        lambda _: [heads.format_heads(heads.Heads(count, "ab" * 32)) for count in (0, 1, 70_000)],
    ),
    Format(
        "parse_tile_path",
        lambda b: tiles.parse_tile_path(text(b)),
        lambda v: v.path.encode(),
        lambda _: [
            b"tile/0/000",
            b"tile/0/x001/x234/067.p/112",
            b"tile/entries/x001/000",
            b"tile/63/255.p/1",
        ],
    ),
    Format(
        "tiles.parse_bundle",
        lambda b: tiles.parse_bundle(b, 3),
        tiles.format_bundle,
        lambda w: [tiles.format_bundle(entries(w)[:3]), tiles.format_bundle([b"", b"a", b"bc"])],
    ),
    Format(
        "parse_log_policy",
        quorum.parse_log_policy,
        quorum.format_log_policy,
        lambda w: [log_policy(w)],
        "stable",
    ),
    Format(
        "parse_item_proof",
        item_proof.parse_item_proof,
        item_proof.format_item_proof,
        lambda w: [state.files["log-proof.json"] for state in w.honest],
        "stable",
    ),
    Format(
        "parse_absence",
        absence.parse_absence,
        absence.format_absence,
        lambda _: [json.dumps(one).encode() for one in vectors("absence", "absence")],
        "stable",
    ),
    Format("parse_proof", proof.parse_proof, proof.format_proof, tlog_proofs),
    Format(
        "parse_traces",
        traces.parse_traces,
        lambda v: json.dumps([one.model_dump() for one in v]).encode(),
        signed_trace,
        "stable",
    ),
    Format(
        "project",
        lambda b: project(canonical.parse(b)),
        None,
        lambda w: [state.files["item.json"] for state in w.honest],
        "only",
    ),
    Format(
        "parse_manifest",
        manifests.parse_manifest,
        None,
        lambda _: [manifest({"a/b.jp2": b"x", "c.xml": b"<c/>"})],
        "only",
    ),
    Format(
        "parse_certificate",
        certificate.parse_certificate,
        None,
        lambda _: [make_identity().certificate],
        "only",
    ),
    Format("read_row_groups", lambda b: layout.read_row_groups(io.BytesIO(b)), None, shards, "only"),
    Format("read_pages", pages, None, shards, "only"),
]

OTHERWISE = {
    "parse_bundle": "two formats: bundle.py and log/tiles.py, each with a line",
    "from_microseconds": "a number, not a text",
    "read_folder": "gathers files, each parsed by another",
    "read_item_file": "the same",
    "read_envelopes": "split_envelopes on a file",
    "read_limited": "bytes as they are",
    "read_policy": "parse_policy on a file",
    "read_whole": "a file of a SAFE product, as it is",
}


@functools.cache
def world() -> World:
    with tempfile.TemporaryDirectory(prefix="eocat-formats-") as folder:
        return make_world(Path(folder) / "world")


@functools.cache
def examples(name: str) -> list[bytes]:
    (found,) = [one for one in FORMATS if one.name == name]
    return found.examples(world())


@st.composite
def taken_apart(draw: st.DrawFn, name: str) -> bytes:
    """A good example after one to three changes."""
    good = examples(name)
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 3))):
        at, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        match draw(st.integers(0, 5)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[at : min(end, at + 40)]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case 3:
                data[at:at] = data[at : min(end, at + 40)]
            case 4:
                data[at:at] = draw(
                    st.sampled_from([b" ", b"\n", b"\r", b"\0", b"0", b"+", b"e0", b",", b"\xc2\xa0", b'""'])
                )
            case _:
                other = draw(st.sampled_from(good))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@pytest.mark.parametrize("form", FORMATS, ids=[one.name for one in FORMATS])
def test_good_examples_are_printed_as_they_were_read(form: Format) -> None:
    for data in examples(form.name):
        value = form.parse(data)
        if form.print is None:
            continue
        printed = form.print(value)
        assert form.parse(printed) == value
        assert form.spelling == "stable" or printed == data


@pytest.mark.parametrize("form", FORMATS, ids=[one.name for one in FORMATS])
def test_whatever_is_read_has_this_spelling(form: Format) -> None:
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(taken_apart(form.name), st.binary(max_size=80)))
    def holds(data: bytes) -> None:
        try:
            value = form.parse(data)
        except (Malformed, ValueError):
            return
        if form.print is None:
            return
        printed = form.print(value)
        assert form.parse(printed) == value
        assert form.spelling == "stable" or printed == data

    holds()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53) + 1, (1 << 53) - 1) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
@settings(deadline=None)
def test_whatever_has_a_canonical_form_is_read_again(value: Any) -> None:
    """`encode` prints nothing that `parse` refuses, but for text in another form than NFC."""
    try:
        data = canonical.encode(value)
        canonical.parse(json.dumps(strings_of(value)).encode())
    except Malformed:
        return
    assert canonical.encode(canonical.parse(data)) == data


def strings_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for member in value.values() for text in strings_of(member))]
    if isinstance(value, list):
        return [text for member in value for text in strings_of(member)]
    return [value] if isinstance(value, str) else []


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_time_is_read_again(moment: datetime) -> None:
    assert statements.parse_time(statements.format_time(moment)) == moment


def test_every_parser_of_the_room_has_a_line() -> None:
    """The edge reads what people name, and hands on what it reads to these."""
    found = set[str]()
    for file in sorted(ROOM.rglob("*.py")):
        if "edge" not in file.parts:
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith(
                    ("parse", "decode_", "read_", "split_", "from_")
                ):
                    found.add(node.name)
    assert len(found) > 25
    lines = {form.parser.rpartition(".")[2] for form in FORMATS}
    assert found - lines - set(OTHERWISE) == set(), "a parser without a line in FORMATS"
    assert set(OTHERWISE) - found == set()
