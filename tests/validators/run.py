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
CLASSES = (
    "core", "collections", "features", "features#fields", "features#sort", "features#query",
    "item-search", "item-search#fields", "item-search#sort", "item-search#query", "filter",
)  # fmt: skip
QUERY = {  # what the query suites ask of the sample's items (sample.py)
    "comparison-field": "eo:cloud_cover", "eq-value": "20", "neq-value": "20", "lt-value": "20",
    "lte-value": "20", "gt-value": "20", "gte-value": "20",
    "substring-field": "platform", "starts-with-value": "sentinel", "ends-with-value": "2a",
    "contains-value": "nel", "in-field": "platform", "in-values": "sentinel-2a,sentinel-2b",
}  # fmt: skip
# Errors of the validator itself: it holds each value that `in` found against the whole list, and wants five
# members where only one was included.
ITS_OWN = [
    (
        r"\[Item Search - Fields Ext\] : POST \{'fields': \{'exclude': \['properties'\], 'include': "
        r"\['properties\.platform'\]\}\} response contained fewer than 5 fields \['properties'\]"
    ),
    (
        r"\[Item Search - Query Ext\] : (GET|POST) search with Query '\{\"platform\": \{\"in\": \[.*\]\}\}'"
        r" had non-matching results: got \[('sentinel-2[ab]'(, )?)+\]"
    ),
]
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
         *(part for name, value in QUERY.items() for part in (f"--query-{name}", value)),
         "--fields-nested-property", "properties.platform",
         "--collection", "demo", "--geometry", AREA, "--log-level", "WARNING"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    warned, _, failed = ran.stdout.partition("Errors:")
    warnings, errors = (re.findall(r"^- (\[.*)$", part, re.MULTILINE) for part in (warned, failed))
    true = [error for error in errors if not any(re.fullmatch(known, error) for known in ITS_OWN)]
    if failed and not true and (ran.returncode == 0 or errors):
        own = f" but {len(errors)} of the validator's own" if errors else ""
        return True, f"{', '.join(CLASSES)}: errors none{own}, {len(warnings)} warnings"
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
