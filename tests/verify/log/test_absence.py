"""log/absence.py: that the log holds no event of an item is proven; no lie about it passes (attack 55)."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from make_events import event_after, signed
from make_log import MadeLog, log_trust
from make_notes import W1
from make_shard import NOW, PRODUCER, make_shard
from make_world import JAN, MARCH, REGISTRAR, TODAY

from eocat.verify import canonical
from eocat.verify.errors import Malformed
from eocat.verify.log.absence import format_absence, is_absence, judge_absence, parse_absence
from eocat.verify.policy import LogTrust
from eocat.verify.report import Outcome, Step
from eocat.verify.statement import validated

TRUST = validated(LogTrust, log_trust(), what="log")
ITEMS = ("beta", "delta", "phi")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> MadeLog:
    """Three items in each of two collections, seen in January."""
    log = MadeLog()
    folder = tmp_path_factory.mktemp("absence")
    for collection in ("m1", "s2"):
        for item in ITEMS:
            made = make_shard(folder / collection / item, collection=collection, item_id=item)
            envelopes = made.attestation.read_bytes().splitlines()
            log.add(*envelopes, signed(event_after(envelopes, "REGISTER"), REGISTRAR))
    log.publish(JAN)
    return log


def judge(document: dict[str, Any], path: str = "s2/gamma") -> Step:
    collection, item = path.split("/")
    return judge_absence(canonical.encode(document), collection, item, TRUST, NOW)


def fresh(log: MadeLog, path: str = "s2/gamma") -> dict[str, Any]:
    return log.absence(path, newest=log.cosign(log.published[-1].size, TODAY))


@pytest.mark.parametrize(
    "path", ["s2/alpha", "s2/gamma", "s2/omega", "s2/Beta", "a0/x", "n/x", "zz/beta", "m1/beta2", "s2/bet"]
)
def test_what_is_not_in_the_log_is_proven_so(log: MadeLog, path: str) -> None:
    document = fresh(log, path)
    step = judge(document, path)
    assert step.outcome is None, step.text
    assert step.checked
    assert f"no event of {path} among 13 in log.example/eocat, 3/3 witnesses, age 30 min" in step.text
    data = canonical.encode(document)
    assert is_absence(data)
    assert format_absence(parse_absence(data)) == data


def test_an_empty_log_holds_nothing() -> None:
    log = MadeLog()
    log.publish(TODAY)
    assert judge(log.absence("s2/gamma")).outcome is None


@pytest.mark.parametrize("path", ["s2/beta", "s2/delta", "s2/phi", "m1/beta"])
@pytest.mark.parametrize("shown", ["s2/alpha", "s2/gamma", "s2/omega", "m1/gamma", "a0/x", "n/x", "zz/x"])
def test_attack_55_no_proof_of_another_name_hides_one_that_is_there(
    log: MadeLog, path: str, shown: str
) -> None:
    assert judge(fresh(log, shown), path).outcome is Outcome.LOG_VIOLATION


def inner(document: dict[str, Any]) -> dict[str, Any]:
    absent: dict[str, Any] = document["heads"]["absent"]
    return absent


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "the left neighbour left out": lambda d: inner(d).update(before=None),
    "the right neighbour left out": lambda d: inner(d).update(after=None),
    "both left out": lambda d: inner(d).update(before=None, after=None),
    "the left one twice": lambda d: inner(d).update(after=inner(d)["before"]),
    "neighbours swapped": lambda d: inner(d).update(before=inner(d)["after"], after=inner(d)["before"]),
    "another index": lambda d: inner(d)["before"].update(index=2),
    "another status": lambda d: inner(d)["before"].update(status="withdrawn"),
    "another name": lambda d: inner(d)["before"].update(name="gamm"),
    "another count": lambda d: inner(d)["collection"].update(items=2),
    "another collection root": lambda d: inner(d)["collection"].update(root="00" * 32),
    "another top": lambda d: d["heads"]["collections"].update(root="00" * 32),
    "an older map": lambda d: d["heads"].update(index=3),
    "a cut path": lambda d: inner(d)["before"]["path"].pop(),
}


@pytest.mark.parametrize("lie", LIES)
def test_attack_55_no_lie_about_the_neighbours_passes(log: MadeLog, lie: str) -> None:
    document = copy.deepcopy(fresh(log))
    LIES[lie](document)
    assert judge(document).outcome is Outcome.LOG_VIOLATION


def test_attack_55_leaves_that_are_not_adjacent(log: MadeLog) -> None:
    """The leaves around an item that is there, as if they were neighbours."""
    document = fresh(log, "s2/alpha")
    inner(document)["before"] = inner(fresh(log, "s2/gamma"))["before"]
    inner(document)["after"] = inner(fresh(log, "s2/omega"))["before"]
    assert judge(document, "s2/delta").outcome is Outcome.LOG_VIOLATION


def test_attack_54_and_76_an_old_or_unwitnessed_checkpoint(log: MadeLog) -> None:
    assert judge(log.absence("s2/gamma")).outcome is Outcome.STALE
    alone = log.absence("s2/gamma", newest=log.cosign(log.published[-1].size, TODAY, W1))
    assert judge(alone).outcome is Outcome.UNTRUSTED


def test_attack_46_an_item_that_was_registered_since_is_not_hidden_by_an_older_map(log: MadeLog) -> None:
    later = MadeLog(entries=[*log.entries], held={**log.held}, published=[*log.published])
    envelopes = [envelope for _, envelope in log.held["s2/beta"]]
    later.held["s2/beta"] = [*log.held["s2/beta"]]
    later.add(signed(event_after(envelopes, "WITHDRAW", reason="wrong"), PRODUCER))
    later.publish(MARCH)
    stale = fresh(log)
    stale["checkpoint"] = later.cosign(later.published[-1].size, TODAY).decode()
    assert judge(stale).outcome is Outcome.LOG_VIOLATION


BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda d: d.update(type="eocat-absence/v2"),
    "a member more": lambda d: d.update(extra=1),
    "no neighbours": lambda d: inner(d).pop("before"),
    "a name that is none": lambda d: inner(d)["before"].update(name="../x"),
    "a checkpoint that is none": lambda d: d.update(checkpoint="x"),
}


@pytest.mark.parametrize("defect", BAD)
def test_a_document_of_another_shape_is_malformed(log: MadeLog, defect: str) -> None:
    document = copy.deepcopy(fresh(log))
    BAD[defect](document)
    assert judge(document).outcome is Outcome.MALFORMED
    if defect != "a checkpoint that is none":
        with pytest.raises(Malformed, match="absence proof"):
            parse_absence(canonical.encode(document))
