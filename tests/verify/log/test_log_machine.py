"""A state machine of a log and its items: whatever is offered and published, proofs and histories hold."""

import copy
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from make_events import event_after, signed
from make_log import MadeLog, proof_bytes
from make_shard import PRODUCER, make_rows, make_shard

from eocat.verify.dsse import parse_envelope
from eocat.verify.errors import Malformed
from eocat.verify.events import parse_event
from eocat.verify.history import TRANSITIONS, BrokenHistory, History, replay
from eocat.verify.log.checkpoint import parse_checkpoint
from eocat.verify.log.entry import entry_of
from eocat.verify.log.item_proof import LogProofFailed, check_log_proof, parse_item_proof
from eocat.verify.log.note import parse_note
from eocat.verify.merkle import check_consistency

EVENTS = ("REGISTER", "COPY", "UPDATE", "SUPERSEDE", "OBSOLETE", "WITHDRAW")


def creates() -> dict[str, bytes]:
    """Item → its signed CREATE, of three items in two collections."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(("s2/a", "s2/b", "s3/c")):
            collection, item = path.split("/")
            made = make_shard(Path(folder, path), make_rows(2 + number), collection=collection, item_id=item)
            found[path] = made.attestation.read_bytes().strip()
    return found


CREATES = creates()
ITEMS = st.sampled_from(sorted(CREATES))


def replayed(envelopes: list[bytes]) -> History:
    parsed = [parse_envelope(envelope) for envelope in envelopes]
    return replay([(one.payload_digest, parse_event(one.payload)) for one in parsed])


class Growing(RuleBasedStateMachine):
    """Events are offered to items, legal or not; now and then the log publishes what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MadeLog()
        self.held: dict[str, list[bytes]] = {}
        self.shown: dict[str, list[bytes]] = {}  # as the newest checkpoint has it

    @rule(path=ITEMS)
    def create(self, path: str) -> None:
        """A second CREATE of an item breaks its history, and is not logged."""
        if path in self.held:
            with pytest.raises(BrokenHistory):
                replayed([*self.held[path], CREATES[path]])
            return
        self.held[path] = [CREATES[path]]
        self.log.add(CREATES[path])

    @rule(path=ITEMS, event=st.sampled_from(EVENTS), skip=st.integers(0, 3))
    def offer(self, path: str, event: str, skip: int) -> None:
        """It is taken if, and only if, the status allows it and it follows the last event."""
        if path not in self.held:
            return
        envelopes = self.held[path]
        wrong: dict[str, Any] = {1: {"seq": len(envelopes) + 1}, 2: {"prev": "0" * 64}}.get(skip, {})
        after = [*envelopes, signed(event_after(envelopes, event, **wrong), PRODUCER)]
        if event in TRANSITIONS[replayed(envelopes).status] and not wrong:
            assert replayed(after).seq == len(envelopes)
            self.held[path] = after
            self.log.add(after[-1])
        else:
            with pytest.raises(BrokenHistory):
                replayed(after)

    @precondition(lambda self: self.held)
    @rule()
    def publish(self) -> None:
        self.log.publish(f"2026-01-01T{len(self.log.published) % 24:02}:00:00+00:00")
        self.shown = {path: [*events] for path, events in self.held.items()}

    def check(self, path: str, events: list[bytes], document: dict[str, Any]) -> None:
        proof = parse_item_proof(proof_bytes(document))
        checkpoints = [parse_checkpoint(parse_note(one.note.encode()).text) for one in proof.checkpoints]
        status = self.log._head(events)[1]
        entries = [entry_of(envelope) for envelope in events]
        check_log_proof(proof, entries, next(one for one in STATUSES if one.value == status), checkpoints)

    @precondition(lambda self: self.shown)
    @invariant()
    def every_shown_item_is_proven_and_nothing_less_or_else_is(self) -> None:
        for path, events in self.shown.items():
            document = self.log.proof(path)
            self.check(path, events, document)
            if len(events) > 1:
                with pytest.raises((LogProofFailed, Malformed)):
                    self.check(path, events[:-1], document)
                turned = copy.deepcopy(document)
                turned["events"].reverse()
                with pytest.raises((LogProofFailed, Malformed)):
                    self.check(path, events, turned)

    @invariant()
    def each_published_tree_begins_with_the_one_before(self) -> None:
        for old, new in pairwise(self.log.published):
            trees = self.log.tree(old.size), self.log.tree(new.size)
            path = trees[1].prove_consistency(old.size)
            assert check_consistency(old.size, trees[0].root(), new.size, trees[1].root(), path)
            assert not check_consistency(old.size, bytes(32), new.size, trees[1].root(), path)


STATUSES = [*TRANSITIONS]
TestGrowing = Growing.TestCase
TestGrowing.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
