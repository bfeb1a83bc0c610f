"""`eocat encoders`: what is listed, shown and checked, and how wrong weights are refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_weights import file_tensors, save_small, small_entry, small_model
from torch import save

from eocat.producer.encoders import Checkpoint, Weights
from eocat.producer.encoders.bank import BANKS
from eocat.producer.encoders.clip_tokens import clean, load_tokenizer, parse_vocabulary, split_words
from eocat.producer.encoders.published import PublishedEncoder, build_filled
from eocat.producer.encoders.registry import entry_names, find_entry, find_text_model
from eocat.producer.encoders.text import ClipTextEncoder, load_text_encoder
from eocat.producer.run import space_of
from eocat.verify.digest import digest_file
from eocat.verify.errors import InputError, Malformed, MissingExtra, UsageError
from eocat.verify.lineage.weights import check_safetensors

NAME = "mmearth-atto-s2"
Eocat = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def eocat() -> Eocat:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eocat.edge", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_list_and_show_say_the_same_in_text_and_json(eocat: Eocat) -> None:
    listed = json.loads(eocat("encoders", "list", "--json").stdout)
    assert [row["name"] for row in listed] == [*sorted(BANKS), *entry_names()]
    lines = eocat("encoders", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [row["name"] for row in listed]
    shown = json.loads(eocat("encoders", "show", "croma-large-s1", "--json").stdout)
    assert (shown["sha256"], shown["sha256_prefix"], shown["bands"]) == (None, "921e69ad", ["VV", "VH"])
    assert "sha256_prefix: 921e69ad" in eocat("encoders", "show", "croma-large-s1").stdout
    known = json.loads(eocat("encoders", "show", "remoteclip-vitb32-s2", "--json").stdout)
    assert (known["weights"], known["sha256"][:8]) == ("--weights FILE", "60014e39")
    assert "whirld" in known["sha256_source"], "a digest comes with the place where it was read"


def test_an_unknown_name_is_met_with_those_near(eocat: Eocat) -> None:
    ran = eocat("encoders", "show", "softcon-large")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "no encoder is named 'softcon-large'" in ran.stderr
    assert "softcon-vitb14-s2" in ran.stderr


def test_check_puts_real_weights_through_the_contract(eocat: Eocat, tmp_path: Path) -> None:
    checkpoint = save_small(find_entry(NAME).model, tmp_path)
    pinned = ["--weights", checkpoint.path, "--sha256", checkpoint.sha256 or "", "--device", "cpu"]
    ran = eocat("encoders", "check", NAME, *pinned, "--json")
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout)
    assert all(finding["passed"] for finding in facts["findings"])
    assert (facts["precision"], len(facts["space"])) == ("fp32", 64)
    unpinned = eocat("encoders", "check", NAME, "--weights", checkpoint.path)
    assert (unpinned.returncode, "are not pinned" in unpinned.stderr) == (2, True)
    wrong = eocat("encoders", "check", NAME, "--weights", checkpoint.path, "--sha256", "0" * 64)
    assert (wrong.returncode, "expected 000" in wrong.stderr) == (50, True)


def test_convert_prints_the_digest_that_produce_then_takes(eocat: Eocat, tmp_path: Path) -> None:
    checkpoint = save_small(find_entry(NAME).model, tmp_path)
    out = tmp_path / "w.safetensors"
    asked = ["encoders", "convert", NAME, "--weights", checkpoint.path, "--sha256", checkpoint.sha256 or ""]
    ran = eocat(*asked, "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{digest_file(out).sha256}  {out}\n"
    assert eocat(*asked, "--out", out).returncode == 5, "nothing is overwritten"
    check_safetensors(out)


def test_check_fails_where_a_promise_is_broken(eocat: Eocat, tmp_path: Path) -> None:
    """Weights that give every chip one vector: the net's output does not depend on its input."""
    tensors = file_tensors(find_entry(NAME).model)
    for key in tensors:
        if "downsample_layers.2.1.weight" in key:
            tensors[key] *= 0
    save(tensors, tmp_path / "dead.pth")
    digest = digest_file(tmp_path / "dead.pth").sha256
    ran = eocat("encoders", "check", NAME, "--weights", tmp_path / "dead.pth", "--sha256", digest)
    assert ran.returncode == 3
    assert "different chips have equal vectors" in ran.stdout
    assert "breaks 1 of its promises: dimension" in ran.stderr


MERGES = "#comment\nl o\nlo w</w>\na a\ne r</w>\n"


def test_byte_pairs_are_merged_earliest_first_and_a_text_is_padded() -> None:
    """The numbers: 256 bytes, the same ending a word, then the merges; start and end come last."""
    words = parse_vocabulary(MERGES, merges=4)
    assert (words.start, words.end) == (516, 517)
    assert words.encode("Low  LOW", context=6) == [516, 513, 513, 517, 0, 0]
    assert words.encode("aaa", context=5) == [516, 514, 256 + ord("a") - ord("!"), 517, 0]
    assert words.encode("low low low low", context=4) == [516, 513, 513, 517]
    with pytest.raises(Malformed, match="has not the 9 merges"):
        parse_vocabulary(MERGES, merges=9)


def test_a_text_is_a_vector_of_the_image_encoder_s_space() -> None:
    entry = small_entry("clip-vitb32-laion2b-rgb")
    model = small_model(find_text_model(entry))
    model = replace(model, parameters=dict(model.parameters) | {"vocabulary": 518, "context": 77})
    net = build_filled(model, file_tensors(model), "small")
    image = PublishedEncoder(
        entry, build_filled(entry.model, file_tensors(entry.model), "small"),
        Weights("w", "0" * 64, "0" * 64, 1), device="cpu",
    )  # fmt: skip
    words = parse_vocabulary(MERGES, merges=4)
    encoder = ClipTextEncoder(entry, net, words, space_of(image), device="cpu")
    vectors = encoder.encode(["low", "aaa low", "low"])
    assert (vectors.shape, vectors.dtype) == ((3, image.dimension), np.float16)
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])
    assert np.allclose(encoder.encode(["low"])[0], vectors[0], atol=1e-3)
    assert encoder.encode([]).shape == (0, image.dimension)
    with pytest.raises(InputError, match="text 1 is empty"):
        encoder.encode(["low", " "])


def test_only_encoders_with_a_text_tower_take_text(tmp_path: Path) -> None:
    weights = Checkpoint(tmp_path / "w.pth", "0" * 64)
    with pytest.raises(UsageError, match="has no text tower"):
        load_text_encoder(find_entry("croma-base-s2"), weights)
    with pytest.raises(UsageError, match="is not available offline"):
        load_text_encoder(find_entry("siglip-b16-rgb"), weights)


def test_words_are_split_as_clip_does() -> None:
    """What open_clip 3.3.0 gives; 4,000 random texts of odd signs gave equal numbers with its vocabulary."""
    assert list(split_words("don't 50% of s2a, 'stills")) == [
        "don", "'t", "5", "0", "%", "of", "s", "2", "a", ",", "'s", "tills",
    ]  # fmt: skip
    assert clean("A&amp;B  “quoted”\n ﬁeld ｆｕｌｌ") == 'a&b "quoted" field full'


def test_without_a_vocabulary_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match="vocabulary of CLIP is not there") as caught:
        load_tokenizer(tmp_path / "none.gz")
    assert "eocat[models]" in (caught.value.hint or "")
    (tmp_path / "other.gz").write_bytes(b"other")
    with pytest.raises(Malformed, match="expected 924691ac"):
        load_tokenizer(tmp_path / "other.gz")
