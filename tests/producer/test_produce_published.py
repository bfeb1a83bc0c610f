"""A published encoder goes the whole way: weights, signed shard, verified, made again within its tolerance.

MMEarth's net is small enough to be run here at its published size, on seeded weights.
"""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_weights import save_small
from stac_validation import StacSchemas
from test_produce import create_of, policy_for

from eocat.producer.encoders import Checkpoint
from eocat.producer.encoders.registry import find_entry
from eocat.producer.output import Produced, write_collection
from eocat.producer.produce import produce_scene
from eocat.producer.run import Run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import Scene
from eocat.verify.check import check
from eocat.verify.errors import ConfigError, UsageError
from eocat.verify.evidence import read_folder
from eocat.verify.report import Outcome

NAME = "mmearth-atto-s2"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save_small(find_entry(NAME).model, tmp_path_factory.mktemp("weights"), form="safetensors")


@pytest.fixture(scope="module")
def run(prepare: Callable[..., Run], checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("published") / "out"
    return prepare(out, encoder=NAME, checkpoint=checkpoint, device="cpu")


@pytest.fixture(scope="module")
def published(scene: Scene, run: Run, signer: KeyFile) -> Produced:
    return produce_scene(scene, run, signer)


def test_the_shard_verifies_and_says_what_made_it(
    published: Produced, signer: KeyFile, checkpoint: Checkpoint
) -> None:
    report = check(read_folder(published.folder), policy_for(signer), now=datetime.now(UTC))
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 2), report.to_text()
    create = create_of(published)
    assert (create.encoder.name, create.encoder.licence) == (NAME, "CC-BY-4.0")
    assert [part.sha256 for part in create.encoder.weights] == [checkpoint.sha256]
    assert create.tolerance == {"kind": "cosine", "parts_per_billion": 1000, "precision": "fp32"}
    assert (create.rows.dimension, create.rows.dtype) == (320, "float16")
    assert (create.environment["device"], create.environment["precision"]) == ("cpu", "fp32")
    assert create.parameters["precision"] == "fp32"
    assert create.preprocess["steps"][0] == {"resize": 64}


def test_its_documents_are_valid_stac(published: Produced, run: Run, shared_data: Path) -> None:
    write_collection(run)
    schemas = StacSchemas(shared_data / "stac_schemas")
    folder = published.folder.parent
    for path in (published.folder / "item.json", folder / "collection.json", folder / "model.json"):
        document = json.loads(path.read_text())
        assert schemas.errors(document) == [], path.name
    assert document["assets"]["weights"]["mlm:artifact_type"] == "safetensors"
    assert document["properties"]["eocat:preprocess"]["input"].startswith("DN")


def test_its_rows_are_made_again_within_the_tolerance(
    published: Produced, signer: KeyFile, scene_file: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    shutil.copy(scene_file, tmp_path)
    shutil.copy(checkpoint.path, tmp_path)
    evidence, policy = read_folder(published.folder), policy_for(signer)
    report = check(evidence, policy, now=datetime.now(UTC), sources=tmp_path, recompute=5)
    assert "5 rows made again" in report.to_text(), report.to_text()
    (tmp_path / checkpoint.path.name).unlink()
    report = check(evidence, policy, now=datetime.now(UTC), sources=tmp_path, recompute=5)
    assert report.outcome is Outcome.RECOMPUTE_INCONCLUSIVE, report.to_text()


def test_another_precision_is_another_recipe_of_the_same_space(
    published: Produced, prepare: Callable[..., Run], checkpoint: Checkpoint, scene: Scene, signer: KeyFile
) -> None:
    out = published.folder.parents[1]
    half = prepare(out, encoder=NAME, checkpoint=checkpoint, device="cpu", precision="bf16")
    assert half.recipe.space == create_of(published).space
    with pytest.raises(ConfigError, match="another scene or recipe"):
        produce_scene(scene, half, signer)


def test_a_collection_does_not_mix_spaces(published: Produced, run: Run, prepare: Callable[..., Run]) -> None:
    write_collection(run)
    with pytest.raises(ConfigError, match="is of space"):
        prepare(published.folder.parents[1])


def test_weights_are_needed_and_pinned(
    prepare: Callable[..., Run], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="needs its weights"):
        prepare(tmp_path, encoder=NAME)
    with pytest.raises(UsageError, match="are not pinned"):
        prepare(tmp_path, encoder=NAME, checkpoint=Checkpoint(checkpoint.path))
