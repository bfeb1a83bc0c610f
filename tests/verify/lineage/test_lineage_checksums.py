"""checksums.py: every checksum of an Item, ok or malformed with its reason."""

import json
from pathlib import Path

import pytest

from eocat.verify.errors import Malformed
from eocat.verify.lineage.checksums import list_checksums

SHA = "ab" * 32


def item(**members: object) -> bytes:
    return json.dumps({"type": "Feature"} | members).encode()


def test_attack_16_the_real_cdse_item_has_good_checksums_and_malformed_ones(shared_data: Path) -> None:
    (path,) = (shared_data / "cdse_stac").glob("S2A*.json")
    found = {checksum.place: checksum for checksum in list_checksums(path.read_bytes())}
    assert len(found) == 43
    malformed = {place: c.fault for place, c in found.items() if not c.is_ok}
    names = ("product", "granule", "inspire", "datastrip")
    assert set(malformed) == {f"assets.{name}_metadata" for name in names}
    assert all(fault is not None and "MD5 before 32 bytes" in fault for fault in malformed.values())
    assert {found[f"assets.{key}"].algorithm for key in ("safe_manifest", "thumbnail", "Product")} == {"md5"}
    assert sum(checksum.algorithm == "sha3-256" for checksum in found.values()) == 36


def test_the_real_cdse_collection_states_none(shared_data: Path) -> None:
    assert list_checksums((shared_data / "cdse_stac" / "collection-sentinel-2-l2a.json").read_bytes()) == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("d50120" + SHA, "MD5"),
        ("1114" + "ab" * 20, "unknown code"),
        ("1220" + SHA[:-2], "holds 31"),
        ("1220" + SHA + "ab", "holds 33"),
        ("ff20" + SHA, "unknown code"),
        ("1220" + SHA.upper(), "lower-case"),
        ("", "lower-case"),
        (None, "NoneType"),
        (["1220" + SHA], "list"),
    ],
)
def test_attack_16_malformed_checksum_is_named_wherever_it_stands(text: object, fault: str) -> None:
    stated = {"href": "./a", "file:checksum": text}
    data = item(
        assets={"a": {"href": "./a", "alternate": {"https": stated}}, "b": stated},
        links=[{"rel": "self"}, stated],
    )
    found = list_checksums(data)
    assert [c.place for c in found] == ["assets.a.alternate.https", "assets.b", "links.1"]
    assert all(not c.is_ok and c.fault is not None and fault in c.fault for c in found)
    assert all(c.href == "./a" and c.algorithm is None and c.digest is None for c in found)


def test_good_checksums_of_assets_and_links_are_listed() -> None:
    stated = {"href": "./a", "file:checksum": "1220" + SHA}
    found = list_checksums(item(assets={"a": stated}, links=[stated]))
    assert [(c.place, c.algorithm, c.digest) for c in found] == [
        ("assets.a", "sha2-256", SHA),
        ("links.0", "sha2-256", SHA),
    ]


def test_members_of_another_kind_state_nothing_and_no_item_is_malformed() -> None:
    assert list_checksums(item(assets=[1], links={"a": {"file:checksum": ""}})) == ()
    assert list_checksums(item(assets={"a": 1}, links=[None])) == ()
    for data in (b"[]", b"{", b'{"a":1,"a":1}'):
        with pytest.raises(Malformed):
            list_checksums(data)
