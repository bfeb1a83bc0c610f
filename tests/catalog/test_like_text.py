"""A text finds the chips that its vector lies nearest to, by the text tower of the collection's encoder."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from catalogue import new_database, running
from safetensors.torch import save_file
from shard_maker import new_signer, policy_for, write_shard
from small_weights import file_tensors, small_entry, small_model
from test_encoders_cli import MERGES
from test_like_image import png
from typer.testing import CliRunner

from eocat.catalog.admission import register
from eocat.catalog.search_cli import app
from eocat.producer import query_encoder
from eocat.producer.encoders import Checkpoint, load_encoder, registry, text
from eocat.producer.encoders.clip_tokens import parse_vocabulary
from eocat.verify.digest import digest_file

# A picture that is searched with lies nowhere: rasterio warns of that.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAME = "clip-vitb32-laion2b-rgb"
TEXTS = ["low", "aaa low", "er", "a low er"]


@dataclass(frozen=True)
class Site:
    url: str
    folder: Path
    pixels: Any


@pytest.fixture(scope="module")
def site(embedded: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Four chips whose vectors are those of TEXTS, one whose vector is a picture's; small towers of CLIP."""
    entry = small_entry(NAME)
    tower = small_model(registry.find_text_model(entry))
    tower = replace(tower, parameters=dict(tower.parameters) | {"vocabulary": 518, "context": 77})
    folder, out, signer = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("out"), new_signer()
    path = folder / f"{NAME}.safetensors"
    tensors = file_tensors(entry.model) | file_tensors(tower)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._registry(), NAME, entry)
        patch.setitem(registry._text_models(), NAME, tower)
        patch.setattr(text, "load_tokenizer", lambda _=None: parse_vocabulary(MERGES, merges=4))
        checkpoint = Checkpoint(path, digest_file(path).sha256)
        encoder = load_encoder(NAME, entry.bands, device="cpu", checkpoint=checkpoint)
        words = text.load_text_encoder(entry, checkpoint, device="cpu")
        pixels = np.random.default_rng(3).integers(0, 256, (3, 64, 64), dtype=np.uint8)
        vectors = np.concatenate([words.encode(TEXTS), encoder.encode(pixels[None], offset=0)])
        write_shard(out, "demo", "s", signer=signer, encoder=encoder, vectors=vectors)  # type: ignore[arg-type]
        with new_database(embedded) as database:
            register(database, [out], policy_for(signer))
            with running(database) as url:
                yield Site(url, folder, pixels)
        for cached in (query_encoder._published, query_encoder._text_tower, query_encoder._digest):
            cached.cache_clear()


def similar(site: Site, like: dict[str, Any]) -> requests.Response:
    return requests.post(f"{site.url}/search/similar", json={"like": like, "limit": 1}, timeout=120)


def test_a_text_finds_its_chip(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(query_encoder.FOLDER, str(site.folder))
    for row, words in enumerate(TEXTS):
        answer = similar(site, {"text": words})
        assert answer.status_code == 200, answer.text
        [hit] = answer.json()["features"]
        assert (hit["properties"]["row"], hit["properties"]["distance"]) == (row, pytest.approx(0, abs=1e-5))
    [hit] = similar(site, {"image": png(site.pixels)}).json()["features"]
    assert (hit["properties"]["row"], hit["properties"]["distance"]) == (4, pytest.approx(0, abs=1e-5))


def test_the_command_takes_a_text_or_a_picture(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(query_encoder.FOLDER, str(site.folder))
    picture = tmp_path / "chip.png"
    picture.write_bytes(base64.b64decode(png(site.pixels)))
    for asked, row in ((["--text", "er"], 2), ([str(picture)], 4)):
        done = CliRunner().invoke(app, ["similar", *asked, "--limit", "1", "--csv", "--api", site.url])
        assert done.exit_code == 0, done.output
        assert f"demo/s#{row}" in done.output
    for asked in ([], ["demo/s#1", "--text", "er"]):
        done = CliRunner().invoke(app, ["similar", *asked, "--api", site.url])
        assert "either LIKE or --text" in str(done.exception)


def test_without_the_very_weights_it_is_refused_in_a_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / f"{NAME}.safetensors"
    data = bytearray((site.folder / other.name).read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    for folder, sentence in (
        (None, "needs weights that this catalogue does not have"),
        (tmp_path / "nowhere", "needs weights that this catalogue does not have"),
        (tmp_path, "are not those of the collection"),
    ):
        if folder is None:
            monkeypatch.delenv(query_encoder.FOLDER, raising=False)
        else:
            monkeypatch.setenv(query_encoder.FOLDER, str(folder))
        answer = similar(site, {"text": "low"})
        assert (answer.status_code, sentence in answer.json()["description"]) == (400, True), answer.text
    monkeypatch.setenv(query_encoder.FOLDER, str(site.folder))
    assert similar(site, {"text": " "}).status_code == 400
