"""Every attack of the list has a test under its number, and none of them is skipped silently."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from attack_list import ATTACKS, OPEN

TESTS = Path(__file__).resolve().parents[1]
# Tests that ask `eocat verify` itself, or a real service over HTTP: all of these files, and whoever says so.
BY_COMMAND = {
    "attacks/test_by_command.py", "attacks/test_evidence.py", "attacks/test_history_and_log.py",
    "attacks/test_log_files.py", "catalog/test_hostile_requests.py", "catalog/test_intake.py",
    "catalog/test_events_admission.py", "verify/test_verify_cli.py",
}  # fmt: skip
NUMBERS = re.compile(r"test_attacks?_((?:\d+|and|to)(?:_(?:\d+|and|to))*)(?:_|$)")


def numbers_of(name: str) -> set[int]:
    """The attacks that a test's name names: attack_07, attacks_42_to_44_52_55, attack_23_and_24."""
    if not (found := NUMBERS.match(name)):
        return set()
    words, numbers = found[1].split("_"), set[int]()
    for at, word in enumerate(words):
        if word == "to":
            numbers |= set(range(int(words[at - 1]), int(words[at + 1]) + 1))
        elif word != "and":
            numbers.add(int(word))
    return numbers


def every_test() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{path.relative_to(TESTS.parent)}::{node.name}", node


def may_be_skipped(node: ast.FunctionDef) -> bool:
    """Whether a test may not run: marked so, skipping itself, or on real data that may not be there."""
    marks = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
    asked = {argument.arg for argument in node.args.args}
    return (
        any(word in marks for word in ("skip", "xfail"))
        or "shared_data" in asked
        or "pytest.skip" in ast.unparse(node)
    )


def asks_the_command(name: str) -> bool:
    path, _, test = name.removeprefix("tests/").partition("::")
    return path in BY_COMMAND or "by_the_command" in test


def test_every_attack_has_a_test_under_its_number_that_always_runs() -> None:
    found: dict[int, list[str]] = defaultdict(list)
    for name, node in every_test():
        if not may_be_skipped(node):
            for number in numbers_of(node.name):
                found[number].append(name)
    assert set(ATTACKS) == set(range(1, 77))
    for number, (kind, attack, outcome) in ATTACKS.items():
        print(
            f"{number:>2} {kind:<11} {attack} → {outcome}: {len(found[number])} tests, "
            f"{sum(map(asks_the_command, found[number]))} by the command {OPEN.get(number, '')}"
        )
    assert [number for number in ATTACKS if not found[number] and number not in OPEN] == []
    inside = [number for number in ATTACKS if not any(map(asks_the_command, found[number]))]
    assert inside == [], "nothing asks the command, or the service, about these"
    assert [number for number in OPEN if found[number]] == [], "they have tests now: take them out of OPEN"
    assert set(found) <= set(ATTACKS), "a test names an attack that is not on the list"


def test_a_test_names_its_attacks() -> None:
    assert numbers_of("test_attack_07_a_row_id_twice") == {7}
    assert numbers_of("test_attacks_42_to_44_52_55_a_lie") == {42, 43, 44, 52, 55}
    assert numbers_of("test_attack_39_and_40_by_the_command") == {39, 40}
    assert numbers_of("test_attack_61") == {61}
    assert numbers_of("test_the_list_of_attacks") == set()
