"""parents.py: derived items, whose rows come from other items (docs/format.md, 3.1)."""

import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from make_shard import PRODUCER, WEIGHTS, Made, make_row, make_shard

from eocat.verify.errors import Malformed
from eocat.verify.report import Outcome, Step
from eocat.verify.row import Row
from eocat.verify.statement import parse_statement

A = [make_row(index) for index in range(5)]
B = [make_row(index) for index in range(5, 12)]


def named(parent: Made) -> dict[str, Any]:
    """A parent as a derived item's statement names it."""
    predicate = parent.statement["predicate"]
    return {
        "item": predicate["item"], "uri": "https://example.org/x",
        "create": sha256(parent.payload).hexdigest(), "root": predicate["rows"]["root"],
        "count": predicate["rows"]["count"],
    }  # fmt: skip


@pytest.fixture
def parents(tmp_path: Path) -> tuple[Made, Made]:
    folder = tmp_path / "sources"
    return (
        make_shard(folder / "s2" / "a", A, item_id="a"),
        make_shard(folder / "s2" / "b", B, item_id="b"),
    )


def derived(
    tmp_path: Path, rows: list[Row], parents: Sequence[Made], kind: str | None = "subset", **edit: Any
) -> Made:
    made = make_shard(tmp_path / "derived", rows, item_id="few")
    made.statement["predicate"] |= {
        "origin": "derived",
        "sources": [named(parent) | edit for parent in parents],
        "parameters": {"derivation": {"kind": kind}} if kind else {},
    }
    made.sign(PRODUCER)
    return made


def lineage(made: Made, sources: Path) -> Step:
    (step,) = [step for step in made.check(sources=sources).steps if step.name == "lineage"]
    return step


def test_every_row_of_a_subset_is_a_row_of_its_parents(tmp_path: Path, parents: tuple[Made, Made]) -> None:
    made = derived(tmp_path, [A[1], A[3], B[0]], parents)
    step = lineage(made, tmp_path / "sources")
    assert step.outcome is None, step.text
    assert "derived from 2 items, 2 at hand with the named root: all 3 rows are rows of theirs" in step.text


def test_a_row_that_is_no_parents_fails_the_lineage(tmp_path: Path, parents: tuple[Made, Made]) -> None:
    made = derived(tmp_path, [A[1], make_row(40), B[0]], parents)
    step = lineage(made, tmp_path / "sources")
    assert step.outcome is Outcome.LINEAGE_FAILED
    assert "1 of 3 rows, the first is row 1, are no rows of its source items" in step.text


@pytest.mark.parametrize("kind", ["mean-pool", None])
def test_another_derivation_is_held_to_the_named_roots_alone(
    tmp_path: Path, parents: tuple[Made, Made], kind: str | None
) -> None:
    step = lineage(derived(tmp_path, [make_row(40)], parents, kind), tmp_path / "sources")
    assert step.outcome is None
    assert "how the rows follow from theirs is the producer's word" in step.text


def test_attack_56_a_parent_that_was_replaced_fails_the_lineage(
    tmp_path: Path, parents: tuple[Made, Made]
) -> None:
    made = derived(tmp_path, A[:2], parents)
    shutil.rmtree(parents[1].folder)
    assert "2 items, 1 at hand" in lineage(made, tmp_path / "sources").text
    make_shard(tmp_path / "sources" / "s2" / "b", B[:3], item_id="b")
    step = lineage(made, tmp_path / "sources")
    assert step.outcome is Outcome.LINEAGE_FAILED
    assert "s2/b is here with another CREATE" in step.text


def test_attack_56_a_root_that_is_not_the_parents_fails_the_lineage(
    tmp_path: Path, parents: tuple[Made, Made]
) -> None:
    step = lineage(derived(tmp_path, A[:2], parents[:1], root="00" * 32), tmp_path / "sources")
    assert step.outcome is Outcome.LINEAGE_FAILED
    assert "the statement names 0000000000000000…" in step.text


def test_row_hashes_that_do_not_lead_to_the_parents_root_prove_nothing(
    tmp_path: Path, parents: tuple[Made, Made]
) -> None:
    """Whoever adds a row of his own to the parent's file of row hashes."""
    made = derived(tmp_path, [A[0], make_row(40)], parents[:1])
    file, own = parents[0].file("row-hashes"), made.file("row-hashes").read_bytes()
    file.write_bytes(own[32:64] + file.read_bytes()[32:])
    step = lineage(made, tmp_path / "sources")
    assert (step.outcome, "does not lead to its root" in step.text) == (Outcome.LINEAGE_FAILED, True)


def test_its_rows_are_not_made_again(tmp_path: Path, parents: tuple[Made, Made]) -> None:
    made = derived(tmp_path, A[:2], parents)
    report = made.check(sources=tmp_path / "sources", recompute=2)
    (step,) = [step for step in report.steps if step.name == "recompute"]
    assert step.outcome is Outcome.RECOMPUTE_INCONCLUSIVE
    assert "its rows come from other items" in step.text


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda p: p.update(origin="computed"), "origin is computed"),
        (lambda p: p.update(sources=p["sources"][::-1]), "in order of name"),
        (lambda p: p.update(sources=p["sources"] * 2), "in order of name"),
        (lambda p: p["sources"][0].update(item="s2/few"), "in order of name"),
        (lambda p: p["sources"][0].update(item="../x"), "sources"),
        (lambda p: p["sources"][0].update(count=0), "sources"),
        (lambda p: p["sources"][0].pop("create"), "sources"),
        (lambda p: p["sources"].append(SCENE), "sources"),
    ],
)
def test_statements_that_name_parents_otherwise_are_malformed(
    tmp_path: Path, parents: tuple[Made, Made], edit: Any, fault: str
) -> None:
    made = derived(tmp_path, A[:2], parents)
    assert [p.item for p in parse_statement(made.payload).predicate.parents] == ["s2/a", "s2/b"]
    edit(made.statement["predicate"])
    with pytest.raises(Malformed, match=fault):
        parse_statement(made.payload)


SCENE = {
    "name": "scene", "uri": "https://example.org/scene", "evidence": "none", "bands": ["B04"],
    "files": [{"name": "a.tif", "sha256": WEIGHTS.sha256, "blake3": WEIGHTS.blake3, "size": WEIGHTS.size}],
}  # fmt: skip


def test_a_scene_is_no_derivation(tmp_path: Path) -> None:
    made = make_shard(tmp_path / "x")
    made.statement["predicate"]["origin"] = "derived"
    with pytest.raises(Malformed, match="origin is derived"):
        parse_statement(made.payload)
