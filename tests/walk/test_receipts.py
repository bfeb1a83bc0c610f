"""Receipts of recomputations: signed by an auditor, logged as an event of the item, shown by every report."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from logged_world import Logged, with_weights

from eocat.catalog.admission import Admission, register
from eocat.producer.output import Produced
from eocat.producer.sequel import append_event
from eocat.producer.signer import KeyFile, new_key
from eocat.verify import canonical
from eocat.verify.check import check
from eocat.verify.draw import draw_rows, seed_of
from eocat.verify.edge.fetch import fetch_envelopes
from eocat.verify.errors import UsageError
from eocat.verify.keys import format_key
from eocat.verify.log.note import parse_note
from eocat.verify.policy import Policy
from eocat.verify.receipt import build_receipt, parse_receipt
from eocat.verify.report import Outcome, Report, Step

AUDITOR = KeyFile.generate("auditor")


def auditing(policy: Policy) -> Policy:
    """The policy that also trusts the auditor."""
    (producer,) = [entry for entry in policy.keys if "producer" in entry.roles]
    names = {"name": "auditor", "key": format_key(AUDITOR.public), "roles": ["auditor"]}
    return policy.model_copy(update={"keys": [*policy.keys, producer.model_copy(update=names)]})


def attested(logged: Logged, shard: Produced, receipt: bytes) -> Admission:
    """The receipt signed by the auditor and brought to the catalogue."""
    found = parse_receipt(receipt)
    event = {"event": "ATTEST", "create": found.create, "recompute": found.recompute.model_dump()}
    held = fetch_envelopes(f"{logged.url}/collections/coasts/items/{shard.item}")
    append_event(shard.folder, held, event, AUDITOR, actor="auditor")
    (admission,) = register(logged.database, [shard.folder], auditing(logged.policy))
    return admission


def receipts_of(report: Report) -> list[Step]:
    return [step for step in report.steps if step.name == "receipts"]


def test_a_recompute_receipt_is_signed_logged_and_shown(logged: Logged, tmp_path: Path) -> None:
    sources = with_weights(logged, tmp_path / "sources")
    report = logged.judge("third", sources=sources, recompute=2)
    receipt = build_receipt(report, report.as_of)
    found = parse_receipt(receipt)
    note = json.loads(logged.gather("third").log_proof or b"")["checkpoints"][-1]["note"]
    assert found.recompute.checkpoint is not None
    drawn_by, newest = (parse_note(one.encode()) for one in (found.recompute.checkpoint, note))
    assert drawn_by.text == newest.text, "the rows were drawn by the newest cosigned note"
    assert found.recompute.rows == draw_rows(seed_of(found.recompute.checkpoint, "coasts/third"), 4, 2)
    assert (found.recompute.precision, found.recompute.worst, found.recompute.wanted) == ("exact", "0", 2)

    admission = attested(logged, logged.shards[2], receipt)
    assert admission.status == "updated", admission.reason
    report = logged.judge("third", auditing(logged.policy))
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
    assert "REGISTER 1 → ATTEST 2" in report.to_text()
    (step,) = receipts_of(report)
    assert (step.mark, "2 rows made again at" in step.text) == ("ok", True)
    assert "all the same, worst 0 (exact), auditor auditor ed25519" in step.text

    report = logged.judge("third")
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), "a stranger's receipt spoils nothing"
    (step,) = receipts_of(report)
    assert (step.mark, step.text) == ("--", "1 by no auditor of the policy")


def test_a_receipt_that_found_a_difference_cannot_be_overlooked(logged: Logged, tmp_path: Path) -> None:
    sources = with_weights(logged, tmp_path / "sources")
    report = logged.judge("third", sources=sources, recompute=3)
    found = json.loads(build_receipt(report, report.as_of))
    found["recompute"] |= {"modelDiffers": found["recompute"]["rows"][:1], "worst": "0.2"}
    admission = attested(logged, logged.shards[2], canonical.encode(found))
    assert admission.status == "updated", admission.reason
    report = logged.judge("third", auditing(logged.policy))
    assert report.outcome is Outcome.RECOMPUTE_MISMATCH, report.to_text()
    assert "1 with another vector, worst 0.2 (exact)" in report.to_text()
    assert logged.judge("third").outcome is Outcome.VERIFIED
    evidence = logged.gather("third")
    assert evidence.envelopes is not None
    withheld = replace(evidence, envelopes=evidence.envelopes[:-1])
    assert check(withheld, logged.policy, now=datetime.now(UTC)).outcome in (
        Outcome.HISTORY_BROKEN,
        Outcome.LOG_VIOLATION,
    )


def test_the_commands_write_and_sign_a_receipt(
    logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def eocat(*arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "eocat.edge", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EOCAT_API", logged.url)
    new_key("auditor", None)
    policy = tmp_path / "policy.json"
    policy.write_text(logged.policy.model_dump_json(exclude_unset=True))
    receipt, shard = tmp_path / "receipt.json", logged.shards[0]
    asked = ["verify", "coasts/first", "--trust", policy, "--recompute", 2, "--receipt", receipt]
    assert "recompute  FAILED no folder of sources" in eocat(*asked, code=42)
    assert not receipt.exists(), "nothing was compared"
    sources = with_weights(logged, tmp_path / "sources")
    assert "eocat attest FOLDER" in eocat(*asked, "--sources", sources)
    assert parse_receipt(receipt.read_bytes()).item == "coasts/first"
    told = eocat("attest", shard.folder, receipt, "--key", "auditor")
    assert "coasts/first  ATTEST 2 signed by auditor" in told
    other = logged.shards[1].folder
    assert "holds coasts/second" in eocat("attest", other, receipt, "--key", "auditor", code=3)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ({"rows": [0, 1]}, "its rows are not those that its seed draws"),
        ({"seed": "00" * 32}, "its seed does not follow from its checkpoint"),
        ({"space": "00" * 32}, "its encoder or space is not the item's"),
    ],
)
def test_a_receipt_of_rows_that_were_chosen_is_refused(
    logged: Logged, tmp_path: Path, edit: dict[str, Any], fault: str
) -> None:
    report = logged.judge("first", sources=with_weights(logged, tmp_path / "sources"), recompute=2)
    found = json.loads(build_receipt(report, report.as_of))
    if found["recompute"]["rows"] == edit.get("rows"):
        edit = {"rows": [2, 3]}
    found["recompute"] |= edit
    with pytest.raises(UsageError, match=fault):
        attested(logged, logged.shards[0], canonical.encode(found))
