"""The README tells the truth: its shell and Python blocks are run as they stand, and its links exist."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eocat.catalog.cluster import Cluster

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks() -> list[str]:
    """`sh` blocks as they are, `python` blocks as here-documents for Python."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text if kind == "sh" else f"python - <<'EOF'\n{text}EOF\n" for kind, text in found]


def test_the_blocks_run(short_home: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "set -euxo pipefail\n" + "".join(blocks())
    script = script.replace("eocat up\n", f"eocat up --port {port}\n").replace(
        "127.0.0.1:8765", f"127.0.0.1:{port}"
    )
    environment = {
        **os.environ,
        "EOCAT_HOME": str(short_home),
        "EOCAT_API": f"http://127.0.0.1:{port}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("VERIFIED  L2 of 5") == 6
        assert "coasts/coast" in done.stdout
        assert done.stdout.endswith("stopped\n")
        assert Cluster(short_home).status() is None
    finally:
        subprocess.run(["eocat", "down"], env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    "page", ["README.md", *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/**/*.md")))]
)
def test_links_to_files_exist(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text("utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
