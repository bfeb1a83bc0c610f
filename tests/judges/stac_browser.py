"""STAC Browser judges the API: 4.0.1 from npm, code unmodified, built for a catalogue, opened in Chromium.

    python tests/judges/stac_browser.py [--port 8870] [--pictures FOLDER]

It needs node with npm, and chromium (`apt-get install --no-install-recommends chromium`). The browser is
installed once, and built once for each port (2 to 4 minutes, 420 MB), in eocat's cache. One line for each
page; exit 0 only if every page shows what the API's documents say, asks nothing of the API that fails, and
logs no error. No host but this one is asked; so maps have no background.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("", "catalog", "validators")]

from sample import sample_catalogue  # noqa: E402

from eocat.catalog.prefix import cache_folder  # noqa: E402

BROWSER, DRIVER = "@radiantearth/stac-browser@4.0.1", "playwright-core@1.65.1"
OL_STAC = "1.1.0"  # it asks for ^1.1.0, of which the newest needs another stac-js than it has
BACKGROUND = "tile.openstreetmap.org"  # of the maps, the one host that STAC Browser may ask for more
GONE = "/collections/demo/items/i03/assets/thumbnail"  # of the sample's withdrawn item: 410
ACTIVE = "&filter-lang=cql2-text&filter=%22eocat:status%22='active'"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of STAC Browser, what is clicked there, and texts and how many pictures it must then show."""

    name: str
    path: str
    expected: tuple[str, ...]
    pictures: int
    clicks: tuple[str, ...] = ()


def installed() -> Path:
    """The folder of STAC Browser with all that it needs, made if it is not there."""
    folder = cache_folder() / "judges" / "stac-browser-4.0.1"
    if not (folder / "ready").exists():
        print(f"installing {BROWSER} (once) …", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (packed,) = json.loads(_ran("npm", "pack", "--json", BROWSER, cwd=folder))
        _ran("tar", "xzf", packed["filename"], "--strip-components=1", cwd=folder)
        _ran("npm", "pkg", "set", f"dependencies.ol-stac={OL_STAC}", cwd=folder)
        _ran("npm", "install", "--no-audit", "--no-fund", "--save-exact", DRIVER, cwd=folder)
        (folder / "ready").touch()
    return folder


def built(folder: Path, url: str) -> Path:
    """The static site of STAC Browser for the catalogue at `url`, made if it is not there."""
    site = folder / f"dist-{url.rpartition(':')[2]}"
    if not (site / "ready").exists():
        print(f"building it for {url} (once) …", file=sys.stderr)
        command = ["npx", "vue-cli-service", "build", "--noSourceMaps", "--dest", site.name]
        _ran(*command, f"--catalogUrl={url}/", "--historyMode=hash", cwd=folder)  # hash: no rewriting server
        (site / "ready").touch()
    return site


def _ran(*command: str, cwd: Path) -> str:
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)} exited {ran.returncode}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
    return ran.stdout


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        """Nothing: what a page asks for, it tells itself."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a static site on loopback, while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def pages_of(url: str) -> list[Page]:
    """The pages to open, with the texts that the API's own documents say they must show."""
    collections = _get(f"{url}/collections")["collections"]
    demo = next(one for one in collections if one["id"] == "demo")
    items = _get(f"{url}/collections/demo/items")
    item = next(one for one in items["features"] if one["id"] == "i00")
    listed = tuple(one["properties"]["title"] for one in items["features"])
    every, active = (_get(f"{url}/search?limit=1{more}")["numberMatched"] for more in ("", ACTIVE))
    assets = {key: asset["title"] for key, asset in item["assets"].items()}
    files = tuple(title for key, title in assets.items() if key != "thumbnail")  # which is shown as a picture
    history = ("Signed history", "Proof of the first row", "Place in the transparency log")
    own = (item["properties"]["eocat:row_root"], item["properties"]["license"], demo["title"])
    by_status = ("Search for Items", "Add filter", "Status by the signed history", "Submit")
    return [
        Page("root", "/", (_get(url)["description"], *(one["title"] for one in collections)), 0),
        Page("collection", "/collections/demo",
             (demo["title"], demo["description"], "Example Publisher", f"Items{len(listed)}",
              "Additional filters", *listed, *assets.values()), len(listed) - 1, ("Show Filters",)),
        Page("item", "/collections/demo/items/i00", (item["properties"]["title"], *files, *history, *own), 1),
        Page("search", "/search", (f"Items{every}", *listed), every - 1, ("Search for Items", "Submit")),
        Page("filter", "/search", (f"Items{active}",), active, by_status),  # active is proposed
    ]  # fmt: skip


def _get(address: str) -> Any:
    answer = requests.get(address, timeout=60)
    answer.raise_for_status()
    return answer.json()


def look(pages: list[Page], folder: Path, site: str, url: str, pictures: Path) -> list[dict[str, Any]]:
    """What stac_browser.mjs saw of each page."""
    chromium = shutil.which("chromium") or sys.exit("chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="eocat-chromium-") as profile:
        asked = {
            "modules": str(folder / "package.json"), "chromium": chromium, "profile": profile, "api": url,
            "pages": [
                {"name": page.name, "address": f"{site}/#{page.path}", "clicks": page.clicks,
                 "expected": page.expected, "picture": str(pictures / f"{page.name}.png")}
                for page in pages
            ],
        }  # fmt: skip
        told: list[dict[str, Any]] = json.loads(
            _ran("node", str(HERE / "stac_browser.mjs"), json.dumps(asked), cwd=pictures)
        )
    return told


def faults(page: Page, seen: dict[str, Any], site: str, url: str) -> Iterator[str]:
    """What is wrong with a page. The withdrawn item's picture must be refused, and nothing else."""
    yield from (f"does not show {text!r}" for text in page.expected if text not in seen["text"])
    yield from (f"alerts {text!r}" for text in seen["alerts"])
    yield from (f"asks {host}" for host in seen["outside"] if host != BACKGROUND)
    if shown(seen, url) != page.pictures:
        yield f"shows {shown(seen, url)} pictures, expected {page.pictures}"
    if not seen["requests"]:
        yield "asks nothing of the API"
    for method, path, status in seen["requests"]:
        if status != 200 and path != GONE:
            yield f"{method} {path}: {status}"
    for source, width in seen["images"]:
        if not width and source != f"{url}{GONE}":
            yield f"no picture: {source}"
    for text, source in seen["consoleErrors"]:
        gone = any(path == GONE for _, path, _ in seen["requests"]) and "cannot be decoded" in text
        if BACKGROUND not in source and not gone:
            yield f"logs {text!r} ({source})"


def shown(seen: dict[str, Any], url: str) -> int:
    """How many pictures of the API the page shows."""
    return sum(width > 0 for source, width in seen["images"] if source.startswith(url))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--port", type=int, default=8870, help="of the catalogue: the browser is built for it"
    )
    parser.add_argument("--pictures", type=Path, help="where a picture of each page is left")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the service's own lines
    passed, folder = True, installed()
    site_folder = built(folder, f"http://127.0.0.1:{options.port}")
    with (
        tempfile.TemporaryDirectory(prefix="eocat-pictures-") as aside,
        sample_catalogue(options.port) as url,
        served(site_folder) as site,
    ):
        pictures = (options.pictures or Path(aside)).absolute()
        pictures.mkdir(parents=True, exist_ok=True)
        refused = requests.get(f"{url}{GONE}", timeout=60).status_code
        if refused != 410:
            sys.exit(f"{GONE} of a withdrawn item answers {refused}, expected 410")
        pages = pages_of(url)
        for page, seen in zip(pages, look(pages, folder, site, url, pictures), strict=True):
            wrong = list(faults(page, seen, site, url))
            print(
                f"{page.name:<10} {'FAILED' if wrong else 'ok'}: {len(page.expected)} texts expected,"
                f" {len(seen['requests'])} requests to the API, {shown(seen, url)} pictures"
                + "".join(f"\n    {one}" for one in wrong),
                flush=True,
            )
            passed &= not wrong
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
