"""Sentinel-2 SAFE products, folder and zip: metadata, offsets, resolutions, and what each damage says."""

import base64
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from make_safe import (
    BANDS,
    METRES,
    Box,
    band_pixels,
    make_safe,
    write_classi,
    write_clouds,
    write_jp2,
    zipped,
)
from source_contract import SourceContract
from typer.testing import CliRunner

from eocat.producer.cli import app
from eocat.producer.signer import new_key
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.sources.cloud_gml import MAX_BYTES
from eocat.producer.sources.safe_xml import parse_xml
from eocat.verify.errors import InputError


def only(path: Path) -> Scene:
    (scene,) = find_scenes([path])
    return scene


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        find_scenes([path])
    assert caught.value.hint
    return str(caught.value)


def edit(root: Path, old: str, new: str, *, name: str = "MTD_MSIL*.xml") -> None:
    (path,) = root.rglob(name)
    text = path.read_text()
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text, flags=re.DOTALL))


def image(root: Path, band: str) -> Path:
    (path,) = root.rglob(f"*_{band}.jp2")
    return path


class TestLevel1C(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return only(make_safe(tmp_path, "1C"))


class TestLevel2A(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return only(make_safe(tmp_path, "2A"))


class TestZip(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        (tmp_path / "unpacked").mkdir()
        path = zipped(make_safe(tmp_path / "unpacked", "1C"))
        return only(path.rename(tmp_path / "odd, name (1).zip"))


class TestMetadata:
    @pytest.mark.parametrize("level", ["1C", "2A"])
    def test_what_the_product_says_of_itself(self, tmp_path: Path, level: str) -> None:
        scene = only(make_safe(tmp_path, level))
        assert scene.id == f"S2A_MSIL{level}_20230625T100031_N0509_R122_T33TUL_20230625T140000"
        assert scene.product == f"sentinel-2-l{level.lower()}"
        assert scene.bands == tuple(band for band in BANDS if level == "1C" or band != "B10")
        assert scene.start == scene.end == datetime(2023, 6, 25, 10, 8, 12, 500000, UTC)
        assert (scene.offset, scene.nodata, scene.crs) == (1000, 0, "EPSG:32633")
        assert scene.assumptions == ()
        assert dict(scene.properties) == {
            "platform": "sentinel-2a",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": 10,
            "eo:cloud_cover": 15.05,
            "grid:code": "MGRS-33TUL",
            "s2:processing_baseline": "05.09",
            "s2:product_uri": f"{scene.id}.SAFE",
        }

    def test_a_product_before_baseline_4_has_no_offset(self, tmp_path: Path) -> None:
        assert only(make_safe(tmp_path, "1C", baseline="02.06", offset=None)).offset == 0

    @pytest.mark.parametrize("level", ["1C", "2A"])
    def test_each_band_comes_at_its_finest_resolution(self, tmp_path: Path, level: str) -> None:
        scene = only(make_safe(tmp_path, level))
        for band, pixels in zip(scene.bands, scene.read(scene.bands), strict=True):
            metres = METRES.get(band, 20)
            index = np.arange(120) // (metres // 10)
            assert np.array_equal(pixels, band_pixels(band, metres)[np.ix_(index, index)])

    def test_files_are_the_metadata_and_the_chosen_images(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "2A")
        names = [file.name.removeprefix(f"{root.name}/") for file in only(root).files]
        assert len(names) == 2 + 12
        assert names[-1] == "MTD_MSIL2A.xml"
        assert not any("_60m" in name and "B09" not in name and "B01" not in name for name in names)

    def test_a_zip_is_one_file_with_the_same_pixels(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C")
        packed = only(zipped(root))
        assert [file.name for file in packed.files] == [f"{root.name}.zip"]
        assert np.array_equal(packed.read(BANDS), only(root).read(BANDS))

    def test_a_renamed_folder_keeps_the_products_id(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C")
        renamed = root.rename(tmp_path / "mine.SAFE")
        scene = only(renamed)
        assert scene.id == root.stem
        assert scene.assumptions == ("id: PRODUCT_URI; the folder is called mine.SAFE",)

    def test_without_tile_metadata_the_datatakes_time_is_recorded_as_such(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C")
        next(root.rglob("MTD_TL.xml")).unlink()
        scene = only(root)
        assert scene.start == datetime(2023, 6, 25, 10, 0, 31, 24000, UTC)
        assert any("datatake" in text for text in scene.assumptions)

    def test_absent_bands_are_no_part_of_the_scene(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C")
        image(root, "B05").unlink()
        scene = only(root)
        assert "B05" not in scene.bands
        with pytest.raises(InputError, match="has no band B05"):
            scene.read(["B05"])


class TestClouds:
    def test_the_scene_classification_of_level_2a(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "2A")
        classes = np.full((60, 60), 4, np.uint8)
        classes[:, :30], classes[:15] = 9, 3  # cloud in the western half, shadow in the north
        granule = next(root.glob("GRANULE/*"))
        write_jp2(granule / "IMG_DATA" / "R20m" / "T33TUL_20230625T100031_SCL_20m.jp2", classes, 20)
        scene = only(root)
        assert scene.clouds().share(0, 0, 120) == pytest.approx(0.625)
        assert scene.clouds().share(60, 60, 60) == 0
        assert any(file.name.endswith("SCL_20m.jp2") for file in scene.files)

    def test_a_product_without_a_classification_cannot_be_limited(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="has no cloud mask") as caught:
            only(make_safe(tmp_path, "1C")).clouds()
        assert "--max-cloud" in (caught.value.hint or "")

    def test_holes_are_clear_and_several_clouds_add_up(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C", baseline="02.06", offset=None)
        write_clouds(
            root, [("OPAQUE", (0, 0, 10, 10), [(2, 2, 4, 4), (6, 6, 7, 8)]), ("CIRRUS", (3, 3, 4, 4), [])]
        )
        clouds = only(root).clouds()
        expected = np.zeros((20, 20), bool)
        expected[:10, :10] = True
        expected[2:4, 2:4] = expected[6:8, 6] = False
        expected[3, 3] = True
        assert np.array_equal(clouds.cloudy, expected)
        assert clouds.step == 6
        assert any(file.name.endswith("MSK_CLOUDS_B00.gml") for file in only(root).files)

    def test_an_empty_mask_says_that_there_is_no_cloud(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C", baseline="02.06", offset=None)
        write_clouds(root, [])
        assert only(root).clouds().share(0, 0, 120) == 0

    def test_the_mask_in_a_zip_is_the_same(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C", baseline="02.06", offset=None)
        write_clouds(root, [("CIRRUS", (0, 0, 20, 5), [])])
        assert only(zipped(root)).clouds().share(0, 0, 120) == 0.25

    def test_level_2a_prefers_its_scene_classification(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "2A", baseline="02.12", offset=None)
        write_clouds(root, [("OPAQUE", (0, 0, 20, 20), [])])
        assert only(root).clouds().share(0, 0, 120) == 1
        (granule,) = root.glob("GRANULE/*")
        clear = np.full((60, 60), 4, np.uint8)
        write_jp2(granule / "IMG_DATA" / "R20m" / "T33TUL_20230625T100031_SCL_20m.jp2", clear, 20)
        assert only(root).clouds().share(0, 0, 120) == 0

    def test_snow_is_no_cloud(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C")
        planes = np.zeros((3, 20, 20), np.uint8)
        planes[0, :10], planes[1, :, :10], planes[2] = 1, 1, 1
        write_classi(root, planes)
        assert only(root).clouds().share(0, 0, 120) == 0.75

    def test_a_classification_without_its_bands_is_refused(self, tmp_path: Path) -> None:
        root = make_safe(tmp_path, "1C")
        write_classi(root, np.zeros((1, 20, 20), np.uint8))
        assert "MSK_CLASSI_B00.jp2 has 1 bands, 3 are expected: opaque cloud, cirrus, snow" in refusal(root)


CLOUDS: list[tuple[str, Box, list[Box]]] = [  # a quarter of the tile is a chip of 60 pixels, 10 of the mask
    ("OPAQUE", (0, 0, 10, 10), []),  # the first chip: 100 %
    ("CIRRUS", (10, 0, 20, 10), [(11, 0, 20, 10)]),  # the second: 10 %, the rest is a hole
    ("OPAQUE", (0, 10, 3, 20), []),  # the third: 30 %
]


@pytest.mark.parametrize("kind", ["polygons", "raster"])
def test_produce_leaves_out_cloudy_chips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As the command: chips with more than 20 % of opaque cloud and cirrus are no row, by either mask."""
    if kind == "polygons":
        root = make_safe(tmp_path, "1C", baseline="02.06", offset=None)
        write_clouds(root, CLOUDS)
    else:
        root = make_safe(tmp_path, "1C")
        planes = np.zeros((3, 20, 20), np.uint8)
        planes[0, :10, :10] = planes[1, :10, 10] = planes[0, 10:, :3] = planes[2] = 1
        write_classi(root, planes)
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    new_key("k", None)
    options = ["--collection", "c", "--out", str(tmp_path / "out"), "--key", "k", "--size", "60", "--json"]
    ran = CliRunner().invoke(app, ["produce", str(root), *options, "--max-cloud", "20"])
    assert ran.exit_code == 0, ran.stderr
    (shard,) = json.loads(ran.stdout)["shards"]
    assert shard["rows"] == 2
    item = json.loads((Path(shard["folder"]) / "item.json").read_text())
    assert item["properties"]["eo:cloud_cover"] == 15.05
    (line,) = (Path(shard["folder"]) / "attestation.jsonl").read_text().splitlines()
    statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
    assert statement["predicate"]["parameters"]["left_out"] == {"cloud": 2}


BAD_MASKS: dict[str, tuple[Callable[[str], str], str]] = {
    "cut": (lambda text: text[:900], "is not well-formed UTF-8 XML"),
    "empty": (lambda _: "", "is not well-formed UTF-8 XML"),
    "entities": (
        lambda text: text.replace("?>", '?><!DOCTYPE x [<!ENTITY a "a">]>'),
        "declares a document type",
    ),
    "another document": (lambda _: "<html><body/></html>", "is no eop:Mask with one eop:maskMembers"),
    "another namespace": (lambda text: text.replace("eop/2.0", "eop/2.1"), "is no eop:Mask"),
    "no members": (lambda text: text.replace("maskMembers", "members"), "is no eop:Mask with one"),
    "another mask": (
        lambda text: text.replace(">OPAQUE<", ">QT_NODATA_PIXELS<"),
        "of type 'QT_NODATA_PIXELS'",
    ),
    "another zone": (
        lambda text: text.replace(":32633", ":32634"),
        "is in EPSG:32634, EPSG:32633 is expected",
    ),
    "degrees": (lambda text: text.replace("urn:ogc:def:crs:EPSG:8.7:32633", "CRS84"), "is in CRS84"),
    "two zones": (
        lambda text: text.replace("<gml:Polygon ", '<gml:Polygon srsName="urn:ogc:def:crs:EPSG::32634" '),
        "is in EPSG:32633, EPSG:32634",
    ),
    "no reference system": (lambda text: re.sub("srsName=.*?>", ">", text), "is in no reference system"),
    "another tile": (lambda text: text.replace("300600 ", "309600 "), "has a cloud outside the tile"),
    "no outline": (
        lambda text: text.replace("exterior", "interior"),
        "is no gml:Polygon with one outer ring",
    ),
    "no polygon": (lambda text: text.replace("gml:Polygon", "gml:Surface"), "is no gml:Polygon with one"),
    "an open ring": (lambda text: re.sub(r" \d+ \d+</", "</", text), "has a ring that is no closed line"),
    "half a position": (lambda text: re.sub(r" \d+</", "</", text), "has a ring that is no closed line"),
    "heights": (lambda text: text.replace('Dimension="2"', 'Dimension="3"'), "has a ring that is no closed"),
    "words": (lambda text: text.replace("300000 5100000 ", "NaN inf "), "has a ring that is no closed line"),
}


@pytest.mark.parametrize("defect", BAD_MASKS)
def test_a_bad_mask_is_refused_by_name_where_it_is_needed(tmp_path: Path, defect: str) -> None:
    root = make_safe(tmp_path, "1C", baseline="02.06", offset=None)
    path = write_clouds(root, CLOUDS[:1])
    edit_text, message = BAD_MASKS[defect]
    path.write_text(edit_text(path.read_text()))
    scene = only(root)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        scene.clouds()
    assert "MSK_CLOUDS_B00.gml" in str(caught.value)
    assert caught.value.hint


def test_a_mask_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    root = make_safe(tmp_path, "1C", baseline="02.06", offset=None)
    path = write_clouds(root, CLOUDS)
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(InputError, match=f"is {MAX_BYTES + 1} bytes long, at most {MAX_BYTES} are read"):
        only(root).clouds()


class TestRealProducts:
    def test_the_one_band_of_a_real_tile(self, shared_data: Path) -> None:
        scene = only(shared_data / "s2_l1c_safe_31TDH")
        assert (scene.bands, scene.offset, scene.nodata) == (("B01",), 0, 0)
        assert (scene.crs, scene.height, scene.transform.a) == ("EPSG:32631", 1830, 60)
        assert scene.start == datetime(2018, 1, 1, 10, 54, 35, 457000, UTC)
        assert scene.read(["B01"]).mean() == pytest.approx(1242.5188, abs=1e-3)

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("S2A_MSIL1C_*.zip", "13 of 13 band files are empty"),
            ("S2A_MSIL2A_*157.SAFE", "holds no band: none of the 12"),
            ("S1A_*.zip", "is a Sentinel-1 product: its images have ground control points and no grid"),
        ],
    )
    def test_products_without_pixels_are_refused(self, shared_data: Path, pattern: str, message: str) -> None:
        (path,) = (shared_data / "safe_provenance").glob(pattern)
        assert message in refusal(path)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty band": (lambda root: os.truncate(image(root, "B02"), 0), "1 of 13 band files are empty"),
    "cut header": (lambda root: os.truncate(image(root, "B02"), 40), "B02.jp2 cannot be opened"),
    "no metadata": (lambda root: (root / "MTD_MSIL1C.xml").unlink(), "holds 0 files of Sentinel-2"),
    "cut metadata": (lambda root: os.truncate(root / "MTD_MSIL1C.xml", 400), "is not well-formed UTF-8 XML"),
    "no offset": (
        lambda root: edit(root, "<RADIO_ADD.*OFFSET>", ""),
        "has baseline '05.09' and no RADIO_ADD_OFFSET",
    ),
    "two offsets": (lambda root: edit(root, '"3">-1000', '"3">-900'), "has 2 different band offsets"),
    "offset no number": (lambda root: edit(root, ">-1000<", ">-1e3<"), "has '-1e3' where a whole number"),
    "another scale": (lambda root: edit(root, ">10000<", ">1000<"), "has quantification value 1000"),
    "two granules": (lambda root: edit(root, "</Granule>", "</Granule><Granule/>"), "lists 2 granules"),
    "no uri": (lambda root: edit(root, "<PRODUCT_URI>.*</PRODUCT_URI>", ""), "has no PRODUCT_URI"),
    "broken time": (
        lambda root: edit(root, "2023-06-25T10:08", "25 June", name="MTD_TL.xml"),
        "has the time '25 June",
    ),
    "entities": (
        lambda root: edit(root, r"\?>", '?><!DOCTYPE x [<!ENTITY a "aaaa">]>'),
        "declares a document type",
    ),
    "path out of the product": (
        lambda root: edit(root, r"GRANULE/[^<]*/IMG_DATA", "GRANULE/../../IMG_DATA"),
        "holds no band",
    ),
    "band of another zone": (
        lambda root: write_jp2(image(root, "B02"), band_pixels("B02", 10), 10, epsg=32634),
        "does not lie on the grid of",
    ),
}


@pytest.mark.parametrize("defect", DAMAGES)
def test_damage_is_refused_before_decoding(tmp_path: Path, defect: str) -> None:
    root = make_safe(tmp_path, "1C")
    damage, message = DAMAGES[defect]
    damage(root)
    with pytest.raises(InputError, match=re.escape(message)):
        find_scenes([root])


def test_a_cut_code_stream_is_found_when_it_is_decoded(tmp_path: Path) -> None:
    root = make_safe(tmp_path, "1C")
    path = image(root, "B02")
    os.truncate(path, path.stat().st_size - 500)
    scene = only(root)
    with pytest.raises(InputError, match=r"B02\.jp2 of scene .* cannot be decoded") as caught:
        scene.read(scene.bands)
    assert caught.value.hint
    assert scene.read(["B03"]).shape == (1, 120, 120)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no zip at all"])
def test_a_broken_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    assert "a.zip is no readable zip" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a SYSTEM "http://example.com/x"><a/>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><a/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a+AD4-<a/>',
        b"<a>",
        b"",
    ],
)
def test_xml_that_could_reach_further_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_xml(data, "x.xml")
