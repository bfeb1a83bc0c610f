"""merkle.py: consistency proofs, exhaustive for small trees and held to vectors of another maker."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eocat.verify.errors import Malformed
from eocat.verify.merkle import MAX_SIZE, Tree, build_tiles, check_consistency, leaf_hash, tree_of

EXHAUSTIVE = 130


@cache
def tree(size: int) -> Tree:
    return tree_of(build_tiles(b"".join(leaf_hash(b"%d" % index) for index in range(size))), size)


@cache
def root(size: int) -> bytes:
    return tree(size).root()


@cache
def rfc_subproof(old: int, low: int, high: int, known: bool) -> tuple[bytes, ...]:
    """SUBPROOF of RFC 6962, section 2.1.2, over leaves low … high - 1, recursive as it is written there."""
    size = high - low
    if old == size:
        return () if known else (rfc_root(low, high),)
    split = 1
    while split * 2 < size:
        split *= 2
    if old <= split:
        return (*rfc_subproof(old, low, low + split, known), rfc_root(low + split, high))
    return (*rfc_subproof(old - split, low + split, high, False), rfc_root(low, low + split))


@cache
def rfc_root(low: int, high: int) -> bytes:
    if high - low == 1:
        return hashlib.sha256(b"\x00%d" % low).digest()
    split = 1
    while split * 2 < high - low:
        split *= 2
    return hashlib.sha256(b"\x01" + rfc_root(low, low + split) + rfc_root(low + split, high)).digest()


def test_every_pair_of_trees_up_to_130_leaves() -> None:
    """The path is the RFC's, it holds, and it holds for no tree of one leaf more or less."""
    for new in range(1, EXHAUSTIVE + 1):
        for old in range(1, new + 1):
            path = tree(new).prove_consistency(old)
            assert path == rfc_subproof(old, 0, new, True)
            assert check_consistency(old, root(old), new, root(new), path)
            if path:
                assert not check_consistency(old, root(old), new, root(new), path[:-1])
                assert not check_consistency(old, root(old), new, root(new), (*path, path[-1]))


@pytest.mark.parametrize("old", [1, 2, 3, 6, 8, 64, 65, 100, 128])
def test_attack_50_a_proof_is_of_two_sizes_and_two_roots(old: int) -> None:
    """Rollback and split view: another old root, another new root, another size. None is explained away."""
    new = EXHAUSTIVE
    path = tree(new).prove_consistency(old)
    assert check_consistency(old, root(old), new, root(new), path)
    fork = bytes(32)
    assert not check_consistency(old, fork, new, root(new), path)
    assert not check_consistency(old, root(old), new, fork, path)
    assert not check_consistency(new, root(new), old, root(old), path)
    assert not check_consistency(old, root(new), new, root(old), path)
    for other in range(-1, new + 3):
        if other != old:
            assert not check_consistency(other, root(old), new, root(new), path)
            if 1 <= other <= new:
                assert not check_consistency(other, root(other), new, root(new), path)
        if other != new:
            assert not check_consistency(old, root(old), other, root(max(other, 1)), path)


def test_attack_47_a_path_cut_extended_reversed_or_of_another_length() -> None:
    for old, new in ((3, 7), (4, 7), (6, 8), (65, 130), (128, 130)):
        path = tree(new).prove_consistency(old)
        for wrong in (
            (),
            path[1:],
            path[:-1],
            (*path, bytes(32)),
            (bytes(32), *path),
            (root(old), *path),
            (*path, root(new)),
            (path[0][:-1], *path[1:]),
            (path[0] + b"\0", *path[1:]),
        ):
            assert not check_consistency(old, root(old), new, root(new), wrong)


def test_nothing_is_shown_by_an_empty_tree_or_sizes_beyond_every_tree() -> None:
    empty = hashlib.sha256().digest()
    assert not check_consistency(0, empty, 5, root(5), ())
    assert not check_consistency(0, empty, 0, empty, ())
    assert not check_consistency(5, root(5), MAX_SIZE + 1, root(5), ())
    assert check_consistency(5, root(5), 5, root(5), ())
    for old in (0, -1, 8):
        with pytest.raises(Malformed, match="older self"):
            tree(7).prove_consistency(old)


def test_consistency_vectors_of_another_maker(shared_data: Path) -> None:
    """transparency-dev/merkle: every proof is judged as its maker says."""
    judged = 0
    for file in sorted((shared_data / "merkle_proofs" / "consistency").rglob("*.json")):
        case = json.loads(file.read_bytes())
        old_root, new_root = (base64.b64decode(case[name] or "") for name in ("root1", "root2"))
        path = tuple(base64.b64decode(node) for node in case["proof"] or [])
        shown = check_consistency(case["size1"], old_root, case["size2"], new_root, path)
        assert shown != case["wantErr"], (file, case["desc"])
        judged += 1
    assert judged == 98


@given(st.integers(1, 3000), st.data())
def test_append_prove_check_and_a_flipped_bit(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    path = tree(new).prove_consistency(old)
    assert check_consistency(old, root(old), new, root(new), path)
    nodes = [*path, root(old), root(new)]
    place, bit = data.draw(st.integers(0, len(nodes) - 1)), data.draw(st.integers(0, 255))
    nodes[place] = (int.from_bytes(nodes[place], "big") ^ 1 << bit).to_bytes(32, "big")
    assert not check_consistency(old, nodes[-2], new, nodes[-1], tuple(nodes[:-2]))
