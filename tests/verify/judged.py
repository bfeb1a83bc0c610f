"""What the tests of check.py share: the outcome of a folder, and the edits that attacks are made of."""

import base64
import json
from pathlib import Path
from typing import Any

from make_shard import Made, policy

from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature
from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.report import Outcome, Report

VERIFIED, UNSIGNED, INCOMPLETE = Outcome.VERIFIED, Outcome.UNSIGNED, Outcome.INCOMPLETE
TAMPERED, FORGED, UNTRUSTED = Outcome.TAMPERED, Outcome.FORGED, Outcome.UNTRUSTED
MALFORMED, UNAVAILABLE = Outcome.MALFORMED, Outcome.UNAVAILABLE


def outcome(made: Made, *entries: dict[str, Any], **options: Any) -> Outcome:
    """The outcome of a check of the folder; what cannot even be gathered counts as the command counts it."""
    try:
        return made.check(policy(*entries) if entries else None, **options).outcome
    except (Malformed, Unavailable) as error:
        return Outcome(error.exit_code)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def step(report: Report, name: str) -> str:
    return next(step.text for step in report.steps if step.name == name)


def envelope(made: Made, *, payload: bytes | None = None, kind: str = PAYLOAD_TYPE) -> Envelope:
    """The envelope on disk with its payload or type edited, its signatures as they were."""
    value = json.loads(made.attestation.read_bytes())
    signatures = tuple(Signature(s["keyid"], base64.b64decode(s["sig"])) for s in value["signatures"])
    return Envelope(made.payload if payload is None else payload, kind, signatures)
