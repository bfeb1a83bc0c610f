"""safe.py, manifest.py and product.py: a product against its own manifest, and products that attack."""

import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lineage.make_product import FILES, OBJECT, ROOT, XFDU, make_folder, make_zip, manifest

from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.lineage import product as limits
from eocat.verify.lineage.manifest import MAX_DEPTH, MAX_ELEMENTS, parse_manifest
from eocat.verify.lineage.product import open_product
from eocat.verify.lineage.safe import SafeReport, Verdict, check_product
from eocat.verify.report import Outcome

Maker = Callable[..., Path]
BAND = "GRANULE/L1C/IMG_DATA/B02.jp2"


def counts(report: SafeReport) -> dict[str, int]:
    return {verdict.value: report.count(verdict) for verdict in Verdict if report.count(verdict)}


@pytest.mark.parametrize(
    ("name", "algorithm", "expected", "outcome"),
    [
        (
            "S2A_MSIL1C_20230216T044851_N0509_R076_T46UEU_20230216T000000.SAFE.zip",
            "SHA3-256",
            {"ok": 45, "differs": 14, "unlisted": 5},
            Outcome.LINEAGE_FAILED,
        ),
        (
            "S1A_IW_GRDH_1SDV_20150203T043109_20150203T043134_004454_00574F_6D00.zip",
            "MD5",
            {"ok": 9, "missing": 2, "unlisted": 10},
            Outcome.UNAVAILABLE,
        ),
        (
            "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE",
            "SHA3-256",
            {"ok": 2, "missing": 84, "unlisted": 1},
            Outcome.UNAVAILABLE,
        ),
        (
            "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158.SAFE",
            "SHA3-256",
            {"differs": 2, "missing": 84, "unlisted": 1},
            Outcome.LINEAGE_FAILED,
        ),
    ],
)
def test_the_verdicts_on_real_products(
    name: str, algorithm: str, expected: dict[str, int], outcome: Outcome, shared_data: Path
) -> None:
    report = check_product(shared_data / "safe_provenance" / name)
    assert counts(report) == expected
    assert report.algorithms == (algorithm,)
    assert report.judge() is outcome


def test_the_real_products_emptied_bands_are_the_ones_that_differ(shared_data: Path) -> None:
    (path,) = (shared_data / "safe_provenance").glob("S2A_MSIL1C*.zip")
    report = check_product(path)
    differing = [file for file in report.files if file.verdict is Verdict.DIFFERS]
    assert all("IMG_DATA" in file.name and "has 0 bytes" in file.text for file in differing)
    assert report.product != path.name.removesuffix(".zip")  # the folder inside has a name of its own


def test_a_real_file_edited_to_the_same_size_differs_by_its_digest(shared_data: Path) -> None:
    (path,) = (shared_data / "safe_provenance").glob("*T022158.SAFE")
    texts = {f.name: f.text for f in check_product(path).files if f.verdict is Verdict.DIFFERS}
    assert texts["MTD_MSIL2A.xml"].startswith("SHA3-256 is")


@pytest.mark.parametrize("make", [make_folder, make_zip])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA3-256"])
def test_folder_and_zip_of_a_whole_product_agree(make: Maker, algorithm: str, tmp_path: Path) -> None:
    report = check_product(make(tmp_path, FILES, manifest(FILES, algorithm)))
    assert counts(report) == {"ok": 3}
    assert report.judge() is None
    assert report.product == ROOT
    claim = report.claim()
    assert (claim.ok, claim.differs, claim.missing, claim.unlisted) == (3, 0, 0, 0)
    assert claim.manifest == parse_manifest(manifest(FILES, algorithm)).sha256


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_each_file_has_its_verdict(make: Maker, tmp_path: Path) -> None:
    data = bytearray(FILES[BAND])
    data[7] ^= 1
    files = {BAND: bytes(data), "MTD_MSIL1C.xml": FILES["MTD_MSIL1C.xml"], "extra.txt": b"x"}
    report = check_product(make(tmp_path, files))
    assert {file.name: file.verdict.value for file in report.files} == {
        "MTD_MSIL1C.xml": "ok",
        BAND: "differs",
        "GRANULE/L1C/IMG_DATA/B03.jp2": "missing",
        "extra.txt": "unlisted",
    }
    assert report.judge([BAND]) is Outcome.LINEAGE_FAILED
    assert report.judge(["MTD_MSIL1C.xml"]) is None
    assert report.judge(["extra.txt"]) is Outcome.INCOMPLETE
    assert report.judge(["no such file"]) is Outcome.UNAVAILABLE


@pytest.mark.parametrize(
    "name",
    [
        f"{ROOT}/../../etc/passwd",
        "/etc/passwd",
        f"{ROOT}//etc/passwd",
        f"{ROOT}/./x",
        f"{ROOT}\\..\\x",
        "C:/x",
        f"{ROOT}/%2e%2e/x",
        f"{ROOT}/a\nb",
        f"{ROOT}/\u202etxt.exe",
        f"{ROOT}/e\u0301",
        f"{ROOT}/x.",
        f"{ROOT}/" + "x" * 256,
        f"{ROOT}/" + "xx/" * 400 + "x",
        f"{ROOT}/" + "d/" * 17 + "x",
        f"{ROOT}/mtd_msil1c.XML",
        f"{ROOT}/MTD_MSIL1C.xml/below",
        "Other.SAFE/x",
    ],
)
def test_attack_61_name_in_a_zip_that_leads_out_or_reads_twice(name: str, tmp_path: Path) -> None:
    path = make_zip(tmp_path, FILES, None, (name, b""))
    with pytest.raises(Malformed):
        check_product(path)


def test_attack_61_name_cut_at_nul(tmp_path: Path) -> None:
    path = make_zip(tmp_path, FILES, None, (f"{ROOT}/x#y", b""))
    path.write_bytes(path.read_bytes().replace(b"/x#y", b"/x\0y"))
    with pytest.raises(Malformed, match="NUL"):
        check_product(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_attack_61_link_or_device_in_a_zip(kind: int, tmp_path: Path) -> None:
    member = zipfile.ZipInfo(f"{ROOT}/link")
    member.external_attr = (kind | 0o777) << 16
    with pytest.raises(Malformed, match="link or device"):
        check_product(make_zip(tmp_path, FILES, None, (member, b"/etc/passwd")))


def test_attack_61_link_or_device_in_a_folder(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    for make in (
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to(root),
        lambda path: os.mkfifo(path),
    ):
        make(root / "odd")
        with pytest.raises(Malformed, match="link or device"):
            check_product(root)
        (root / "odd").unlink()
    assert check_product(root).judge() is None


def test_attack_61_file_that_becomes_a_link_after_listing(tmp_path: Path) -> None:
    root = make_folder(tmp_path)

    def read() -> None:
        with open_product(root) as product:
            (root / BAND).unlink()
            (root / BAND).symlink_to("/etc/passwd")
            list(product.blocks(BAND))

    with pytest.raises(Unavailable):
        read()


def test_attack_65_file_that_grows_or_shrinks_after_listing(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    for data in (FILES[BAND] + b"x", FILES[BAND][:-1]):
        with open_product(root) as product:
            (root / BAND).write_bytes(data)
            with pytest.raises(Malformed, match="listed with"):
                list(product.blocks(BAND))
        (root / BAND).write_bytes(FILES[BAND])


def test_attack_61_one_name_twice_in_a_zip(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # zipfile warns the maker of this zip
        path = make_zip(tmp_path, FILES, None, (f"{ROOT}/MTD_MSIL1C.xml", b"other"))
    with pytest.raises(Malformed, match="two files of one name"):
        check_product(path)


def test_attack_64_zip_of_too_great_a_ratio(tmp_path: Path) -> None:
    path = make_zip(tmp_path, {**FILES, "zeros.tiff": bytes(16 << 20)})
    with pytest.raises(Malformed, match="200 to 1"):
        check_product(path)


def test_attack_64_zip_whose_members_share_their_bytes(tmp_path: Path) -> None:
    """Fifield's bomb: many entries of the directory name one member."""
    path = make_zip(tmp_path, {**FILES, "a1": b"one", "a2": b"two"})
    data = bytearray(path.read_bytes())
    first, second = (data.rindex(f"{ROOT}/{name}".encode()) - 46 for name in ("a1", "a2"))
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    with pytest.raises(Malformed, match="overlap"):
        check_product(path)


def test_attack_64_zip_that_lies_about_a_members_size(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(f"{ROOT}/MTD_MSIL1C.xml".encode()) - 46
    data[entry + 24 : entry + 28] = struct.pack("<I", 12)
    path.write_bytes(data)
    report = check_product(path)  # the size of the directory differs from the manifest's: not even unpacked
    assert report.judge() is Outcome.LINEAGE_FAILED
    with open_product(path) as product, pytest.raises(Malformed):
        list(product.blocks("MTD_MSIL1C.xml"))


def test_attack_64_zip_with_too_many_members_or_too_long_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path)
    monkeypatch.setattr(limits, "MAX_FILES", 3)
    with pytest.raises(Malformed, match="4 members"):
        check_product(path)
    monkeypatch.setattr(limits, "MAX_FILES", 10)
    monkeypatch.setattr(limits, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(Malformed, match="directory"):
        check_product(path)


def test_attack_64_directory_of_a_zip_is_bounded_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 1 << 30, 0, 0))
    with pytest.raises(Malformed, match="65535 members"):
        check_product(path)


def test_attack_64_product_that_is_too_large_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PRODUCT_BYTES", 1 << 20)
    for make in (make_folder, make_zip):
        with pytest.raises(Malformed, match="in all"):
            check_product(make(tmp_path))


def test_attack_64_archive_inside_a_product_is_a_file_like_any_other(tmp_path: Path) -> None:
    inner = make_zip(tmp_path).read_bytes()
    report = check_product(make_zip(tmp_path, {**FILES, "inner.zip": inner}))
    assert counts(report) == {"ok": 3, "unlisted": 1}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_methods_that_products_do_not_use_are_refused(method: int, tmp_path: Path) -> None:
    member = zipfile.ZipInfo(f"{ROOT}/x")
    path = make_zip(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"x" * 100, compress_type=method)
    with pytest.raises(Malformed, match="packed with method"):
        check_product(path)


def test_no_product_is_no_product(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        check_product(tmp_path / "absent")
    with pytest.raises(Malformed, match=r"manifest\.safe"):
        check_product(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(Malformed):
        check_product(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("a/manifest.safe", manifest())
    with pytest.raises(Malformed, match=r"\.SAFE folder"):
        check_product(tmp_path / "y.zip")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.comment = b"two ends"
    with pytest.raises(Malformed, match="comment"):
        check_product(tmp_path / "z.zip")


def listing(**other: object) -> bytes:
    entry = {"size": 3, "href": "./a", "name": "MD5", "digest": "0" * 32} | other
    return XFDU.format(objects=OBJECT.format(**entry)).encode()


def test_real_manifests_have_digests_in_both_cases() -> None:
    (entry,) = parse_manifest(listing(digest="AB" * 16)).entries
    assert entry.digest == "ab" * 16


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (listing(size="+3"), "size"),
        (listing(size="03"), "size"),
        (listing(size="٣"), "size"),
        (listing(size=""), "size"),
        (listing(name="SHA-1", digest="0" * 40), "kind"),
        (listing(name="md5"), "kind"),
        (listing(digest="0" * 31), "no MD5"),
        (listing(digest="0" * 64), "no MD5"),
        (listing(digest="g" * 32), "no MD5"),
        (listing(digest="<b>" + "0" * 32 + "</b>"), "no MD5"),
        (listing(href="../a"), "leads elsewhere"),
        (listing(href="file:///a"), "holds"),
        (listing(href="././a"), "leads elsewhere"),
        (listing(href=""), "leads elsewhere"),
        (manifest({}), "lists no file"),
        (b"", "well-formed"),
        (b"<a>", "well-formed"),
        (manifest().decode().encode("utf-16"), "UTF-8"),
        (manifest().decode().encode("utf-16-le"), "NUL"),
        (manifest().replace(b'"UTF-8"', b'"UTF-16"'), "encoding"),
        (manifest().replace(b"./GRANULE", b"./GR\xff"), "UTF-8"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]>' + manifest().partition(b"\n")[2], "document type"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + manifest().partition(b"\n")[2], "document type"),
        (b"<a>" * (MAX_DEPTH + 1), "levels"),
        (b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>", "elements"),
        (XFDU.format(objects="<dataObject><byteStream size='1'/></dataObject>").encode(), "without"),
        (listing().replace(b"<checksum", b"<fileLocation href='./b'/><checksum"), "two of href"),
        (listing().replace(b"</byteStream>", b"<checksum checksumName='MD5'/></byteStream>"), "two of"),
        (manifest({"a": b"1", "A": b"2"}), "one name"),
        (manifest({"a": b"1", "a/b": b"2"}), "below a file"),
    ],
)
def test_a_manifest_is_read_strictly(data: bytes, match: str) -> None:
    with pytest.raises(Malformed, match=match):
        parse_manifest(data)


def test_attack_56_manifest_that_lists_one_file_with_two_sums() -> None:
    objects = OBJECT.format(size=3, href="./a", name="MD5", digest="0" * 32)
    twice = objects + objects.replace("0" * 32, "1" * 32)
    with pytest.raises(Malformed, match="twice"):
        parse_manifest(XFDU.format(objects=twice).encode())
    assert len(parse_manifest(XFDU.format(objects=objects * 2).encode()).entries) == 1
