"""Registration over HTTP: a token and a valid signed statement, both, or nothing (attacks 69, 70, 73)."""

import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from catalogue import counts, fetch_all, new_database
from intake_world import IntakeWorld, documents, file_of, taking
from log_world import ENCODER, LogWorld, without_triggers
from shard_maker import new_signer, write_shard

from eocat.catalog.database import Database
from eocat.catalog.intake import MAX_OPEN, OPEN_LIVES_S
from eocat.catalog.intake_client import submit
from eocat.catalog.tokens import TokenStore
from eocat.producer.sequel import append_event
from eocat.verify.errors import ConfigError, UsageError

LEAKS = re.compile(
    r"SELECT|pgstac\.|eocat\.|Traceback|/site-packages|\.py\b|/tmp/|psycopg|postgres", re.IGNORECASE
)
FILES = ("embeddings", "row-hashes", "thumbnail")


@pytest.fixture(scope="module")
def module_world(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeWorld]:
    with (
        new_database(embedded) as database,
        taking(LogWorld(database, tmp_path_factory.mktemp("out"))) as world,
    ):
        yield world


@pytest.fixture
def site(module_world: IntakeWorld) -> IntakeWorld:
    return module_world


def assert_refused(answer: requests.Response, status: int, sentence: str = "") -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "description"}
    assert sentence in body["description"], body
    assert not LEAKS.search(body["description"]), body


def test_a_shard_goes_in_over_http_and_is_served_from_the_catalogue_s_own_files(
    site: IntakeWorld, tmp_path: Path
) -> None:
    folder = site.world.write("first")
    progress: list[tuple[str, int, int]] = []
    (done,) = submit(site.url, site.token(), [folder], progress=lambda *step: progress.append(step))
    assert (done.item, done.status, done.rows, done.exit_code) == ("demo/first", "registered", 6, 0)
    assert any("uploading first/embeddings.parquet" in step[0] for step in progress)
    [(location,)] = fetch_all(
        site.world.database, "SELECT location FROM eocat.shard WHERE item_id = %s", "first"
    )
    assert Path(location).is_relative_to(site.intake.shards)
    for key in FILES:
        assert file_of(Path(location), key) == file_of(folder, key)
    assert [e[1:] for e in site.world.entries() if e[1] == "first"] == [("first", 0), ("first", 1)]
    (again,) = submit(site.url, site.token(), [folder])
    assert (again.status, again.exit_code) == ("already registered", 0)
    site.intake.sweep(time.time() + 2 * OPEN_LIVES_S)
    assert Path(fetch_all(site.world.database, "SELECT location FROM eocat.shard")[0][0]).is_dir()


def test_later_events_come_without_the_files_and_each_needs_its_action(site: IntakeWorld) -> None:
    folder = site.world.write("withdrawn")
    submit(site.url, site.token(), [folder])
    site.world.sign("withdrawn", "WITHDRAW", reason="a test")
    (refused,) = submit(site.url, site.token("register", "supersede"), [folder])
    assert refused.exit_code == 3
    assert "may not withdraw in demo" in refused.reason
    for key in FILES:  # the publisher has put them away: the catalogue has them
        (folder / json.loads((folder / "item.json").read_text())["assets"][key]["href"]).unlink()
    (done,) = submit(site.url, site.token("withdraw"), [folder])
    assert (done.status, done.exit_code) == ("updated", 0)
    status = "SELECT status FROM eocat.shard WHERE item_id = 'withdrawn'"
    assert fetch_all(site.world.database, status) == [("withdrawn",)]
    assert len([name for name in site.left() if not name.startswith(".")]) == len(
        fetch_all(site.world.database, "SELECT FROM eocat.shard")
    )


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", "Basic dGVzdDp0ZXN0", "bearer eocat_0000000000000000_" + "A" * 43,
        "Bearer eocat_../../../etc/passwd_" + "A" * 43, "Bearer " + "x" * 8000, "Bearer a.b.c",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "Token VALID", "Bearer VALID VALID", "VALID",
        "Bearer\tVALID",
    ],
)  # fmt: skip
def test_attack_69_without_a_valid_token(site: IntakeWorld, authorization: str | None) -> None:
    """On every route, known or not, and before a body is looked at."""
    valid = site.token()
    headers = {} if authorization is None else {"Authorization": authorization.replace("VALID", valid)}
    for method, path in (
        ("POST", "/registrations"), ("PUT", f"/registrations/{'0' * 64}/files/embeddings"),
        ("POST", f"/registrations/{'0' * 64}"), ("GET", "/"), ("DELETE", "/collections/demo"),
        ("GET", f"/registrations?access_token={valid}"), ("GET", "/metrics"), ("TRACE", "/"),
    ):  # fmt: skip
        answer = site.ask(method, path, headers=headers)
        assert_refused(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_attack_69_two_authorizations_are_none(site: IntakeWorld) -> None:
    host, port = urlsplit(site.url).hostname, urlsplit(site.url).port
    line = f"Authorization: Bearer {site.token()}\r\n"
    with socket.create_connection((host, port)) as raw:
        raw.sendall(
            f"POST /registrations HTTP/1.1\r\nHost: x\r\n{line}{line}Content-Length: 0\r\n\r\n".encode()
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 401")


def test_attack_69_expired_revoked_and_edited_tokens_are_refused(site: IntakeWorld) -> None:
    store, now = TokenStore(site.home), datetime.now(UTC)
    expired = store.new("late", ["demo"], ["register"], 1, now - timedelta(days=2))
    revoked = site.token()
    assert site.ask("POST", "/registrations", revoked).status_code == 415
    store.revoke(revoked.split("_")[1], now)
    good = site.token()
    for text in (expired, revoked, good[:-1] + ("A" if good[-1] != "A" else "B"), good.upper()):
        assert_refused(site.ask("POST", "/registrations", text), 401, "not valid")
    for path in store.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert good.split("_", 2)[2] not in path.read_text()


def test_attack_69_scope(site: IntakeWorld) -> None:
    folder = site.world.write("scoped")
    for token in (site.token(collections=("other",)), site.token("withdraw")):
        assert_refused(site.open(folder, token), 403, "may not")
    assert site.open(folder, site.token(collections=("*",))).status_code == 201


def test_attack_69_an_open_registration_is_its_holder_s_alone(site: IntakeWorld) -> None:
    folder = site.world.write("mine")
    mine, other = site.token(), site.token()
    opened = site.open(folder, mine).json()
    assert [file["key"] for file in opened["missing"]] == list(FILES)
    assert_refused(site.upload(opened["id"], "embeddings", b"x", other), 404)
    assert_refused(site.ask("POST", f"/registrations/{opened['id']}", other), 404)
    assert_refused(site.ask("POST", f"/registrations/{opened['id']}", mine), 409, "has not been uploaded")
    left = site.upload(opened["id"], "embeddings", file_of(folder, "embeddings"), mine).json()
    assert [file["key"] for file in left["missing"]] == ["row-hashes", "thumbnail"]
    assert site.open(folder, mine).json() == left  # the same again goes on where it was


def forged(folder: Path) -> dict[str, str]:
    given = documents(folder)
    envelope = json.loads(given["attestation"])
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = (
        signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    )
    return {"attestation": json.dumps(envelope, separators=(",", ":"), sort_keys=True) + "\n"}


def edited(folder: Path, name: str, **members: Any) -> dict[str, str]:
    value = json.loads(documents(folder)[name])
    value |= members
    return {name: json.dumps(value)}


def with_property(folder: Path, **properties: Any) -> dict[str, str]:
    value = json.loads(documents(folder)["item"])
    value["properties"] |= properties
    return {"item": json.dumps(value)}


def with_href(folder: Path, key: str, href: str) -> dict[str, str]:
    value = json.loads(documents(folder)["item"])
    value["assets"][key]["href"] = href
    return {"item": json.dumps(value)}


def test_attack_70_a_token_without_a_statement_writes_nothing(site: IntakeWorld, tmp_path: Path) -> None:
    """Attack 70: missing, forged, for another item, by a stranger, not of this item's JSON."""
    folder, other = site.world.write("strict"), site.world.write("another")
    stranger = write_shard(tmp_path, "demo", "strict", signer=new_signer(), count=6, encoder=ENCODER)
    before, token = counts(site.world.database), site.token()
    cases: dict[str, tuple[dict[str, str], str]] = {
        "no envelope": ({"attestation": ""}, "newline"),
        "no JSON": ({"attestation": "{}\n"}, "envelope"),
        "forged": (forged(folder), "invalid"),
        "of another item": ({"attestation": documents(other)["attestation"]}, "differs from what was signed"),
        "a stranger's": (documents(stranger), "trusted producer key"),
        "rows of the item edited": (with_property(folder, **{"eocat:row_root": "0" * 64}), "rows"),
        "another id": (edited(folder, "item", id="another"), "id"),
        "two CREATEs": ({"attestation": documents(folder)["attestation"] * 2}, "CREATE"),
        "a way out": (with_href(folder, "thumbnail", "../../../etc/x"), "file name"),
        "an absolute path": (with_href(folder, "thumbnail", "/etc/passwd"), "file name"),
        "an address": (with_href(folder, "thumbnail", "http://127.0.0.1/x"), "file name"),
        "over the item": (with_href(folder, "thumbnail", "Item.JSON"), "file name"),
        "two of one name": (with_href(folder, "thumbnail", "EMBEDDINGS.parquet"), "one file name"),
        "no href": ({"item": re.sub(r'"href": "./thumbnail.png",', "", documents(folder)["item"])}, "href"),
    }
    for name, (changed, sentence) in cases.items():
        assert_refused(site.open(folder, token, **changed), 422, sentence), name
    for body in ([], {}, {"item": "x"}, documents(folder) | {"more": "x"}, documents(folder) | {"item": 7}):
        assert_refused(site.ask("POST", "/registrations", token, json=body), 422)
    assert counts(site.world.database) == before


def test_documents_that_are_no_stac_are_refused_at_the_end_and_leave_nothing(site: IntakeWorld) -> None:
    """What is not signed of the documents is still looked at before it is stored."""
    folder = site.world.write("shaped", "shapes")
    token, before = site.token(collections=("*",)), counts(site.world.database)
    cases = {
        "link without rel": edited(folder, "collection", links=[{"href": "x"}]),
        "no extent": edited(folder, "collection", extent={}),
        "another collection": edited(folder, "collection", id="demo"),
        "model without an id": edited(folder, "model", id="../x"),
        "item's links": edited(folder, "item", links=[{"href": "x"}]),
        "U+0000": with_property(folder, title="a\u0000b"),
        "huge number": edited(folder, "collection", summaries={"x": [10**300]}),
    }
    for name, changed in cases.items():
        opened = site.open(folder, token, **changed)
        if opened.status_code == 422:
            continue
        id_ = opened.json()["id"]
        for key in FILES:
            site.upload(id_, key, file_of(folder, key), token)
        answer = site.ask("POST", f"/registrations/{id_}", token)
        if name == "huge number" and answer.status_code == 200:
            pytest.fail("10^300 was stored")
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["status"] == "refused", name
        assert not LEAKS.search(answer.json()["reason"].replace("collection.json", "")) or name, name
        assert id_ not in site.left(), name
    assert counts(site.world.database) == before


def test_files_are_measured_and_digested_while_they_come(site: IntakeWorld) -> None:
    folder, token = site.world.write("measured"), site.token()
    id_ = site.open(folder, token).json()["id"]
    data = file_of(folder, "row-hashes")
    flipped = bytes([data[0] ^ 1]) + data[1:]
    assert_refused(site.upload(id_, "row-hashes", flipped, token), 422, "not the signed file")
    assert_refused(site.upload(id_, "row-hashes", data + b"x", token), 413, "signed are")
    assert_refused(site.upload(id_, "row-hashes", data[:-1], token), 422, "signed are")
    assert_refused(site.upload(id_, "nothing", data, token), 404)
    assert_refused(site.upload(id_, "attestation", data, token), 404)
    chunked = (data[place : place + 10] for place in range(0, len(data), 10))
    headers = {"Content-Type": "application/octet-stream"}
    path = f"/registrations/{id_}/files/row-hashes"
    assert_refused(site.ask("PUT", path, token, data=chunked, headers=headers), 411)
    multipart = site.ask("PUT", path, token, files={"file": ("../../x", data)})
    assert_refused(multipart, 415)
    packed = headers | {"Content-Encoding": "gzip"}
    assert_refused(site.ask("PUT", path, token, data=data, headers=packed), 415)
    shard = site.intake.quarantine / id_ / "demo" / "measured"
    assert not [*shard.parents[1].glob(".part*"), *shard.glob("row*")]
    assert site.upload(id_, "row-hashes", data, token).status_code == 200


def test_attack_73_bodies_beyond_their_limit_are_refused(site: IntakeWorld) -> None:
    folder, token = site.world.write("long"), site.token()
    answer = site.open(folder, token, collection="x" * (13 << 20))
    assert_refused(answer, 413)
    assert_refused(site.open(folder, token, collection=" " * (1 << 20) + "x"), 422)
    assert_refused(site.ask("POST", f"/registrations/{'0' * 64}", token, data=b"x"), 400)


def test_attack_73_slow_bodies_are_given_up_and_hold_up_nobody(embedded: Database, tmp_path: Path) -> None:
    with new_database(embedded) as database, taking(LogWorld(database, tmp_path), grace_s=0.5) as site:
        folder, token = site.world.write("slow"), site.token()
        host, port = urlsplit(site.url).hostname, urlsplit(site.url).port
        head = f"POST /registrations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
        with socket.create_connection((host, port)) as slow:
            slow.sendall(head.encode())
            assert site.open(folder, token).status_code == 201  # beside it
            began = time.monotonic()
            slow.settimeout(10)
            for _ in range(8):  # one byte every 0.2 s is no progress
                time.sleep(0.2)
                try:
                    slow.sendall(b" ")
                except OSError:
                    break
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
            assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "target",
    [
        "/registrations/", "//registrations", "/registrations//", "/./registrations", "/x/../registrations",
        "/%72egistrations", "/registrations%2F", "/registrations%00", "/registrations;x", "/Registrations",
        "/registrations?x=1", f"/registrations/{'0' * 63}", f"/registrations/{'0' * 64}/",
        f"/registrations/{'0' * 64}/files/..%2f..%2fitem.json", f"/registrations/{'0' * 64}/files/a%2fb",
        "http://evil.example/registrations/", "/_mgmt/ping/", "/_mgmt/health%20",
    ],
)  # fmt: skip
def test_attack_69_only_the_exact_paths_are_served(site: IntakeWorld, target: str) -> None:
    """Sent as they stand: a client library would tidy them."""
    host, port = urlsplit(site.url).hostname, urlsplit(site.url).port
    for method in ("POST", "PUT"):
        lines = [
            f"{method} {target} HTTP/1.1", "Host: evil.example", f"Authorization: Bearer {site.token()}",
            "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Original-URL: /registrations",
            "X-Rewrite-URL: /registrations", "X-HTTP-Method-Override: POST", "Content-Length: 2",
            "Content-Type: application/json", "Connection: close",
        ]  # fmt: skip
        with socket.create_connection((host, port)) as raw:
            raw.sendall("\r\n".join([*lines, "", "{}"]).encode())
            answer = raw.makefile("rb").read()
        assert re.match(rb"HTTP/1.1 (400|404|405) ", answer), answer
        assert b"evil.example" not in answer
        assert b"location:" not in answer.lower()


def test_attack_69_methods_cannot_be_overridden(site: IntakeWorld) -> None:
    headers = {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST", "_method": "POST"}
    for method in ("GET", "DELETE", "PATCH", "OPTIONS", "PUT"):
        answer = site.ask(method, "/registrations", site.token(), headers=headers)
        assert_refused(answer, 405)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_there_is_a_limit_to_what_is_open_and_old_ones_are_swept(embedded: Database, tmp_path: Path) -> None:
    with new_database(embedded) as database, taking(LogWorld(database, tmp_path)) as site:
        token = site.token()
        folders = [site.world.write(f"i{number}") for number in range(MAX_OPEN + 1)]
        answers = [site.open(folder, token).status_code for folder in folders]
        assert answers == [201] * MAX_OPEN + [429]
        assert site.open(folders[-1], site.token()).status_code == 201
        site.intake.sweep()
        assert len(site.left()) == MAX_OPEN + 1
        site.intake.sweep(time.time() + OPEN_LIVES_S + 60)
        assert site.left() == []


def test_what_the_log_holds_is_never_swept(embedded: Database, tmp_path: Path) -> None:
    """The database is an old backup's: it knows nothing of the shard, whose only copy is the catalogue's."""
    with new_database(embedded) as database, taking(LogWorld(database, tmp_path / "out")) as site:
        _swept_after_a_restore(site)


def _swept_after_a_restore(site: IntakeWorld) -> None:
    folder, token = site.world.write("restored"), site.token()
    (done,) = submit(site.url, token, [folder])
    assert done.status == "registered"
    [(location,)] = fetch_all(
        site.world.database, "SELECT location FROM eocat.shard WHERE item_id = 'restored'"
    )
    without_triggers(
        site.world.database,
        "DELETE FROM eocat.chip c USING eocat.shard s WHERE s.shard_id = c.shard_id AND item_id = 'restored'",
        "DELETE FROM eocat.shard WHERE item_id = 'restored'",
        "DELETE FROM eocat.event WHERE item_id = 'restored'",
        "DELETE FROM pgstac.items WHERE id = 'restored'",
    )
    site.intake.sweep(time.time() + 2 * OPEN_LIVES_S)
    assert (Path(location) / "embeddings.parquet").is_file()
    refused = site.world.write("refused")
    id_ = site.open(refused, token).json()["id"]
    (site.intake.quarantine / id_).rename(site.intake.shards / id_)  # and the process died
    site.intake.sweep(time.time() + 2 * OPEN_LIVES_S)
    assert not (site.intake.shards / id_).exists(), "the log knows nothing of it"


def test_a_crash_between_the_move_and_the_admission_is_made_good(site: IntakeWorld) -> None:
    """The folder has left quarantine, and the process died: the publisher's next try finds it and commits."""
    folder, token = site.world.write("crashed"), site.token()
    id_ = site.open(folder, token).json()["id"]
    for key in FILES:
        site.upload(id_, key, file_of(folder, key), token)
    site.intake.shards.mkdir(exist_ok=True)
    (site.intake.quarantine / id_).rename(site.intake.shards / id_)
    (done,) = submit(site.url, token, [folder])
    assert done.status == "registered"


def test_many_publishers_at_once(site: IntakeWorld) -> None:
    folders = [site.world.write(f"many{number}", f"many{number % 3}") for number in range(9)]
    token = site.token(collections=("*",))
    with ThreadPoolExecutor(6) as pool:
        done = [one for found in pool.map(lambda f: submit(site.url, token, [f]), folders) for one in found]
    assert {one.status for one in done} == {"registered"}
    assert site.world.audit(site.home / "auditor").items >= 9


def ready(site: IntakeWorld, folder: Path, token: str, **changed: str) -> str:
    """The id of a registration that only waits for its commit."""
    id_ = str(site.open(folder, token, **changed).json()["id"])
    for key in FILES:
        assert site.upload(id_, key, file_of(folder, key), token).status_code < 300
    return id_


@contextmanager
def held_up(site: IntakeWorld, waiting: int) -> Iterator[None]:
    """While nothing is admitted, `waiting` commits are to queue; then all go on."""
    with site.intake._admitting:
        yield
        give_up = time.monotonic() + 120
        while len(site.intake._waiting) < waiting:
            assert time.monotonic() < give_up, f"{len(site.intake._waiting)} of {waiting} have queued"
            time.sleep(0.02)


def test_registrations_that_wait_are_admitted_together_and_refused_one_by_one(site: IntakeWorld) -> None:
    """One publication of the log for all of them; one is no good, one is committed twice at once."""
    token = site.token(collections=("*",))
    good = [site.world.write(f"wait{number}", "demo") for number in range(3)]
    ids = [ready(site, folder, token) for folder in good]
    bad = site.world.write("waitbad", "demo")
    opened = ready(site, bad, token, **edited(bad, "collection", extent={}))
    published = len(fetch_all(site.world.database, "SELECT FROM eocat.log_checkpoint"))
    commits = [*ids, ids[0], opened, "0" * 64]
    with ThreadPoolExecutor(len(commits)) as pool:
        with held_up(site, len(commits)):
            asked = [pool.submit(site.ask, "POST", f"/registrations/{id_}", token) for id_ in commits]
        answers = [one.result() for one in asked]
    assert [one.json().get("status") for one in answers[:4]] == ["registered"] * 4
    assert answers[4].json()["status"] == "refused", answers[4].text
    assert answers[5].status_code == 404
    assert len(fetch_all(site.world.database, "SELECT FROM eocat.log_checkpoint")) == published + 1
    assert opened not in site.left()


def test_the_publisher_s_side_says_what_is_wrong(site: IntakeWorld, tmp_path: Path) -> None:
    folder = site.world.write("client")
    with pytest.raises(UsageError, match="show the token"):
        submit("http://catalogue.example", "x", [folder])
    for address in ("ftp://127.0.0.1", "https://user:secret@127.0.0.1", "https://127.0.0.1/?x=1"):
        with pytest.raises(UsageError):
            submit(address, "x", [folder])
    with pytest.raises(ConfigError, match="does not accept the token"):
        submit(site.url, "eocat_0000000000000000_" + "A" * 43, [folder])
    copy = tmp_path / "demo" / "client"
    shutil.copytree(folder.parent, tmp_path / "demo")
    (copy / "thumbnail.png").unlink()
    (done,) = submit(site.url, site.token(), [copy])
    assert (done.exit_code, done.reason) == (3, f"{copy} lacks the file thumbnail.png")


def test_a_log_that_contradicts_itself_takes_nothing_in(embedded: Database, tmp_path: Path) -> None:
    with new_database(embedded) as database, taking(LogWorld(database, tmp_path)) as site:
        submit(site.url, site.token(), [site.world.write("a")])
        folder, token = site.world.write("b"), site.token()
        id_ = site.open(folder, token).json()["id"]
        for key in FILES:
            site.upload(id_, key, file_of(folder, key), token)
        (site.home / "log" / "checkpoint").unlink()
        assert_refused(site.ask("POST", f"/registrations/{id_}", token), 503, "cannot take registrations")


def test_attack_70_an_event_by_who_may_not_sign_it_is_refused(site: IntakeWorld) -> None:
    folder = site.world.write("signed")
    submit(site.url, site.token(), [folder])
    append_event(
        folder, site.world.held("signed"), {"event": "WITHDRAW", "reason": "x"}, new_signer(), actor="Mallory"
    )
    assert_refused(site.open(folder, site.token("withdraw")), 422, "WITHDRAW 2")


def test_attack_69_a_refusal_is_seen_by_who_is_still_sending(site: IntakeWorld) -> None:
    folder = site.world.write("sending")
    for _ in range(5):
        answer = site.open(folder, "eocat_0000000000000000_" + "A" * 43, collection="x" * (1 << 20))
        assert_refused(answer, 401)
