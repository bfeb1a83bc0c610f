"""log/note.py: signed notes and verifier keys, held to vectors of Go's sumdb/note and to one spelling."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_notes import LOG, W1, Signer
from published_notes import ENOCH, GOOD, PETER, PETER_LINE, QUASIMODO, TEXT, WITNESS

from eocat.verify.errors import Malformed
from eocat.verify.log.note import (
    COSIGNATURE,
    ED25519,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    Signature,
    VerifierKey,
    format_note,
    format_vkey,
    parse_decimal,
    parse_note,
    parse_vkey,
    signed_by,
)


def names(note: Note, *keys: VerifierKey) -> tuple[list[str], list[str]]:
    signed = signed_by(note, keys)
    return [key.name for key, _ in signed.valid], [line.name for line in signed.forged]


def test_go_vectors_are_signed_by_whom_go_says() -> None:
    note, peter, enoch = parse_note(GOOD.encode()), parse_vkey(PETER), parse_vkey(ENOCH)
    assert note.text == TEXT
    assert format_note(note) == GOOD.encode()
    assert names(note, peter) == (["PeterNeumann"], [])
    assert names(note, peter, enoch) == (["PeterNeumann", "EnochRoot"], [])
    assert names(note) == ([], [])


def test_the_specifications_note_keeps_the_empty_line_in_its_text() -> None:
    note = parse_note(QUASIMODO.encode())
    assert note.text.endswith(":\n\ned è subito sera.\n")
    assert [line.key_id.hex() for line in note.signatures] == ["367ba04b"]
    assert format_note(note) == QUASIMODO.encode()


def test_another_text_is_signed_by_nobody() -> None:
    note = parse_note(GOOD.replace("answer", "Answer").encode())
    assert names(note, parse_vkey(PETER)) == ([], ["PeterNeumann"])


def test_a_key_is_known_by_name_and_id_together() -> None:
    """A line that shares only one of them with a known key is a stranger's: ignored, not forged."""
    peter = parse_vkey(PETER)
    renamed = parse_note(f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'CarmenSandiego')}".encode())
    other_id = parse_note(f"{TEXT}\n{PETER_LINE.replace('x08g', 'xxxx')}".encode())
    assert names(renamed, peter) == names(other_id, peter) == ([], [])


def test_attack_49_colliding_key_ids_confuse_nobody() -> None:
    """Two keys, one name, one 4-byte key id (found by search): each is tried by itself."""
    mine, theirs = Signer(LOG.name, ED25519, 34616), Signer(LOG.name, ED25519, 41169)
    assert mine.key.key_id == theirs.key.key_id == bytes.fromhex("53c8c369")
    assert mine.key != theirs.key
    note = Note(TEXT, (theirs.sign(TEXT),))
    assert signed_by(note, [mine.key]).valid == ()  # the id vouches for nothing
    assert len(signed_by(note, [mine.key]).forged) == 1
    for keys in ([mine.key, theirs.key], [theirs.key, mine.key]):
        signed = signed_by(note, keys)
        assert [key for key, _ in signed.valid] == [theirs.key]  # the one that did, whichever is tried first
        assert signed.forged == ()
        assert len(signed_by(Note(TEXT, (theirs.sign(TEXT), mine.sign(TEXT))), keys).valid) == 2


def test_attack_49_one_raw_key_has_another_id_for_each_name_and_type() -> None:
    keys = [VerifierKey(name, kind, LOG.key.public) for name in ("a", "b") for kind in (ED25519, COSIGNATURE)]
    assert len({key.key_id for key in keys}) == 4
    note = Note(TEXT, (LOG.sign(TEXT),))
    assert names(note, *keys) == ([], [])


def test_a_log_signature_is_no_cosignature_and_the_other_way_round() -> None:
    """The same name and id, by hand: type confusion fails on the message."""
    log, witness = Signer("x", ED25519, 5), Signer("x", COSIGNATURE, 5)
    as_witness = Signature("x", witness.key.key_id, log.sign(TEXT).body)
    as_log = Signature("x", log.key.key_id, witness.sign(TEXT).body)
    timed = Signature("x", witness.key.key_id, bytes(8) + log.sign(TEXT).body)
    cut = Signature("x", log.key.key_id, witness.sign(TEXT).body[8:])
    note = Note(TEXT, (as_witness, as_log, timed, cut))
    assert names(note, log.key, witness.key) == ([], ["x"] * 4)


BAD_NOTES = {
    "empty": "",
    "text only": TEXT,
    "no signature": TEXT + "\n",
    "two empty lines then nothing": TEXT + "\n\n",
    "no last newline": GOOD[:-1],
    "line after": GOOD + "Unexpected line.\n",
    "empty line after": GOOD + "\n",
    "CRLF": GOOD.replace("\n", "\r\n"),
    "CR in text": GOOD.replace("think", "th\rink"),
    "tab": GOOD.replace("think", "th\tink"),
    "NUL": GOOD.replace("think", "th\0ink"),
    "control": "\x01" + GOOD,
    "no empty line": TEXT + PETER_LINE,
    "name with space": GOOD.replace("PeterNeumann", "Peter Neumann"),
    "name with no-break space": GOOD.replace("PeterNeumann", "Peter\u00a0Neumann"),
    "name with next line": GOOD.replace("PeterNeumann", "Peter\u0085Neumann"),
    "name with line separator": GOOD.replace("PeterNeumann", "Peter\u2028Neumann"),
    "name with plus": GOOD.replace("PeterNeumann", "Peter+Neumann"),
    "no name": GOOD.replace("PeterNeumann", ""),
    "name of 256 bytes": GOOD.replace("PeterNeumann", "é" * 128),
    "hyphen for em dash": GOOD.replace("— P", "- P"),
    "en dash": GOOD.replace("— P", "– P"),
    "two spaces": GOOD.replace("— P", "—  P"),
    "trailing space": GOOD.replace("nAM=", "nAM= "),
    "no padding": GOOD.replace("nAM=", "nAM"),
    "spare bits": GOOD.replace("nAM=", "nAN="),
    "URL alphabet": GOOD.replace("rwz+", "rwz-"),
    "only a key id": f"{TEXT}\n— PeterNeumann x08gow==\n",
    "less than a key id": f"{TEXT}\n— PeterNeumann x08g\n",
    "too many signatures": f"{TEXT}\n{PETER_LINE * (MAX_SIGNATURES + 1)}",
    "too long": f"{'x' * MAX_NOTE_BYTES}\n\n{PETER_LINE}",
}


@pytest.mark.parametrize("defect", BAD_NOTES)
def test_a_note_has_one_spelling(defect: str) -> None:
    with pytest.raises(Malformed):
        parse_note(BAD_NOTES[defect].encode())


@pytest.mark.parametrize("data", [b"\xff" + GOOD.encode(), GOOD.encode("utf-16"), b"\xed\xa0\x80\n\n"])
def test_a_note_is_utf_8(data: bytes) -> None:
    with pytest.raises(Malformed, match="UTF-8"):
        parse_note(data)


def test_sixteen_signatures_of_five_kilobytes_are_read() -> None:
    """The specification's least, with room for post-quantum ones."""
    lines = tuple(Signature(f"w{number}", bytes(4), bytes(5000)) for number in range(16))
    assert parse_note(format_note(Note(TEXT, lines))).signatures == lines


def test_a_note_that_could_not_be_read_is_not_made() -> None:
    line = LOG.sign(TEXT)
    for text in ("", "no newline", "a\rb\n", "\ud800\n"):
        with pytest.raises(Malformed):
            Note(text, (line,))
    for lines in ((), (line,) * (MAX_SIGNATURES + 1)):
        with pytest.raises(Malformed):
            Note(TEXT, lines)
    for name, key_id, body in (("a b", bytes(4), b"x"), ("a", bytes(3), b"x"), ("a", bytes(4), b"")):
        with pytest.raises(Malformed):
            Signature(name, key_id, body)


@pytest.mark.parametrize(("vkey", "kind"), [(PETER, ED25519), (ENOCH, ED25519), (WITNESS, COSIGNATURE)])
def test_verifier_keys_of_others(vkey: str, kind: int) -> None:
    key = parse_vkey(vkey)
    assert key.kind == kind
    assert format_vkey(key) == vkey


def test_no_part_and_no_neighbour_of_a_verifier_key_is_one() -> None:
    """Go's own test: every substring, and every character raised by one."""
    for start in range(len(PETER) + 1):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(Malformed):
                    parse_vkey(PETER[start:end])
    for at, char in enumerate(PETER):
        with pytest.raises(Malformed):
            parse_vkey(PETER[:at] + chr(ord(char) + 1) + PETER[at + 1 :])


def vkey_of(name: str, data: bytes) -> str:
    """A vkey whose id fits, whatever it holds."""
    key_id = hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8]
    return f"{name}+{key_id}+{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # Go: longer key
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # Go: unknown type
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER + "\n",
        " " + PETER,
        "PeterNeumann",
        "PeterNeumann++",
        vkey_of("a", b"\x01" + bytes(32)),  # a low-order point: one signature fits many messages
        vkey_of("a", b"\x04\x01" + bytes(31)),  # the neutral element, likewise
        vkey_of("a", b"\x01" + b"\xff" * 32),  # no canonical point
        vkey_of("a", b"\x01" + LOG.key.public.raw[:-1]),
        vkey_of("a", b"\x01" + LOG.key.public.raw + b"\0"),
        vkey_of("a", b"\x02" + LOG.key.public.raw),  # ECDSA
        vkey_of("a", b"\x06" + LOG.key.public.raw),  # ML-DSA
        vkey_of("a b", b"\x01" + LOG.key.public.raw),
        vkey_of("", b"\x01" + LOG.key.public.raw),
        vkey_of("a\u2003b", b"\x01" + LOG.key.public.raw),
    ],
)
def test_a_bad_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(Malformed):
        parse_vkey(vkey)


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=60
).filter(lambda name: "+" not in name)
LINES = st.builds(Signature, NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=99))
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs", "Cc"]), st.just("\n"))).map(
    lambda text: text + "\n"
)


@given(TEXTS, st.lists(LINES, min_size=1, max_size=5))
def test_what_is_formatted_is_parsed(text: str, lines: list[Signature]) -> None:
    note = Note(text, tuple(lines))
    assert parse_note(format_note(note)) == note


@given(st.binary(max_size=12), st.integers(0, len(GOOD.encode())), st.integers(0, 6))
def test_what_is_parsed_is_formatted_alike(splice: bytes, at: int, cut: int) -> None:
    """Whatever is done to a good note: it is refused, or it is the one spelling of what was read."""
    data = GOOD.encode()
    data = data[:at] + splice + data[at + cut :]
    try:
        note = parse_note(data)
    except Malformed:
        return
    assert format_note(note) == data


@given(NAMES, st.sampled_from([LOG, W1]))
def test_verifier_keys_round_trip(name: str, signer: Signer) -> None:
    key = VerifierKey(name, signer.kind, signer.key.public)
    assert parse_vkey(format_vkey(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "07",
        "+7",
        "-0",
        " 7",
        "7 ",
        "7\n",
        "1_000",
        "٣",
        "７",
        "²",
        "0x7",
        "7.0",
        "1e3",
        "1001",
        "9" * 5000,
    ],
)
def test_attack_48_a_number_has_one_spelling(text: str) -> None:
    with pytest.raises(Malformed, match="plain decimal"):
        parse_decimal(text, limit=1000, what="size")


def test_numbers_up_to_the_limit_are_read() -> None:
    assert [parse_decimal(text, limit=1000, what="size") for text in ("0", "7", "1000")] == [0, 7, 1000]
