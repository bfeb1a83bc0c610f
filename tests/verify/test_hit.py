"""hit.py: one saved row, checked offline; whatever is shown of it is what was signed."""

import base64
import json
import struct
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_log import MadeLog
from make_shard import (
    NOW,
    PRODUCER,
    STRANGER,
    Made,
    entry,
    leaves_of,
    make_hit,
    make_rows,
    make_shard,
    policy,
)
from make_world import ITEM, JAN, World, fresh, make_world, trust

from eocat.verify.errors import Malformed
from eocat.verify.hit import MAX_HIT_BYTES, check_hit, format_hit, is_hit, with_log_proof
from eocat.verify.merkle import build_tiles, node_hash, tree_of
from eocat.verify.report import Outcome, Report

Feature = dict[str, Any]
TAMPERED, FORGED, UNTRUSTED = Outcome.TAMPERED, Outcome.FORGED, Outcome.UNTRUSTED
MALFORMED, VERIFIED = Outcome.MALFORMED, Outcome.VERIFIED


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_shard(tmp_path_factory.mktemp("hit") / "scene")


def judge(feature: Any, *entries: dict[str, Any]) -> Report:
    return check_hit(json.dumps(feature).encode(), policy(*entries), target="hit", now=NOW)


def edited(made: Made, edit: Callable[[Feature], Any], index: int = 2) -> Outcome:
    feature = make_hit(made, index)
    edit(feature)
    return judge(feature).outcome


def properties(**members: Any) -> Callable[[Feature], Any]:
    return lambda feature: feature["properties"].update(members)


def proof(**members: Any) -> Callable[[Feature], Any]:
    return lambda feature: feature["properties"]["eocat:proof"].update(members)


def leaf(**members: Any) -> Callable[[Feature], Any]:
    return lambda feature: feature["properties"]["eocat:proof"]["leaf"].update(members)


def test_every_row_of_a_shard_is_proven(made: Made) -> None:
    for index in range(len(made.rows)):
        report = judge(make_hit(made, index))
        assert (report.outcome, report.level) == (VERIFIED, 2)
        assert "proven: id, geometry" in report.steps[0].text
        assert "search completeness" in report.to_text()


def test_a_saved_hit_is_read_back(made: Made) -> None:
    data = format_hit(make_hit(made, 1))
    assert is_hit(json.loads(data))
    assert check_hit(data, policy(), target="hit", now=NOW).outcome is VERIFIED


def test_what_has_no_proof_is_not_saved(made: Made) -> None:
    feature = make_hit(made, 1)
    del feature["properties"]["eocat:proof"]
    with pytest.raises(Malformed, match="eocat:proof"):
        format_hit(feature)


def test_an_item_is_no_hit(made: Made) -> None:
    for value in (
        made.item,
        {},
        [],
        None,
        5,
        {"properties": 5},
        {"properties": "eocat:proof"},
        {"properties": ["eocat:proof"]},
    ):
        assert not is_hit(value)


def move(feature: Feature) -> None:
    feature["geometry"]["coordinates"][0][1][0] += 1e-9


def zero(feature: Feature) -> None:
    leaf(vector=base64.b64encode(struct.pack("<4e", 0, 0, 0, 0)).decode())(feature)


SPOOFED: dict[str, Callable[[Feature], Any]] = {
    "geometry": move,
    "id": lambda feature: feature.update(id="scene/64_0"),
    "row": properties(row=1),
    "row of another number": properties(row=5),
    "item": properties(item="other"),
    "collection": properties(collection="s1"),
    "start_datetime": properties(start_datetime="2024-05-01T09:30:30Z"),
    "end_datetime": properties(end_datetime="2024-05-01T09:30:31.5Z", datetime=None),
    "datetime": properties(datetime="2023-05-01T09:30:31Z"),
    "datetime left out": properties(datetime=None),
    "time in another spelling": properties(start_datetime="2024-05-01T09:30:31.0Z"),
    "vector": zero,
    "vector cut": leaf(vector=base64.b64encode(b"\x00\x00").decode()),
    "vector empty": leaf(vector=""),
    "vector of NaN": leaf(vector=base64.b64encode(struct.pack("<4H", 0x7E00, 0, 0, 0)).decode()),
    "vector in URL alphabet": leaf(vector="_-8_-8_-8_-="),
    "vector as single precision": leaf(dtype="float32"),
    "input digest": leaf(input_digest="00" * 32),
    "path empty": proof(path=[]),
    "path of another node": lambda f: f["properties"]["eocat:proof"]["path"].__setitem__(0, "00" * 32),
    "path turned": lambda f: f["properties"]["eocat:proof"]["path"].reverse(),
    "path too long": lambda f: f["properties"]["eocat:proof"]["path"].append("00" * 32),
    "path too short": lambda f: f["properties"]["eocat:proof"]["path"].pop(),
    "shown vector": properties(vector=[0.0, 0.0, 0.0, 0.0]),
    "shown row count": properties(row_count=1000),
    "foreign member of the geometry": lambda f: f["geometry"].update(bbox=[0, 0, 1, 1]),
}


@pytest.mark.parametrize("name", SPOOFED)
def test_attacks_08_to_13_what_was_not_signed_so_is_tampered(made: Made, name: str) -> None:
    """Attacks 8 to 13, on one row."""
    assert edited(made, SPOOFED[name]) is TAMPERED


def test_what_is_shown_beside_the_proof_may_be_there_if_it_is_right(made: Made) -> None:
    values = made.rows[2].values().tolist()
    assert edited(made, properties(vector=values, row_count=5)) is VERIFIED


@pytest.mark.parametrize("name", ["distance", "source", "license", "grid_cell"])
def test_the_catalogues_own_words_are_free(made: Made, name: str) -> None:
    assert edited(made, properties(**{name: "anything"})) is VERIFIED


BROKEN: dict[str, Callable[[Feature], Any]] = {
    "no Feature": lambda f: f.update(type="Item"),
    "no geometry": lambda f: f.update(geometry=None),
    "no id": lambda f: f.pop("id"),
    "number as id": lambda f: f.update(id=5),
    "row as text": properties(row="2"),
    "row as float": properties(row=2.5),
    "row as boolean": properties(row=True),
    "negative row": properties(row=-1),
    "no end": properties(end_datetime=None),
    "proof of text": properties(**{"eocat:proof": "x"}),
    "extra member": proof(extra=1),
    "leaf without format": lambda f: f["properties"]["eocat:proof"]["leaf"].pop("format"),
    "leaf of another format": leaf(format="eocat-row/v2"),
    "dtype": leaf(dtype="float64"),
    "digest in upper case": leaf(input_digest="AB" * 32),
    "path of another hash": proof(path=["00" * 20]),
    "path without end": proof(path=["00" * 32] * 65),
    "no envelopes": proof(envelopes=[]),
    "envelope of text": proof(envelopes=["x"]),
    "envelope of another shape": proof(envelopes=[{}]),
    "item path": properties(item="../x"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_hit_is_malformed(made: Made, name: str) -> None:
    assert edited(made, BROKEN[name]) is MALFORMED


def test_a_key_twice_and_a_hit_too_long_are_malformed(made: Made) -> None:
    data = json.dumps(make_hit(made, 1)).encode()
    for bad in (data[:-1] + b', "id": "scene/64_0"}', data[:-1] + b', "x": "' + b"x" * MAX_HIT_BYTES + b'"}'):
        assert check_hit(bad, policy(), target="hit", now=NOW).outcome is MALFORMED


def test_a_flipped_bit_of_the_signature_is_forged(made: Made) -> None:
    def flip(feature: Feature) -> None:
        (signature,) = feature["properties"]["eocat:proof"]["envelopes"][0]["signatures"]
        raw = bytearray(base64.b64decode(signature["sig"]))
        raw[5] ^= 1
        signature["sig"] = base64.b64encode(raw).decode()

    assert edited(made, flip) is FORGED


def test_an_unknown_key_is_untrusted(made: Made) -> None:
    report = judge(make_hit(made, 1), entry(STRANGER))
    assert (report.outcome, report.level) == (UNTRUSTED, 1)


def test_a_key_out_of_its_time_is_named(made: Made) -> None:
    report = judge(make_hit(made, 1), entry(PRODUCER, notAfter="2026-01-01T00:00:00Z"))
    assert report.outcome is Outcome.KEY_INVALID_AT_TIME


def test_attack_05_a_row_of_another_item_under_this_items_statement(made: Made, tmp_path: Path) -> None:
    other = make_shard(tmp_path / "other", make_rows(6), item_id="other")
    feature = make_hit(other, 1)
    assert judge(feature).outcome is VERIFIED
    feature["properties"]["eocat:proof"]["envelopes"] = make_hit(made, 1)["properties"]["eocat:proof"][
        "envelopes"
    ]
    assert judge(feature).outcome is TAMPERED
    feature["properties"]["item"] = "scene"
    assert judge(feature).outcome is TAMPERED


def test_attack_13_the_database_and_the_file_are_judged_apart(tmp_path: Path) -> None:
    """An altered vector in the database does not pass for the file's, nor the other way round."""
    made = make_shard(tmp_path / "scene")
    assert edited(made, zero) is TAMPERED
    assert made.exit_code == 0
    feature = make_hit(made, 2)
    made.file("embeddings").write_bytes(b"altered")
    assert judge(feature).outcome is VERIFIED
    assert made.exit_code == TAMPERED.value


def test_attack_08_an_interior_node_as_a_row(made: Made) -> None:
    """A shorter path from a node two levels up: its shape does not fit the signed row count."""
    leaves = leaves_of(made.rows)
    assert tree_of(build_tiles(leaves), 5).prove(0)[0] == leaves[32:64]
    node = node_hash(leaves[:32], leaves[32:64])

    def shorten(feature: Feature) -> None:
        feature["properties"]["eocat:proof"]["path"] = [
            node.hex(),
            *feature["properties"]["eocat:proof"]["path"][1:],
        ]

    assert edited(made, shorten, 0) is TAMPERED


BITS = ["vector", "input_digest", "path"]


@given(st.sampled_from(BITS), st.integers(0, 63))
def test_any_flipped_bit_is_found(made: Made, member: str, bit: int) -> None:
    feature = make_hit(made, 3)
    part = feature["properties"]["eocat:proof"]
    if member == "path":
        place, holder = bit % len(part["path"]), part["path"]
        holder[place] = f"{int(holder[place], 16) ^ 1 << bit:064x}"
    elif member == "input_digest":
        part["leaf"]["input_digest"] = f"{int(part['leaf']['input_digest'], 16) ^ 1 << bit:064x}"
    else:
        raw = int.from_bytes(base64.b64decode(part["leaf"]["vector"]), "little") ^ 1 << bit
        part["leaf"]["vector"] = base64.b64encode(raw.to_bytes(8, "little")).decode()
    assert judge(feature).outcome is TAMPERED


@given(st.data())
def test_any_value_anywhere_is_judged_and_never_an_error(made: Made, data: st.DataObject) -> None:
    """Whatever JSON stands in whatever member, the answer is an outcome."""
    feature = deepcopy(make_hit(made, 0))
    place: Any = feature
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place))))
        )
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 3)) == 0:
            break
        place = inner
    before = place[key]
    place[key] = data.draw(
        st.none() | st.booleans() | st.integers(-3, 300) | st.text(max_size=3) | st.just([]) | st.just({})
    )
    report = judge(feature)
    free = key in ("distance", "source", "links", "row_count", "vector") or place is feature.get("links")
    if report.outcome is VERIFIED:
        assert free or place[key] == before


# --- with the item's log proof


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("logged") / "scene")
    world.made.attestation.write_bytes(b"".join(line + b"\n" for line in world.envelopes))
    return world


def logged(world: World, **proof: Any) -> Report:
    feature = make_hit(world.made, 2)
    feature["properties"]["eocat:proof"] |= proof
    return check_hit(json.dumps(feature).encode(), trust(), target="hit", now=NOW)


def test_a_hit_with_its_log_proof_reaches_level_three(world: World) -> None:
    report = logged(world, log_proof=fresh(world))
    assert (report.outcome, report.level, report.required) == (VERIFIED, 3, 3), report.to_text()


def test_a_hit_whose_log_proof_was_left_out_is_incomplete_where_the_policy_names_a_log(world: World) -> None:
    """Else whoever hands a hit on could lower what is asked of it."""
    report = logged(world)
    assert (report.outcome, report.level) == (Outcome.INCOMPLETE, 2)
    data = json.dumps(make_hit(world.made, 2)).encode()
    assert check_hit(data, trust(), target="hit", now=NOW, require=2).outcome is VERIFIED


def test_attack_45_a_hit_of_an_item_that_was_withdrawn_since(world: World) -> None:
    later = copy(world)
    later.envelopes = [*world.envelopes]
    later.log = MadeLog(entries=[*world.log.entries], held={ITEM: [*world.log.held[ITEM]]})
    later.then("WITHDRAW", PRODUCER, reason="a wrong scene")
    later.log.publish(JAN)
    document = fresh(later)
    document["events"].pop()
    assert logged(world, log_proof=document).outcome is Outcome.HISTORY_BROKEN
    assert with_log_proof(make_hit(world.made, 2), fresh(later)) is None, (
        "not of one moment: not put together"
    )


@pytest.mark.parametrize("proof", [None, {}, [], "x", {"type": "eocat-logproof/v1"}])
def test_a_log_proof_of_another_shape_is_malformed(world: World, proof: Any) -> None:
    assert logged(world, log_proof=proof).outcome is MALFORMED
