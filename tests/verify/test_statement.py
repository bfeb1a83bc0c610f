"""statement.py: strict in every field, and its parts agree with each other."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_shard import Made, make_shard

from eocat.verify.canonical import MAX_INTEGER, encode
from eocat.verify.errors import Malformed
from eocat.verify.events import format_event
from eocat.verify.statement import (
    MAX_STATEMENT_BYTES,
    format_time,
    parse_statement,
    parse_time,
    space_digest,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_shard(tmp_path_factory.mktemp("statement") / "scene")


def test_what_is_parsed_is_formatted_to_the_same_bytes(made: Made) -> None:
    assert format_event(parse_statement(made.payload)) == made.payload


def test_files_are_all_subjects_but_the_rows(made: Made) -> None:
    assert sorted(parse_statement(made.payload).files) == ["embeddings", "row-hashes", "thumbnail"]


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets the member `path`, or removes it if `value` is ..."""

    def edit(statement: dict[str, Any]) -> None:
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place: Any = statement
        for part in parents:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return edit


BAD = {
    "_type": ["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v2", "", None, ...],
    "predicateType": ["urn:eocat:event:v2", "urn:eocat:event:v0", "https://slsa.dev/provenance/v1", ...],
    "predicate.event": ["REGISTER", "create", "WITHDRAW", None, ...],
    "predicate.item": ["s2", "s2/other", "../scene", "s2/scene/x", "s2/scene\n", "ѕ2/scene", "S2/scene", ...],
    "predicate.seq": [1, -1, True, 0.5, "0", None, ...],
    "predicate.prev": ["00" * 32, "", ...],
    "predicate.claimedAt": ["2026-01-01", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.0Z", 5, ...],
    "predicate.actor": ["", "x" * 1025, 5, None, ...],
    "predicate.reason": ["", 5, ...],
    "predicate.origin": ["downloaded", None, ...],
    "predicate.rows.count": [4, 0, -5, True, 5.5, (1 << 32) + 1, "5", ...],
    "predicate.rows.root": ["00" * 32, "00" * 31, "AB" * 32, "", ...],
    "predicate.rows.leaf": ["eocat-row/v2", "eocat-row/v1\n", ...],
    "predicate.rows.dtype": ["float32", "float64", "bfloat16", ...],
    "predicate.rows.dimension": [3, 0, 1 << 17, True, ...],
    "predicate.rows.crs": ["EPSG:4326", ...],
    "predicate.rows.inputDigests": [1, "true", None, ...],
    "predicate.space": ["00" * 32, "0" * 63, ...],
    "predicate.encoder.config": [{"architecture": "sines", "dimension": 8}, {"scale": 0.5}, [], ...],
    "predicate.encoder.weights": [[], None, ...],
    "predicate.encoder.weights.0.sha256": ["00" * 32, "x", ...],
    "predicate.encoder.weights.0.size": [-1, 1.5, True, MAX_INTEGER + 1, ...],
    "predicate.preprocess": [{"offset": 0}, {"a": {"b": [0.1]}}, ...],
    "predicate.code.lock": ["", "00", ...],
    "predicate.sources": [[], ...],
    "predicate.sources.0.files": [[], ...],
    "predicate.sources.0.evidence": ["checked", ...],
    "predicate.parameters": [{"a": 1.5}, None, ...],
    "predicate.tolerance": [{"cosine": 0.5}, ...],
    "predicate.projection.id": ["other", "../x", ".hidden", "x" * 129, "", ...],
    "predicate.projection.collection": ["other", ...],
    "predicate.projection.geometry": [{"type": "Point", "coordinates": [0, 0]}, {}, None, ...],
    "predicate.projection.bbox": [[1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 2, 3, True], ["1", 2, 3, 4], None, ...],
    "predicate.projection.datetime": ["2024-05-01", 5, ...],
    "predicate.projection.rows.count": [4, ...],
    "predicate.projection.space": ["00" * 32, ...],
    "predicate.projection.assets": [{}, None, ...],
    "predicate.projection.assets.thumbnail.sha256": ["00" * 32, ...],
    "predicate.projection.assets.thumbnail.size": [-1, True, 2.5, ...],
    "predicate.projection.assets.thumbnail.roles": [[], ["x"] * 17, "thumbnail", ...],
    "subject": [[], None, ...],
    "subject.0.name": ["thumbnail", "zzz", "../x", ...],
    "subject.0.digest": [{"sha256": "00" * 32}, {"sha1": "00" * 20}, {"md5": "00" * 16}, {}, None, ...],
    "subject.0.digest.sha256": ["00" * 32, "0" * 63, "AB" * 32, None, ...],
    "subject.0.digest.blake3": ["0" * 62, ...],
    "subject.2.digest": [{"sha256": "00" * 32}, {"sha256": "00" * 32, "blake3": "00" * 32}],
    "extra": [1],
    "predicate.extra": [1],
    "predicate.rows.extra": [1],
    "predicate.projection.extra": [1],
    "predicate.projection.assets.thumbnail.href": ["./thumbnail.png"],
    "subject.0.digest.sha512": ["00" * 64],
}  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_a_field_that_is_not_as_specified_is_refused(made: Made, path: str) -> None:
    for value in BAD[path]:
        statement = deepcopy(made.statement)
        at(path, value)(statement)
        with pytest.raises(Malformed):
            parse_statement(encode(statement))


def test_attack_27_subjects_are_sorted_and_none_is_left_out(made: Made) -> None:
    subjects = made.statement["subject"]
    extra = {"name": "zebra", "digest": subjects[0]["digest"]}
    for wrong in (subjects[::-1], subjects[1:], subjects[:-1], [*subjects, extra], [subjects[0], *subjects]):
        with pytest.raises(Malformed):
            parse_statement(encode(made.statement | {"subject": wrong}))


@pytest.mark.parametrize("name", ["rows", "attestation"])
def test_no_asset_takes_a_name_that_would_hide_it_from_the_subjects(made: Made, name: str) -> None:
    """An asset called `rows` would stand in the projection, and no subject would hold its file."""
    statement = deepcopy(made.statement)
    assets = statement["predicate"]["projection"]["assets"]
    assets[name] = assets["thumbnail"]
    with pytest.raises(Malformed, match="not an asset's"):
        parse_statement(encode(statement))


def test_a_statement_has_a_largest_size(made: Made) -> None:
    statement = deepcopy(made.statement)
    statement["predicate"]["parameters"] = {str(number): "x" * 1000 for number in range(1100)}
    assert len(encode(statement)) > MAX_STATEMENT_BYTES
    with pytest.raises(Malformed, match="at most"):
        parse_statement(encode(statement))


def test_an_error_names_the_place_on_one_line(made: Made) -> None:
    statement = deepcopy(made.statement)
    statement["predicate"]["projection"]["assets"]["x\ny VERIFIED"] = {}
    with pytest.raises(Malformed, match=r"^statement: predicate\.projection\.assets") as caught:
        parse_statement(encode(statement))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T18:00:00", "2026-11-20T18:00:00z", "2026-11-20t18:00:00Z", "2026-11-20 18:00:00Z",
        "2026-11-20T18:00:00+00:00", "2026-11-20T18:00:00.0Z", "2026-11-20T18:00:00.10Z",
        "2026-11-20T18:00:00.Z",
        "2026-11-20T18:00:00.1234567Z", "2026-11-20T18:00:00,5Z", "2026-11-20T18:00Z", "20261120T180000Z",
        "2026-W47-5T18:00:00Z", "2026-02-30T00:00:00Z", "2026-11-20T24:00:00Z", "2026-11-20T18:00:60Z",
        "0000-01-01T00:00:00Z", "٢٠٢٦-11-20T18:00:00Z", "2026-11-20T18:00:00Z\n", " 2026-11-20T18:00:00Z", "",
    ],
)  # fmt: skip
def test_a_time_in_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_has_one_spelling(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment


def test_space_is_the_digest_of_all_its_parts() -> None:
    base = space_digest({"a": 1}, {"b": 2}, ["c", "d"])
    others = [
        space_digest({"a": 2}, {"b": 2}, ["c", "d"]), space_digest({"a": 1}, {"b": 3}, ["c", "d"]),
        space_digest({"a": 1}, {"b": 2}, ["d", "c"]), space_digest({"a": 1}, {"b": 2}, ["c"]),
        space_digest({"b": 2}, {"a": 1}, ["c", "d"]),
    ]  # fmt: skip
    assert base not in others
    assert space_digest({"a": 1}, {"b": 2}, ["c", "d"]) == base
