"""A picture is encoded by the collection's own encoder, and finds the chip that it shows."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from catalogue import new_database
from PIL import Image
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard
from test_similar import ask

from eocat.catalog.admission import register
from eocat.producer.encoders import load_encoder
from eocat.verify.errors import Malformed

# A picture that is searched with lies nowhere: rasterio warns of that.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
CHIPS = 12


@pytest.fixture(scope="module")
def encoded(embedded: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Chips of drawn pixels with the vectors that `exact-rgb` makes of them."""
    out, signer = tmp_path_factory.mktemp("out"), new_signer()
    encoder = load_encoder("exact-rgb", ("red", "green", "blue"), device="cpu")
    random = np.random.default_rng(4)
    coarse = random.integers(0, 256, (CHIPS, 3, 6, 6))
    chips = coarse.repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8)
    chips += random.integers(0, 9, chips.shape, dtype=np.uint8) // 2
    write_shard(out, "demo", "s", signer=signer, encoder=encoder, vectors=encoder.encode(chips, offset=0))  # type: ignore[arg-type]
    with new_database(embedded) as database:
        register(database, [out], policy_for(signer))
        yield database, chips


def png(pixels: Any) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def tiff(pixels: Any, path: Path) -> str:
    count, height, width = pixels.shape
    options = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **options) as target:
        target.write(pixels)
    return base64.b64encode(path.read_bytes()).decode()


def test_a_picture_finds_the_chip_that_it_shows(encoded: Any, tmp_path: Path) -> None:
    database, chips = encoded
    for row in (0, CHIPS - 1):
        for image in (png(chips[row]), tiff(chips[row], tmp_path / f"{row}.tif")):
            answer = ask(database, like={"image": image}, limit=2)
            assert answer.neighbours[0].row == row
            assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-6)
            assert answer.neighbours[1].distance > 1e-4


def test_what_cannot_be_encoded_is_refused_in_a_sentence(encoded: Any, tmp_path: Path) -> None:
    database, chips = encoded
    small, large = chips[0][:, :4, :4], np.zeros((3, 10, 1_025), np.uint8)
    vrt = base64.b64encode(b'<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>').decode()
    for like, sentence in (
        ({"image": "!"}, "image"),
        ({"image": base64.b64encode(b"no picture").decode()}, "neither PNG, JPEG nor GeoTIFF"),
        ({"image": vrt}, "neither PNG, JPEG nor GeoTIFF"),
        ({"image": png(small)}, "4 × 4"),
        ({"image": png(large)}, "1025 × 10"),
        ({"image": tiff(chips[0][:2], tmp_path / "two.tif")}, "2 bands"),
        ({"image": tiff(chips[0].astype(np.float32), tmp_path / "real.tif")}, "float32"),
        ({"image": png(chips[0]), "offset": 1_000_000}, "offset"),
        ({"text": "a harbour"}, "has no text tower"),
        ({"text": ""}, "text"),
    ):
        with pytest.raises(Malformed, match=sentence):
            ask(database, like=like)


def test_an_encoder_that_is_not_at_hand_is_named(embedded: Any, tmp_path: Path) -> None:
    signer = new_signer()
    write_shard(tmp_path, "demo", "s", signer=signer, count=5, encoder=DrawnEncoder(dimension=8))
    with new_database(embedded) as database:
        register(database, [tmp_path], policy_for(signer))
        for like in ({"image": png(np.zeros((3, 9, 9), np.uint8))}, {"text": "a harbour"}):
            with pytest.raises(Malformed, match="no encoder is named 'drawn'"):
                ask(database, like=like)
