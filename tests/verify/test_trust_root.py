"""root.py and trust_store.py: TUF's rules, one by one and then in any order (a state machine)."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from make_shard import NOW, Key
from test_keys import LOW_ORDER
from trust_maker import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    ERIN,
    EXPIRES,
    HOLDERS,
    root_json,
    root_of,
    signed,
    signed_policy,
)

from eocat.verify.canonical import encode
from eocat.verify.errors import ConfigError, EocatError, Forged, Malformed, Stale, Untrusted
from eocat.verify.root import RootKey, check_current, check_signed, follow, format_root, parse_root
from eocat.verify.trust_store import MEMORY, SIGNED_POLICY, TrustStore, load_policy

FIRST = root_of(1, [ALICE, BOB, CAROL], 2, ALICE, BOB)
SECOND = root_of(2, [BOB, CAROL, DAVE], 2, BOB, CAROL)


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    """Pinned to FIRST, with its first policy in force."""
    store = TrustStore(tmp_path / "trust")
    store.pin(format_root(FIRST))
    assert store.update([signed_policy(ALICE, BOB)], NOW).version == 1
    return store


# The format


def test_the_key_id_is_the_one_of_tufs_own_example() -> None:
    """The Update Framework, specification 1.0, example of root.json."""
    public = "72378e5bc588793e58f81c8533da64a2e8f1565c1fcc7f253496394ffc52542c"
    key = RootKey.model_validate({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
    assert key.key_id == "1bf1c6e3cdd3d3a8420b19199e27511999850f4b376c4547b2f32fba7e80fca3"


def test_a_root_is_read_as_it_is_written() -> None:
    for root in (FIRST, SECOND, root_of(1, [ALICE], 1)):
        assert parse_root(format_root(root)) == root
        assert encode(root_json(root)["signed"]) == root.message


def test_who_signs_does_not_change_what_is_signed() -> None:
    assert signed(FIRST, CAROL).digest == FIRST.digest
    assert len(signed(FIRST, ALICE).signatures) == 2  # once more by the same key is still once


KEY_ID = FIRST.signed.roles.root.keyids[0]
Edit = Callable[[dict[str, Any]], Any]
BAD_ROOTS: dict[str, Edit] = {
    "another type": lambda root: root["signed"].update(_type="targets"),
    "another major version": lambda root: root["signed"].update(spec_version="2.0.0"),
    "version 0": lambda root: root["signed"].update(version=0),
    "version true": lambda root: root["signed"].update(version=True),
    "version beyond": lambda root: root["signed"].update(version=(1 << 31) + 1),
    "expires in fractions": lambda root: root["signed"].update(expires="2027-01-01T00:00:00.5Z"),
    "no expiry": lambda root: root["signed"].pop("expires"),
    "one member more": lambda root: root["signed"].update(comment="x"),
    "one role more": lambda root: root["signed"]["roles"].update(targets=root["signed"]["roles"]["root"]),
    "one role less": lambda root: root["signed"]["roles"].pop("policy"),
    "role of an absent key": lambda root: root["signed"]["keys"].pop(KEY_ID),
    "role without keys": lambda root: root["signed"]["roles"]["root"].update(keyids=[], threshold=1),
    "another scheme": lambda root: root["signed"]["keys"][KEY_ID].update(scheme="rsassa-pss-sha256"),
    "signature too short": lambda root: root["signatures"][0].update(sig="00" * 63),
    "signature in upper case": lambda root: root["signatures"][0].update(sig="AB" * 64),
    "signed twice by one": lambda root: root["signatures"].append(root["signatures"][0]),
    "no signatures member": lambda root: root.pop("signatures"),
}


@pytest.mark.parametrize("defect", BAD_ROOTS)
def test_another_root_is_refused(defect: str) -> None:
    value = deepcopy(root_json(FIRST))
    BAD_ROOTS[defect](value)
    with pytest.raises(Malformed, match="^trust root"):
        parse_root(encode(value))


@pytest.mark.parametrize(
    "spell", [lambda data: data + b"\n", lambda data: b" " + data, lambda data: data[:-1]]
)
def test_a_root_in_a_second_spelling_is_refused(spell: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        parse_root(spell(format_root(FIRST)))


@pytest.mark.parametrize("name", LOW_ORDER)
def test_attack_32_a_low_order_key_in_a_root_is_refused(name: str) -> None:
    key = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": LOW_ORDER[name].hex()}}
    value = root_json(FIRST)
    value["signed"]["keys"][RootKey.model_validate(key).key_id] = key
    with pytest.raises(Malformed, match=r"low-order|canonical"):
        parse_root(encode(value))


# One root after another


def test_a_root_follows_by_both_thresholds() -> None:
    assert follow(FIRST, SECOND) == SECOND
    assert follow(FIRST, FIRST) == FIRST
    assert follow(FIRST, root_of(2, [DAVE, ERIN], 2, ALICE, BOB, DAVE, ERIN)).version == 2


def test_an_unknown_signature_neither_helps_nor_harms() -> None:
    assert follow(FIRST, signed(SECOND, ERIN)).version == 2
    with pytest.raises(Untrusted, match="1 of the 2"):
        follow(FIRST, root_of(2, [BOB, CAROL, DAVE], 2, BOB, ERIN))


def test_an_invalid_signature_of_a_holder_is_a_forgery_even_if_enough_others_signed() -> None:
    value = root_json(signed(SECOND, ALICE))
    value["signatures"][-1]["sig"] = "00" * 64
    with pytest.raises(Forged, match="invalid signature"):
        follow(FIRST, parse_root(encode(value)))


def test_only_the_newest_root_must_be_valid_in_time() -> None:
    """TUF, 5.3.6 and 5.3.10."""
    expired = root_of(2, [BOB, CAROL], 2, BOB, CAROL, expires=NOW - timedelta(days=1))
    third = root_of(3, [BOB, CAROL], 2, BOB, CAROL)
    check_current(follow(follow(FIRST, expired), third), NOW)
    with pytest.raises(Stale, match="expired"):
        check_current(expired, NOW)
    with pytest.raises(Stale, match="expired"):
        check_current(FIRST, EXPIRES)  # [.., expires)


# The folder


def test_a_pinned_root_brings_a_policy_and_follows(store: TrustStore) -> None:
    assert store.load(NOW).version == 1
    policy = store.update(
        [signed_policy(CAROL, DAVE, version=2), format_root(SECOND), format_root(FIRST)], NOW
    )
    assert policy.version == 2
    assert store.root() == SECOND
    assert TrustStore(store.folder).load(NOW) == policy


def test_the_folder_itself_may_be_brought_by_others(store: TrustStore) -> None:
    """As a checkout would: a root and a policy appear, and `load` alone goes the whole way."""
    (store.folder / "2.root.json").write_bytes(format_root(SECOND))
    (store.folder / SIGNED_POLICY).write_bytes(signed_policy(BOB, CAROL, version=5))
    assert store.load(NOW).version == 5
    (store.folder / SIGNED_POLICY).write_bytes(signed_policy(BOB, CAROL, version=4))
    with pytest.raises(Stale, match="signed policy 4 is older than version 5"):
        store.load(NOW)


def test_a_refused_update_changes_nothing(store: TrustStore) -> None:
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    refused: list[list[bytes]] = [
        [format_root(root_of(2, [DAVE], 1, DAVE))],
        [format_root(root_of(3, [ALICE, BOB], 2, ALICE, BOB))],
        [signed_policy(ALICE, version=2)],
        [signed_policy(ALICE, BOB, version=2, keys=[])[:-1]],
        [b"{}"],
        [b"\xff"],
    ]
    for documents in refused:
        with pytest.raises(EocatError):
            store.update(documents, NOW)
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


def test_a_gap_in_what_is_offered_is_refused_and_the_way_up_to_it_kept(store: TrustStore) -> None:
    fourth = root_of(4, [BOB, CAROL], 2, BOB, CAROL)
    with pytest.raises(Untrusted, match="does not follow version 2"):
        store.update([format_root(fourth), format_root(SECOND)], NOW)
    assert store.root() == SECOND


def test_a_crash_between_two_files_costs_nothing(store: TrustStore) -> None:
    """The memory is written last: with the older one, the newer files are verified once more."""
    memory = (store.folder / MEMORY).read_bytes()
    store.update([format_root(SECOND), signed_policy(BOB, CAROL, version=2)], NOW)
    (store.folder / MEMORY).write_bytes(memory)
    assert store.load(NOW).version == 2
    assert store.root() == SECOND


def test_trust_is_not_pinned_over_another(store: TrustStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in force already"):
        store.pin(format_root(FIRST))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "policy.json").write_text("{}")
    with pytest.raises(ConfigError, match="in force already"):
        TrustStore(tmp_path / "own").pin(format_root(FIRST))


def test_two_trusts_in_one_folder_are_not_guessed_between(store: TrustStore) -> None:
    (store.folder / "policy.json").write_text("{}")
    with pytest.raises(ConfigError, match="not clear whom you trust"):
        load_policy(store.folder, NOW)


def test_the_pinned_root_must_be_signed_by_its_own_keys(tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="1 of the 2"):
        TrustStore(tmp_path).pin(format_root(root_of(1, [ALICE, BOB], 2, ALICE)))
    assert not list(tmp_path.iterdir())
    check_signed(FIRST, FIRST)


@pytest.mark.parametrize(
    "memory", [b"", b"{}", b"[]", b'{"policy":null,"root":null,"type":"eocat-trust-memory/v1"}']
)
def test_a_broken_memory_is_no_reason_to_forget(store: TrustStore, memory: bytes) -> None:
    (store.folder / MEMORY).write_bytes(memory)
    with pytest.raises(Malformed):
        load_policy(store.folder, NOW)


def test_a_lost_policy_role_forgets_the_versions_it_signed(store: TrustStore) -> None:
    """Who stole the policy keys signed the highest version; TUF, 5.3.11, lets the user out again."""
    store.update([signed_policy(ALICE, BOB, version=1 << 31)], NOW)
    with pytest.raises(Stale):
        store.update([signed_policy(ALICE, BOB, version=2)], NOW)
    recovered = root_of(2, [ALICE, BOB, CAROL], 2, ALICE, BOB, policy=([DAVE, ERIN], 2))
    assert store.update([format_root(recovered), signed_policy(DAVE, ERIN, version=2)], NOW).version == 2


def test_a_holder_more_does_not_forget(store: TrustStore) -> None:
    store.update([signed_policy(ALICE, BOB, version=7)], NOW)
    wider = root_of(2, [ALICE, BOB, CAROL], 2, ALICE, BOB, policy=([ALICE, BOB, CAROL, DAVE], 2))
    with pytest.raises(Stale, match="older than version 7"):
        store.update([format_root(wider), signed_policy(ALICE, BOB, version=6)], NOW)


# In any order

SOME = st.lists(st.sampled_from(HOLDERS), min_size=1, max_size=4, unique_by=lambda key: key.name)


class Rotation(RuleBasedStateMachine):
    """A publisher who rotates and an attacker who offers all else, against one trust folder.

    The model is what a client must believe: the newest root of the honest chain, the newest policy under it.
    """

    @initialize(holders=SOME, data=st.data())
    def begin(self, holders: list[Key], data: st.DataObject) -> None:
        self.folder = Path(mkdtemp(prefix="eocat-rotation-"))
        self.holders, self.threshold = holders, data.draw(st.integers(1, len(holders)))
        self.chain = [root_of(1, holders, self.threshold, *holders)]
        self.remembered = 0  # the newest version of a policy
        self.stored: tuple[int, set[str]] | None = None  # version and signers of the policy in the folder
        self.store = TrustStore(self.folder)
        self.store.pin(format_root(self.chain[0]))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @property
    def newest(self) -> int:
        return self.chain[-1].version

    def offer(self, *documents: bytes) -> type[EocatError] | None:
        """What the folder says to an update; that there is no policy yet is no refusal of a root."""
        try:
            self.store.update(documents, NOW)
        except ConfigError:
            return None
        except EocatError as error:
            return type(error)
        return None

    @rule(holders=SOME, data=st.data())
    def rotate(self, holders: list[Key], data: st.DataObject) -> None:
        threshold = data.draw(st.integers(1, len(holders)))
        old = data.draw(st.permutations(self.holders))[: self.threshold]
        new = data.draw(st.permutations(holders))[:threshold]
        root = root_of(self.newest + 1, holders, threshold, *old, *new)
        lost = {key.name for key in self.holders} - {key.name for key in holders}
        self.chain.append(root)
        self.holders, self.threshold = holders, threshold
        if lost:
            self.remembered = 0
        if self.stored is None:
            assert self.offer(format_root(root)) is None
        elif sum(key.name in self.stored[1] for key in holders) >= threshold:
            assert self.offer(format_root(root)) is None
            self.remembered = self.stored[0]
        else:  # the root is followed, and its holders owe a policy
            assert self.offer(format_root(root)) is Untrusted

    @rule(step=st.integers(1, 1000))
    def publish_policy(self, step: int) -> None:
        version = self.remembered + step
        assert self.offer(signed_policy(*self.holders, version=version)) is None
        self.remembered, self.stored = version, (version, {key.name for key in self.holders})

    @precondition(lambda self: self.remembered > 1)
    @rule(data=st.data())
    def offer_an_older_policy(self, data: st.DataObject) -> None:
        version = data.draw(st.integers(1, self.remembered - 1))
        assert self.offer(signed_policy(*self.holders, version=version)) is Stale

    @precondition(lambda self: self.threshold > 1)
    @rule()
    def offer_a_policy_with_a_signature_too_few(self) -> None:
        signers = self.holders[: self.threshold - 1]
        assert self.offer(signed_policy(*signers, version=self.remembered + 1)) is Untrusted

    @rule(holders=SOME, skip=st.integers(2, 1 << 20))
    def skip_a_version(self, holders: list[Key], skip: int) -> None:
        root = root_of(self.newest + skip, holders, 1, *self.holders, *holders)
        assert self.offer(format_root(root)) is Untrusted

    @rule(holders=SOME, data=st.data())
    def rotate_without_the_old_threshold(self, holders: list[Key], data: st.DataObject) -> None:
        few = data.draw(st.permutations(self.holders))[: self.threshold - 1]
        strangers = [key for key in holders if key not in self.holders]
        if strangers:
            root = root_of(self.newest + 1, strangers, 1, *few, *strangers)
            assert self.offer(format_root(root)) is Untrusted

    @rule(holders=SOME)
    def rotate_without_the_new_threshold(self, holders: list[Key]) -> None:
        signers = [key for key in self.holders if key not in holders]
        if len(signers) >= self.threshold:
            assert self.offer(format_root(root_of(self.newest + 1, holders, 1, *signers))) is Untrusted

    @precondition(lambda self: len(self.chain) > 1)
    @rule(data=st.data())
    def offer_an_older_root(self, data: st.DataObject) -> None:
        root = data.draw(st.sampled_from(self.chain[:-1]))
        assert self.offer(format_root(root)) is Stale

    @rule()
    def offer_a_twin_of_the_newest(self) -> None:
        twin = root_of(
            self.newest, self.holders, self.threshold, *self.holders, expires=EXPIRES + timedelta(1)
        )
        assert self.offer(format_root(twin)) is Untrusted

    @rule()
    def begin_anew(self) -> None:
        """Another process: all that is known stands in the folder."""
        self.store = TrustStore(self.folder)

    @invariant()
    def believes_the_honest_chain(self) -> None:
        if hasattr(self, "chain"):
            assert self.store.root().digest == self.chain[-1].digest


TestRotation = Rotation.TestCase
TestRotation.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
