"""Published encoders: contract, preprocessing and dimension of every registry entry, and what is refused."""

import io
import os
import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_contract import EncoderContract
from small_weights import file_tensors, save_small, small_entry, small_model

from eocat.producer.encoders import Checkpoint, Encoder, load_encoder
from eocat.producer.encoders.checkpoint import convert, converted_from
from eocat.producer.encoders.contract import draw_pixels, preprocessed_value
from eocat.producer.encoders.device import device_batches
from eocat.producer.encoders.nets import build_net
from eocat.producer.encoders.precision import Precision
from eocat.producer.encoders.preprocess import check_steps, preprocess
from eocat.producer.encoders.published import PublishedEncoder, load_published
from eocat.producer.encoders.registry import entry_names, find_entry, find_text_model, parse_family
from eocat.verify.canonical import encode
from eocat.verify.digest import digest_file
from eocat.verify.errors import InputError, Malformed, UsageError

CONTRACT = [  # at least one of each family, and of each architecture, layout, input and kind of preprocessing
    "ssl4eo-s12-resnet18-moco-s2", "ssl4eo-s12-resnet50-dino-s2-torchgeo", "ssl4eo-s12-vith14-mae-s1",
    "ssl4eo-s12-resnet50-moco-s1-majortom", "decur-resnet50-s1", "softcon-vitb14-s2", "dofa-b16-s2",
    "croma-base-s1", "croma-base-s2", "copernicus-fm-b16-s2", "mmearth-atto-s2", "dinov2-vits14-reg4-rgb",
    "dinov2-vitb14-s2-majortom", "siglip-b16-rgb", "clip-vitb32-openai-s2", "remoteclip-vitb32-s2",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nets of this size spend longer waiting for a second thread than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=CONTRACT)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    entry = small_entry(request.param)
    form = ("torch", "safetensors", "legacy")[CONTRACT.index(request.param) % 3]
    checkpoint = save_small(entry.model, tmp_path_factory.mktemp("weights"), form=form)
    return load_published(entry, checkpoint, device="cpu")


class TestContract(EncoderContract):
    @pytest.fixture
    def encoder(self, published: Encoder) -> Encoder:
        return published


HALF: list[tuple[str, Precision]] = [  # plain, and those that are prepared once their weights are loaded
    ("decur-resnet50-s1", "fp16"), ("dofa-b16-s2", "bf16"), ("dinov2-vits14-rgb", "bf16"),
]  # fmt: skip


@pytest.fixture(scope="module", params=HALF)
def in_half(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    name, precision = request.param
    entry = small_entry(name)
    checkpoint = save_small(entry.model, tmp_path_factory.mktemp("weights"))
    return load_published(entry, checkpoint, device="cpu", precision=precision)


class TestContractInHalfPrecision(EncoderContract):
    @pytest.fixture
    def encoder(self, in_half: Encoder) -> Encoder:
        return in_half


def test_every_family_of_the_registry_is_under_contract() -> None:
    families = {find_entry(name).family.title for name in entry_names()}
    assert {find_entry(name).family.title for name in CONTRACT} == families


@pytest.mark.parametrize("name", entry_names())
def test_an_entry_is_whole_and_its_real_net_gives_the_stated_dimension(name: str) -> None:
    """At its published size, on torch's meta device: shapes are worked out, nothing is computed."""
    entry = find_entry(name)
    check_steps(entry.steps, len(entry.bands), entry.size)
    assert encode({"parameters": dict(entry.model.parameters), "steps": [dict(step) for step in entry.steps]})
    assert all((entry.family.licence, entry.family.citation, entry.model.url.startswith("https://")))
    with torch.device("meta"), torch.inference_mode():
        net = build_net(entry.model.architecture, dict(entry.model.parameters))
        if prepare := getattr(net, "prepare", None):
            prepare()
        features = net(torch.empty(2, len(entry.bands), entry.size, entry.size))
    assert features.shape == (2, entry.model.dimension)


@pytest.mark.parametrize("name", entry_names())
def test_a_digest_is_that_of_the_file_which_the_entry_names(name: str) -> None:
    """torchgeo's file names hold its first eight digits; image and text tower are in one file."""
    model = find_entry(name).model
    if named := re.search(r"-([0-9a-f]{8})\.(?:pt|pth)$", model.url):
        assert (model.sha256 or model.prefix or "").startswith(named[1])
    if model.sha256:
        assert model.source
        assert "/resolve/main/" not in model.url or "wangyi111" in model.url, (
            "a digest wants a fixed revision"
        )
    if find_entry(name).text:
        tower = find_text_model(find_entry(name))
        assert (tower.url, tower.sha256) == (model.url, model.sha256)


@pytest.mark.parametrize("name", [name for name in entry_names() if find_entry(name).text])
def test_a_text_tower_has_the_dimension_of_its_image_tower(name: str) -> None:
    entry = find_entry(name)
    model = find_text_model(entry)
    with torch.device("meta"), torch.inference_mode():
        net = build_net(model.architecture, dict(model.parameters))
        tokens = torch.zeros(2, model.parameters["context"], dtype=torch.int64)
        assert net(tokens).shape == (2, entry.model.dimension)


KNOWN = [  # band's value in the file, after the published preprocessing; worked out by hand
    ("ssl4eo-s12-resnet50-dino-s2", "B04", 1500, 0.15),
    ("ssl4eo-s12-resnet50-moco-s1-torchgeo", "VV", -1000, 0.4924),  # (-10 + 12.59) / 5.26
    ("ssl4eo-s12-resnet50-moco-s1-majortom", "VV", -1000, 0.6212),  # (-10 + 23.0624) / 21.0279
    ("ssl4eo-s12-resnet50-moco-s1-majortom", "VH", -4000, 0.0),
    ("softcon-resnet50-s2-torchgeo", "B10", 69, 0.9895),  # (69 - 22) / 47.5
    ("softcon-vits14-s2", "B10", 69, 0.7451),  # 190 of 255: (69 + 73) / 190 is 0.7474, cast to 8 bits
    ("dofa-b16-s2", "B04", 1779, 0.1720),  # (127.5 - 114.10997) / 77.84353
    ("dofa-b16-s2", "B08", 4080, 0.4323),
    ("croma-base-s2", "B12", 1537, 0.4980),  # the mean is 127 of 255
    ("copernicus-fm-b16-s1", "VH", -1428, 1.0000),
    ("mmearth-atto-s2", "B12", 3202, 0.9997),
    ("dinov2-vitb14-s2", "B04", 2000, 0.0655),  # (0.5 - 0.485) / 0.229
    ("dinov2-vitb14-s2", "B02", 9000, 2.64),  # clipped to 1
    ("siglip-b16-s2", "B03", 1000, -0.5),
    ("clip-vitb32-openai-rgb", "red", 255, 1.9303),
]


@pytest.mark.parametrize(("name", "band", "value", "expected"), KNOWN)
def test_known_preprocessing_values(name: str, band: str, value: int, expected: float) -> None:
    entry = find_entry(name)
    index = entry.bands.index(band)
    chip = torch.full((1, len(entry.bands), 40, 40), float(value))
    found = preprocess(chip, entry.steps)[0, index]
    assert found.min() == pytest.approx(expected, abs=2e-4)
    assert found.max() == pytest.approx(expected, abs=2e-4)
    assert float(preprocessed_value(value, list(map(dict, entry.steps)), index)) == pytest.approx(
        expected, abs=2e-4
    )


def test_resizing_is_bilinear_with_antialias_and_cropping_takes_the_middle() -> None:
    """Four columns 0, 0, 8, 8 to two: a triangle of radius 2 weighs 3/8, 3/8, 1/8 (1/8 beyond the edge)."""
    x = torch.tensor([0.0, 0.0, 8.0, 8.0]).expand(1, 1, 4, 4)
    assert preprocess(x, [{"resize": 2}])[0, 0, 0].tolist() == pytest.approx([8 / 7, 48 / 7], abs=1e-5)
    assert preprocess(torch.arange(36.0).view(1, 1, 6, 6), [{"crop": 2}])[0, 0].tolist() == [
        [14, 15],
        [20, 21],
    ]


@pytest.fixture
def small(tmp_path: Path) -> tuple[PublishedEncoder, Checkpoint]:
    entry = small_entry("ssl4eo-s12-vits16-dino-s2")
    checkpoint = save_small(entry.model, tmp_path)
    return load_published(entry, checkpoint, device="cpu"), checkpoint


def test_the_scene_s_offset_is_taken_off_before_the_scale(small: tuple[PublishedEncoder, Checkpoint]) -> None:
    encoder = small[0]
    pixels = draw_pixels(encoder, 2, 32)
    expected = encoder.encode(pixels, offset=0)
    assert np.array_equal(encoder.encode(pixels + np.uint16(1000), offset=1000), expected)
    assert np.array_equal(encoder.encode(pixels.astype(">u2"), offset=0), expected)


def test_the_space_depends_on_weights_bands_and_preprocessing_not_on_precision(tmp_path: Path) -> None:
    from eocat.producer.run import space_of

    entry, other = (small_entry(f"ssl4eo-s12-resnet50-moco-s1{kind}") for kind in ("", "-majortom"))
    checkpoint = save_small(entry.model, tmp_path)
    encoders = [load_published(e, checkpoint, device="cpu", precision=p)
                for e, p in ((entry, "fp32"), (entry, "bf16"), (other, "fp32"))]  # fmt: skip
    spaces = [space_of(encoder) for encoder in encoders]
    assert spaces[0] == spaces[1] != spaces[2]
    assert [encoder.tolerance["parts_per_billion"] for encoder in encoders] == [1_000, 100_000, 1_000]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "int32"])
def test_pixels_reach_the_device_in_order_and_unchanged(dtype: str) -> None:
    """uint16 travels as int16, so the values at its ends tell."""
    kind = np.iinfo(dtype)
    ends = np.array([kind.min, kind.max, 7], dtype)
    pixels = np.resize(ends, (7, 2, 3, 3))[:, :, ::-1]
    parts = list(device_batches(pixels, 3, torch.device("cpu")))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(torch.cat(parts).numpy(), pixels.astype(np.int64))


def test_weights_without_a_whole_digest_are_refused(small: tuple[PublishedEncoder, Checkpoint]) -> None:
    entry = find_entry("ssl4eo-s12-vits16-dino-s2")
    path = small[1].path
    with pytest.raises(UsageError, match="only that it begins with 36bcc127 is public"):
        load_published(entry, Checkpoint(path), device="cpu")
    with pytest.raises(UsageError, match="this encoder's begin with 36bcc127"):
        load_published(entry, small[1], device="cpu")
    with pytest.raises(Malformed, match="expected 36bcc127"):
        load_published(entry, Checkpoint(path, "36bcc127" + "0" * 56), device="cpu")
    with pytest.raises(Malformed, match="expected 539c5dd95cdf5b95"):  # the registry pins the whole one
        load_published(find_entry("copernicus-fm-b16-s2"), Checkpoint(path), device="cpu")


def test_a_converted_file_is_the_same_everywhere_and_names_its_origin(tmp_path: Path) -> None:
    entry = small_entry("croma-base-s2")
    original = save_small(entry.model, tmp_path)
    data = original.path.read_bytes()
    made = convert(data, "weights.pth", original.sha256 or "")
    assert made == convert(data, "renamed.pth", original.sha256 or "")
    assert converted_from(made) == original.sha256
    assert converted_from(data) is None
    checkpoint = pinned(tmp_path / "made.safetensors", made)
    pixels = draw_pixels(load_published(entry, original, device="cpu"), 2, 32)
    vectors = [
        load_published(entry, c, device="cpu").encode(pixels, offset=0) for c in (original, checkpoint)
    ]
    assert np.array_equal(*vectors)
    other = replace(entry, model=replace(entry.model, prefix="0" * 8))
    with pytest.raises(UsageError, match=f"come from {(original.sha256 or '')[:16]}"):
        load_published(other, checkpoint, device="cpu")
    known = replace(entry, model=replace(entry.model, prefix=(original.sha256 or "")[:8]))
    assert load_published(known, checkpoint, device="cpu").weights[0].name == "made.safetensors"


@pytest.mark.parametrize("digest", ["", "36bcc127", "A" * 64, "0" * 63 + "g", "0x" + "0" * 62])
def test_a_digest_has_one_spelling(digest: str) -> None:
    with pytest.raises(UsageError, match="is no SHA-256"):
        Checkpoint(Path("w.pth"), digest)


def test_a_changed_byte_is_refused(small: tuple[PublishedEncoder, Checkpoint]) -> None:
    encoder, checkpoint = small
    data = bytearray(checkpoint.path.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.path.write_bytes(data)
    with pytest.raises(Malformed, match="expected"):
        load_published(encoder.entry, checkpoint, device="cpu")


class Loud:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import os; os.environ['EOCAT_TEST_PICKLE_RAN'] = '1'",)


def pinned(path: Path, data: bytes) -> Checkpoint:
    path.write_bytes(data)
    return Checkpoint(path, digest_file(path).sha256)


@pytest.mark.parametrize("form", ["torch", "legacy", "bare pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(
    form: str, small: tuple[PublishedEncoder, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EOCAT_TEST_PICKLE_RAN", raising=False)
    buffer = io.BytesIO()
    if form == "bare pickle":
        pickle.dump({"a": Loud()}, buffer)
    else:
        torch.save({"a": Loud()}, buffer, _use_new_zipfile_serialization=form == "torch")
    checkpoint = pinned(tmp_path / "evil.pth", buffer.getvalue())
    with pytest.raises(Malformed, match=r"evil\.pth hold .* nothing of it was run"):
        load_published(small[0].entry, checkpoint, device="cpu")
    assert "EOCAT_TEST_PICKLE_RAN" not in os.environ


def test_a_torchscript_archive_is_refused(small: tuple[PublishedEncoder, Checkpoint], tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # torch calls its own format deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "scripted.pt")
    checkpoint = pinned(tmp_path / "t.pt", (tmp_path / "scripted.pt").read_bytes())
    with pytest.raises(Malformed, match="TorchScript"):
        load_published(small[0].entry, checkpoint, device="cpu")


@pytest.mark.parametrize("form", ["torch", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(form: str, share: float, tmp_path: Path) -> None:
    entry = small_entry("ssl4eo-s12-vits16-dino-s2")
    data = save_small(entry.model, tmp_path, form=form).path.read_bytes()
    checkpoint = pinned(tmp_path / "cut", data[: int(len(data) * share)])
    with pytest.raises(Malformed, match="cut"):
        load_published(entry, checkpoint, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [("missing", "missing: norm.weight"), ("unexpected", "unexpected: sting.weight"),
     ("shape", r"of another shape: norm.weight \(7,\) for \(32,\)")],
)  # fmt: skip
def test_other_keys_and_shapes_are_named(change: str, message: str, tmp_path: Path) -> None:
    entry = small_entry("ssl4eo-s12-vits16-dino-s2")
    tensors = file_tensors(entry.model)
    if change == "missing":
        del tensors["norm.weight"]
    tensors |= {"unexpected": {"sting.weight": torch.ones(1)}, "shape": {"norm.weight": torch.ones(7)}}.get(
        change, {}
    )
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(Malformed, match=message):
        load_published(
            entry, Checkpoint(tmp_path / "w.pth", digest_file(tmp_path / "w.pth").sha256), device="cpu"
        )


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {"a": 1}])
def test_a_torch_file_without_a_dictionary_of_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    checkpoint = Checkpoint(tmp_path / "w.pth", digest_file(tmp_path / "w.pth").sha256)
    with pytest.raises(Malformed, match="expected a dictionary of tensors|missing: "):
        load_published(small_entry("ssl4eo-s12-vits16-dino-s2"), checkpoint, device="cpu")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pth cannot be read: No such file"):
        load_published(find_entry("croma-base-s2"), Checkpoint(tmp_path / "none.pth", "0238d814" + "0" * 56))


def test_features_beyond_float16_are_refused_with_their_row(tmp_path: Path) -> None:
    entry = small_entry("ssl4eo-s12-vits16-dino-s2")
    tensors = file_tensors(entry.model)
    tensors["norm.bias"] = torch.full_like(tensors["norm.bias"], 1e6)
    torch.save(tensors, tmp_path / "w.pth")
    checkpoint = Checkpoint(tmp_path / "w.pth", digest_file(tmp_path / "w.pth").sha256)
    encoder = load_published(entry, checkpoint, device="cpu")
    with pytest.raises(InputError, match="row 0 has no vector"):
        encoder.encode(draw_pixels(encoder, 1, 32), offset=0)


def test_pixels_of_another_kind_are_refused(tmp_path: Path) -> None:
    entry = small_entry("decur-resnet50-s1")
    encoder = load_published(entry, save_small(entry.model, tmp_path), device="cpu")
    with pytest.raises(InputError, match="must be int16, found uint16"):
        encoder.encode(np.ones((1, 2, 32, 32), np.uint16), offset=0)
    with pytest.raises(InputError, match="for reflectance only"):
        encoder.encode(np.ones((1, 2, 32, 32), np.int16), offset=1000)


def test_loading_by_name_says_what_is_missing() -> None:
    bands = find_entry("croma-base-s2").bands
    with pytest.raises(UsageError, match="needs its weights") as caught:
        load_encoder("croma-base-s2", bands)
    assert "CROMA_base-0238d814.pt" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no encoder is named 'croma-tiny'") as caught:
        load_encoder("croma-tiny", bands)
    assert "croma-large-s1" in (caught.value.hint or "")
    with pytest.raises(InputError, match="needs the band B12"):
        load_encoder("croma-base-s2", bands[:-1])
    with pytest.raises(UsageError, match="brings its weights"):
        load_encoder("exact", bands, checkpoint=Checkpoint(Path("w.pth")))
    with pytest.raises(UsageError, match="precision 'fp8' is not one of"):
        load_encoder("croma-base-s2", bands, checkpoint=Checkpoint(Path("w.pth")), precision="fp8")


def test_a_registry_file_with_a_mistake_is_named() -> None:
    with pytest.raises(Malformed, match=r"registry file x\.toml: KeyError: 'title'"):
        parse_family('licence = "MIT"', "x.toml")
    assert small_model(find_entry("croma-base-s2").model).dimension == 32


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (f'sha256 = "{"a" * 64}"', "has no sha256_source"),
        ('sha256 = "a0275954"\nsha256_source = "x"', "is not 64 hex digits"),
        (f'sha256 = "{"A" * 64}"\nsha256_source = "x"', "is not 64 hex digits"),
        ('sha256_prefix = "a027"', "is not 8 hex digits"),
        (
            f'sha256 = "{"a" * 64}"\nsha256_source = "x"\nsha256_prefix = "{"a" * 8}"',
            "beside the whole digest",
        ),
    ],
)
def test_a_digest_of_the_registry_is_whole_and_says_where_it_was_read(lines: str, message: str) -> None:
    text = (resources.files("eocat.producer.encoders") / "families" / "dofa.toml").read_text("utf-8")
    changed = text.replace('sha256_prefix = "a0275954"', lines)
    assert changed != text
    with pytest.raises(Malformed, match=message):
        parse_family(changed, "dofa.toml")
