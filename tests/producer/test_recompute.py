"""Rows made again from their source: encoders that compute in floats have bands, and lies end in their code.

Attacks 59 and 60, by a producer whose key is trusted: all but the recomputation is in order.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float_encoder import FloatEncoder
from numpy.typing import NDArray
from small_weights import save_small
from test_produce import policy_for

from eocat.producer import recompute as hook
from eocat.producer.encoders import load_encoder
from eocat.producer.encoders.registry import find_entry
from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run, space_of
from eocat.producer.signer import KeyFile
from eocat.producer.sources import find_scenes
from eocat.producer.synthetic import write_scene
from eocat.verify.check import check
from eocat.verify.draw import draw_rows, seed_of
from eocat.verify.evidence import read_folder
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome, Report, Step

SIGNER = KeyFile.generate("p")
Pixels = NDArray[np.integer[Any]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scene(folder / "coast.tif", seed=4, size=128)
    return folder


@pytest.fixture
def honest(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> FloatEncoder:
    """The encoder that the verifier has installed, beside those of the distribution."""
    (scene,) = find_scenes([scenes])
    encoder = FloatEncoder(load_encoder("exact", scene.bands).bands)

    def load(name: str, bands: Any, **options: Any) -> Any:
        return encoder if name == encoder.name else load_encoder(name, bands, **options)

    monkeypatch.setattr(hook, "load_encoder", load)
    return encoder


def produced(scenes: Path, out: Path, encoder: Any, *, size: int = 16) -> Path:
    (scene,) = find_scenes([scenes])
    run = prepare_run([scene], publisher="p", collection="c", out=out, chip_size=size)
    recipe = replace(run.recipe, encoder=encoder.name, space=space_of(encoder), bands=encoder.bands)
    return produce_scene(scene, replace(run, encoder=encoder, recipe=recipe), SIGNER).folder


def judged(shard: Path, sources: Path | None, rows: int = 59, **policy: Any) -> tuple[Report, Step]:
    trust: Policy = policy_for(SIGNER).model_copy(update=policy)
    report = check(read_folder(shard), trust, now=datetime.now(UTC), sources=sources, recompute=rows)
    (step,) = [step for step in report.steps if step.name == "recompute"]
    return report, step


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("precision", "other"), [("fp32", "fp64"), ("fp16", "fp32"), ("bf16", "fp32")])
def test_honest_rows_pass_on_another_arithmetic(
    scenes: Path, tmp_path: Path, honest: FloatEncoder, precision: Any, other: str, dtype: str
) -> None:
    """What other instruction sets move is less than what another arithmetic moves."""
    shard = produced(scenes, tmp_path, replace(honest, precision=precision, dtype=dtype))
    honest.runs_in, honest.dtype = other, dtype
    report, step = judged(shard, scenes)
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    assert "59 rows made again from the source, at most " in step.text
    assert step.facts["cause"] == "same"
    assert 0 <= float(step.facts["worst"]) < float(step.facts["limit"])
    assert float(step.facts["worst"]) > 0 or (precision, dtype) == ("fp32", "float16"), "rounding hides 1e-14"
    assert step.facts["precision"] == precision
    assert len(step.facts["rows"]) == 59


class Liar:
    """The honest encoder's claims, with other vectors."""

    def __init__(self, honest: FloatEncoder, spoil: Callable[[FloatEncoder, Pixels, int], Any]) -> None:
        self.honest, self.spoil = honest, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self.honest, name)

    def encode(self, pixels: Pixels, *, offset: int) -> Any:
        return self.spoil(self.honest, pixels, offset)


def poisoned(honest: FloatEncoder, pixels: Pixels, offset: int) -> Any:
    """The last row of each batch points elsewhere, a little."""
    vectors = honest.encode(pixels, offset=offset)
    vectors[-1] = 0.999 * vectors[-1] + 0.001 * vectors[0].max()
    return vectors


LIES: dict[str, Callable[[FloatEncoder, Pixels, int], Any]] = {
    "other-model": lambda e, p, o: replace(e, seed=1).encode(p, offset=o),
    "bf16-as-fp32": lambda e, p, o: replace(e, runs_in="bf16").encode(p, offset=o),
    "band-order": lambda e, p, o: e.encode(np.ascontiguousarray(p[:, ::-1]), offset=o),
    "patch-offset": lambda e, p, o: e.encode(np.roll(p, 3, axis=3), offset=o),
    "dn-offset": lambda e, p, o: e.encode(p, offset=o + 10),
    "scaled": lambda e, p, o: e.encode(p, offset=o) * np.float32(1.001),
    "poisoned": poisoned,
}


@pytest.mark.parametrize("lie", LIES)
def test_attack_59_vectors_that_are_not_the_models(
    scenes: Path, tmp_path: Path, honest: FloatEncoder, lie: str
) -> None:
    shard = produced(scenes, tmp_path, Liar(honest, LIES[lie]))
    assert judged(shard, scenes, 0)[0].outcome is Outcome.VERIFIED
    report, step = judged(shard, scenes)
    assert report.outcome is Outcome.RECOMPUTE_MISMATCH, report.to_text()
    assert (step.facts["cause"], step.facts["sourceDiffers"]) == ("model-differs", [])
    assert step.facts["modelDiffers"]
    assert "same pixels, another vector" in step.text
    assert len(step.facts["modelDiffers"]) < 20 or lie != "poisoned"


def test_attack_59_pixels_that_are_not_the_sources(
    scenes: Path, tmp_path: Path, honest: FloatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The producer read a window three pixels off, and signed the digests of what it read."""
    from eocat.producer import reader
    from eocat.verify.row import pixels_digest

    monkeypatch.setattr(reader, "pixels_digest", lambda pixels: pixels_digest(np.roll(pixels, 3, axis=2)))
    shard = produced(scenes, tmp_path, Liar(honest, LIES["patch-offset"]))
    report, step = judged(shard, scenes)
    assert report.outcome is Outcome.RECOMPUTE_MISMATCH
    assert (step.facts["cause"], step.facts["modelDiffers"]) == ("source-differs", [])
    assert "the source's pixels differ" in step.text
    (shown,) = [s for s in report.to_json()["steps"] if s["name"] == "recompute"]
    assert (shown["outcome"], shown["facts"]["cause"]) == ("RECOMPUTE_MISMATCH", "source-differs")


def test_attack_59_one_percent_poisoned_is_found_by_299_rows(
    scenes: Path, tmp_path: Path, honest: FloatEncoder
) -> None:
    """Far from every draw of 59 finds it; 299 do with 95 %, and all rows of a shard always."""
    shard = produced(scenes, tmp_path, Liar(honest, poisoned))
    assert judged(shard, scenes, 299)[0].outcome is Outcome.RECOMPUTE_MISMATCH


def test_attack_60_a_declared_tolerance_is_capped(scenes: Path, tmp_path: Path, honest: FloatEncoder) -> None:
    wide = replace(honest, declared={"parts_per_billion": 500_000_000})
    shard = produced(scenes, tmp_path / "a", Liar(wide, LIES["bf16-as-fp32"]))
    report, step = judged(shard, scenes)
    assert report.outcome is Outcome.RECOMPUTE_MISMATCH, report.to_text()
    assert "at most 1e-07 for fp32, which caps what was declared" in step.text
    narrow = {"tolerances": {"bf16": 1}}
    shard = produced(scenes, tmp_path / "b", replace(honest, precision="bf16"))
    assert judged(shard, scenes)[0].outcome is Outcome.VERIFIED
    assert judged(shard, scenes, **narrow)[0].outcome is Outcome.RECOMPUTE_MISMATCH, "the policy beats both"


@pytest.mark.parametrize(
    "declared",
    [{"kind": "none"}, {"precision": "fp8"}, {"parts_per_billion": "7"}, {"parts_per_billion": -1}],
)
def test_attack_60_a_tolerance_that_says_nothing_is_inconclusive(
    scenes: Path, tmp_path: Path, honest: FloatEncoder, declared: dict[str, Any]
) -> None:
    shard = produced(scenes, tmp_path, replace(honest, declared=declared))
    report, step = judged(shard, scenes)
    assert (report.outcome, step.facts["cause"]) == (Outcome.RECOMPUTE_INCONCLUSIVE, "no-promise")


def test_attack_60_what_is_missing_is_named(scenes: Path, tmp_path: Path, honest: FloatEncoder) -> None:
    shard = produced(scenes, tmp_path / "out", honest)
    (tmp_path / "empty").mkdir()
    for sources in (None, tmp_path / "empty"):
        report, step = judged(shard, sources)
        assert (report.outcome, step.facts["cause"]) == (Outcome.RECOMPUTE_INCONCLUSIVE, "no-source")
    honest.name = "another"
    assert judged(shard, scenes)[1].facts["cause"] == "no-encoder"
    honest.name, FloatEncoder.dimension = "float-test", 32
    try:
        assert judged(shard, scenes)[1].facts["cause"] == "other-space"
    finally:
        FloatEncoder.dimension = 64


def test_a_published_encoder_is_run_again_with_the_signed_weights(scenes: Path, tmp_path: Path) -> None:
    """The smallest model of the registry, whole, with random weights, in float32 and passed off as it."""
    weights = save_small(find_entry("mmearth-atto-s2").model, tmp_path, form="safetensors")
    encoder = load_encoder("mmearth-atto-s2", scene_bands(scenes), device="cpu", checkpoint=weights)
    shard = produced(scenes, tmp_path / "out", encoder, size=64)
    sources = tmp_path / "sources"
    shutil.copytree(scenes, sources)
    assert judged(shard, sources, 4)[1].facts["cause"] == "no-encoder", "the weights are not at hand"
    shutil.copy(weights.path, sources)
    report, step = judged(shard, sources, 4)
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    assert (step.facts["cause"], step.facts["precision"]) == ("same", "fp32")

    low = load_encoder(
        "mmearth-atto-s2", scene_bands(scenes), device="cpu", checkpoint=weights, precision="bf16"
    )
    liar = Liar(encoder, lambda honest, pixels, offset: low.encode(pixels, offset=offset))  # type: ignore[arg-type]
    report, step = judged(produced(scenes, tmp_path / "liar", liar, size=64), sources, 4)
    assert (report.outcome, step.facts["cause"]) == (Outcome.RECOMPUTE_MISMATCH, "model-differs")

    data = bytearray(weights.path.read_bytes())
    data[-1] ^= 1
    (sources / weights.path.name).write_bytes(data)
    report, step = judged(shard, sources, 4)
    assert report.outcome is Outcome.LINEAGE_FAILED, "attack 58: before anything is loaded"
    assert step.facts["cause"] == "no-encoder"


def scene_bands(scenes: Path) -> tuple[str, ...]:
    (scene,) = find_scenes([scenes])
    return tuple(scene.bands)


def test_attack_60_an_item_id_cannot_be_ground(scenes: Path, tmp_path: Path, honest: FloatEncoder) -> None:
    """Whatever the id, the rows follow from a note that is cosigned after the id was signed."""
    drawn = {tuple(draw_rows(seed_of(f"note {n}", "c/coast"), 64, 8)) for n in range(50)}
    assert len(drawn) == 50
    shard = produced(scenes, tmp_path, honest)
    first, second = (judged(shard, scenes, 5)[1].facts for _ in range(2))
    assert first["seed"] != second["seed"], "without a log, the verifier draws for itself"
    assert first["rows"] == draw_rows(bytes.fromhex(first["seed"]), 64, 5)


def test_rows_drawn_by_the_user(scenes: Path, tmp_path: Path, honest: FloatEncoder) -> None:
    """By a seed of the user's own, whatever the log says: the same draw again, and it says who drew."""
    folder = produced(scenes, tmp_path, honest)
    seed = bytes(range(32))
    reports = [
        check(
            read_folder(folder), policy_for(SIGNER), now=datetime.now(UTC), sources=scenes, recompute=9,
            require=2, seed=seed,
        )
        for _ in range(2)
    ]  # fmt: skip
    for report in reports:
        (step,) = [step for step in report.steps if step.name == "recompute"]
        assert step.facts["seed"] == seed.hex()
        assert step.facts["checkpoint"] is None
        assert step.facts["rows"] == draw_rows(seed, 64, 9)
        assert step.text.endswith("drawn by the verifier")
