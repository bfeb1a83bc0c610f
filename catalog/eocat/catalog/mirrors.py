"""The Debian mirrors that this machine knows: EOCAT_DEB_MIRROR, or its apt sources (sources.list(5)).

No mirror's name is written in eocat. A wrong guess does no harm: what a mirror sends counts only if Debian
signed it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


def find_mirrors(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> tuple[str, ...]:
    """Base addresses to try, best first: EOCAT_DEB_MIRROR alone, else the apt sources of a Debian machine."""
    if given := environ.get("EOCAT_DEB_MIRROR"):
        return (given.rstrip("/"),)
    os_release = root / "etc/os-release"
    if not os_release.is_file() or not re.search(r'^ID="?debian"?$', os_release.read_text(), re.M):
        return ()
    apt = root / "etc/apt"
    one_line = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    found = [
        s
        for file in sorted((apt / "sources.list.d").glob("*.sources"))
        for s in parse_deb822(file.read_text())
    ]
    found += [s for file in one_line if file.is_file() for s in parse_one_line(file.read_text())]
    bases = [base for source in found if is_main(source) for base in addresses(source.uri, root)]
    return tuple(dict.fromkeys(bases))


@dataclass(frozen=True, slots=True)
class Source:
    """One address of the apt sources with one suite of it (sources.list(5))."""

    uri: str
    suite: str
    components: tuple[str, ...]


def parse_deb822(text: str) -> Iterator[Source]:
    """The enabled binary sources of a `.sources` file (deb822 stanzas)."""
    text = re.sub(r"^#.*\n?", "", text, flags=re.M)
    for stanza in re.split(r"\n[ \t]*\n", text):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {
            name.strip().lower(): value.split()
            for name, colon, value in (line.partition(":") for line in unfolded.splitlines())
            if colon
        }
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"]) == ["no"]:
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield Source(uri, suite, tuple(fields.get("components", [])))


def parse_one_line(text: str) -> Iterator[Source]:
    """The binary sources of a `sources.list`: `deb [ options ] uri suite component…`."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            yield Source(match[1], match[2], tuple(match[3].split()))


def is_main(source: Source) -> bool:
    """Whether the source may be a full Debian archive: third parties and -security name other suites."""
    codenames = {
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    }
    return source.suite in codenames and "main" in source.components


def addresses(uri: str, root: Path) -> Iterator[str]:
    """The http addresses behind a source's URI; `mirror+file:` (Debian's cloud images) names a list."""
    if uri.startswith("mirror+file:"):
        listed = root / uri.removeprefix("mirror+file:").lstrip("/")
        lines = listed.read_text().splitlines() if listed.is_file() else []
        uris = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    else:
        uris = [uri]
    yield from (u.rstrip("/") for u in uris if u.startswith(("http://", "https://")))
