"""Makes the vectors of evidence, derived items, receipts and rows made again (format.md, 3 and 7)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from make_events import event_after, signed
from make_shard import NOW, PRODUCER, SECOND, STRANGER, Key, Made, entry, policy_json

from eocat.verify import canonical
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, format_envelope
from eocat.verify.statement import format_time

Vector = dict[str, Any]


def lineage_vectors(made: Made) -> Iterator[tuple[str, Vector]]:
    yield from closeness()
    for maker in (evidence, derived, histories):
        yield from maker(made)


def judged(kind: str, outcome: str, *entries: Vector, **members: Any) -> Vector:
    policy, now = policy_json(*entries), format_time(NOW)
    return {"kind": kind, "policy": policy, "now": now, "outcome": outcome, **members}


def closeness() -> Iterator[tuple[str, Vector]]:
    """Vectors made again: signed and made bytes, what the statement declares, the policy's caps."""
    bits = {"kind": "bits"}
    wide = {"kind": "cosine", "precision": "fp32", "parts_per_billion": 500_000_000}
    fp32 = wide | {"parts_per_billion": 1000}
    bf16 = {"kind": "cosine", "precision": "bf16", "parts_per_billion": 100_000}
    one = [1.0, 2.0, -2.0, 4.0]
    cases: dict[str, tuple[str, Vector, list[float], Vector, str]] = {
        "good/closeness-bits": ("float16", bits, one, {}, "VERIFIED"),
        "good/closeness-fp32": ("float32", fp32, [1.0, 2.0, -2.0, 4.001], {}, "VERIFIED"),
        "good/closeness-bf16": ("float16", bf16, [1.0, 2.0, -2.0, 4.03125], {}, "VERIFIED"),
        "bad/closeness-one-bit": ("float16", bits, [1.0, 2.0, -2.0, 4.00390625], {}, "RECOMPUTE_MISMATCH"),
        "bad/closeness-negative-zero": ("float16", bits, [0.0, 2.0, -2.0, 4.0], {}, "RECOMPUTE_MISMATCH"),
        "bad/closeness-declared-wide": ("float32", wide, [1.0, 2.0, -2.0, 4.01], {}, "RECOMPUTE_MISMATCH"),
        "bad/closeness-scaled": ("float32", fp32, [1.002, 2.004, -2.004, 4.008], {}, "RECOMPUTE_MISMATCH"),
        "bad/closeness-policy-cap": (
            "float16", bf16, [1.0, 2.0, -2.0, 4.03125], {"bf16": 1}, "RECOMPUTE_MISMATCH",
        ),
        "bad/closeness-unknown-class": (
            "float16", bf16 | {"precision": "fp8"}, one, {}, "RECOMPUTE_INCONCLUSIVE",
        ),
    }  # fmt: skip
    for name, (dtype, tolerance, made, caps, outcome) in cases.items():
        first = [-0.0, *one[1:]] if "zero" in name else one
        signed, again = (np.array(v, dtype).astype(np.dtype(dtype).newbyteorder("<")) for v in (first, made))
        yield name, {
            "kind": "closeness", "dtype": dtype, "tolerance": tolerance, "tolerances": caps,
            "signed": signed.tobytes().hex(), "made": again.tobytes().hex(), "outcome": outcome,
        }  # fmt: skip


def evidence(made: Made) -> Iterator[tuple[str, Vector]]:
    """Statements whose source claims a trace, a manifest and an Item, and some that no producer may sign."""
    trace = {"type": "cdse-trace", "traces": "01" * 32, "count": 2}
    safe = {
        "type": "safe-manifest", "manifest": "02" * 32, "ok": 45, "differs": 14, "missing": 0, "unlisted": 5,
    }  # fmt: skip
    item = {"type": "stac-item", "item": "03" * 32, "ok": 39, "differs": 0, "missing": 0, "malformed": 4}

    def stating(value: Any) -> Vector:
        statement = json.loads(made.payload)
        statement["predicate"]["sources"][0]["evidence"] = value
        payload = canonical.encode(statement)
        text = format_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),))).decode()
        return judged("envelope", "VERIFIED", envelope=text)

    yield "good/envelope-evidence", stating([trace, safe, item])
    bad: dict[str, Any] = {
        "empty": [],
        "null": None,
        "out-of-order": [safe, trace],
        "twice": [safe, safe],
        "unknown-type": [{"type": "checked", "by": "me"}],
        "member-missing": [{key: value for key, value in safe.items() if key != "unlisted"}],
        "negative": [safe | {"differs": -1}],
        "short-digest": [trace | {"traces": "01" * 31}],
        "no-traces": [trace | {"count": 0}],
    }
    for name, value in bad.items():
        yield f"bad/envelope-evidence-{name}", stating(value) | {"outcome": "MALFORMED"}


def derived(made: Made) -> Iterator[tuple[str, Vector]]:
    """Statements about rows that come from other items' rows."""
    parent = {
        "item": "s2/first", "uri": "https://example.org/s2/first", "create": "01" * 32, "root": "02" * 32,
        "count": 9,
    }  # fmt: skip
    second = parent | {"item": "s2/second", "root": "03" * 32}

    def stating(sources: list[Any], origin: str = "derived") -> Vector:
        statement = json.loads(made.payload)
        statement["predicate"] |= {"origin": origin, "parameters": {"derivation": {"kind": "subset"}}}
        statement["predicate"]["sources"] = sources
        payload = canonical.encode(statement)
        text = format_envelope(Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),))).decode()
        return judged("envelope", "VERIFIED", envelope=text)

    scene = json.loads(made.payload)["predicate"]["sources"][0]
    yield "good/envelope-derived", stating([parent, second])
    bad: dict[str, Vector] = {
        "from-a-scene": stating([scene]),
        "and-from-a-scene": stating([parent, scene]),
        "called-computed": stating([parent], "computed"),
        "out-of-order": stating([second, parent]),
        "from-itself": stating([parent | {"item": "s2/scene"}]),
        "from-no-row": stating([parent | {"count": 0}]),
    }
    for name, vector in bad.items():
        yield f"bad/envelope-derived-{name}", vector | {"outcome": "MALFORMED"}


def histories(made: Made) -> Iterator[tuple[str, Vector]]:
    """Envelopes in order of seq, the last of them an auditor's."""
    create = format_envelope(Envelope(made.payload, PAYLOAD_TYPE, (PRODUCER.sign(made.payload),)))
    held = [create]
    held.append(signed(event_after(held, "REGISTER"), SECOND))
    auditor = entry(STRANGER, roles=["auditor"])

    def attested(key: Key = STRANGER, **edit: Any) -> Vector:
        statement = event_after(held, "ATTEST")
        statement["predicate"]["recompute"] |= edit
        texts = [data.decode() for data in (*held, signed(statement, key))]
        return judged("history", "VERIFIED", entry(PRODUCER), auditor, envelopes=texts)

    payload = canonical.encode(event_after(held, "ATTEST"))
    forged = Envelope(payload, PAYLOAD_TYPE, (replace(STRANGER.sign(payload), raw=bytes(64)),))
    rows = event_after(held, "ATTEST")["predicate"]["recompute"]["rows"]
    yield "good/history-attest", attested()
    yield "good/history-attest-by-a-stranger", attested(SECOND)
    bad = {
        "differs": ("RECOMPUTE_MISMATCH", attested(modelDiffers=rows[:1], worst="0.25")),
        "rows-chosen": ("HISTORY_BROKEN", attested(rows=[row for row in range(5) if row not in rows][:2])),
        "seed-of-another-note": ("HISTORY_BROKEN", attested(checkpoint="another note\n")),
        "other-space": ("HISTORY_BROKEN", attested(space="00" * 32)),
        "no-such-row": ("MALFORMED", attested(modelDiffers=[5])),
    }
    texts = [data.decode() for data in (*held, format_envelope(forged))]
    bad["forged"] = ("FORGED", judged("history", "FORGED", entry(PRODUCER), auditor, envelopes=texts))
    for name, (outcome, vector) in bad.items():
        yield f"bad/history-attest-{name}", vector | {"outcome": outcome}
