"""Asking witnesses: a quorum without the one that is down, no quorum for a fork, and never a long wait."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from catalogue import fetch_all, new_database
from log_world import LogWorld
from make_notes import Signer, note_of
from typer.testing import CliRunner
from witnesses import DrawnLog, Served, served

from eocat.catalog.admission import register
from eocat.catalog.cosign import Asked, Witnesses, read_witnesses, witnesses_path
from eocat.catalog.database import Database
from eocat.catalog.keyring import read_verifier
from eocat.catalog.log import advance, log_folder
from eocat.catalog.log_cli import app
from eocat.catalog.log_files import LogFolder
from eocat.catalog.log_proof import item_log_proof
from eocat.catalog.renewal import renew
from eocat.verify.errors import ConfigError
from eocat.verify.history import Status
from eocat.verify.log.checkpoint import format_checkpoint, parse_checkpoint
from eocat.verify.log.entry import entry_of
from eocat.verify.log.item_proof import check_log_proof
from eocat.verify.log.note import COSIGNATURE, Note, VerifierKey, format_note, format_vkey, parse_note
from eocat.verify.log.quorum import LogPolicy, parse_log_policy

LOG = DrawnLog()
FORK = DrawnLog(content="another")
QUORUM = "group q 2 w1 w2 w3\nquorum q\n"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Served]]:
    with three_witnesses(tmp_path, LOG.key) as witnesses:
        yield witnesses


class three_witnesses(ExitStack):  # noqa: N801  # a function with an exit, as contextlib writes them
    """Three independent witnesses of one log."""

    def __init__(self, path: Path, key: VerifierKey) -> None:
        super().__init__()
        self.path, self.key = path, key

    def __enter__(self) -> list[Served]:  # type: ignore[override]  # the witnesses, not the stack
        names = ("w1", "w2", "w3")
        return [self.enter_context(served(self.path / name, [self.key], f"{name}.example")) for name in names]


def policy_of(*lines: str, log: VerifierKey = LOG.key) -> LogPolicy:
    return parse_log_policy(f"log {format_vkey(log)}\n{''.join(lines)}{QUORUM}".encode())


def down(number: int) -> str:
    """The line of a witness that nobody listens for."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = Signer(f"down{number}.example", COSIGNATURE, 40 + number).key
    return f"witness w{number} {format_vkey(key)} http://127.0.0.1:{port}\n"


def client(folder: Path, policy: LogPolicy, size: int, log: DrawnLog = LOG, bound_s: float = 10) -> Witnesses:
    log.write_tiles(LogFolder(folder), size)
    return Witnesses(policy, log.key, LogFolder(folder), bound_s)


def published(folder: Path, note: bytes, asked: tuple[Asked, ...]) -> bytes:
    own = parse_note(note)
    full = format_note(Note(own.text, (*own.signatures, *(one.signature for one in asked if one.signature))))
    LogFolder(folder).write_checkpoint(full)
    return full


def test_three_witnesses_cosign_a_growing_log(tmp_path: Path, three: list[Served]) -> None:
    """Also the one that missed a size: its answer says which it remembers."""
    policy = policy_of(*(witness.line(f"w{n}") for n, witness in enumerate(three, 1)))
    for size in (3, 5, 300, 301):
        asked = client(tmp_path / "log", policy, size).ask(LOG.note(size))
        assert [one.outcome for one in asked] == ["cosigned"] * 3, asked
        judged = policy.judge(published(tmp_path / "log", LOG.note(size), asked), datetime.now(UTC))
        assert judged.quorum_met
        assert judged.log_key_ok
        assert len(judged.witnesses) == 3
        if size == 5:  # as if nobody had cosigned it: all are asked with old size 0 next
            LogFolder(tmp_path / "log").write_checkpoint(LOG.note(size))


def test_attack_76_only_one_of_two_views_gets_a_quorum(tmp_path: Path, three: list[Served]) -> None:
    """The thief of a log's key shows a fork to the witnesses: of the same size, larger, and smaller."""
    policy = policy_of(*(witness.line(f"w{n}") for n, witness in enumerate(three, 1)))
    first = client(tmp_path / "log", policy, 9)
    assert first.is_quorum(first.ask(LOG.note(9)))
    sentences = {9: "another tree of size 9", 300: "does not begin with", 5: "has seen size 9"}
    for size, sentence in sentences.items():
        forged = client(tmp_path / f"fork{size}", policy, size, FORK)
        asked = forged.ask(FORK.note(size))
        assert [one.outcome for one in asked] == ["refused"] * 3
        assert all(sentence in one.detail for one in asked), asked
        assert not forged.is_quorum(asked)
        judged = policy.judge(FORK.note(size), datetime.now(UTC))
        assert judged.log_key_ok
        assert not judged.quorum_met


def test_a_split_view_before_the_first_quorum_is_caught_too(tmp_path: Path, three: list[Served]) -> None:
    """w1 is shown one view, then all are shown the other: it gets two, and the first can never get two."""
    w1, w2, w3 = (witness.line(f"w{n}") for n, witness in enumerate(three, 1))
    alone = client(tmp_path / "fork", policy_of(w1, down(2), down(3)), 9, FORK)
    assert not alone.is_quorum(alone.ask(FORK.note(9)))
    policy = policy_of(w1, w2, w3)
    both = client(tmp_path / "log", policy, 9)
    asked = both.ask(LOG.note(9))
    assert [one.outcome for one in asked] == ["refused", "cosigned", "cosigned"]
    again = client(tmp_path / "fork", policy, 9, FORK)
    assert not again.is_quorum(again.ask(FORK.note(9)))


class Lying(BaseHTTPRequestHandler):
    """A witness that answers `answer` to everything."""

    answer: tuple[int, str, bytes] = (200, "text/plain", b"")
    asked = 0
    last = b""

    def do_POST(self) -> None:
        type(self).asked += 1
        type(self).last = self.rfile.read(int(self.headers["Content-Length"]))
        status, kind, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


LIAR = Signer("liar.example", COSIGNATURE, 66)
TEXT = format_checkpoint(LOG.checkpoint(9))


def line_of(signer: Signer, text: str = TEXT, ahead_s: int = 0) -> bytes:
    line = signer.sign(text, int(time.time()) + ahead_s)
    return note_of(LOG.checkpoint(9), line).split(b"\n\n", 1)[1]


SIZE = "text/x.tlog.size"
LIES = {
    "nothing": (200, "text/plain", b"", "note is not"),
    "page": (200, "text/html", b"<html>\n", "signature line"),
    "another checkpoint": (200, "text/plain", line_of(LIAR, TEXT + "x\n"), "no valid cosignature"),
    "another key": (200, "text/plain", line_of(Signer("liar.example", COSIGNATURE, 67)), "no valid"),
    "another name": (200, "text/plain", line_of(Signer("other.example", COSIGNATURE, 66)), "no valid"),
    "future": (200, "text/plain", line_of(LIAR, ahead_s=4000), "its clock is +"),
    "past": (200, "text/plain", line_of(LIAR, ahead_s=-4000), "its clock is -"),
    "endless": (200, "text/plain", b"x" * (1 << 15), "more than 16384 bytes"),
    "conflict without size": (409, "text/plain", b"3\n", "another tree of this size"),
    "size in words": (409, SIZE, b"three\n", "plain decimal"),
    "size without newline": (409, SIZE, b"3", "newline"),
    "size of now": (409, SIZE, b"0\n", "another tree of size 0"),
    "larger size": (409, SIZE, b"900\n", "seen size 900"),
    "redirect": (307, "text/plain", b"", "answered 307"),
    "overload": (503, "text/plain", b"", "answered 503"),
}


@pytest.mark.parametrize("name", LIES)
def test_attack_53_what_a_witness_answers_is_checked(tmp_path: Path, name: str) -> None:
    *answer, sentence = LIES[name]
    asked = ask_liar(tmp_path, tuple(answer))  # type: ignore[arg-type]  # three of the four
    assert asked.signature is None
    assert asked.outcome != "cosigned"
    assert sentence in asked.detail


def test_attack_53_a_line_that_stands_twice_is_taken_once(tmp_path: Path) -> None:
    asked = ask_liar(
        tmp_path, (200, "text/plain", line_of(LIAR) + line_of(Signer("x.example", COSIGNATURE, 9)) * 2)
    )
    assert asked.signature is not None
    assert asked.signature.name == "liar.example"


def test_a_witness_that_always_has_another_size_is_given_up(tmp_path: Path) -> None:
    class Moving(Lying):
        @property
        def answer(self) -> tuple[int, str, bytes]:  # type: ignore[override]
            return 409, SIZE, f"{type(self).asked}\n".encode()

    assert "another one 3 times" in ask_liar(tmp_path, None, Moving).detail
    assert Moving.asked == 3


def test_what_a_witness_cosigned_is_the_size_it_is_asked_from(tmp_path: Path) -> None:
    """Without a question more: the published checkpoint says it."""

    class Reading(Lying):
        answer = (200, "text/plain", b"")

    ask_liar(tmp_path, None, Reading)
    assert Reading.last == LOG.request(0, 9)
    text = format_checkpoint(LOG.checkpoint(5))
    note = note_of(LOG.checkpoint(5), LOG.signer.sign(text), LIAR.sign(text, 1))
    LogFolder(tmp_path).write_checkpoint(note)
    ask_liar(tmp_path, None, Reading)
    assert Reading.last == LOG.request(5, 9)


def ask_liar(tmp_path: Path, answer: tuple[int, str, bytes] | None, handler: type[Lying] = Lying) -> Asked:
    if answer is not None:
        handler = type("Answering", (handler,), {"answer": answer})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            policy = parse_log_policy(f"witness liar {format_vkey(LIAR.key)} {url}\nquorum liar\n".encode())
            [asked] = client(tmp_path, policy, 9).ask(LOG.note(9))
        finally:
            server.shutdown()
            thread.join()
    return asked


@pytest.mark.parametrize(
    "greeting", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", b"HTTP/1.1 200 OK\r\nA:"]
)
def test_a_witness_that_hangs_costs_the_bound_and_no_more(
    tmp_path: Path, three: list[Served], greeting: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connections = []

        def accept() -> None:
            connection, _ = silent.accept()
            connection.sendall(greeting)
            connections.append(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        hanging = f"witness w3 {format_vkey(LIAR.key)} http://127.0.0.1:{silent.getsockname()[1]}\n"
        policy = policy_of(three[0].line("w1"), three[1].line("w2"), hanging)
        witnesses = client(tmp_path / "log", policy, 9, bound_s=1.5)
        began = time.monotonic()
        asked = witnesses.ask(LOG.note(9))
        assert time.monotonic() - began < 3
        assert [one.outcome for one in asked] == ["cosigned", "cosigned", "unavailable"]
        assert witnesses.is_quorum(asked)
        thread.join()
        time.sleep(0.3)  # the daemon's own deadline, before its socket is closed here
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nonsense\n", "cannot be used"),
        ("witness w KEY http://user@host/\nquorum w\n", "has the address"),
        ("witness w KEY file:///etc/passwd\nquorum w\n", "has the address"),
        ("witness w KEY http://host:99999\nquorum w\n", "has the address"),
        ("log OTHER\nwitness w KEY http://host\nquorum w\n", "another log than"),
        ("witness w KEY\nwitness v KEY\nquorum w\n", "another line"),
    ],
)
def test_a_file_of_witnesses_that_is_wrong_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    other = format_vkey(DrawnLog(origin="other.example/log", number=2).key)
    path = witnesses_path(tmp_path)
    path.parent.mkdir()
    path.write_text(text.replace("KEY", format_vkey(LIAR.key)).replace("OTHER", other))
    with pytest.raises(ConfigError, match=sentence):
        read_witnesses(tmp_path, LOG.key)


@pytest.fixture
def world(embedded: Database, tmp_path: Path) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        yield LogWorld(database, tmp_path / "out")


def test_a_catalogue_publishes_with_two_of_three(
    world: LogWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From registering to a log proof with a quorum, one witness down; then it is up and catches up."""
    advance(world.database)
    key = read_verifier(world.home)
    with three_witnesses(tmp_path, key) as (w1, w2, w3):
        policy = policy_of(w1.line("w1"), w2.line("w2"), down(3), log=key)
        path = witnesses_path(world.home)
        text = f"log {format_vkey(key)}\n{w1.line('w1')}{w2.line('w2')}{down(3)}{QUORUM}"
        path.write_text(text)
        for item in ("s1", "s2"):
            world.add(item)
            note = log_folder(world.home).read_checkpoint()
            assert note is not None
            judged = policy.judge(note, datetime.now(UTC))
            assert judged.quorum_met
            assert judged.witnesses.keys() == {"w1", "w2"}
            assert item_log_proof(world.database, "demo", item).checkpoints[-1].note.encode() == note
        assert "witness w3: unavailable: cannot be reached" in caplog.text
        assert "without the quorum" not in caplog.text

        path.write_text(f"log {format_vkey(key)}\n{w1.line('w1')}{w2.line('w2')}{w3.line('w3')}{QUORUM}")
        renewal = renew(world.database)
        assert [one.outcome for one in renewal.asked] == ["cosigned"] * 3
        note = log_folder(world.home).read_checkpoint()
        assert note is not None
        assert len(parse_note(note).signatures) == 4
        assert item_log_proof(world.database, "demo", "s1").checkpoints[-1].note.encode() == note
        world.audit(tmp_path / "auditor")


def test_a_catalogue_without_its_quorum_still_publishes_and_says_so(
    world: LogWorld, caplog: pytest.LogCaptureFixture
) -> None:
    advance(world.database)
    witnesses_path(world.home).write_text(f"{down(1)}{down(2)}{down(3)}{QUORUM}")
    world.add("s1")
    assert world.checkpoint().size == 4
    assert "published without the quorum q" in caplog.text
    before = log_folder(world.home).read_checkpoint()
    assert not renew(world.database).quorum_met
    assert log_folder(world.home).read_checkpoint() == before


def test_renewing_needs_witnesses(world: LogWorld) -> None:
    advance(world.database)
    with pytest.raises(ConfigError, match="has no witnesses"):
        renew(world.database)


def test_the_command_says_who_cosigned(
    world: LogWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance(world.database)
    monkeypatch.setattr("eocat.catalog.database.find_database", lambda _: world.database)
    with three_witnesses(tmp_path, read_verifier(world.home)) as (w1, w2, _):
        witnesses_path(world.home).write_text(w1.line("w1") + w2.line("w2") + down(3) + QUORUM)
        ran = CliRunner().invoke(app, ["cosign", "--home", str(world.home), "--json"])
        assert ran.exit_code == 0, ran.output
        facts = json.loads(ran.stdout)
        assert (facts["size"], facts["quorumMet"]) == (1, True)
        assert [one["outcome"] for one in facts["witnesses"]] == ["cosigned", "cosigned", "unavailable"]


def test_the_first_note_with_a_quorum_is_kept_and_dates_the_events(world: LogWorld, tmp_path: Path) -> None:
    """Published without the quorum, cosigned later, cosigned again: the first with the quorum stays."""
    advance(world.database)
    key = read_verifier(world.home)

    def kept() -> list[tuple[int, bytes]]:
        rows = fetch_all(world.database, "SELECT size, note FROM eocat.log_cosigned ORDER BY size")
        return [(size, bytes(note)) for size, note in rows]

    with three_witnesses(tmp_path, key) as (w1, w2, w3):
        path, log = witnesses_path(world.home), f"log {format_vkey(key)}\n"
        path.write_text(log + w1.line("w1") + down(2) + down(3) + QUORUM)
        world.add("s1")
        assert kept() == [], "one witness is no quorum"
        proof = item_log_proof(world.database, "demo", "s1")
        assert len(proof.checkpoints) == 1, "the newest one has to do"

        path.write_text(log + w1.line("w1") + w2.line("w2") + w3.line("w3") + QUORUM)
        assert renew(world.database).quorum_met
        first = log_folder(world.home).read_checkpoint()
        assert first is not None
        assert kept() == [(4, first)]
        time.sleep(1.1)  # a cosignature's time is in seconds
        assert renew(world.database).quorum_met
        renewed = log_folder(world.home).read_checkpoint()
        assert renewed != first
        assert kept() == [(4, first)], "the first stays"

        world.add("s2")
        assert [size for size, _ in kept()] == [4, 7]
        proof = item_log_proof(world.database, "demo", "s1")
        newest = log_folder(world.home).read_checkpoint()
        assert newest is not None
        assert [one.note.encode() for one in proof.checkpoints] == [first, newest]
        assert [event.checkpoint for event in proof.events] == [0, 0]
        check_log_proof(
            proof,
            [entry_of(one) for one in world.held("s1")],
            Status.ACTIVE,
            [parse_checkpoint(parse_note(one.note.encode()).text) for one in proof.checkpoints],
        )
        assert len(item_log_proof(world.database, "demo", "s2").checkpoints) == 1


def test_a_crash_between_publishing_and_keeping_is_made_good(world: LogWorld, tmp_path: Path) -> None:
    advance(world.database)
    with three_witnesses(tmp_path, read_verifier(world.home)) as (w1, w2, w3):
        witnesses_path(world.home).write_text(w1.line("w1") + w2.line("w2") + w3.line("w3") + QUORUM)
        folder = world.write("s1")

        class Crash(Exception):
            pass

        def crash(name: str) -> None:
            if name == "published":
                raise Crash

        with pytest.raises(Crash):
            register(world.database, [folder], world.policy, step=crash)
        assert fetch_all(world.database, "SELECT size FROM eocat.log_cosigned") == []
        advance(world.database)
        assert fetch_all(world.database, "SELECT size FROM eocat.log_cosigned") == [(4,)]
