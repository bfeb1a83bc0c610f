"""What a statement says of the program and the machine, measured, not assumed."""

import platform
import shutil
import subprocess
from functools import cache
from hashlib import sha256
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from eocat.verify import canonical
from eocat.verify.statement import Code

_NAMED = ("torch", "numpy", "pyarrow", "rasterio", "pyproj")


@cache
def installed() -> dict[str, str]:
    """Every installed distribution and its version."""
    return {name: found.version for found in distributions() if (name := found.metadata["Name"])}


@cache
def code() -> Code:
    """eocat's version, the commit where it runs from a checkout (`-dirty` if changed), the lock digest."""
    lock = sha256(canonical.encode(installed())).hexdigest()
    return Code(name="eocat", version=version("eocat"), commit=_commit(Path(__file__).resolve()), lock=lock)


def environment(*, batch: int, threads: int) -> dict[str, Any]:
    """Python, libraries and machine of a run."""
    packages = installed()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "batch": batch,
        "threads": threads,
        "packages": {name: packages[name] for name in _NAMED if name in packages},
    }


def _commit(here: Path) -> str | None:
    root = here.parents[3]
    git = shutil.which("git")
    if git is None or not (root / "pyproject.toml").is_file() or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
