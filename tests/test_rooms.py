"""Who may import whom: three rooms, one ground floor, and the edge above them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "verify": ROOT / "verify" / "eocat" / "verify",
    "producer": ROOT / "producer" / "eocat" / "producer",
    "catalog": ROOT / "catalog" / "eocat" / "catalog",
    "edge": ROOT / "catalog" / "eocat" / "edge",
}
MAY_IMPORT = {
    "verify": set[str](),
    "producer": {"verify"},
    "catalog": {"verify"},
    "edge": {"verify", "producer", "catalog"},
}
VERIFY_LIBRARIES = {"blake3", "cryptography", "numpy", "pyarrow", "pydantic", "rfc8785", "typer", "rich"}
HEAVY = {"torch", "rasterio", "sqlalchemy", "fastapi", "psycopg", "pyproj", "pystac_client", "geoalchemy2"}


def imports(file: Path, *, names: bool = False) -> Iterator[str]:
    """Full names of all modules that `file` imports, wherever in it, relative ones resolved.

    names: with what is imported from them, which may be modules, too; and not what is only there for types.
    """
    package = (
        file.relative_to(next(p for p in file.parents if p.name == "eocat").parent).with_suffix("").parts[:-1]
    )
    tree = ast.parse(file.read_text("utf-8"))
    types = {
        id(inner)
        for node in ast.walk(tree)
        if names and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            named = names or module == "eocat"
            yield from (f"{module}.{alias.name}" for alias in node.names) if named else [module]


def test_imports_are_resolved_as_python_does(tmp_path: Path) -> None:
    file = tmp_path / "eocat" / "room" / "inner" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import a.b\nfrom . import c\nfrom ..d import e\n"
        "from eocat import producer\ndef f():\n from g import h\n"
    )
    assert set(imports(file)) == {"a.b", "eocat.room.inner", "eocat.room.d", "eocat.producer", "g"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other_room_than_it_may(room: str) -> None:
    files = sorted(ROOMS[room].rglob("*.py"))
    assert files
    for file in files:
        rooms = {name.split(".")[1] for name in imports(file) if name.startswith("eocat.")}
        assert rooms <= MAY_IMPORT[room] | {room}, file


def test_the_verify_room_needs_few_libraries() -> None:
    for file in sorted(ROOMS["verify"].rglob("*.py")):
        outside = {name.split(".")[0] for name in imports(file)} - {"eocat"} - set(sys.stdlib_module_names)
        assert outside <= VERIFY_LIBRARIES, (file, outside)


def test_only_two_modules_of_the_program_may_sign() -> None:
    """Private keys are the producer's signer's and the catalogue's log's; the verify room has none."""
    for file in sorted(ROOMS["verify"].rglob("*.py")):
        assert "PrivateKey" not in file.read_text("utf-8"), file


def test_eocat_is_a_namespace_without_a_file_of_its_own() -> None:
    assert not [path for room in ROOMS.values() if (path := room.parent / "__init__.py").exists()]


def run_blocked(code: str, blocked: set[str], roots: list[Path]) -> "subprocess.CompletedProcess[str]":
    """`code` in a Python with `roots` and the libraries on its path (-S), and no import of `blocked`."""
    guard = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(blocked)!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
sys.path[:0] = {[str(root) for root in roots]!r}
"""
    libraries = str(Path(typer.__file__).parents[1])  # a .pth may lend them from another environment
    return subprocess.run(
        [sys.executable, "-S", "-c", guard + code], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": libraries, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_the_verifier_runs_with_its_own_room_alone() -> None:
    """No other room on the path, and none of the heavy libraries to be had."""
    blocked = HEAVY | {"pandas", "shapely", "pystac", "stac_fastapi", "asyncpg", "safetensors", "PIL"}
    for arguments in (["--help"], ["verify", "--help"], ["trust", "--help"]):
        code = f"""
import runpy
sys.argv = ["eocat", *{arguments!r}]
runpy.run_module("eocat.verify", run_name="__main__")
"""
        ran = run_blocked(code, blocked, [ROOT / "verify"])
        assert ran.returncode == 0, ran.stderr
        assert "Usage" in ran.stdout
    modules = [
        ".".join(file.relative_to(ROOT / "verify").with_suffix("").parts)
        for file in sorted(ROOMS["verify"].rglob("*.py"))
        if file.stem not in ("__main__", "__init__")
    ]
    ran = run_blocked(
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)",
        blocked,
        [ROOT / "verify"],
    )
    assert ran.returncode == 0, ran.stderr
    ran = run_blocked("import eocat.producer.cli", blocked, [ROOT / "verify"])
    assert ran.returncode != 0


def test_help_of_the_whole_command_imports_nothing_heavy() -> None:
    heavy = sorted(HEAVY | {"pyarrow", "numpy", "pydantic", "cryptography"})
    code = f"""
import sys
sys.argv = ["eocat", "--help"]
from eocat.edge.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = sorted(set({heavy!r}) & {{name.split(".")[0] for name in sys.modules}})
assert not loaded, loaded
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    for command in ("verify", "trust"):
        assert command in ran.stdout


JUDGE = ("hit", "authenticity", "content", "trust_store")  # levels 1 to 3, and what they need
JUDGE_LINES = 5_500  # an afternoon
REACHES_OUT = {"asyncio", "http", "multiprocessing", "requests", "socket", "ssl", "subprocess", "urllib"}


def graph() -> dict[str, set[str]]:
    """Each module of the program, with those of the program that it imports, wherever in it but for types."""
    files = {module_of(file): file for room in ROOMS.values() for file in sorted(room.rglob("*.py"))}
    edges = {name: set[str]() for name in files}
    for name, file in files.items():
        for target in imports(file, names=True):  # a module, or what is imported from one
            edges[name] |= {one for one in (target, target.rpartition(".")[0]) if one in files} - {name}
    return edges


def module_of(file: Path) -> str:
    parts = file.relative_to(next(p for p in file.parents if p.name == "eocat").parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def reached(edges: dict[str, set[str]], starts: set[str]) -> set[str]:
    """`starts` and all that they import, directly or not."""
    seen, ahead = set[str](), set(starts)
    while ahead:
        seen.add(name := ahead.pop())
        ahead |= edges[name] - seen
    return seen


def test_no_module_imports_itself_through_others() -> None:
    edges = graph()
    assert len(edges) > 200
    assert edges["eocat.verify.hit"] >= {"eocat.verify.authenticity", "eocat.verify.canonical"}
    circles = {name for name, direct in edges.items() if direct and name in reached(edges, direct)}
    assert circles == set()


def test_the_judge_reads_in_an_afternoon_and_reaches_nobody() -> None:
    """What says yes or no up to level 3 is small, opens no connection, starts no program, and knows neither
    other people's products nor the edge."""
    judge = reached(graph(), {f"eocat.verify.{name}" for name in JUDGE})
    files = [file for file in sorted(ROOMS["verify"].rglob("*.py")) if module_of(file) in judge]
    assert len(files) == len(judge), "the judge is all in the verify room"
    assert not [name for name in judge if {"lineage", "edge"} & set(name.split("."))]
    for file in files:
        assert not {name.split(".")[0] for name in imports(file)} & REACHES_OUT, file
    lines = sum(file.read_text("utf-8").count("\n") for file in files)
    print(f"the judge: {len(files)} files, {lines} lines")
    assert 3_000 < lines <= JUDGE_LINES
