"""log/proof.py: C2SP tlog-proofs, in one spelling, and what they prove."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_notes import LOG, ORIGIN, W1

from eocat.verify.errors import Malformed
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint
from eocat.verify.log.note import Note
from eocat.verify.log.proof import TlogProof, check_inclusion, format_proof, parse_proof
from eocat.verify.merkle import Tree, build_tiles, leaf_hash, node_hash, tree_of


def entry(index: int) -> bytes:
    return b"entry %d" % index


def tree(size: int) -> Tree:
    return tree_of(build_tiles(b"".join(leaf_hash(entry(index)) for index in range(size))), size)


def proof(index: int, size: int, extra: bytes | None = None) -> TlogProof:
    made = tree(size)
    text = format_checkpoint(Checkpoint(ORIGIN, size, made.root()))
    return TlogProof(index, made.prove(index), Note(text, (LOG.sign(text), W1.sign(text))), extra)


def variant(base: TlogProof, **changes: object) -> TlogProof:
    fields: dict[str, object] = {name: getattr(base, name) for name in ("index", "path", "note", "extra")}
    return TlogProof(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100, 300])
def test_attack_47_a_proof_is_of_one_entry_at_one_index(size: int) -> None:
    for index in range(0, size, max(size // 9, 1)):
        good = proof(index, size)
        assert check_inclusion(good, entry(index))
        assert check_inclusion(parse_proof(format_proof(good)), entry(index))
        assert not check_inclusion(good, entry(index + 1))
        for other in {0, index - 1, index + 1, size - 1} - {index, -1, size}:
            assert not check_inclusion(variant(good, index=other), entry(index))


def test_attack_47_wrong_root_wrong_index_path_cut_or_extended_or_empty() -> None:
    good = proof(5, 11)
    for path in (
        (),
        good.path[:-1],
        good.path[1:],
        (*good.path, bytes(32)),
        (bytes(32), *good.path),
        good.path[::-1],
        (*good.path[:-1], bytes(32)),
    ):
        assert not check_inclusion(variant(good, path=path), entry(5))
    text = format_checkpoint(Checkpoint(ORIGIN, 11, bytes(32)))
    assert not check_inclusion(variant(good, note=Note(text, (LOG.sign(text),))), entry(5))
    text = format_checkpoint(Checkpoint(ORIGIN, 12, tree(11).root()))  # the size is a lie
    assert not check_inclusion(variant(good, note=Note(text, (LOG.sign(text),)), index=8), entry(8))


def test_attack_47_an_interior_node_is_no_entry() -> None:
    good = proof(4, 8)
    left, right = leaf_hash(entry(4)), leaf_hash(entry(5))
    assert not check_inclusion(variant(good, index=2, path=good.path[1:]), left + right)
    assert node_hash(left, right) != leaf_hash(left + right)


def test_the_text_is_the_specifications() -> None:
    made = proof(2, 3, extra=b"age-v1")
    note = format_proof(proof(2, 3)).split(b"\n\n", 1)[1]
    (sibling,) = made.path
    head = f"c2sp.org/tlog-proof@v1\nextra YWdlLXYx\nindex 2\n{base64.b64encode(sibling).decode()}\n\n"
    assert format_proof(made) == head.encode() + note
    assert note.startswith(f"{ORIGIN}\n3\n".encode())
    assert format_proof(proof(0, 1)).startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + ORIGIN.encode())


GOOD = format_proof(proof(5, 11, extra=b"more"))
HASH = base64.b64encode(proof(5, 11).path[0])
BAD = {
    "nothing": b"",
    "other header": GOOD.replace(b"@v1", b"@v2"),
    "header only": b"c2sp.org/tlog-proof@v1\n",
    "no index": GOOD.replace(b"index 5\n", b""),
    "index twice": GOOD.replace(b"index 5\n", b"index 5\nindex 5\n"),
    "extra twice": GOOD.replace(b"extra bW9yZQ==\n", b"extra bW9yZQ==\n" * 2),
    "extra after index": GOOD.replace(b"extra bW9yZQ==\nindex 5\n", b"index 5\nextra bW9yZQ==\n"),
    "empty extra": GOOD.replace(b"bW9yZQ==", b""),
    "no extra after its name": GOOD.replace(b"extra bW9yZQ==", b"extra"),
    "extra that is no base64": GOOD.replace(b"bW9yZQ==", b"!!notbase64!!"),
    "extra with spare bits": GOOD.replace(b"bW9yZQ==", b"bW9yZR=="),
    **{
        f"index {index}": GOOD.replace(b"index 5", f"index {index}".encode())
        for index in (
            "",
            "05",
            "+5",
            "-5",
            "5 ",
            " 5",
            "5_0",
            "٥",
            "notanumber",
            "11",
            "18446744073709551616",
        )
    },
    "hash that is no base64": GOOD.replace(HASH, b"!!notbase64!!"),
    "hash of 31 bytes": GOOD.replace(HASH, base64.b64encode(bytes(31))),
    "hash of 64 bytes": GOOD.replace(HASH, base64.b64encode(bytes(64))),
    "hash with spare bits": GOOD.replace(HASH, HASH[:-2] + bytes([HASH[-2] + 1]) + b"="),
    "too many hashes": GOOD.replace(HASH, b"\n".join([HASH] * 64)),
    "a huge line": GOOD.replace(HASH, b"a" * (1 << 20)),
    "no empty line": GOOD.replace(b"\n\nlog", b"\nlog"),
    "two empty lines": GOOD.replace(b"\n\nlog", b"\n\n\nlog"),
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "no checkpoint": GOOD.split(b"\n\n")[0] + b"\n\n",
    "no signature": GOOD[: GOOD.index("—".encode())],
    "no last newline": GOOD[:-1],
    "a line after": GOOD + b"x\n",
    "size 011": GOOD.replace(b"\n11\n", b"\n011\n"),
    "not UTF-8": b"\xff" + GOOD,
}


@pytest.mark.parametrize("defect", BAD)
def test_a_proof_has_one_spelling(defect: str) -> None:
    assert BAD[defect] != GOOD
    with pytest.raises(Malformed):
        parse_proof(BAD[defect])


def test_a_proof_that_could_not_be_read_is_not_made() -> None:
    good = proof(5, 11)
    for changes in (
        {"index": 11},
        {"index": -1},
        {"path": (b"x",)},
        {"path": (bytes(32),) * 99},
        {"extra": b""},
    ):
        with pytest.raises(Malformed):
            variant(good, **changes)


@given(st.integers(1, 70), st.data(), st.none() | st.binary(min_size=1, max_size=40))
def test_what_is_formatted_is_parsed(size: int, data: st.DataObject, extra: bytes | None) -> None:
    made = proof(data.draw(st.integers(0, size - 1)), size, extra)
    assert parse_proof(format_proof(made)) == made


@given(st.binary(max_size=6), st.integers(0, len(GOOD)), st.integers(0, 4))
def test_what_is_parsed_is_formatted_alike(splice: bytes, at: int, cut: int) -> None:
    data = GOOD[:at] + splice + GOOD[at + cut :]
    try:
        made = parse_proof(data)
    except Malformed:
        return
    assert format_proof(made) == data
