"""The witness: it cosigns what extends the tree it cosigned last, and never anything else.

Real servers on loopback, real keys, real trees. Attacks 50 to 53 and 76 of the list.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from make_notes import Signer, note_of
from witnesses import DrawnLog, Served, free_port, served

from eocat.catalog.witness import SEEN, Refused, open_witness, read_seen, refusal_body
from eocat.catalog.witness_request import AddCheckpoint, format_request, parse_request
from eocat.verify.errors import ConfigError, Malformed
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from eocat.verify.log.cosignature import cosignature_time
from eocat.verify.log.note import COSIGNATURE, ED25519, format_vkey, parse_note, parse_vkey, signed_by

LOG = DrawnLog()
FORK = DrawnLog(content="another")


@pytest.fixture
def w1(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "w1", [LOG.key], "w1.example") as witness:
        yield witness


def assert_cosigned(witness: Served, answer: requests.Response, note: bytes) -> int:
    """The time of the one valid cosignature in the answer."""
    assert answer.status_code == 200, answer.text
    text = parse_note(note).text
    [line] = parse_note(f"{text}\n".encode() + answer.content).signatures
    assert witness.key.verifies(line.body, text)
    time_s = cosignature_time(line.body)
    assert time_s is not None
    return time_s


def test_a_growing_log_is_cosigned(w1: Served) -> None:
    old = 0
    for size in (1, 2, 3, 7, 8, 255, 256, 257, 700):
        answer = w1.post(LOG.request(old, size))
        assert abs(assert_cosigned(w1, answer, LOG.note(size)) - time.time()) < 30
        old = size
    assert w1.post(LOG.request(0, 700)).content == b"700\n"


def test_the_same_checkpoint_is_cosigned_again(w1: Served) -> None:
    """So that a log that does not grow gets a newer time."""
    assert w1.post(LOG.request(0, 5, proof=[bytes(32)])).status_code == 422
    for old in (0, 5, 5):
        assert_cosigned(w1, w1.post(LOG.request(old, 5)), LOG.note(5))
    assert w1.post(LOG.request(5, 5, proof=[bytes(32)])).status_code == 422


def test_attack_50_a_rollback_is_answered_with_the_size_that_is_remembered(w1: Served) -> None:
    w1.post(LOG.request(0, 9))
    for body in (LOG.request(0, 7), LOG.request(4, 7), LOG.request(7, 7), LOG.request(0, 12)):
        answer = w1.post(body)
        assert (answer.status_code, answer.content) == (409, b"9\n")
        assert answer.headers["content-type"] == "text/x.tlog.size"
    assert w1.post(LOG.request(9, 7, proof=[])).status_code == 400


def test_attack_51_a_fork_of_the_same_size_is_refused_and_kept(w1: Served) -> None:
    w1.post(LOG.request(0, 9))
    assert w1.post(FORK.request(9, 9)).status_code == 409
    [evidence] = (w1.witness.home / "witness" / "log-evidence").iterdir()
    for log in (LOG, FORK):
        assert log.note(9) in evidence.read_bytes()
    assert_cosigned(w1, w1.post(LOG.request(9, 9)), LOG.note(9))


@pytest.mark.parametrize("old", [1, 8, 9, 255])
def test_attack_76_a_larger_fork_is_refused(w1: Served, old: int) -> None:
    """Whoever has the log's key has every proof of the fork, and none that it begins with the log."""
    w1.post(LOG.request(0, old))
    for proof in (
        FORK.tree(300).prove_consistency(old),
        LOG.tree(300).prove_consistency(old),
        (),
        [bytes(32)] * 63,
    ):
        assert w1.post(FORK.request(old, 300, proof=proof)).status_code == 422
    assert_cosigned(w1, w1.post(LOG.request(old, 300)), LOG.note(300))


def test_logs_that_are_not_followed_are_unknown(w1: Served) -> None:
    other = DrawnLog(origin="other.example/log", number=2)
    assert w1.post(other.request(0, 5)).status_code == 404
    stranger = DrawnLog(number=3)  # the origin that is followed, under another key
    assert w1.post(stranger.request(0, 5)).status_code == 403
    as_witness = Signer(LOG.origin, COSIGNATURE, 1)
    body = AddCheckpoint(
        0, (), note_of(LOG.checkpoint(5), as_witness.sign(format_checkpoint(LOG.checkpoint(5))))
    )
    assert w1.post(format_request(body)).status_code == 403
    assert read_seen(w1.witness.home) == {}


def test_lines_of_others_are_ignored_and_none_is_remembered_twice(w1: Served) -> None:
    text = format_checkpoint(LOG.checkpoint(5))
    own, stranger = LOG.signer.sign(text), Signer("stranger.example", ED25519, 9).sign(text)
    note = note_of(LOG.checkpoint(5), stranger, own, own, stranger)
    answer = w1.post(format_request(AddCheckpoint(0, (), note)))
    assert_cosigned(w1, answer, note)
    assert read_seen(w1.witness.home)[LOG.origin].signatures == (own,)


def test_a_forged_line_beside_a_valid_one_is_refused(w1: Served) -> None:
    text = format_checkpoint(LOG.checkpoint(5))
    note = note_of(LOG.checkpoint(5), LOG.signer.sign(text), LOG.signer.sign(text + "x\n"))
    assert w1.post(format_request(AddCheckpoint(0, (), note))).status_code == 403


GOOD = LOG.request(3, 9)
BAD_TWINS = {
    "empty": b"",
    "no old line": GOOD.split(b"\n", 1)[1],
    "leading zero": GOOD.replace(b"old 3", b"old 03"),
    "sign": GOOD.replace(b"old 3", b"old +3"),
    "underscore": GOOD.replace(b"old 3", b"old 1_0"),
    "arabic digit": GOOD.replace(b"old 3", "old ٣".encode()),
    "two spaces": GOOD.replace(b"old 3", b"old  3"),
    "carriage return": GOOD.replace(b"old 3\n", b"old 3\r\n"),
    "huge": GOOD.replace(b"old 3", b"old " + b"9" * 100),
    "no empty line": GOOD.replace(b"\n\n", b"\n"),
    "empty line too early": GOOD.replace(b"old 3\n", b"old 3\n\n"),
    "short hash": GOOD.replace(b"old 3\n", b"old 3\nAAAA\n"),
    "loose base64": GOOD.replace(b"old 3\n", b"old 3\n" + b"A" * 42 + b"B=\n"),
    "64 proof lines": LOG.request(3, 9, proof=[bytes(32)] * 63).replace(
        b"old 3\n", b"old 3\n" + b"A" * 43 + b"=\n"
    ),
    "no checkpoint": GOOD.split(b"\n\n")[0] + b"\n\n",
    "unsigned": b"\n\n".join(GOOD.split(b"\n\n")[:2]) + b"\n",
    "not UTF-8": GOOD.replace(b"log.example", b"log\xffexample"),
}


@pytest.mark.parametrize("name", BAD_TWINS)
def test_a_second_spelling_is_a_bad_request(w1: Served, name: str) -> None:
    w1.post(LOG.request(0, 3))
    assert w1.post(BAD_TWINS[name]).status_code == 400
    assert_cosigned(w1, w1.post(GOOD), LOG.note(9))


@given(
    old=st.integers(0, 1 << 40),
    proof=st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    note=st.binary(),
)
def test_a_request_is_read_as_it_was_written(old: int, proof: list[bytes], note: bytes) -> None:
    request = AddCheckpoint(old, tuple(proof), note)
    assert parse_request(format_request(request)) == request


@settings(max_examples=300)
@given(at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_only_one_spelling_is_read(at: int, byte: int) -> None:
    data = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    try:
        request = parse_request(data)
    except Malformed:
        return
    assert format_request(request) == data


def test_a_request_that_is_too_long_is_refused(w1: Served) -> None:
    assert w1.post(GOOD + bytes(1 << 18)).status_code == 413
    assert requests.get(f"{w1.url}/add-checkpoint", timeout=30).status_code == 405
    assert_cosigned(w1, w1.post(LOG.request(0, 3)), LOG.note(3))


def test_a_slow_body_is_given_up_and_holds_nobody_up(tmp_path: Path) -> None:
    with served(tmp_path, [LOG.key], "w1.example", body_timeout_s=1) as witness:
        host, port = witness.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            slow.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 1000\r\n\r\nold ")
            began = time.monotonic()
            assert_cosigned(witness, witness.post(LOG.request(0, 3)), LOG.note(3))
            assert time.monotonic() - began < 1
            assert b" 408 " in slow.recv(100)


def test_a_race_of_two_branches_has_one_winner(w1: Served) -> None:
    w1.post(LOG.request(0, 3))
    answers: list[tuple[str, int]] = []

    def ask(name: str, body: bytes) -> None:
        answers.append((name, w1.post(body).status_code))

    bodies = [(str(size), LOG.request(3, size)) for size in range(4, 16)]
    threads = [threading.Thread(target=ask, args=each) for each in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for _, status in answers) == [200] + [409] * 11
    [winner] = [name for name, status in answers if status == 200]
    assert w1.post(LOG.request(0, 20)).content == f"{winner}\n".encode()


def test_two_processes_of_one_home_are_one_witness(tmp_path: Path) -> None:
    """From reading the memory to the cosignature nobody else gets in: the second waits for the first."""
    first = open_witness(tmp_path, [LOG.key], "w1.example")
    inside, go_on, answers = threading.Event(), threading.Event(), list[bytes]()

    def wait(_: str) -> None:
        inside.set()
        assert go_on.wait(30)

    def second() -> None:
        with pytest.raises(Refused) as refused:
            open_witness(tmp_path, [LOG.key]).add_checkpoint(FORK.request(0, 5))
        answers.append(refusal_body(refused.value))

    one = threading.Thread(target=replace(first, step=wait).add_checkpoint, args=[LOG.request(0, 4)])
    other = threading.Thread(target=second)
    one.start()
    assert inside.wait(30)
    other.start()
    other.join(0.5)
    assert not answers
    go_on.set()
    one.join()
    other.join()
    assert answers == [b"4\n"]


def test_a_new_start_remembers(tmp_path: Path) -> None:
    with served(tmp_path, [LOG.key], "w1.example") as witness:
        witness.post(LOG.request(0, 9))
        key = witness.key
    other = DrawnLog(origin="other.example/log", number=2)
    with served(tmp_path, [LOG.key, other.key], "w1.example") as witness:
        assert witness.key == key
        assert witness.post(FORK.request(0, 9)).content == b"9\n"
        assert witness.post(FORK.request(9, 9)).status_code == 409
        assert_cosigned(witness, witness.post(other.request(0, 4)), other.note(4))
        assert_cosigned(witness, witness.post(LOG.request(9, 12)), LOG.note(12))
    assert {origin: parse_checkpoint(note.text).size for origin, note in read_seen(tmp_path).items()} == {
        LOG.origin: 12,
        other.origin: 4,
    }


def test_a_witness_that_lost_its_memory_does_not_start(tmp_path: Path) -> None:
    open_witness(tmp_path, [LOG.key], "w1.example")
    path = tmp_path / "witness" / SEEN
    good = path.read_bytes()
    for damaged in (
        b"",
        b"{}",
        b"[]",
        good.replace(b"v1", b"v2"),
        b'{"type": "eocat-witness/v1", "logs": {"a": "b"}}',
    ):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="cannot be used"):
            open_witness(tmp_path, [LOG.key])
    path.unlink()
    with pytest.raises(ConfigError, match="does not know what it cosigned"):
        open_witness(tmp_path, [LOG.key])
    path.write_bytes(good)
    open_witness(tmp_path, [LOG.key])


def test_memory_that_is_damaged_while_it_runs_signs_nothing(w1: Served) -> None:
    w1.post(LOG.request(0, 3))
    (w1.witness.home / "witness" / SEEN).write_bytes(b"{}")
    answer = w1.post(LOG.request(0, 3))
    assert answer.status_code == 500
    assert str(w1.witness.home) not in answer.text


def test_the_key_is_made_once_and_kept_closed(tmp_path: Path) -> None:
    first = open_witness(tmp_path, [LOG.key], "w1.example").key.verifier
    assert open_witness(tmp_path, [LOG.key]).key.verifier == first
    assert (first.name, first.kind) == ("w1.example", COSIGNATURE)
    pem = tmp_path / "witness" / "witness.pem"
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match=r"is w1\.example, not w2\.example"):
        open_witness(tmp_path, [LOG.key], "w2.example")
    with pytest.raises(ConfigError, match="cannot name a witness"):
        open_witness(tmp_path / "other", [LOG.key], "two words")
    with pytest.raises(ConfigError, match="the key of a witness"):
        open_witness(tmp_path, [first])
    with pytest.raises(ConfigError, match="nothing to do"):
        open_witness(tmp_path, [])
    pem.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        open_witness(tmp_path, [LOG.key])


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from eocat.catalog.witness import open_witness
from eocat.verify.log.note import parse_vkey

def step(name):
    if name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

witness = replace(open_witness(Path(sys.argv[1]), [parse_vkey(sys.argv[2])]), step=step)
sys.stdout.buffer.write(witness.add_checkpoint(sys.stdin.buffer.read()))
"""


@pytest.mark.parametrize("step", ["remembered", "cosigned"])
def test_a_kill_between_memory_and_answer_never_signs_two_trees(tmp_path: Path, step: str) -> None:
    """What may have left the house is remembered: the fork of that size stays refused."""
    open_witness(tmp_path, [LOG.key], "w1.example")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), format_vkey(LOG.key), step],
        input=LOG.request(0, 9), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == b""
    with served(tmp_path, [LOG.key], "w1.example") as witness:
        assert witness.post(FORK.request(0, 9)).content == b"9\n"
        assert witness.post(FORK.request(9, 9)).status_code == 409
        assert_cosigned(witness, witness.post(LOG.request(9, 9)), LOG.note(9))


COMMAND = "from eocat.edge.main import main; main()"


def test_kills_at_any_time_never_sign_two_trees(tmp_path: Path) -> None:
    """The command itself, ended by -9 while two views of one log are offered to it again and again."""
    signed: dict[int, set[bytes]] = {}
    environment = {**os.environ, "EOCAT_HOME": str(tmp_path)}
    vkey = ""
    for start in range(3):
        port = free_port()
        command = [sys.executable, "-c", COMMAND, "log", "witness", "--log-key", format_vkey(LOG.key)]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--name", "w1.example"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode().split()
            assert line[:2] == ["witness", "w1.example"], process.stderr and process.stderr.read()
            assert vkey in ("", line[2])
            vkey = line[2]
            threading.Timer(1.5, process.kill).start()
            _offer(f"http://127.0.0.1:{port}", (LOG, FORK) if start % 2 else (FORK, LOG), vkey, signed)
        finally:
            process.kill()
            process.communicate()
    assert len(signed) > 3
    assert all(len(roots) == 1 for roots in signed.values())
    assert json.loads((tmp_path / "witness" / SEEN).read_bytes())["logs"].keys() == {LOG.origin}


def _offer(url: str, views: tuple[DrawnLog, DrawnLog], vkey: str, signed: dict[int, set[bytes]]) -> None:
    """Grow both views, from the size that the witness says, until it is gone."""
    key, began, size = parse_vkey(vkey), time.monotonic(), 0
    while time.monotonic() - began < 30:
        for view in views:
            try:
                answer = requests.post(f"{url}/add-checkpoint", data=view.request(size, size + 1), timeout=5)
            except requests.ConnectionError:
                if time.monotonic() - began > 1.5:
                    return
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                text = parse_note(view.note(size + 1)).text
                note = parse_note(f"{text}\n".encode() + answer.content)
                assert signed_by(note, [key]).valid
                size += 1
                signed.setdefault(size, set()).add(parse_checkpoint(text).root)
            elif answer.status_code == 409:
                size = int(answer.content)


def test_a_checkpoint_with_extension_lines_is_cosigned_whole(w1: Served) -> None:
    plain = LOG.checkpoint(5)
    extended = Checkpoint(plain.origin, plain.size, plain.root, ("extra 1",))
    note = note_of(extended, LOG.signer.sign(format_checkpoint(extended)))
    assert_cosigned(w1, w1.post(format_request(AddCheckpoint(0, (), note))), note)
