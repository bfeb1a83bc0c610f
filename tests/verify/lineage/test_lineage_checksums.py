"""checksums.py: every checksum of an Item, ok or malformed with its reason."""

import hashlib
import json
from collections.abc import Callable
from hashlib import sha3_256
from pathlib import Path

import pytest
from lineage.make_product import BAND_NAME, FILES, ROOT, make_folder, make_zip

from eocat.verify.errors import Malformed
from eocat.verify.lineage.at_hand import files_at_hand
from eocat.verify.lineage.checksums import ItemVerdict, check_checksums, list_checksums
from eocat.verify.report import Outcome

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


def md5(data: bytes) -> str:
    return "d50110" + hashlib.md5(data, usedforsecurity=False).hexdigest()


def stated(name: str, multihash: str) -> dict[str, str]:
    return {"href": f"s3://eodata/x/{name}", "file:local_path": name, "file:checksum": multihash}


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_checksums_are_held_against_a_products_files(make: Callable[[Path], Path], tmp_path: Path) -> None:
    band = stated(f"{ROOT}/{BAND_NAME}", "1620" + sha3_256(FILES[BAND_NAME]).hexdigest())
    data = item(
        assets={
            "B02": band
            | {"alternate": {"https": {"file:checksum": "1620" + SHA, "href": "https://a/B02.jp2"}}},
            "meta": stated(f"{ROOT}/MTD_MSIL1C.xml", md5(b"<metadata/>")),
            "gone": stated(f"{ROOT}/gone.jp2", "1220" + SHA),
            "bad": stated(f"{ROOT}/{BAND_NAME}", "d50120" + SHA),
            "elsewhere": stated("../../etc/passwd", "1220" + SHA),
        },
        links=[{"rel": "derived_from", "href": "./a", "file:checksum": "1220" + SHA}],
        id="scene",
    )
    path = make(tmp_path)
    with files_at_hand({}, path) as files:
        report = check_checksums(data, files)
    assert [(found.place, found.verdict.value) for found in report.sums] == [
        ("assets.B02", "ok"),
        ("assets.B02.alternate.https", "differs"),
        ("assets.meta", "ok"),
        ("assets.gone", "missing"),
        ("assets.bad", "malformed"),
        ("assets.elsewhere", "missing"),
    ]
    assert report.judge() is Outcome.MALFORMED
    assert (
        report.to_text() == "checksums of the Item scene: 2 ok, 1 differs, 2 missing, 1 malformed, unsigned"
    )


def test_a_zip_is_a_file_of_its_own_and_plain_files_are_found_by_name(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    (tmp_path / "B04.tif").write_bytes(b"band")
    good = md5(path.read_bytes())
    data = item(
        assets={
            "Product": stated(path.name, good),
            "B04": {
                "href": "https://x/B04.tif?token=1",
                "file:checksum": md5(b"band"),
            },
        }
    )
    with files_at_hand({"folder/B04.tif": tmp_path / "B04.tif"}, path) as files:
        report = check_checksums(data, files)
    assert (report.count(ItemVerdict.OK), report.judge()) == (2, None)


def test_two_files_of_one_name_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"band")
    data = item(assets={"a": {"href": "./a.tif", "file:checksum": "1220" + SHA}})
    plain = {"one/a.tif": tmp_path / "a.tif", "two/a.tif": tmp_path / "a.tif"}
    with files_at_hand(plain, None) as files:
        assert check_checksums(data, files).judge() is Outcome.UNAVAILABLE
