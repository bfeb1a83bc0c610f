"""What a publisher claims of a source's own history, and what a verifier makes of it (attack 56, 57, 16)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lineage.make_product import manifest
from lineage.make_trace import ORIGIN, Identity, make_identity, make_trace, unsigned
from make_safe import make_safe, zipped
from test_produce import create_of, policy_for

from eocat.producer.evidence import EvidenceRules, evidence_of
from eocat.producer.output import Produced
from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.synthetic import write_scene
from eocat.verify.check import check
from eocat.verify.claims import Evidence, ItemClaim, ManifestClaim, TraceClaim
from eocat.verify.digest import digest_file, format_multihash
from eocat.verify.errors import InputError
from eocat.verify.evidence import read_folder
from eocat.verify.lineage.trace import Content, Product
from eocat.verify.pins import Pin
from eocat.verify.report import Outcome, Report
from eocat.verify.statement import WeightsFile

PIN = make_identity().pin(certificateDates="ignored")


def write_manifest(root: Path) -> bytes:
    """A true manifest.safe over the product's files, but for INSPIRE.xml, which real ones leave out."""
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("manifest.safe", "INSPIRE.xml")
    }
    data = manifest(files)
    (root / "manifest.safe").write_bytes(data)
    return data


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A SAFE folder, whole, whose manifest lists all but one file."""
    root = make_safe(tmp_path / "in", "1C")
    (root / "rep_info").mkdir()
    (root / "rep_info" / "schema.xsd").write_bytes(b"<schema/>")
    (root / "INSPIRE.xml").write_bytes(b"<inspire/>")
    write_manifest(root)
    return root


def scene_in(path: Path) -> Scene:
    (scene,) = find_scenes([path])
    return scene


def files_of(scene: Scene) -> list[WeightsFile]:
    found = [(file.name, digest_file(file.path)) for file in scene.files]
    return [WeightsFile(name=name, sha256=d.sha256, blake3=d.blake3, size=d.size) for name, d in found]


def evidence_in(path: Path, *pins: Pin, **rules: Any) -> Evidence:
    scene = scene_in(path)
    return evidence_of(scene, files_of(scene), EvidenceRules(pins=lambda: pins, **rules))


def produced(path: Path, out: Path, *pins: Pin, **rules: Any) -> tuple[Produced, KeyFile]:
    scene, signer = scene_in(path), KeyFile.generate("p")
    rules_of_run = EvidenceRules(pins=lambda: pins, **rules)
    interval = (datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 2, tzinfo=UTC))
    run = prepare_run(
        [scene],
        publisher="tester",
        collection="c",
        out=out,
        chip_size=60,
        evidence=rules_of_run,
        interval=interval,
    )
    return produce_scene(scene, run, signer), signer


def judged(shard: Produced, signer: KeyFile, sources: Path, *pins: Pin) -> tuple[Report, str]:
    policy = policy_for(signer).model_copy(update={"cdse": list(pins)})
    report = check(read_folder(shard.folder), policy, now=datetime.now(UTC), sources=sources)
    (lineage,) = [step for step in report.steps if step.name == "lineage"]
    return report, lineage.text


def write_traces(scene: Scene, folder: Path, signer: Identity | None = None) -> bytes:
    """The service's answer on a scene's product, which lists each of its files."""
    contents = [Content(path=file.name, hash=file.blake3) for file in files_of(scene)]
    trace = make_trace(Product(name="X.zip", hash="0" * 64, size=1, contents=contents), signer=signer)
    data = json.dumps([trace.model_dump()]).encode()
    (folder / f"{scene.id}.traces.json").write_bytes(data)
    return data


def test_a_whole_product_is_claimed_by_its_manifest_and_the_claim_is_demanded(
    product: Path, tmp_path: Path
) -> None:
    shard, signer = produced(product, tmp_path / "out")
    data = (product / "manifest.safe").read_bytes()
    (claim,) = create_of(shard).sources[0].evidence
    assert claim == ManifestClaim(
        manifest=hashlib.sha256(data).hexdigest(), ok=16, differs=0, missing=0, unlisted=1
    )
    report, text = judged(shard, signer, product.parent)
    assert report.outcome is Outcome.VERIFIED
    assert "1 with their manifest as signed" in text

    report, text = judged(shard, signer, tmp_path / "out")
    assert report.outcome is Outcome.UNAVAILABLE
    assert "whose manifest the statement names, is not at hand" in text

    (product / "rep_info" / "schema.xsd").write_bytes(b"<Schema/>")  # no file that the scene was read from
    report, text = judged(shard, signer, product.parent)
    assert report.outcome is Outcome.LINEAGE_FAILED
    assert "other counts" in text

    write_manifest(product)  # now it agrees with itself again, and is another manifest
    report, text = judged(shard, signer, product.parent)
    assert report.outcome is Outcome.LINEAGE_FAILED, text


def test_traces_that_came_with_the_item_need_no_product_at_hand(product: Path, tmp_path: Path) -> None:
    """As in a bundle that is verified without a folder of sources: the manifest's claim is left open."""
    data = write_traces(scene_in(product), product.parent)
    shard, signer = produced(product, tmp_path / "out", PIN)
    policy = policy_for(signer).model_copy(update={"cdse": [PIN]})
    evidence = replace(read_folder(shard.folder), traces={shard.item: data})
    report = check(evidence, policy, now=datetime.now(UTC))
    (lineage,) = [step for step in report.steps if step.name == "lineage"]
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    assert "1 scene: 1 with their own trace; " in lineage.text
    other = replace(evidence, traces={shard.item: data + b" "})
    assert check(other, policy, now=datetime.now(UTC)).outcome is Outcome.LINEAGE_FAILED


def test_a_zip_is_claimed_as_a_folder_is(product: Path) -> None:
    assert evidence_in(zipped(product)) == evidence_in(product)


def test_a_damaged_product_is_refused_unless_the_statement_says_so(product: Path, tmp_path: Path) -> None:
    (product / "rep_info" / "schema.xsd").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 files differ from its manifest.safe, the first is rep_info/sch"):
        evidence_in(product)
    shard, signer = produced(product, tmp_path / "out", accept_damaged=True)
    (claim,) = create_of(shard).sources[0].evidence
    assert isinstance(claim, ManifestClaim)
    assert (claim.ok, claim.differs) == (15, 1)
    report, text = judged(shard, signer, product.parent)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 2)
    assert "1 of its files differ from its manifest, as the statement says" in text
    (step,) = [step for step in report.steps if step.name == "lineage"]
    assert not step.checked, "level 4 is never reached with a source that is known to be damaged"


def test_traces_that_hold_are_claimed_and_demanded(product: Path, tmp_path: Path) -> None:
    data = write_traces(scene_in(product), product.parent)
    shard, signer = produced(product, tmp_path / "out", PIN)
    trace, safe = create_of(shard).sources[0].evidence
    assert trace == TraceClaim(traces=hashlib.sha256(data).hexdigest(), count=1)
    assert isinstance(safe, ManifestClaim)
    report, text = judged(shard, signer, product.parent, PIN)
    assert (report.outcome, "1 with their own trace" in text) == (Outcome.VERIFIED, True), text
    assert judged(shard, signer, product.parent)[0].outcome is Outcome.UNTRUSTED, "nobody is pinned"

    path = product.parent / f"{scene_in(product).id}.traces.json"
    path.write_bytes(data + b" ")
    report, text = judged(shard, signer, product.parent, PIN)
    assert (report.outcome, "not those" in text) == (Outcome.LINEAGE_FAILED, True)
    path.unlink()
    assert judged(shard, signer, product.parent, PIN)[0].outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize(
    ("pins", "fault"), [((), "pins no Copernicus key"), ((make_identity("p256").pin(),), "no pin vouches")]
)
def test_attack_57_traces_by_a_stranger_are_not_claimed(
    product: Path, pins: Sequence[Pin], fault: str
) -> None:
    write_traces(scene_in(product), product.parent)
    with pytest.raises(InputError, match=fault):
        evidence_in(product, *pins)


def test_attack_57_unsigned_traces_are_not_claimed(product: Path, tmp_path: Path) -> None:
    trace = unsigned(make_trace(Product(name="X.zip", hash="0" * 64, size=1)))
    (tmp_path / f"{scene_in(product).id}.traces.json").write_text(json.dumps([trace.model_dump()]))
    with pytest.raises(InputError, match="does not hold: the trace is not signed"):
        evidence_in(product, PIN, folder=tmp_path)
    assert ORIGIN in trace.origin


def write_item(scene: Scene, path: Path, *, spoil: str = "") -> None:
    """An Item that states each file's SHA-256, and one in the malformed way of the Copernicus catalogue."""
    assets = {
        f"a{number}": {
            "href": f"s3://eodata/{file.name}",
            "file:local_path": file.name,
            "file:checksum": format_multihash(
                "sha2-256", "0" * 64 if file.name.endswith(spoil or "nothing") else file.sha256
            ),
        }
        for number, file in enumerate(files_of(scene))
    }
    assets["bad"] = {"href": "s3://eodata/bad", "file:checksum": "d50120" + "0" * 64}
    item = {"type": "Feature", "stac_version": "1.1.0", "id": scene.id, "properties": {}, "assets": assets}
    path.write_text(json.dumps(item))


def test_attack_16_an_items_checksums_are_claimed_with_the_malformed_ones(
    product: Path, tmp_path: Path
) -> None:
    scene = scene_in(product)
    path = product.parent / f"{scene.id}.json"
    write_item(scene, path)
    shard, signer = produced(product, tmp_path / "out")
    _, claim = create_of(shard).sources[0].evidence
    assert claim == ItemClaim(
        item=hashlib.sha256(path.read_bytes()).hexdigest(),
        ok=len(scene.files), differs=0, missing=0, malformed=1,
    )  # fmt: skip
    report, text = judged(shard, signer, product.parent)
    assert (report.outcome, "1 with their Item as signed" in text) == (Outcome.VERIFIED, True), text
    path.write_text(path.read_text() + "\n")
    assert judged(shard, signer, product.parent)[0].outcome is Outcome.LINEAGE_FAILED
    path.unlink()
    assert judged(shard, signer, product.parent)[0].outcome is Outcome.UNAVAILABLE


def test_a_file_that_differs_from_the_items_checksum_is_refused(product: Path) -> None:
    scene = scene_in(product)
    write_item(scene, product.parent / f"{scene.id}.json", spoil="B02.jp2")
    with pytest.raises(InputError, match=r"1 files differ from its Item .*B02\.jp2 is "):
        evidence_in(product)
    claim = evidence_in(product, accept_damaged=True)[1]
    assert isinstance(claim, ItemClaim)
    assert (claim.differs, claim.malformed) == (1, 1)


def test_without_manifest_item_and_traces_nothing_is_claimed(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "coast.tif", seed=1, size=128)
    (tmp_path / "coast.json").write_text('{"type": "FeatureCollection"}')
    assert evidence_in(scene) == "none"
