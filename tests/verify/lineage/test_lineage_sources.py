"""sources.py and weights.py: the scenes and weights that a statement names, held against what is at hand."""

import hashlib
import json
import pickle
import struct
from pathlib import Path

import pytest
from lineage.make_product import BAND_NAME, FILES, ROOT, make_folder, make_zip
from lineage.make_trace import NOW, make_identity, make_trace

from eocat.verify.claims import ManifestClaim, TraceClaim
from eocat.verify.digest import digest_bytes, digest_file
from eocat.verify.errors import Malformed
from eocat.verify.lineage.safe import check_product
from eocat.verify.lineage.sources import SourceEvidence, SourceVerdict, check_source, check_sources
from eocat.verify.lineage.trace import Content, Product, Trace
from eocat.verify.lineage.weights import check_safetensors, check_weights
from eocat.verify.report import Outcome
from eocat.verify.statement import Encoder, Source, WeightsFile

PINS = [make_identity().pin()]


def signed(name: str, path: Path) -> WeightsFile:
    found = digest_file(path)
    return WeightsFile(name=name, sha256=found.sha256, blake3=found.blake3, size=found.size)


def source_of(path: Path) -> Source:
    """As the producer states it: a zip is one file, a folder each file that was read."""
    files = [signed(path.name, path)] if path.is_file() else [signed(f"{ROOT}/{BAND_NAME}", path / BAND_NAME)]
    return Source(name=ROOT, uri="https://example.org/a", files=files, bands=["B02"], evidence="none")


def traces_of(path: Path, *events: str) -> tuple[Trace, ...]:
    found = digest_file(path)
    product = Product(name=path.name, hash=found.blake3, size=found.size)
    return tuple(make_trace(product, event) for event in events)


def answer(*traces: Trace) -> bytes:
    return json.dumps([trace.model_dump() for trace in traces]).encode()


def judged(
    source: Source, evidence: SourceEvidence, claim: ManifestClaim | TraceClaim | None = None
) -> SourceVerdict:
    stated = source.model_copy(update={"evidence": [claim] if claim else "none"})
    return check_source(stated, evidence, PINS, NOW)


def test_a_source_with_its_own_trace_is_traced_and_one_without_counts_by_hash(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    source = source_of(path)
    data = answer(*traces_of(path, "CREATE", "COPY"))
    whole = SourceEvidence({path.name: path}, path, data)
    claim = TraceClaim(traces=hashlib.sha256(data).hexdigest(), count=2)
    verdict = judged(source, whole, claim)
    assert (verdict.outcome, verdict.traced) == (None, True), verdict.text
    assert judged(source, SourceEvidence()) == SourceVerdict(ROOT, None, f"{ROOT}: by hash only")
    other = source.model_copy(update={"name": "other"})
    stated = source.model_copy(update={"evidence": [claim]})
    step = check_sources([stated, other], {ROOT: whole}, PINS, NOW)
    assert step.outcome is None
    assert step.text == "2 scenes: 1 with their own trace, 1 by hash only"


def test_files_of_a_folder_are_traced_through_the_products_contents(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    content = Content(path=f"{ROOT}/{BAND_NAME}", hash=digest_bytes(FILES[BAND_NAME]).blake3)
    trace = make_trace(Product(name=f"{ROOT}.zip", hash="0" * 64, size=1, contents=[content]))
    evidence = SourceEvidence({f"{ROOT}/{BAND_NAME}": root / BAND_NAME}, root, answer(trace))
    assert judged(source_of(root), evidence).traced


def test_attack_56_source_scene_replaced(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    source = source_of(path)
    path.write_bytes(path.read_bytes() + b"x")
    verdict = judged(source, SourceEvidence({path.name: path}))
    assert verdict.outcome is Outcome.LINEAGE_FAILED
    step = check_sources([source], {ROOT: SourceEvidence({path.name: path})}, PINS, NOW)
    assert step.outcome is Outcome.LINEAGE_FAILED


def test_attack_56_band_replaced_in_a_product_whose_manifest_stayed(tmp_path: Path) -> None:
    data = bytearray(FILES[BAND_NAME])
    data[0] ^= 1
    root = make_folder(tmp_path, {**FILES, BAND_NAME: bytes(data)})
    verdict = judged(source_of(root), SourceEvidence(product=root))
    assert verdict.outcome is Outcome.LINEAGE_FAILED
    assert "manifest" in verdict.text


def test_attack_56_hash_of_another_processing_baseline(tmp_path: Path) -> None:
    """The trace is authentic and of the same scene, but of its other processing."""
    path = make_zip(tmp_path)
    other = Product(name=path.name.replace("N0509", "N0511"), hash="0" * 64, size=3)
    for trace in (make_trace(other), make_trace(other.model_copy(update={"name": path.name}))):
        verdict = judged(source_of(path), SourceEvidence(traces=answer(trace)))
        assert verdict.outcome is Outcome.LINEAGE_FAILED


def test_attack_56_source_that_is_obsolete(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    traces = traces_of(path, "CREATE", "OBSOLETE")
    evidence = SourceEvidence(traces=answer(*traces))
    assert judged(source_of(path), evidence).outcome is Outcome.LINEAGE_FAILED
    withheld = SourceEvidence(traces=answer(traces[0]), seen={trace.digest for trace in traces})
    assert judged(source_of(path), withheld).outcome is Outcome.LINEAGE_FAILED


def test_attack_56_name_of_one_scene_with_the_hash_of_another(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    (trace,) = traces_of(path, "CREATE")
    source = source_of(path)
    renamed = source.files[0].model_copy(update={"name": "S2B_other.SAFE.zip"})
    verdict = judged(source.model_copy(update={"files": [renamed]}), SourceEvidence(traces=answer(trace)))
    assert verdict.outcome is Outcome.LINEAGE_FAILED


def test_attack_56_claim_that_comes_out_otherwise(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    claim = check_product(path).claim()
    evidence = SourceEvidence(product=path)
    assert judged(source_of(path), evidence, claim).outcome is None
    for change in ({"ok": 4}, {"missing": 1}, {"manifest": "0" * 64}):
        bad = claim.model_copy(update=change)
        assert judged(source_of(path), evidence, bad).outcome is Outcome.LINEAGE_FAILED
    data = answer(*traces_of(path, "CREATE"))
    named = TraceClaim(traces="0" * 64, count=1)
    assert judged(source_of(path), SourceEvidence(traces=data), named).outcome is Outcome.LINEAGE_FAILED
    assert judged(source_of(path), SourceEvidence(), named).outcome is Outcome.UNAVAILABLE


def test_bad_evidence_is_an_outcome_and_not_an_error(tmp_path: Path) -> None:
    path = make_zip(tmp_path)
    source = source_of(path)
    assert judged(source, SourceEvidence(traces=b"{")).outcome is Outcome.MALFORMED
    absent = tmp_path / "absent"
    assert judged(source, SourceEvidence({path.name: absent})).outcome is Outcome.UNAVAILABLE
    assert judged(source, SourceEvidence(product=absent)).outcome is Outcome.UNAVAILABLE
    (tmp_path / "x.zip").write_bytes(b"no zip")
    assert judged(source, SourceEvidence(product=tmp_path / "x.zip")).outcome is Outcome.MALFORMED
    assert judged(source, SourceEvidence(traces=b"[]")).outcome is Outcome.UNAVAILABLE


def safetensors(header: object, tensors: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


GOOD = {"__metadata__": {"a": "b"}, "w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def encoder_of(path: Path) -> Encoder:
    weights = [signed(path.name, path)]
    return Encoder(name="exact", version="1", licence="MIT", weights=weights, config={})


def test_weights_as_signed_pass_and_absent_ones_count_by_hash(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(GOOD, bytes(12)))
    encoder = encoder_of(path)
    assert check_weights(encoder, {"w.safetensors": path}).outcome is None
    step = check_weights(encoder, {})
    assert (step.outcome, step.text) == (None, "exact: 0 of 1 weight files held against it")
    assert check_weights(encoder, {"w.safetensors": tmp_path / "no"}).outcome is Outcome.UNAVAILABLE


def test_attack_58_weights_file_swapped(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(GOOD, bytes(12)))
    encoder = encoder_of(path)
    path.write_bytes(safetensors(GOOD, bytes(11) + b"\1"))
    assert check_weights(encoder, {"w.safetensors": path}).outcome is Outcome.LINEAGE_FAILED


def test_attack_58_pickle_instead_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for data in (pickle.dumps({"w": [1.0] * 100}), make_zip(tmp_path).read_bytes(), b"", b"\x80"):
        path.write_bytes(data)
        assert check_weights(encoder_of(path), {path.name: path}).outcome is Outcome.MALFORMED


TENSOR = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        ({"w": TENSOR}, b"123"),
        ({"w": TENSOR}, b"12345"),
        ({"w": TENSOR | {"data_offsets": [1, 5]}}, b"12345"),
        ({"w": TENSOR | {"data_offsets": [4, 0]}}, b"1234"),
        ({"w": TENSOR | {"data_offsets": [-4, 0]}}, b"1234"),
        ({"w": TENSOR | {"shape": [5]}}, b"1234"),
        ({"w": TENSOR | {"shape": [-2, -2]}}, b"1234"),
        ({"w": TENSOR | {"shape": [True, 4]}}, b"1234"),
        ({"w": TENSOR | {"dtype": "OBJECT"}}, b"1234"),
        ({"w": TENSOR | {"data_offsets": [False, 4]}}, b"1234"),
        ({"w": TENSOR | {"more": 1}}, b"1234"),
        ({"v": TENSOR, "w": TENSOR}, b"1234"),
        ({"v": TENSOR, "w": TENSOR | {"data_offsets": [5, 9]}}, b"123456789"),
        ({"w": 1}, b""),
        (b"[]", b""),
        (b'{"w":1,"w":2}', b""),
        (b"{" * 100, b""),
    ],
)
def test_attack_58_safetensors_with_a_header_that_lies(
    header: object, tensors: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(header, tensors))
    with pytest.raises(Malformed):
        check_safetensors(path)


def test_attack_63_safetensors_header_that_would_take_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for length in (1 << 62, (1 << 64) - 1, 0, 1):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(Malformed, match="no safetensors"):
            check_safetensors(path)


def test_the_real_filter_banks_are_safetensors() -> None:
    """The producer's own weights, which this room reads without the library that wrote them."""
    folder = Path(__file__).resolve().parents[3] / "producer"
    banks = sorted(folder.rglob("*.safetensors"))
    assert banks
    for path in banks:
        check_safetensors(path)
