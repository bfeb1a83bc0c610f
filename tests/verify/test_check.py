"""check.py on a shard's folder: bytes, rows and Item (attacks 1 to 16), and what leads out of it."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judged import (
    FORGED,
    INCOMPLETE,
    MALFORMED,
    TAMPERED,
    UNAVAILABLE,
    UNSIGNED,
    UNTRUSTED,
    VERIFIED,
    envelope,
    flip,
    outcome,
)
from make_shard import (
    NOW,
    PRODUCER,
    STRANGER,
    Made,
    leaves_of,
    make_rows,
    make_shard,
    policy,
    table_of,
    write_parquet,
)

from eocat.verify.check import check
from eocat.verify.dsse import format_envelope
from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.evidence import read_folder
from eocat.verify.merkle import build_tiles, node_hash
from eocat.verify.report import Outcome


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "s2" / "scene")


# --- what is right


def test_an_untouched_shard_verifies(made: Made) -> None:
    report = made.check()
    assert (report.outcome, report.level) == (VERIFIED, 2)
    assert report.statement is not None
    assert report.statement.predicate.item == "s2/scene"
    assert made.check(require=3).outcome is INCOMPLETE


@pytest.mark.parametrize(
    ("count", "kind"), [(1, {}), (2, {"dtype": "float32"}), (300, {}), (9, {"dimension": 1})]
)
def test_shards_of_other_shapes_verify(tmp_path: Path, count: int, kind: dict[str, Any]) -> None:
    assert make_shard(tmp_path / "scene", make_rows(count, **kind), row_group_size=128).exit_code == 0


def test_a_shard_without_attestation_is_unsigned(made: Made) -> None:
    item = made.item
    del item["assets"]["attestation"]
    made.write_item(item)
    assert outcome(made) is UNSIGNED


def test_an_attestation_that_is_named_and_not_there_is_unavailable(made: Made) -> None:
    made.attestation.unlink()
    assert outcome(made) is UNAVAILABLE


@pytest.mark.parametrize("key", ["embeddings", "row-hashes", "thumbnail"])
def test_a_file_that_is_not_there_is_unavailable_not_tampered(made: Made, key: str) -> None:
    made.file(key).unlink()
    report = made.check()
    assert (report.outcome, report.level) == (UNAVAILABLE, 0)


# --- 1 to 5: bytes


@pytest.mark.parametrize("key", ["embeddings", "row-hashes", "thumbnail"])
def test_attack_01_a_flipped_bit(made: Made, key: str) -> None:
    size = made.file(key).stat().st_size
    for place in (0, size // 2, size - 1):
        flip(made.file(key), place)
        report = made.check()
        assert (report.outcome, report.level) == (TAMPERED, 0)
        flip(made.file(key), place)
    assert outcome(made) is VERIFIED


@pytest.mark.parametrize("key", ["embeddings", "row-hashes", "thumbnail"])
def test_attack_02_truncated_or_appended(made: Made, key: str) -> None:
    whole = made.file(key).read_bytes()
    for data in (whole[:-1], whole + b"\x00", b""):
        made.file(key).write_bytes(data)
        assert outcome(made) is TAMPERED


def test_attack_03_the_same_rows_in_another_encoding(made: Made) -> None:
    for options in (
        {"compression": "snappy", "use_dictionary": True},
        {"row_group_size": 2},
        {"data_page_version": "2.0"},
    ):
        write_parquet(made.rows, made.file("embeddings"), **options)
        assert outcome(made) is TAMPERED
        assert outcome(made, rows_only=True) is VERIFIED


def test_attack_03_rows_only_still_takes_no_other_row(made: Made) -> None:
    write_parquet([*made.rows[:-1], replace(made.rows[-1], id="other")], made.file("embeddings"))
    assert outcome(made, rows_only=True) is TAMPERED


def test_attack_04_two_assets_swapped(made: Made) -> None:
    first, second = made.file("thumbnail"), made.file("row-hashes")
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert outcome(made) is TAMPERED


def test_attack_04_two_hrefs_swapped(made: Made) -> None:
    item = made.item
    assets = item["assets"]
    assets["thumbnail"]["href"], assets["row-hashes"]["href"] = "./row-hashes.bin", "./thumbnail.png"
    made.write_item(item)
    assert outcome(made) is TAMPERED


@pytest.mark.parametrize(
    "name", ["embeddings.parquet", "row-hashes.bin", "thumbnail.png", "attestation.jsonl", "item.json"]
)
def test_attack_05_a_file_of_another_valid_item(made: Made, tmp_path: Path, name: str) -> None:
    other = make_shard(tmp_path / "s2" / "other", make_rows(6), item_id="other")
    assert other.exit_code == 0
    (made.folder / name).write_bytes((other.folder / name).read_bytes())
    assert outcome(made) is TAMPERED


# --- 6 to 13: rows. The file is replaced and the statement signed again, but for the signed root.


def with_rows(made: Made, rows: list[Any], *, tiles: bytes | None = None) -> Outcome:
    """As an insider would: other rows, digests that match them everywhere, and the old root."""
    write_parquet(rows, made.file("embeddings"))
    made.file("row-hashes").write_bytes(build_tiles(leaves_of(rows)) if tiles is None else tiles)
    made.redigest("embeddings", "row-hashes")
    made.sign(PRODUCER)
    return outcome(made)


def test_rows_as_signed_pass_the_same_way(made: Made) -> None:
    assert with_rows(made, made.rows) is VERIFIED


def test_attack_06_one_ulp_in_one_vector(made: Made) -> None:
    row = made.rows[2]
    values = row.values().copy()
    values[1] = np.nextafter(values[1], np.float16(9))
    made.rows[2] = replace(row, vector=values.tobytes())
    assert with_rows(made, made.rows) is TAMPERED


def test_attack_07_permuted_rows(made: Made) -> None:
    assert with_rows(made, made.rows[::-1]) is TAMPERED


def test_attack_07_a_row_id_twice(tmp_path: Path) -> None:
    rows = make_rows(5)
    rows[4] = replace(rows[4], id=rows[0].id)
    assert outcome(make_shard(tmp_path / "scene", rows)) is MALFORMED  # signed so, and still refused


def test_attack_07_a_dropped_row(made: Made) -> None:
    write_parquet(made.rows[:-1], made.file("embeddings"))
    assert outcome(made) is TAMPERED
    assert outcome(made, rows_only=True) is MALFORMED  # its row count is not the signed one
    made.redigest("embeddings")
    made.sign(PRODUCER)
    assert outcome(made) is MALFORMED


def test_attack_08_an_interior_node_as_a_leaf(made: Made) -> None:
    leaves = leaves_of(made.rows)
    pairs = [node_hash(leaves[i : i + 32], leaves[i + 32 : i + 64]) for i in (0, 64)]
    forged = b"".join(pairs) + leaves[128:]
    made.file("row-hashes").write_bytes(build_tiles(forged))
    made.redigest("row-hashes")
    made.sign(PRODUCER)
    assert outcome(made) is TAMPERED


def test_attack_09_a_file_of_row_hashes_that_lies(made: Made) -> None:
    good = build_tiles(leaves_of(made.rows))
    for tiles in (good[32:] + good[:32], good[:-32] + bytes(32), good[:-32], b""):
        assert with_rows(made, made.rows, tiles=tiles) is TAMPERED
    assert with_rows(made, made.rows, tiles=good + bytes(32)) is MALFORMED


@pytest.mark.parametrize("member", ["id", "geometry", "start", "end", "input_digest"])
def test_attack_10_the_right_vector_with_another_member(made: Made, member: str) -> None:
    other = {
        "id": "scene/1_1", "geometry": made.rows[1].geometry, "start": made.rows[0].start - 1,
        "end": made.rows[0].end + 1, "input_digest": bytes(32),
    }[member]  # fmt: skip
    made.rows[0] = replace(made.rows[0], **{member: other})
    assert with_rows(made, made.rows) is TAMPERED


def test_attack_11_negative_zero_and_denormals(tmp_path: Path) -> None:
    rows = make_rows(3)
    rows[0] = replace(rows[0], vector=struct.pack("<4e", 0.0, 2.0**-24, 1, 2))
    made = make_shard(tmp_path / "scene", rows)
    assert outcome(made) is VERIFIED
    for values in ((-0.0, 2.0**-24, 1, 2), (0.0, 0.0, 1, 2)):
        assert with_rows(made, [replace(rows[0], vector=struct.pack("<4e", *values)), *rows[1:]]) is TAMPERED


@pytest.mark.parametrize("bits", [0x7E00, 0x7E01, 0xFC00])
def test_attack_11_nan_payloads_and_infinity(made: Made, bits: int) -> None:
    table = table_of(made.rows)
    values = np.concatenate([row.values() for row in made.rows]).view(np.uint16)
    values[3] = bits
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(values.view(np.float16)), type=table.schema.field("embedding").type
    )
    pq.write_table(table.set_column(9, table.schema.field("embedding"), column), made.file("embeddings"))
    assert outcome(made, rows_only=True) is MALFORMED


def test_attack_11_half_and_single_precision_are_not_the_same_rows(made: Made) -> None:
    write_parquet(make_rows(5, dtype="float32"), made.file("embeddings"))
    assert outcome(made, rows_only=True) is MALFORMED


def test_attack_12_bytes_moved_between_id_and_geometry(made: Made) -> None:
    row = made.rows[0]
    table = table_of(made.rows).to_pydict()
    table["id"][0], table["geometry"][0] = row.id + "\x01", row.geometry[1:]
    pq.write_table(pa.table(table, table_of(made.rows).schema), made.file("embeddings"), use_dictionary=False)
    assert outcome(made, rows_only=True) is MALFORMED


# --- 14 to 16: item


@pytest.mark.parametrize("member", ["geometry", "bbox", "datetime", "asset added", "asset removed"])
def test_attack_14_an_edited_item(made: Made, member: str) -> None:
    item = made.item
    match member:
        case "geometry":
            item["geometry"]["coordinates"][0][2][1] += 1e-9
        case "bbox":
            item["bbox"][0] = -180
        case "datetime":
            item["properties"]["end_datetime"] = "2025-05-01T00:00:00Z"
        case "asset added":
            item["assets"]["malware"] = item["assets"]["thumbnail"] | {"href": "./malware.bin"}
        case "asset removed":
            del item["assets"]["thumbnail"]
    made.write_item(item)
    assert outcome(made) is TAMPERED


def test_attack_14_an_asset_without_a_checksum_cannot_be_slipped_in(made: Made) -> None:
    item = made.item
    item["assets"]["preview"] = {"href": "./thumbnail.png"}
    made.write_item(item)
    assert outcome(made) is MALFORMED


@pytest.mark.parametrize("key", ["embeddings", "row-hashes", "thumbnail"])
def test_attack_15_the_checksum_edited_to_match_a_swapped_file(made: Made, key: str) -> None:
    made.file(key).write_bytes(b"swapped")
    made.redigest(key)  # the Item, and a statement that nobody signs
    assert outcome(made) is TAMPERED


@pytest.mark.parametrize(
    "text",
    ["d50110" + "ab" * 16, "1114" + "ab" * 20, "1220" + "ab" * 31, "1220" + "ab" * 33, "ff20" + "ab" * 32,
     "1220" + "AB" * 32, "ab" * 32, "d50120" + "ab" * 32, "", None, 5],
)  # fmt: skip
def test_attack_16_a_checksum_that_is_no_sha_256(made: Made, text: Any) -> None:
    item = made.item
    item["assets"]["thumbnail"]["file:checksum"] = text
    made.write_item(item)
    assert outcome(made) is MALFORMED


# --- 43, 61, 63 and order of outcomes


def test_attack_43_another_items_event_of_the_same_producer(made: Made, tmp_path: Path) -> None:
    other = make_shard(tmp_path / "s2" / "other", make_rows(6), item_id="other")
    made.attestation.write_bytes(made.attestation.read_bytes() + other.attestation.read_bytes())
    assert outcome(made) is Outcome.HISTORY_BROKEN


def test_attack_44_a_second_create(made: Made) -> None:
    made.attestation.write_bytes(made.attestation.read_bytes() * 2)
    assert outcome(made) is Outcome.HISTORY_BROKEN


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"null\n", b"\x00\n"])
def test_attack_66_an_attestation_that_is_no_list_of_envelopes(made: Made, data: bytes) -> None:
    made.attestation.write_bytes(data)
    assert outcome(made) is MALFORMED


def test_attack_66_lines_that_are_no_envelope(made: Made) -> None:
    line = made.attestation.read_bytes()
    for data in (
        line[:-1],
        line + b"\n",
        line + b"{}\n",
        b"\n" + line,
        line.replace(b"\n", b"\r\n"),
        line * 2000,
    ):
        made.attestation.write_bytes(data)
        assert outcome(made) is MALFORMED


@pytest.mark.parametrize(
    "href",
    ["../other/thumbnail.png", "/etc/passwd", "file:///etc/passwd", "\\\\host\\share", "C:\\x.png",
     "%2e%2e/x", "a/b", "./../x", "././x", "x\x07y", ".hidden", "", ".", "..", "http://169.254.169.254/x",
     "thumbnail.png?x", "x" * 300, "thumbna\u0456l.png", "CON:", "~root"],
)  # fmt: skip
def test_attack_61_an_href_that_leads_elsewhere(made: Made, href: str) -> None:
    item = made.item
    item["assets"]["thumbnail"]["href"] = href
    made.write_item(item)
    with pytest.raises(Malformed, match="not a file name beside the item"):
        read_folder(made.folder)


def test_attack_61_a_symbolic_link(made: Made, tmp_path: Path) -> None:
    for target in (tmp_path / "elsewhere.png", tmp_path / "nowhere"):
        made.file("thumbnail").unlink(missing_ok=True)
        (tmp_path / "elsewhere.png").write_bytes(b"x")
        made.file("thumbnail").symlink_to(target)
        with pytest.raises(Malformed, match="symbolic link"):
            read_folder(made.folder)


def test_attack_61_case_fold_twins_are_two_files(made: Made) -> None:
    item = made.item
    item["assets"]["Thumbnail"] = item["assets"]["thumbnail"] | {"href": "./Thumbnail.png"}
    made.write_item(item)
    assert outcome(made) is TAMPERED


Edit = Callable[[Made], None]
WORSE_FIRST: list[tuple[Edit, Edit, Outcome]] = [
    (lambda m: m.sign(STRANGER), lambda m: flip(m.file("thumbnail"), 0), TAMPERED),
    (lambda m: m.write_envelope(envelope(m, kind="x")), lambda m: flip(m.file("thumbnail"), 0), FORGED),
    (lambda m: flip(m.file("thumbnail"), 0), lambda m: m.file("row-hashes").unlink(), TAMPERED),
    (lambda m: m.sign(STRANGER), lambda m: m.file("row-hashes").unlink(), UNTRUSTED),
]


@pytest.mark.parametrize(("first", "second", "expected"), WORSE_FIRST)
def test_of_several_failures_the_worst_is_the_outcome(
    made: Made, first: Edit, second: Edit, expected: Outcome
) -> None:
    first(made)
    second(made)
    assert outcome(made) is expected


@pytest.mark.parametrize(
    "item", [b"[]", b"5", b"null", b'{"assets": {}}', b'{"assets": []}', b'{"assets": {"a": 1}}', b"{}"]
)
def test_an_item_of_another_shape_is_refused_whoever_gathered_it(made: Made, item: bytes) -> None:
    report = check(replace(read_folder(made.folder), item=item), policy(), now=NOW)
    assert report.outcome is MALFORMED


def test_a_folder_that_is_not_finished_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no finished shard"):
        read_folder(tmp_path)


def test_json_and_text_say_the_same(made: Made) -> None:
    for edit in (lambda: None, lambda: flip(made.file("thumbnail"), 0)):
        edit()
        report = made.check()
        facts = report.to_json()
        assert facts["exitCode"] == report.outcome.value
        assert report.to_text().splitlines()[0].split("  ")[1] == facts["outcome"]
        assert [line.split()[0] for line in report.to_text().splitlines()[1:-1]] == [
            s["name"] for s in facts["steps"]
        ]


def test_a_name_cannot_write_a_line_of_the_report(made: Made) -> None:
    evidence = replace(read_folder(made.folder), target="x\n signature  ok   producer")
    lines = check(evidence, policy(), now=NOW).to_text().splitlines()
    assert lines[0].startswith("x\\n signature")
    assert format_envelope(envelope(made)) + b"\n" == made.attestation.read_bytes()
