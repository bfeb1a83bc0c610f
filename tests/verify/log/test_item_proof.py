"""log/item_proof.py: the log proof of an item holds, and no lie in any part of it does."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from eocat.verify import canonical
from eocat.verify.errors import Malformed
from eocat.verify.history import Status
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.log.entry import Entry, format_entry
from eocat.verify.log.heads import Head, HeadMap, Included, format_heads
from eocat.verify.log.item_proof import (
    LogProofFailed,
    check_log_proof,
    format_item_proof,
    parse_item_proof,
)
from eocat.verify.merkle import build_tiles, leaf_hash, tree_of
from eocat.verify.report import Outcome


@dataclass(frozen=True)
class Shown:
    """An item's events, its status, the checkpoint, and the document that proves it all."""

    events: list[Entry]
    status: Status
    checkpoint: Checkpoint
    document: dict[str, Any]

    def check(self) -> None:
        check_log_proof(
            parse_item_proof(canonical.encode(self.document)), self.events, self.status, [self.checkpoint]
        )


def entry(item: str, seq: int, event: str) -> Entry:
    payload, envelope = (hashlib.sha256(f"{item} {seq} {what}".encode()).hexdigest() for what in "pe")
    return Entry("demo", item, seq, event, payload, envelope)


def log_of(events: list[Entry], statuses: dict[str, str]) -> tuple[list[bytes], HeadMap]:
    """The entries of a log with these events, and its head map as the last one."""
    newest = {one.item: one for one in events}
    heads = [Head(item, one.seq, statuses[item], one.payload) for item, one in newest.items()]
    heads_map = HeadMap({"demo": heads, "other": [Head("x", 1, "active", "0" * 64)]})
    return [*(format_entry(one) for one in events), format_heads(heads_map.heads)], heads_map


def shown(events: list[Entry], statuses: dict[str, str], item: str) -> Shown:
    entries, heads_map = log_of(events, statuses)
    size = len(entries)
    tree = tree_of(build_tiles(b"".join(map(leaf_hash, entries))), size)
    outer, inner = heads_map.collections.prove("demo"), heads_map.items["demo"].prove(item)
    assert isinstance(outer, Included)
    assert isinstance(inner, Included)

    def path(nodes: tuple[bytes, ...]) -> list[str]:
        return [node.hex() for node in nodes]

    own = [(index, one) for index, one in enumerate(events) if one.item == item]
    document = {
        "type": "eocat-logproof/v1",
        "checkpoints": [{"note": "judged elsewhere", "path": []}],
        "events": [{"checkpoint": 0, "index": index, "path": path(tree.prove(index))} for index, _ in own],
        "heads": {
            "index": size - 1,
            "path": path(tree.prove(size - 1)),
            "collections": {"count": heads_map.heads.collections, "root": heads_map.heads.root},
            "collection": {
                "index": outer.index, "path": path(outer.path), "items": outer.leaf.items,
                "root": outer.leaf.root,
            },
            "item": {
                "index": inner.index, "path": path(inner.path), "seq": inner.leaf.seq,
                "status": inner.leaf.status, "payload": inner.leaf.payload,
            },
        },
    }  # fmt: skip
    return Shown(
        [one for _, one in own], Status(statuses[item]), Checkpoint("o", size, tree.root()), document
    )


EVENTS = [
    entry(item, seq, event)
    for seq, event in enumerate(("CREATE", "REGISTER"))
    for item in ("a", "b", "c", "d", "e")
]
ACTIVE = dict.fromkeys("abcde", "active")


@pytest.fixture
def good() -> Shown:
    return shown(EVENTS, ACTIVE, "b")


@pytest.mark.parametrize("item", "abcde")
def test_the_proof_of_every_item_holds(item: str) -> None:
    one = shown(EVENTS, ACTIVE, item)
    one.check()
    data = canonical.encode(one.document)
    assert format_item_proof(parse_item_proof(data)) == data


def damaged(good: Shown, change: Callable[[dict[str, Any]], object]) -> Shown:
    document = copy.deepcopy(good.document)
    change(document)
    return replace(good, document=document)


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "wrong index": lambda d: d["events"][0].update(index=2),
    "index beyond": lambda d: d["events"][1].update(index=11),
    "cut path": lambda d: d["events"][0]["path"].pop(),
    "consistency that is none": lambda d: d["checkpoints"][0].update(path=["0" * 64]),
    "longer path": lambda d: d["events"][0]["path"].append("0" * 64),
    "empty path": lambda d: d["events"][0].update(path=[]),
    "other node": lambda d: d["events"][0]["path"].__setitem__(0, "0" * 64),
    "events swapped": lambda d: d["events"].reverse(),
    "one event twice": lambda d: d["events"].__setitem__(1, d["events"][0]),
    "an event less": lambda d: d["events"].pop(),
    "an older map": lambda d: d["heads"].update(index=9),
    "map: other path": lambda d: d["heads"]["path"].__setitem__(0, "0" * 64),
    "map: other root": lambda d: d["heads"]["collections"].update(root="0" * 64),
    "map: other count": lambda d: d["heads"]["collections"].update(count=3),
    "collection: other root": lambda d: d["heads"]["collection"].update(root="0" * 64),
    "collection: other count": lambda d: d["heads"]["collection"].update(items=4),
    "collection: other index": lambda d: d["heads"]["collection"].update(index=1),
    "item: other index": lambda d: d["heads"]["item"].update(index=2),
    "item: other status": lambda d: d["heads"]["item"].update(status="withdrawn"),
    "item: other payload": lambda d: d["heads"]["item"].update(payload="0" * 64),
    "item: other seq": lambda d: d["heads"]["item"].update(seq=2),
}


@pytest.mark.parametrize("change", LIES.values(), ids=LIES.keys())
def test_attack_47_and_55_no_lie_in_a_proof_passes(good: Shown, change: Callable[..., object]) -> None:
    good.check()
    with pytest.raises(LogProofFailed) as failed:
        damaged(good, change).check()
    assert failed.value.outcome is Outcome.LOG_VIOLATION


def test_attack_45_a_withheld_withdraw_shows_in_the_head_map() -> None:
    """The catalogue shows the older prefix of the history with a proof at the newest checkpoint."""
    after = shown([*EVENTS, entry("b", 2, "WITHDRAW")], {**ACTIVE, "b": "withdrawn"}, "b")
    after.check()
    document = copy.deepcopy(after.document)
    document["events"].pop()
    with pytest.raises(LogProofFailed, match="the log knows event 2 of demo/b .withdrawn.") as failed:
        Shown(after.events[:-1], Status.ACTIVE, after.checkpoint, document).check()
    assert failed.value.outcome is Outcome.HISTORY_BROKEN


def test_attack_45_the_map_of_before_the_withdraw_does_not_fit_the_newest_checkpoint(good: Shown) -> None:
    after = shown([*EVENTS, entry("b", 2, "WITHDRAW")], {**ACTIVE, "b": "withdrawn"}, "b")
    stale = copy.deepcopy(after.document)
    stale["events"].pop()
    stale["heads"] = good.document["heads"]
    with pytest.raises(LogProofFailed, match="stale") as failed:
        Shown(good.events, Status.ACTIVE, after.checkpoint, stale).check()
    assert failed.value.outcome is Outcome.LOG_VIOLATION


def test_attack_43_the_proof_of_another_item_proves_nothing(good: Shown) -> None:
    other = shown(EVENTS, ACTIVE, "c")
    with pytest.raises(LogProofFailed):
        replace(good, document=other.document).check()


def test_an_event_that_is_not_logged_yet_is_not_proven(good: Shown) -> None:
    with pytest.raises(LogProofFailed, match="about 2 events, the item has 3"):
        replace(good, events=[*good.events, entry("b", 2, "UPDATE")]).check()


def test_a_status_that_the_events_do_not_give_is_found(good: Shown) -> None:
    with pytest.raises(LogProofFailed, match="says that demo/b is active"):
        replace(good, status=Status.SUPERSEDED).check()


def test_one_envelope_in_place_of_another_is_found(good: Shown) -> None:
    """The same payload under another signature is another envelope: the log names both digests."""
    events = [good.events[0], replace(good.events[1], envelope="0" * 64)]
    with pytest.raises(LogProofFailed, match="REGISTER 1 of demo/b"):
        replace(good, events=events).check()


BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda d: d.update(type="eocat-logproof/v2"),
    "a member more": lambda d: d.update(extra=1),
    "no events": lambda d: d.update(events=[]),
    "no checkpoints": lambda d: d.pop("checkpoints"),
    "an empty list of them": lambda d: d.update(checkpoints=[]),
    "one that no event names": lambda d: d.update(checkpoints=d["checkpoints"] * 3),
    "an event that names none": lambda d: d["events"][0].pop("checkpoint"),
    "negative index": lambda d: d["events"][0].update(index=-1),
    "index as text": lambda d: d["events"][0].update(index="0"),
    "index as float": lambda d: d["events"][0].update(index=0.5),
    "short hash": lambda d: d["events"][0].update(path=["00"]),
    "upper-case hash": lambda d: d["events"][0].update(path=["A" * 64]),
    "endless path": lambda d: d["events"][0].update(path=["0" * 64] * 65),
    "unknown status": lambda d: d["heads"]["item"].update(status="fine"),
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_document_of_another_shape_is_malformed(good: Shown, change: Callable[..., object]) -> None:
    document = copy.deepcopy(good.document)
    change(document)
    with pytest.raises(Malformed, match="log proof"):
        parse_item_proof(canonical.encode(document))
