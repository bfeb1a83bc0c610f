"""The table of docs/sources.md, rerun: each folder of real imagery gives verified shards or the refusal."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_produce import policy_for
from typer.testing import CliRunner

from eocat.producer.cli import app
from eocat.producer.signer import new_key
from eocat.verify.check import check
from eocat.verify.errors import EocatError
from eocat.verify.evidence import read_folder
from eocat.verify.report import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"


def table() -> list[tuple[str, list[str], int, int, str]]:
    """(folder, options, scenes, rows, refusal) of each line under the page's last heading."""
    lines = PAGE.read_text("utf-8").rpartition("\n## ")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [
        (folder, options.strip("`").split(), int(scenes), int(rows), refusal)
        for folder, _, options, scenes, rows, refusal in cells[1:]
    ]


def test_the_table_names_every_folder_of_imagery(shared_data: Path) -> None:
    suffixes = {".tif", ".tiff", ".jp2", ".jpg", ".nc", ".npz", ".npy"}
    folders = {
        path.relative_to(shared_data).parts[0] for path in shared_data.rglob("*") if path.suffix in suffixes
    }
    assert {folder.partition("/")[0] for folder, *_ in table()} == folders | {"safe_provenance"}


@pytest.mark.parametrize(("folder", "options", "scenes", "rows", "refused"), table())
def test_a_folder_gives_what_the_table_says(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    options: list[str],
    scenes: int,
    rows: int,
    refused: str,
) -> None:
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    signer = new_key("k", None)
    out = tmp_path / "out"
    command = ["produce", str(shared_data / folder), "--collection", "c", "--out", str(out), "--key", "k"]
    result = CliRunner().invoke(app, [*command, "--json", *options])
    errors = result.stderr
    if isinstance(result.exception, EocatError):  # what the edge would print and turn into an exit code
        errors += f"eocat: error: {result.exception}"
    assert bool(refused) == (result.exit_code != 0), errors
    assert re.search(re.escape(refused), errors)
    found = json.loads(result.stdout)["shards"] if result.stdout.strip() else []
    assert (len(found), sum(shard["rows"] for shard in found)) == (scenes, rows)
    for shard in found[:3]:
        report = check(read_folder(Path(shard["folder"])), policy_for(signer), now=datetime.now(UTC))
        assert report.outcome is Outcome.VERIFIED
