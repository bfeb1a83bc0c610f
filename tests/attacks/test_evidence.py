"""Attacks 1 to 41 again, by the command, on an item that is in a witnessed log, with the log and without.

The same attacks on a folder alone, each in many variants, are in tests/verify (test_check.py,
test_check_trust.py, test_hit.py, test_attacks_trust.py); test_list.py says which number is where.
"""

import base64
import io
import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from make_shard import MIRROR, PRODUCER, SECOND, STRANGER, Key, entry
from shown import Edit, Shown, envelope, item, lines, payload
from signed_world import policy_bytes

L = 2**252 + 27742317777372353535851937790883648493  # order of the curve's prime subgroup


def file(name: str, change: Any) -> Edit:
    return lambda files: files.update({name: change(files[name])})


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def again(data: bytes, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)), sink, **options)
    return sink.getvalue()


def signature(change: Any) -> Edit:
    """An edit of the CREATE's raw signature."""

    def edited(value: Any) -> None:
        raw = base64.b64decode(value["signatures"][0]["sig"])
        value["signatures"][0]["sig"] = base64.b64encode(change(raw)).decode()

    return envelope(edited)


def plus_order(raw: bytes) -> bytes:
    return raw[:32] + (int.from_bytes(raw[32:], "little") + L).to_bytes(32, "little")


def swap(one: str, two: str) -> Edit:
    return lambda files: files.update({one: files[two], two: files[one]})


def checksum(text: str) -> Edit:
    return item(lambda value: value["assets"]["thumbnail"].update({"file:checksum": text}))


def keyid(text: str) -> Edit:
    return envelope(lambda value: value["signatures"][0].update(keyid=text))


PARQUET = "embeddings.parquet"
MILLION = [b'"%d":1' % number for number in range(10**6)]
BY_COMMAND: dict[str, tuple[Edit, int]] = {
    "01 the first bits": (file(PARQUET, lambda data: flipped(data, 0)), 20),
    "01 bits in the middle": (file(PARQUET, lambda data: flipped(data, 900)), 20),
    "01 the last bits": (file(PARQUET, lambda data: flipped(data, len(data) - 1)), 20),
    "01 a bit of the row hashes": (file("row-hashes.bin", lambda data: flipped(data, 7)), 20),
    "02 truncated": (file(PARQUET, lambda data: data[:-1]), 20),
    "02 appended": (file(PARQUET, lambda data: data + b"\0"), 20),
    "03 encoded again": (file(PARQUET, lambda data: again(data, compression="snappy")), 20),
    "04 two assets swapped": (swap("thumbnail.png", "row-hashes.bin"), 20),
    "14 geometry": (item(lambda v: v["geometry"]["coordinates"][0][1].__setitem__(0, 11.0500001)), 20),
    "14 bbox": (item(lambda v: v["bbox"].__setitem__(0, 10)), 20),
    "14 the bbox of before the UPDATE": (item(lambda v: v.update(bbox=[11.0, 46.0, 11.05, 46.05])), 20),
    "14 a time": (item(lambda v: v["properties"].update(start_datetime="2024-05-01T09:30:30Z")), 20),
    "14 an asset more": (item(lambda v: v["assets"].update(x=dict(v["assets"]["thumbnail"]))), 20),
    "14 an asset less": (item(lambda v: v["assets"].pop("thumbnail")), 20),
    "14 a role": (item(lambda v: v["assets"]["thumbnail"].update(roles=["data"])), 20),
    "15 another checksum": (checksum("1220" + "ab" * 32), 20),
    "16 md5": (checksum("d50110" + "ab" * 16), 50),
    "16 upper case": (checksum("1220" + "AB" * 32), 50),
    "17 payload": (payload(lambda v: v["predicate"].update(actor="x")), 21),
    "17 payload of a later event": (payload(lambda v: v["predicate"].update(location="x"), 2), 21),
    "17 payload type": (envelope(lambda v: v.update(payloadType="application/json")), 21),
    "18 a policy's type": (envelope(lambda v: v.update(payloadType="application/vnd.eocat.policy+json")), 21),
    "19 no signatures": (envelope(lambda v: v.update(signatures=[])), 50),
    "19 garbage": (signature(lambda raw: b"garbage"), 21),
    "19 an empty one": (signature(lambda raw: b""), 21),
    "19 seventeen": (envelope(lambda v: v.update(signatures=v["signatures"] * 17)), 50),
    "20 keyid of another key": (keyid(MIRROR.public.key_id), 21),
    "20 keyid of a stranger": (keyid(STRANGER.public.key_id), 22),
    "20 keyid like a path": (keyid("../../keys/producer"), 22),
    "20 no keyid": (envelope(lambda v: v["signatures"][0].pop("keyid")), 22),
    "21 url-safe": (envelope(lambda v: v.update(payload=v["payload"].replace("=", ""))), 50),
    "22 a key twice": (lines(lambda found: [found[0][:-1] + b',"payloadType":"x"}', *found[1:]]), 50),
    "23 NaN": (file("item.json", lambda data: data.replace(b"10.5", b"NaN")), 50),
    "23 1e999": (file("item.json", lambda data: data.replace(b"10.5", b"1e999")), 50),
    "23 a byte order mark": (file("item.json", lambda data: b"\xef\xbb\xbf" + data), 50),
    "23 UTF-16": (file("item.json", lambda data: data.decode().encode("utf-16")), 50),
    "24 depth": (file("item.json", lambda data: b'{"x":' * 100_000 + data + b"}" * 100_000), 50),
    "24 100 MB of text": (file("item.json", lambda data: b'{"x":"' + b"x" * 100_000_000 + b'"}'), 50),
    "24 a million keys": (file("item.json", lambda data: b"{" + b",".join(MILLION) + b"}"), 50),
    "25 a space": (lines(lambda found: [found[0].replace(b'":', b'": ', 1), *found[1:]]), 50),
    "26 a newer version": (payload(lambda v: v.update(predicateType="urn:eocat:event:v2")), 50),
    "27 a subject more": (payload(lambda v: v["subject"].append(v["subject"][0])), 50),
    "27 a short digest": (payload(lambda v: v["subject"][0]["digest"].update(sha256="ab")), 50),
    "33 S + L": (signature(plus_order), 21),
    "34 an ML-DSA signature under an Ed25519 key": (signature(lambda raw: raw * 37 + raw[:52]), 21),
    "61 an href out of it": (item(lambda v: v["assets"]["thumbnail"].update(href="../thumbnail.png")), 50),
    "66 a line that is no envelope": (lines(lambda found: [*found, b"{}"]), 50),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_COMMAND)
def test_attacks_01_to_04_14_to_27_33_34_61_66_by_the_command(shown: Shown, name: str) -> None:
    edit, code = BY_COMMAND[name]
    assert shown.code(edit, policy=shown.world.plain) == code
    assert shown.code(edit) == (25 if code == 22 else code)  # it is not the envelope that was logged either


def test_attack_03_other_encodings_of_the_signed_rows(shown: Shown) -> None:
    for options in ({"compression": "snappy"}, {"row_group_size": 1}, {"use_dictionary": False}):
        edit = file(PARQUET, lambda data, options=options: again(data, **options))
        assert (shown.code(edit), shown.code(edit, rows_only=True)) == (20, 0)


@pytest.mark.parametrize(
    "name", [PARQUET, "row-hashes.bin", "thumbnail.png", "item.json", "attestation.jsonl"]
)
def test_attack_05_a_file_of_another_valid_item(shown: Shown, name: str) -> None:
    other = shown.of("beta at last").state.files
    assert shown.code(lambda files: files.update({name: other[name]})) == 20


# --- rows, as a saved hit shows them


def vector(change: Any) -> Any:
    def edited(hit: Any) -> None:
        leaf = hit["properties"]["eocat:proof"]["leaf"]
        raw = change(np.frombuffer(base64.b64decode(leaf["vector"]), "<f2"))
        leaf["vector"] = base64.b64encode(np.asarray(raw).tobytes()).decode()

    return edited


def shifted(hit: Any) -> None:
    """The id takes a byte that belonged to what follows it."""
    hit["id"] += "\x01"


def proof(**members: Any) -> Any:
    return lambda hit: hit["properties"]["eocat:proof"].update(members)


def shows(**members: Any) -> Any:
    return lambda hit: hit["properties"].update(members)


HITS: dict[str, tuple[Any, int]] = {
    "06 one ULP": (vector(lambda v: np.nextafter(v, np.float16(9))), 20),
    "07 the vector of another row": (vector(lambda v: v[::-1]), 20),
    "08 a path that begins higher up": (lambda hit: hit["properties"]["eocat:proof"]["path"].pop(0), 20),
    "09 another row": (shows(row=1), 20),
    "09 beyond the last row": (shows(row=5), 20),
    "09 a row count that lies": (shows(row_count=4), 20),
    "09 a longer path": (lambda hit: hit["properties"]["eocat:proof"]["path"].append("00" * 32), 20),
    "09 no path": (proof(path=[]), 20),
    "10 geometry": (lambda hit: hit["geometry"]["coordinates"][0][1].__setitem__(0, 11.06), 20),
    "10 id": (lambda hit: hit.update(id="scene/64_0"), 20),
    "10 time": (shows(start_datetime="2024-05-01T09:30:30Z", datetime=None), 20),
    "11 byte order": (vector(lambda v: v.byteswap()), 20),
    "11 single precision": (vector(lambda v: v.astype("<f4")), 20),
    "11 a NaN with a payload": (vector(lambda v: np.array([0x7E01, 1, 2, 3], "<u2")), 20),
    "11 negative zero": (vector(lambda v: np.array([0x8000, *v.view("<u2")[1:]], "<u2")), 20),
    "11 a subnormal": (vector(lambda v: np.array([1, *v.view("<u2")[1:]], "<u2")), 20),
    "12 a shifted length": (shifted, 20),
    "13 another vector in the database": (vector(lambda v: v * 0), 20),
}


@pytest.mark.parametrize("name", HITS)
def test_attacks_06_to_13_on_a_hit_by_the_command(shown: Shown, name: str) -> None:
    change, code = HITS[name]
    hit = json.loads(shown.world.hits[0])
    assert shown.hit_code(hit) == 0
    before = deepcopy(hit)
    change(hit)
    assert hit != before
    assert shown.hit_code(hit) == code


def test_attack_13_the_file_altered_and_the_database_intact(shown: Shown) -> None:
    assert shown.code(file(PARQUET, lambda data: flipped(data, 400))) == 20
    assert shown.hit_code(json.loads(shown.world.hits[0])) == 0


# --- policies


def trust(*entries: dict[str, Any], **members: Any) -> bytes:
    policy = json.loads(policy_bytes(logged=True))
    policy["keys"] = [*entries, *policy["keys"][1:]]
    return json.dumps(policy | members).encode()


def known(key: Key = PRODUCER, **members: Any) -> dict[str, Any]:
    return entry(key, **{"notBefore": "2020-01-01T00:00:00Z", "notAfter": "2100-01-01T00:00:00Z", **members})


def test_attack_29_and_41_a_stranger_with_a_log_and_a_policy_of_its_own(shown: Shown) -> None:
    stranger = shown.of("alpha of a stranger")
    assert stranger.code() == 22
    assert stranger.code(lambda files: files.update({"policy.json": trust(known(STRANGER))})) == 22
    assert shown.code(policy=trust(known(MIRROR), known())) == 50  # one key twice
    assert shown.code(policy=trust(known(roles=["curator"]))) == 22
    assert shown.code(policy=trust(known(collections=["s1"]))) == 22


def test_attack_30_a_threshold_of_two(shown: Shown) -> None:
    two = trust(known(), known(SECOND), thresholds={"producer": 2})
    assert shown.code(policy=two) == 22
    twice = envelope(lambda value: value["signatures"].append(value["signatures"][0]))
    assert shown.code(twice, policy=two) == 25  # and it is not the envelope that was logged
    assert shown.of("alpha at first").code(twice, policy=json.dumps(without_log(two)).encode()) == 22


def without_log(policy: bytes) -> dict[str, Any]:
    return {name: member for name, member in json.loads(policy).items() if name != "log"}


@pytest.mark.parametrize("threshold", [0, -1, 5, True, 1.0, 1.5, "1", None, [1], 2**40])
def test_attack_31_a_threshold_that_is_no_count(shown: Shown, threshold: Any) -> None:
    assert shown.code(policy=trust(known(), thresholds={"producer": threshold})) == 50


@pytest.mark.parametrize("raw", [b"\x01" + bytes(31), bytes(32), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_attack_32_a_key_of_low_order_or_beyond_the_field(shown: Shown, raw: bytes) -> None:
    key = f"ed25519:{base64.b64encode(raw).decode()}"
    assert shown.code(policy=trust(known(), known(STRANGER) | {"key": key})) == 50


def test_attacks_36_to_38_the_witnesses_time_judges_the_key(shown: Shown) -> None:
    """The CREATE was seen thirty days ago, the UPDATE today: a key that ended between signs no UPDATE."""

    def ago(days: int) -> str:
        return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

    beta = shown.of("beta at last")
    for end in ("notAfter", "retiredAt", "compromisedSince"):
        assert beta.code(policy=trust(known(**{end: ago(10)}))) == 0  # logged before
        assert shown.code(policy=trust(known(**{end: ago(10)}))) == 23  # one event logged after
        assert beta.code(policy=trust(known(**{end: ago(40)}))) == 23
        assert beta.code(policy=json.dumps(without_log(trust(known(**{end: ago(10)})))).encode()) == 23
    assert beta.code(policy=trust(known(notBefore=ago(20)))) == 23
