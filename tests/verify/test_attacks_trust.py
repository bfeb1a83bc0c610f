"""The attack classes on keys, roots and policies, each with the exit code it must get (29 to 41, and 68).

Attack 33 is in test_keys.py. Roots and signed policies are refused by an error, items by a report's outcome;
both carry the exit code.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa
from make_shard import MIRROR, NOW, PRODUCER, SECOND, STRANGER, Made, entry, make_shard, policy, policy_json
from test_keys import LOW_ORDER
from trust_maker import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    EXPIRES,
    Hybrid,
    root_json,
    root_of,
    signed,
    signed_policy,
)

from eocat.verify import keys as keys_module
from eocat.verify.canonical import encode
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, parse_envelope
from eocat.verify.errors import EocatError, Malformed, MissingExtra
from eocat.verify.keys import PublicKey, format_key, parse_key
from eocat.verify.policy import Policy
from eocat.verify.root import follow, format_root, parse_root, verified_policy
from eocat.verify.trust_store import SIGNED_POLICY, TrustStore

HYBRID = Hybrid.from_seed("hybrid")
FIRST = root_of(1, [ALICE, BOB, CAROL], 2, ALICE, BOB)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "shard")


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    store = TrustStore(tmp_path / "trust")
    store.pin(format_root(FIRST))
    store.update([signed_policy(ALICE, BOB, version=3)], NOW)
    return store


def refused(code: int, attack: Callable[[], Any]) -> str:
    with pytest.raises(EocatError) as caught:
        attack()
    assert caught.value.exit_code == code, caught.value
    return str(caught.value)


def exit_code(made: Made, trust: Policy, *signatures: Signature) -> int:
    made.write_envelope(Envelope(made.payload, PAYLOAD_TYPE, signatures))
    return made.check(trust).outcome.value


def both(made: Made) -> tuple[Signature, Signature]:
    return HYBRID.first.sign(made.payload), HYBRID.sign_second(made.payload)


# Keys


def test_attack_29_a_key_signs_outside_its_role(made: Made) -> None:
    trust = policy(entry(PRODUCER), entry(MIRROR, roles=["mirror"]))
    assert exit_code(made, trust, MIRROR.sign(made.payload)) == 22
    assert exit_code(made, trust, STRANGER.sign(made.payload)) == 22
    assert exit_code(made, trust, PRODUCER.sign(made.payload)) == 0


def test_attack_29_the_roles_of_a_root_are_apart() -> None:
    apart = root_of(1, [ALICE, BOB], 2, ALICE, BOB, policy=([CAROL, DAVE], 2))
    envelope = parse_envelope(signed_policy(ALICE, BOB))
    refused(22, lambda: verified_policy(envelope, apart))
    refused(22, lambda: follow(apart, root_of(2, [CAROL, DAVE], 2, CAROL, DAVE)))
    assert verified_policy(parse_envelope(signed_policy(CAROL, DAVE)), apart).version == 1


def test_attack_30_one_key_does_not_meet_a_threshold_of_two(made: Made) -> None:
    two = policy(entry(PRODUCER), entry(SECOND), thresholds={"producer": 2})
    once, again = PRODUCER.sign(made.payload), PRODUCER.sign(made.payload)
    assert exit_code(made, two, once, again) == 22
    assert exit_code(made, two, once, Signature(once.key_id.upper(), once.raw)) == 22
    assert exit_code(made, two, once, SECOND.sign(made.payload)) == 0


def test_attack_30_two_halves_of_one_identity_are_one_signer(made: Made) -> None:
    two = policy(HYBRID.entry(), entry(PRODUCER), thresholds={"producer": 2})
    assert exit_code(made, two, *both(made)) == 22
    assert exit_code(made, two, *both(made), PRODUCER.sign(made.payload)) == 0
    with pytest.raises(Malformed, match="stands twice"):
        policy(HYBRID.entry(), entry(PRODUCER, partner=format_key(HYBRID.partner)))


def test_attack_30_one_key_under_two_ids_in_a_root() -> None:
    """There is no second id: it is derived. Nor a second signature, nor a second place in a role."""
    value = root_json(FIRST)
    [first, *_] = value["signed"]["roles"]["root"]["keyids"]
    value["signed"]["keys"]["ab" * 32] = value["signed"]["keys"][first]
    assert "not derived" in refused(50, lambda: parse_root(encode(value)))
    value = root_json(FIRST)
    value["signed"]["roles"]["root"]["keyids"] = [first, first]
    assert "twice" in refused(50, lambda: parse_root(encode(value)))
    refused(22, lambda: follow(FIRST, root_of(2, [ALICE], 1, ALICE, ALICE)))
    once = parse_envelope(signed_policy(ALICE, ALICE))
    assert "1 of the 2" in refused(22, lambda: verified_policy(once, FIRST))


@pytest.mark.parametrize("threshold", [0, -1, 4, 17, True, 1.5, "2", None, 1 << 53])
@pytest.mark.parametrize("role", ["root", "policy"])
def test_attack_31_a_threshold_of_a_root_that_is_no_count_of_its_keys(role: str, threshold: Any) -> None:
    value = root_json(FIRST)
    value["signed"]["roles"][role]["threshold"] = threshold
    refused(50, lambda: parse_root(b'{"signatures"' + encode_loosely(value)))


def encode_loosely(value: dict[str, Any]) -> bytes:
    """The JSON from after `{"signatures"` on; an integer beyond 2^53 has no canonical form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode().removeprefix(b'{"signatures"')


@pytest.mark.parametrize("name", LOW_ORDER)
def test_attack_32_a_low_order_key_is_no_half_of_an_identity(name: str) -> None:
    weak = "ed25519:" + base64.b64encode(LOW_ORDER[name]).decode()
    for members in ({"key": weak}, {"key": weak, "partner": format_key(HYBRID.partner)}, {"partner": weak}):
        with pytest.raises(Malformed):
            policy(entry(PRODUCER, **members))


# Two algorithms


def test_both_halves_sign_and_each_has_its_own_id(made: Made) -> None:
    assert HYBRID.partner.key_id != PublicKey(HYBRID.first.public.raw).key_id
    assert parse_key(format_key(HYBRID.partner)) == HYBRID.partner
    assert exit_code(made, policy(HYBRID.entry()), *both(made)) == 0
    assert exit_code(made, policy(HYBRID.entry()), *reversed(both(made))) == 0


def test_attack_34_a_key_declared_as_the_other_algorithm() -> None:
    first, second = format_key(HYBRID.first.public), format_key(HYBRID.partner)
    crossed = ("ml-dsa-44:" + first.partition(":")[2], "ed25519:" + second.partition(":")[2])
    for text in crossed:
        refused(50, lambda text=text: parse_key(text))
    for members in ({"key": second}, {"partner": first}, {"key": second, "partner": first}):
        with pytest.raises(Malformed, match=r"ml-dsa-44 partner|at most 1024"):
            policy(HYBRID.entry() | members)


def test_attack_34_a_signature_declared_as_the_other_algorithm(made: Made) -> None:
    trust = policy(HYBRID.entry())
    first, second = both(made)
    assert exit_code(made, trust, first, Signature(second.key_id, first.raw)) == 21
    assert exit_code(made, trust, Signature(first.key_id, second.raw), second) == 21
    assert exit_code(made, trust, first, Signature(second.key_id, first.raw.ljust(2420, b"\0"))) == 21


@pytest.mark.parametrize("size", [0, 64, 2419, 2420, 2421])
def test_attack_34_any_bytes_as_an_ml_dsa_signature_are_invalid_not_an_error(size: int) -> None:
    assert not HYBRID.partner.verifies(bytes(size), b"message")


@pytest.mark.parametrize("kept", [0, 1])
def test_attack_35_a_half_of_a_hybrid_signature_is_stripped(made: Made, kept: int) -> None:
    halves = both(made)
    assert exit_code(made, policy(HYBRID.entry()), halves[kept]) == 22
    assert exit_code(made, policy(HYBRID.entry()), halves[kept], PRODUCER.sign(made.payload)) == 22
    other_payload = HYBRID.sign_second(b"{}") if kept == 0 else HYBRID.first.sign(b"{}")
    assert exit_code(made, policy(HYBRID.entry()), halves[kept], other_payload) == 21


def test_attack_35_where_the_policy_asks_for_one_half_one_is_enough(made: Made) -> None:
    assert exit_code(made, policy(entry(HYBRID.first)), *both(made)) == 0


def test_a_library_without_ml_dsa_is_named_when_the_policy_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older cryptography lacks the module; nothing else of eocat needs it."""
    value = HYBRID.entry()
    monkeypatch.setitem(sys.modules, mldsa.__name__, None)
    with pytest.raises(MissingExtra, match="cryptography 50") as caught:
        policy(value)
    assert "pip install" in (caught.value.hint or "")
    assert policy(entry(HYBRID.first)).keys
    assert keys_module.KEY_BYTES["ml-dsa-44"] == 1312


# Time


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "ended",
    [
        {"notAfter": "2026-06-01T00:00:00Z"},
        {"retiredAt": "2026-06-01T00:00:00Z"},
        {"retiredAt": "2026-06-01T00:00:00Z", "compromisedSince": "2026-06-15T00:00:00Z"},
    ],
    ids=["expired", "retired", "retired, then stolen"],
)
def test_attack_36_a_key_that_has_ended(made: Made, ended: dict[str, str]) -> None:
    trust = policy(entry(PRODUCER, **ended))
    assert made.check(trust).outcome.value == 23  # now is after its end, and no other time is trusted
    [key] = trust.keys
    assert key.valid_at(moment("2026-05-31T23:59:59"))  # what a log's witnesses saw before the end stays good
    assert not key.valid_at(moment("2026-06-01T00:00:00"))


def test_attack_36_a_key_that_is_not_yet_valid(made: Made) -> None:
    assert made.check(policy(entry(PRODUCER, notBefore="2026-08-01T00:00:00Z"))).outcome.value == 23


def test_attack_37_a_stolen_key_is_good_until_it_was_stolen(made: Made) -> None:
    trust = policy(entry(PRODUCER, compromisedSince="2026-06-01T00:00:00Z"))
    [key] = trust.keys
    assert key.valid_at(moment("2026-05-31T23:59:59"))
    assert not key.valid_at(moment("2026-06-01T00:00:00"))
    assert made.check(trust).outcome.value == 23
    later = policy(entry(PRODUCER, compromisedSince="2026-08-01T00:00:00Z"))
    assert made.check(later).outcome.value == 0


def test_attack_38_a_claimed_time_proves_nothing(made: Made) -> None:
    """The thief dates the statement back to before the theft."""
    made.statement["predicate"]["claimedAt"] = "2025-01-01T00:00:00Z"
    made.sign(PRODUCER)
    assert made.check(policy(entry(PRODUCER, compromisedSince="2026-06-01T00:00:00Z"))).outcome.value == 23


# Roots


def test_attack_39_a_rollback_to_an_older_root(store: TrustStore) -> None:
    store.update(
        [format_root(root_of(2, [BOB, CAROL], 2, ALICE, BOB, CAROL)), signed_policy(BOB, CAROL, version=3)],
        NOW,
    )
    assert "older than version 2" in refused(26, lambda: store.update([format_root(FIRST)], NOW))
    (store.folder / "2.root.json").write_bytes(format_root(FIRST))
    assert "older than version 2" in refused(26, lambda: store.load(NOW))
    (store.folder / "2.root.json").unlink()
    assert "not in" in refused(26, lambda: store.load(NOW))


def test_attack_39_a_root_in_the_place_of_the_remembered_one(store: TrustStore) -> None:
    twin = root_of(1, [ALICE, BOB, CAROL], 1, ALICE, BOB, CAROL)
    (store.folder / "1.root.json").write_bytes(format_root(twin))
    refused(22, lambda: store.load(NOW))
    (store.folder / "1.root.json").write_bytes(format_root(root_of(2, [ALICE], 1, ALICE, BOB)))
    refused(22, lambda: store.load(NOW))


def test_attack_39_the_same_root_again_under_the_next_name(store: TrustStore) -> None:
    """Found by fuzzing: following it never ended."""
    (store.folder / "2.root.json").write_bytes(format_root(FIRST))
    assert "2.root.json holds trust root 1" in refused(22, lambda: store.load(NOW))


def test_attack_39_two_roots_of_one_version(store: TrustStore) -> None:
    twin = root_of(1, [ALICE, BOB, CAROL], 1, ALICE, BOB, CAROL)
    assert "two different" in refused(22, lambda: store.update([format_root(twin)], NOW))


def test_attack_39_a_version_is_skipped(store: TrustStore) -> None:
    third = root_of(3, [ALICE, BOB], 2, ALICE, BOB)
    refused(22, lambda: store.update([format_root(third)], NOW))
    (store.folder / "2.root.json").write_bytes(format_root(third))  # under another name
    refused(22, lambda: store.load(NOW))


def test_attack_39_a_root_without_the_previous_threshold(store: TrustStore) -> None:
    for signers in ([DAVE], [DAVE, ALICE]):
        refused(22, lambda signers=signers: store.update([format_root(root_of(2, [DAVE], 1, *signers))], NOW))


def test_attack_39_a_root_without_its_own_threshold(store: TrustStore) -> None:
    new = root_of(2, [CAROL, DAVE], 2, ALICE, BOB, CAROL)
    assert "1 of the 2 signatures by the root keys of version 2" in refused(22, lambda: follow(FIRST, new))
    refused(22, lambda: store.update([format_root(new)], NOW))
    store.update([format_root(signed(new, DAVE)), signed_policy(CAROL, DAVE)], NOW)


def test_attack_39_an_expired_root(store: TrustStore) -> None:
    assert store.load(NOW).version == 3
    assert "expired" in refused(26, lambda: store.load(EXPIRES))
    newer = root_of(2, [ALICE, BOB, CAROL], 2, ALICE, BOB, expires=datetime(2028, 1, 1, tzinfo=UTC))
    assert store.update([format_root(newer)], EXPIRES).version == 3  # the old one still leads to the new


@pytest.mark.parametrize("version", [1 << 31, (1 << 31) - 1, 3])
def test_attack_40_a_root_far_ahead(store: TrustStore, version: int) -> None:
    ahead = root_of(version, [ALICE, BOB, CAROL], 2, ALICE, BOB, CAROL)
    refused(22, lambda: store.update([format_root(ahead)], NOW))
    assert store.root() == FIRST


def test_attack_39_a_rollback_of_the_policy(store: TrustStore) -> None:
    assert "older than version 3" in refused(
        26, lambda: store.update([signed_policy(ALICE, BOB, version=2)], NOW)
    )
    (store.folder / SIGNED_POLICY).write_bytes(signed_policy(ALICE, BOB, version=2))
    refused(26, lambda: store.load(NOW))


def test_attack_39_two_policies_of_one_version(store: TrustStore) -> None:
    twin = signed_policy(ALICE, BOB, version=3, expires="2029-01-01T00:00:00Z")
    refused(22, lambda: store.update([twin], NOW))


def test_attack_18_an_envelope_of_another_type_is_no_policy(store: TrustStore) -> None:
    refused(50, lambda: store.update([signed_policy(ALICE, BOB, kind=PAYLOAD_TYPE, version=4)], NOW))


def test_attack_21_a_policy_with_an_invalid_signature(store: TrustStore) -> None:
    good = parse_envelope(signed_policy(ALICE, BOB, CAROL, version=4))
    bad = Envelope(
        good.payload,
        good.payload_type,
        (*good.signatures[:2], Signature(good.signatures[2].key_id, bytes(64))),
    )
    refused(21, lambda: verified_policy(bad, FIRST))


# Where trust comes from


def eocat(home: Path, cwd: Path, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "EOCAT_HOME": str(home), **variables}
    command = [sys.executable, "-m", "eocat.verify", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's home: a pinned root whose policy trusts PRODUCER."""
    store = TrustStore(tmp_path / "home" / "trust")
    store.pin(format_root(FIRST))
    store.update([signed_policy(ALICE, BOB)], datetime.now(UTC))
    return tmp_path / "home"


def plant(folder: Path) -> None:
    """A whole trust folder of the attacker's, and a bare policy, that trust STRANGER."""
    mine = [entry(STRANGER, collections=["*"])]
    for place in (folder, folder / "trust"):
        store = TrustStore(place)
        store.pin(format_root(root_of(1, [STRANGER], 1, STRANGER)))
        store.update([signed_policy(STRANGER, keys=mine)], datetime.now(UTC))
    (folder / "policy.json").write_bytes(encode(policy_json(*mine)))


def test_attack_41_trust_beside_the_item_is_not_taken(home: Path, made: Made, tmp_path: Path) -> None:
    assert eocat(home, tmp_path, "verify", made.folder).returncode == 0
    made.sign(STRANGER)
    plant(made.folder)
    assert eocat(home, made.folder, "verify", made.folder).returncode == 22
    assert eocat(home, made.folder, "verify", ".").returncode == 22


def test_attack_41_there_is_no_trust_on_first_use(made: Made, tmp_path: Path) -> None:
    done = eocat(tmp_path / "fresh", tmp_path, "verify", made.folder)
    assert done.returncode == 5
    assert "VERIFIED" not in done.stdout
    assert not (tmp_path / "fresh").exists()


def test_attack_68_the_current_folder_and_the_environment_change_no_root(
    home: Path, made: Made, tmp_path: Path
) -> None:
    made.sign(STRANGER)
    cwd = tmp_path / "cwd"
    plant(cwd)
    variables = {"EOCAT_TRUST": str(cwd), "EOCAT_POLICY": str(cwd / "policy.json"), "EOCAT_ROOT": str(cwd)}
    (cwd / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    done = eocat(home, cwd, "verify", made.folder, **variables)
    assert done.returncode == 22, done.stderr
    assert eocat(home, cwd, "trust", "pin", "1.root.json").returncode == 5  # nor is the pin replaced


def test_attack_68_an_update_from_the_current_folder_is_verified_like_any(home: Path, tmp_path: Path) -> None:
    plant(tmp_path / "cwd")
    before = (home / "trust" / "memory.json").read_bytes()
    assert eocat(home, tmp_path / "cwd", "trust", "update", ".").returncode == 22
    assert (home / "trust" / "memory.json").read_bytes() == before


def test_attack_39_and_40_by_the_command(home: Path, tmp_path: Path) -> None:
    (tmp_path / "max.json").write_bytes(format_root(root_of(1 << 31, [ALICE, BOB], 2, ALICE, BOB)))
    done = eocat(home, tmp_path, "trust", "update", "max.json")
    assert (done.returncode, done.stdout) == (22, "")
    assert done.stderr.startswith("eocat: error: trust root 2147483648 does not follow version 1")
    skipped = root_of(3, [ALICE, BOB], 2, ALICE, BOB)
    nobodys = root_of(2, [DAVE], 1, DAVE)
    for root in (skipped, nobodys):
        (tmp_path / "next.json").write_bytes(format_root(root))
        assert eocat(home, tmp_path, "trust", "update", "next.json").returncode == 22
    second = root_of(2, [BOB, CAROL], 2, ALICE, BOB, CAROL)
    (tmp_path / "next.json").write_bytes(format_root(second))
    (tmp_path / "policy.json").write_bytes(signed_policy(BOB, CAROL, version=4))
    assert eocat(home, tmp_path, "trust", "update", "next.json", "policy.json").returncode == 0
    (tmp_path / "next.json").write_bytes(format_root(FIRST))
    done = eocat(home, tmp_path, "trust", "update", "next.json")
    assert done.returncode == 26
    assert "older than version 2" in done.stderr


def test_attack_39_an_expired_root_by_the_command(made: Made, tmp_path: Path) -> None:
    ended = root_of(1, [ALICE, BOB], 2, ALICE, BOB, expires=datetime(2026, 1, 1, tzinfo=UTC))
    store = TrustStore(tmp_path / "home" / "trust")
    store.pin(format_root(ended))
    store.update([signed_policy(ALICE, BOB)], datetime(2025, 6, 1, tzinfo=UTC))
    done = eocat(tmp_path / "home", tmp_path, "verify", made.folder)
    assert done.returncode == 26, done.stdout + done.stderr


def test_a_root_is_pinned_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / "1.root.json").write_bytes(format_root(FIRST))
    wrong = eocat(tmp_path / "home", tmp_path, "trust", "pin", "1.root.json", "--digest", "00" * 32)
    assert wrong.returncode == 2
    assert not (tmp_path / "home").exists()
    done = eocat(tmp_path / "home", tmp_path, "trust", "pin", "1.root.json", "--digest", FIRST.digest)
    assert done.returncode == 0, done.stderr
    assert FIRST.digest in done.stdout
