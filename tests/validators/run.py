"""Judges of the API that know nothing of us: stac-api-validator, and schemathesis on our OpenAPI.

    python tests/validators/run.py [--port 8790] [--cases 15] [--schemas FOLDER]

Each is installed once into an environment of its own (they pin what we do not), in eocat's cache, and asks a
real service. No internet but the package index is asked: schemas come with pystac or from FOLDER. One line
each; exit 0 only if both pass.
"""

import argparse
import logging
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "catalog")]

from sample import sample_catalogue  # noqa: E402

from eocat.catalog.prefix import cache_folder  # noqa: E402

VALIDATOR, SCHEMATHESIS = "stac-api-validator==0.6.8", "schemathesis==4.32.5"
SCHEMAS = HERE.parents[2] / "shared" / "data" / "stac_schemas"
CLASSES = ("core", "features", "item-search", "filter", "collections")
AREA = '{"type": "Polygon", "coordinates": [[[100, 0], [110, 0], [110, 1], [100, 1], [100, 0]]]}'

# Not asked: whether whatever fits our schemas is accepted. No JSON Schema says what CQL2 text, an interval or
# a box with south < north is, so that would only judge the description.
LEFT_OUT = "positive_data_acceptance"


def environment(requirement: str) -> Path:
    """The bin folder of an environment with the requirement, made if it is not there."""
    folder = cache_folder() / "validators" / requirement
    if not (folder / "ready").exists():
        print(f"installing {requirement} (once) …", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", requirement],
            check=True,
        )
        (folder / "ready").touch()
    return folder / "bin"


def validate(url: str, schemas: Path) -> tuple[bool, str]:
    """Whether stac-api-validator finds no error, and what it came to. (It exits 0 also where it crashed.)"""
    classes = [part for name in CLASSES for part in ("--conformance", name)]
    ran = subprocess.run(
        [environment(VALIDATOR) / "python", HERE / "offline.py", schemas, "--root-url", url, *classes,
         "--collection", "demo", "--geometry", AREA, "--log-level", "WARNING"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    warnings = len(re.findall(r"^- \[", ran.stdout, re.MULTILINE))
    if ran.returncode == 0 and "Errors: none" in ran.stdout:
        return True, f"{', '.join(CLASSES)}: errors none, {warnings} warnings"
    return False, f"failed\n{ran.stdout[-6000:]}{ran.stderr[-2000:]}"


def fuzz(url: str, cases: int) -> tuple[bool, str]:
    """Whether schemathesis finds nothing, and what it came to."""
    with tempfile.TemporaryDirectory() as folder:  # where it leaves its reports
        ran = subprocess.run(
        [environment(SCHEMATHESIS) / "schemathesis", "run", f"{url}/api", "--max-examples", str(cases),
         "--generation-deterministic", "--suppress-health-check", "all", "--exclude-checks", LEFT_OUT,
         "--no-color"],
        capture_output=True, text=True, timeout=900, check=False, cwd=folder,
    )  # fmt: skip
    tested, made = (re.search(pattern, ran.stdout) for pattern in (r"Tested: (\d+)", r"(\d+) generated"))
    if ran.returncode == 0 and tested and made:
        return True, f"{tested[1]} operations, {made[1]} cases, no failure"
    return False, f"failed\n{ran.stdout[-6000:]}{ran.stderr[-2000:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8790)
    parser.add_argument("--cases", type=int, default=15, help="schemathesis: examples for each operation")
    parser.add_argument("--schemas", type=Path, default=SCHEMAS, help="extension schemas, schema_map.json")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what the service says of thousands of bad requests
    passed = True
    with sample_catalogue(options.port) as url:
        if (options.schemas / "schema_map.json").is_file():
            good, text = validate(url, options.schemas)
            passed &= good
        else:
            text = f"NOT RUN, {options.schemas} is not there"
        print(f"{VALIDATOR}: {text}", flush=True)
        good, text = fuzz(url, options.cases)
        print(f"{SCHEMATHESIS}: {text}", flush=True)
    sys.exit(0 if passed and good else 1)


if __name__ == "__main__":
    main()
