"""STAC Items as sources: local, over HTTP and from S3, hashed before anything is decoded."""

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_sources import SIDE, geotiff, numbers
from source_contract import SourceContract

from eocat.producer.sources import Scene, find_scenes
from eocat.verify.digest import digest_file
from eocat.verify.errors import EocatError, InputError, Unavailable

BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "rededge1": "B05"}


def write_item(folder: Path, *, href: str = "./{name}", **assets: dict[str, Any]) -> Path:
    """As Earth Search's: keys are colours, files beside it, one of 20 m, the classification, a preview."""
    folder.mkdir(parents=True)
    members: dict[str, Any] = {}
    for number, (key, band) in enumerate(BANDS.items()):
        side = SIDE // 2 if key == "rededge1" else SIDE
        (folder / f"{band}.tif").write_bytes(geotiff(numbers(number, side).astype(np.uint16)))
        members[key] = {
            "href": href.format(name=f"{band}.tif"),
            "eo:bands": [{"name": key, "common_name": key}],
            "file:checksum": f"1220{digest_file(folder / f'{band}.tif').sha256}",
        }
    classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    classes[: SIDE // 4] = 9
    (folder / "SCL.tif").write_bytes(geotiff(classes))
    members["scl"] = {"href": href.format(name="SCL.tif")}
    members["visual"] = {
        "href": href.format(name="TCI.tif"),
        "eo:bands": [{"name": n} for n in ("red", "green", "blue")],
    }
    members["red-jp2"] = {"href": href.format(name="B04.jp2"), "eo:bands": [{"name": "red"}]}
    properties = {
        "datetime": "2023-08-15T09:58:11Z", "constellation": "sentinel-2", "s2:processing_baseline": "05.09",
        "earthsearch:boa_offset_applied": True, "s2:product_type": "S2MSI2A",
    }  # fmt: skip
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "S2A_33TWL", "properties": properties}
    (folder / "S2A_33TWL.json").write_text(json.dumps(item | {"assets": members | assets}))
    return folder / "S2A_33TWL.json"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """(address of tmp_path over HTTP, the paths that were asked for)."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def only(address: Path | str) -> Scene:
    (scene,) = find_scenes([address])
    return scene


def refusal(address: Path | str) -> EocatError:
    with pytest.raises((InputError, Unavailable)) as caught:
        find_scenes([address])
    assert caught.value.hint
    return caught.value


class TestLocalItem(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return only(write_item(tmp_path / "item"))


class TestRemoteItem(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path, served: tuple[str, list[str]]) -> Scene:
        write_item(tmp_path / "item")
        return only(f"{served[0]}/item/S2A_33TWL.json")


class TestS3Item(SourceContract):
    """The same server answers as an endpoint of S3: s3://bucket/key is /bucket/key there."""

    @pytest.fixture
    def scene(self, tmp_path: Path, served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> Scene:
        for name, value in {
            "ENDPOINT_URL": served[0],
            "REGION": "x",
            "SKIP_SIGNATURE": "true",
            "ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        write_item(tmp_path / "bucket" / "item", href="s3://bucket/item/{name}")
        return only(tmp_path / "bucket" / "item" / "S2A_33TWL.json")


class TestWhatAnItemSays:
    def test_bands_grid_time_and_offset(self, tmp_path: Path) -> None:
        scene = only(write_item(tmp_path / "item"))
        assert scene.bands == ("B02", "B03", "B04", "B05", "B08")
        assert (scene.id, scene.offset, scene.transform.a) == ("S2A_33TWL", 0, 10)
        assert scene.start == datetime(2023, 8, 15, 9, 58, 11, tzinfo=UTC)
        assert np.array_equal(scene.read(["B04"])[0], numbers(2))
        assert scene.clouds().share(0, 0, SIDE) == 0.5

    def test_the_item_and_every_file_are_sources(self, tmp_path: Path) -> None:
        names = {file.name for file in only(write_item(tmp_path / "item")).files}
        assert names == {
            f"S2A_33TWL/{name}"
            for name in ("S2A_33TWL.json", "SCL.tif", *(f"{b}.tif" for b in BANDS.values()))
        }

    def test_remote_files_are_fetched_once_and_are_the_same(
        self, tmp_path: Path, served: tuple[str, list[str]]
    ) -> None:
        local = only(write_item(tmp_path / "item"))
        for _ in range(2):
            remote = only(f"{served[0]}/item/S2A_33TWL.json")
        assert np.array_equal(remote.read(remote.bands), local.read(local.bands))
        assert [file.name for file in remote.files] == [file.name for file in local.files]
        assert sum("B02.tif" in path for path in served[1]) == 1

    def test_a_file_that_is_not_the_items_is_refused(
        self, tmp_path: Path, served: tuple[str, list[str]]
    ) -> None:
        path = write_item(tmp_path / "item")
        (tmp_path / "item" / "B03.tif").write_bytes(geotiff(numbers(7).astype(np.uint16)))
        for address in (path, f"{served[0]}/item/S2A_33TWL.json"):
            assert "asset green, B03.tif, is not the file whose checksum its Item states" in str(
                refusal(address)
            )

    @pytest.mark.parametrize("href", ["../outside.tif", "/etc/outside.tif", "file:///etc/outside.tif"])
    def test_an_item_leads_nowhere_else(self, tmp_path: Path, href: str) -> None:
        (tmp_path / "outside.tif").write_bytes(geotiff(numbers(1).astype(np.uint16)))
        path = write_item(tmp_path / "item", B11={"href": href})
        assert "asset B11 of S2A_33TWL.json is no file below its folder" in str(refusal(path))

    def test_what_cannot_be_had_is_said(self, tmp_path: Path, served: tuple[str, list[str]]) -> None:
        write_item(tmp_path / "item")
        (tmp_path / "item" / "B08.tif").unlink()
        assert "item/B08.tif cannot be fetched" in str(refusal(f"{served[0]}/item/S2A_33TWL.json"))
        assert not list((tmp_path / "home").rglob(".*")), "nothing half-fetched stays"

    def test_a_file_larger_than_the_item_says_is_not_fetched(
        self, tmp_path: Path, served: tuple[str, list[str]]
    ) -> None:
        write_item(tmp_path / "item", blue={"href": "./B02.tif", "file:size": 10})
        assert "at most 10 are expected" in str(refusal(f"{served[0]}/item/S2A_33TWL.json"))

    @pytest.mark.parametrize("text", ["{}", '{"type": "Collection", "stac_version": "1.0.0"}', "no json"])
    def test_another_json_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "x.json").write_text(text)
        assert "x.json" in str(refusal(tmp_path / "x.json"))

    @pytest.mark.parametrize(
        "address", ["http://user:secret@127.0.0.1/a.json", "http://127.0.0.1/", "s3://b/.a"]
    )
    def test_addresses_of_no_file(self, address: str) -> None:
        assert "is no address of a file" in str(refusal(address))
