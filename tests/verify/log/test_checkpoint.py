"""log/checkpoint.py: the text of a checkpoint, in one spelling."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_notes import checkpoint

from eocat.verify.errors import Malformed
from eocat.verify.log.checkpoint import EMPTY_ROOT, Checkpoint, format_checkpoint, parse_checkpoint
from eocat.verify.merkle import MAX_SIZE

# C2SP tlog-checkpoint, the example
ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
GOOD = f"example.com/behind-the-sofa\n20852163\n{ROOT}\n"


def test_the_specifications_example() -> None:
    made = parse_checkpoint(GOOD)
    assert made == Checkpoint("example.com/behind-the-sofa", 20852163, base64.b64decode(ROOT))
    assert format_checkpoint(made) == GOOD
    extended = parse_checkpoint(GOOD + "one\n— two\n")
    assert extended.extensions == ("one", "— two")
    assert format_checkpoint(extended) == GOOD + "one\n— two\n"


SIZES = ["07", "+7", "-7", "007", "1_000", "٣", "７", "0x10", "1e3", "7.0", str(MAX_SIZE + 1), str(1 << 63)]
BAD = {
    **{f"size {size}": GOOD.replace("20852163", size) for size in [*SIZES, "", " 7", "7 ", "9" * 5000]},
    "no origin": f"\n20852163\n{ROOT}\n",
    "no origin line": f"20852163\n{ROOT}\n",
    "no size": f"example.com/behind-the-sofa\n{ROOT}\n",
    "no root": "example.com/behind-the-sofa\n20852163\n",
    "empty root": "example.com/behind-the-sofa\n20852163\n\n",
    "no last newline": GOOD[:-1],
    "extra empty line": GOOD + "\n",
    "empty line before": "\n" + GOOD,
    "empty line inside": GOOD.replace("sofa\n", "sofa\n\n"),
    "empty extension": GOOD + "one\n\ntwo\n",
    "CRLF": GOOD.replace("\n", "\r\n"),
    "control in origin": GOOD.replace("the", "th\x1be"),
    "tab in origin": GOOD.replace("the", "th\te"),
    "control in extension": GOOD + "a\0b\n",
    "short root": GOOD.replace(ROOT, base64.b64encode(bytes(31)).decode()),
    "long root": GOOD.replace(ROOT, base64.b64encode(bytes(33)).decode()),
    "root in hex": GOOD.replace(ROOT, bytes(32).hex()),
    "root with spare bits": GOOD.replace("q2I=", "q2J="),
    "root without padding": GOOD.replace("q2I=", "q2I"),
    "root in URL alphabet": GOOD.replace("om/X", "om_X"),
    "root with space": GOOD.replace("q2I=", "q2I= "),
    "empty tree with a root": GOOD.replace("20852163", "0"),
    "long origin": GOOD.replace("example.com/behind-the-sofa", "é" * 128),
    "many extensions": GOOD + "x\n" * 65,
    "nothing": "",
    "newlines": "\n\n\n",
}


@pytest.mark.parametrize("defect", BAD)
def test_attack_48_a_checkpoint_has_one_spelling(defect: str) -> None:
    assert BAD[defect] != GOOD
    with pytest.raises(Malformed):
        parse_checkpoint(BAD[defect])


@pytest.mark.parametrize("origin", ["a", "a" * 255, "é" * 127 + "a", "example log+origin", "— x"])
def test_an_origin_need_not_look_like_an_address(origin: str) -> None:
    """The specification only recommends it; the cases are torchwood's."""
    made = Checkpoint(origin, 1, bytes(32), ("extension",))
    assert parse_checkpoint(format_checkpoint(made)) == made


def test_the_empty_tree_is_a_checkpoint() -> None:
    made = parse_checkpoint(f"o\n0\n{base64.b64encode(hashlib.sha256().digest()).decode()}\n")
    assert (made.size, made.root) == (0, EMPTY_ROOT)


def test_attack_51_two_roots_of_one_size_contradict_each_other() -> None:
    one, fork = checkpoint(7), checkpoint(7, fork="other")
    assert one.contradicts(fork)
    assert fork.contradicts(one)
    assert not one.contradicts(checkpoint(7))
    assert not one.contradicts(checkpoint(8))  # for a consistency proof to say
    assert not one.contradicts(Checkpoint("other.example", 7, fork.root))  # another log


LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


@given(LINES, st.integers(1, MAX_SIZE), st.binary(min_size=32, max_size=32), st.lists(LINES, max_size=4))
def test_what_is_formatted_is_parsed(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    made = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(format_checkpoint(made)) == made


@given(st.text(max_size=6), st.integers(0, len(GOOD)), st.integers(0, 4))
def test_what_is_parsed_is_formatted_alike(splice: str, at: int, cut: int) -> None:
    text = GOOD[:at] + splice + GOOD[at + cut :]
    try:
        made = parse_checkpoint(text)
    except Malformed:
        return
    assert format_checkpoint(made) == text
