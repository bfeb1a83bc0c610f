"""log/heads.py: the head map proves where each item stands, and that an item is not there."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eocat.verify.errors import Malformed
from eocat.verify.log.heads import (
    EMPTY_ROOT,
    Absent,
    CollectionHeads,
    Head,
    HeadMap,
    Heads,
    Included,
    SortedTree,
    check_absent,
    check_included,
    format_heads,
    is_heads,
    parse_heads,
)
from eocat.verify.merkle import leaf_hash, node_hash


def head(name: str, seq: int = 1, status: str = "active") -> Head:
    return Head(name, seq, status, hashlib.sha256(name.encode()).hexdigest())


def tree_of(count: int) -> SortedTree[Head]:
    """Items a000, a002, a004…: between any two there is a name that is not there."""
    return SortedTree([head(f"a{2 * number:03}") for number in reversed(range(count))])


def present(tree: SortedTree[Head], name: str) -> Included[Head]:
    found = tree.prove(name)
    assert isinstance(found, Included)
    return found


def absent(tree: SortedTree[Head], name: str) -> Absent[Head]:
    found = tree.prove(name)
    assert isinstance(found, Absent)
    return found


def test_the_formats_are_these() -> None:
    """As written down in the contract of the format: the leaves, the two roots, the entry."""
    one, two = head("s1"), head("s2", 3, "withdrawn")
    assert two.data == f"s2\n3\nwithdrawn\n{two.payload}\n".encode()
    root = node_hash(leaf_hash(one.data), leaf_hash(two.data)).hex()
    heads = HeadMap({"demo": [two, one], "empty": []}).heads
    outer = leaf_hash(f"demo\n2\n{root}\n".encode()).hex()
    assert heads == Heads(1, outer)
    assert format_heads(heads) == f"eocat-heads/v1\n1\n{outer}\n".encode()
    assert format_heads(HeadMap({}).heads) == f"eocat-heads/v1\n0\n{hashlib.sha256().hexdigest()}\n".encode()


def test_order_is_by_bytes() -> None:
    names = ["a", "B", "a-b", "a.b", "a0", "A"]
    assert [leaf.name for leaf in SortedTree([head(name) for name in names]).leaves] == sorted(
        names, key=str.encode
    )


@pytest.mark.parametrize("count", range(1, 65))
def test_every_item_is_proven_and_every_gap_is_too(count: int) -> None:
    tree = tree_of(count)
    for number in range(count):
        check_included(present(tree, f"a{2 * number:03}"), count, tree.root())
    for name in ["a", *(f"a{2 * number + 1:03}" for number in range(count)), "b"]:
        check_absent(name, absent(tree, name), count, tree.root())


def test_nothing_is_in_an_empty_map() -> None:
    tree = SortedTree[Head]([])
    check_absent("a", absent(tree, "a"), 0, EMPTY_ROOT)
    for count, root in ((1, EMPTY_ROOT), (0, "0" * 64)):
        with pytest.raises(Malformed):
            check_absent("a", Absent(None, None), count, root)


@given(
    st.sets(st.from_regex(r"[a-c0-2.-]{1,4}", fullmatch=True), max_size=40), st.text("abc012.-", min_size=1)
)
@settings(max_examples=200)
def test_presence_and_absence_never_both(names: set[str], wanted: str) -> None:
    tree = SortedTree([head(name) for name in names])
    found = tree.prove(wanted)
    assert isinstance(found, Included) == (wanted in names)
    if isinstance(found, Included):
        check_included(found, len(tree), tree.root())
    else:
        check_absent(wanted, found, len(tree), tree.root())


def test_attack_55_a_head_that_is_not_the_maps_does_not_pass() -> None:
    """Stale or invented: another seq, status or payload, another place, another tree."""
    tree = tree_of(9)
    good = present(tree, "a008")
    lies = {
        "seq": replace(good, leaf=replace(good.leaf, seq=0)),
        "status": replace(good, leaf=replace(good.leaf, status="withdrawn")),
        "payload": replace(good, leaf=replace(good.leaf, payload="0" * 64)),
        "name": replace(good, leaf=replace(good.leaf, name="a009")),
        "index": replace(good, index=5),
        "beyond": replace(good, index=9),
        "cut path": replace(good, path=good.path[:-1]),
        "longer path": replace(good, path=(*good.path, b"0" * 32)),
        "empty path": replace(good, path=()),
    }
    check_included(good, 9, tree.root())
    for lie in lies.values():
        with pytest.raises(Malformed):
            check_included(lie, 9, tree.root())
    with pytest.raises(Malformed):
        check_included(good, 8, tree.root())
    with pytest.raises(Malformed):
        check_included(good, 9, tree_of(10).root())


def test_attack_55_neighbours_that_are_none_do_not_show_absence() -> None:
    tree = tree_of(9)
    around, wide = absent(tree, "a005"), present(tree, "a008")
    assert around.before is not None
    assert around.after is not None
    first, last = present(tree, "a000"), present(tree, "a016")
    forged = {
        "not adjacent": ("a006", Absent(around.before, wide)),
        "it is there, at the left": ("a004", around),
        "it is there, at the right": ("a006", around),
        "elsewhere": ("a007", around),
        "swapped": ("a005", Absent(around.after, around.before)),
        "no left one": ("a005", Absent(None, around.after)),
        "no right one": ("a005", Absent(around.before, None)),
        "neither": ("a005", Absent(None, None)),
        "beyond the end": ("a000", Absent(last, None)),
        "before the beginning": ("b", Absent(None, first)),
        "a lie about the place": ("a006", Absent(around.before, replace(wide, index=3))),
    }
    for wanted, proof in forged.values():
        with pytest.raises(Malformed):
            check_absent(wanted, proof, 9, tree.root())


def test_one_name_stands_once() -> None:
    with pytest.raises(Malformed, match="twice"):
        SortedTree([head("a"), head("a", 2)])


GOOD = f"eocat-heads/v1\n3\n{'ab' * 32}\n".encode()
BAD = {
    "empty": b"",
    "an event's entry": GOOD.replace(b"heads", b"entry"),
    "no last newline": GOOD[:-1],
    "a line more": GOOD + b"\n",
    "leading zero": GOOD.replace(b"\n3\n", b"\n03\n"),
    "negative": GOOD.replace(b"\n3\n", b"\n-3\n"),
    "upper case": GOOD.replace(b"ab", b"AB"),
    "short root": GOOD.replace(b"abab\n", b"ab\n"),
    "too long": GOOD + b"\n" * 200,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_heads_entry_has_one_spelling(data: bytes) -> None:
    assert parse_heads(GOOD) == Heads(3, "ab" * 32)
    assert is_heads(GOOD)
    with pytest.raises(Malformed):
        parse_heads(data)


def test_collections_are_sorted_leaves_too() -> None:
    leaf = CollectionHeads("demo", 2, "ab" * 32)
    assert leaf.data == b"demo\n2\n" + b"ab" * 32 + b"\n"
    assert HeadMap({"b": [head("x")], "a": [head("y")]}).collections.leaves[0].name == "a"
