"""prove.py: one row and its proof from a few ranges of the files, in a folder and over HTTP."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from make_log import proof_bytes
from make_shard import NOW, STRANGER, Made, entry, make_rows, make_shard, policy
from make_world import fresh, make_world, trust
from test_fetch import Server, send
from test_target import API, question, served

from eocat.verify.content import EMBEDDINGS, ROW_HASHES
from eocat.verify.edge.target import prove
from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.evidence import read_folder
from eocat.verify.hit import check_hit, format_hit
from eocat.verify.prove import prove_row
from eocat.verify.report import Outcome

ROWS = 600
PLAIN = {"compression": "none", "use_dictionary": False, "row_group_size": 256}  # as the producer lays it out
LAYOUTS = {
    "plain": PLAIN,
    "compressed": {"compression": "zstd", "use_dictionary": False, "row_group_size": 256},
    "dictionary": {"compression": "none", "use_dictionary": True, "row_group_size": 256},
    "pages": {**PLAIN, "data_page_size": 2048, "write_batch_size": 16},
}


class Counted:
    """Reads of a folder's files, as (asset key, length)."""

    def __init__(self, made: Made) -> None:
        self.made, self.reads = made, list[tuple[str, int]]()

    def __call__(self, key: str, offset: int, length: int) -> bytes:
        self.reads.append((key, length))
        data = self.made.file(key).read_bytes()[offset : offset + length]
        assert len(data) == length
        return data

    def of(self, key: str) -> list[int]:
        return [length for name, length in self.reads if name == key]


@pytest.fixture(scope="module", params=LAYOUTS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("prove") / "scene"
    return make_shard(folder, make_rows(ROWS, dimension=64), **LAYOUTS[request.param])


@pytest.mark.parametrize("number", [0, 1, 255, 256, 511, 512, ROWS - 1])
def test_every_row_is_proven_however_its_vectors_are_laid_out(made: Made, number: int) -> None:
    read = Counted(made)
    feature = prove_row(read_folder(made.folder), number, read)
    assert feature["id"] == made.rows[number].id
    report = check_hit(format_hit(feature), policy(), target="row", now=NOW)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 2), report.to_text()
    assert len(read.of(ROW_HASHES)) <= 3, "its own tile, the unfinished one, the level above"
    assert max(read.of(ROW_HASHES)) <= 256 * 32


def test_a_plain_vector_costs_a_read_of_its_own_bytes(tmp_path: Path) -> None:
    made = make_shard(tmp_path / "scene", make_rows(ROWS, dimension=64), **PLAIN)
    read = Counted(made)
    prove_row(read_folder(made.folder), 300, read)
    assert read.of(EMBEDDINGS).count(128) == 1
    assert sum(read.of(EMBEDDINGS)) < made.file("embeddings").stat().st_size


def test_attack_63_a_shard_of_thousands_of_pages_is_not_read_page_by_page(tmp_path: Path) -> None:
    layout = {**PLAIN, "row_group_size": ROWS, "data_page_size": 1, "write_batch_size": 1}
    made = make_shard(tmp_path / "scene", make_rows(ROWS), **layout)
    with pytest.raises(Malformed, match="more than 512 reads"):
        prove(str(made.folder), 0, question(), API)


def test_a_row_that_is_not_there(tmp_path: Path) -> None:
    made = make_shard(tmp_path / "scene")
    with pytest.raises(Malformed, match="row 5 is outside 0 to 4"):
        prove(str(made.folder), 5, question(), API)


def test_a_file_of_hashes_that_lies_proves_nothing(tmp_path: Path) -> None:
    made = make_shard(tmp_path / "scene")
    data = bytearray(made.file("row-hashes").read_bytes())
    data[40] ^= 1
    made.file("row-hashes").write_bytes(data)
    report, hit = prove(str(made.folder), 0, question(), API)
    assert report.outcome is Outcome.TAMPERED
    assert hit is not None


def test_a_shard_that_lies_proves_nothing(tmp_path: Path) -> None:
    """Attack 6 by this way: one bit of one vector; the other rows are as they were."""
    made = make_shard(tmp_path / "scene", make_rows(ROWS, dimension=64), **PLAIN)
    data = bytearray(made.file("embeddings").read_bytes())
    at = bytes(data).index(made.rows[7].vector)
    data[at] ^= 1
    made.file("embeddings").write_bytes(data)
    assert prove(str(made.folder), 7, question(), API)[0].outcome is Outcome.TAMPERED
    assert prove(str(made.folder), 8, question(), API)[0].outcome is Outcome.VERIFIED


def test_what_nobody_trusted_signed_is_not_read(tmp_path: Path) -> None:
    made = make_shard(tmp_path / "scene")
    report, hit = prove(str(made.folder), 0, question(policy(entry(STRANGER))), API)
    assert (report.outcome, hit) == (Outcome.UNTRUSTED, None)


def test_a_logged_item_proves_its_rows_at_level_three(tmp_path: Path) -> None:
    world = make_world(tmp_path / "scene")
    world.made.attestation.write_bytes(b"".join(line + b"\n" for line in world.envelopes))
    (world.made.folder / "log-proof.json").write_bytes(proof_bytes(fresh(world)))
    report, hit = prove(str(world.made.folder), 2, replace(question(), policy=trust()), API)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
    assert hit is not None
    again = check_hit(hit, trust(), target="hit", now=NOW)
    assert (again.outcome, again.level) == (Outcome.VERIFIED, 3), "what is saved is what was judged"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    yield from served(make_shard(tmp_path / "scene").folder)


def test_a_server_that_knows_no_ranges_says_so(server: Server) -> None:
    """That of these tests answers with the whole file; tests/walk asks the real service."""
    with pytest.raises(Unavailable, match="does not answer with ranges"):
        prove(f"{server.url}/item.json", 0, question(), API)


def test_a_range_of_another_place_is_refused(server: Server) -> None:
    server.answers["/row-hashes.bin"] = send(206, b"\0" * 32, Content_Range="bytes 64-95/160")
    with pytest.raises(Unavailable, match="does not answer with ranges"):
        prove(f"{server.url}/item.json", 0, question(), API)
