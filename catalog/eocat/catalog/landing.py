"""The landing page as people see it: what the catalogue holds, and where a client would go on. No scripts."""

from collections.abc import Sequence
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 56rem; margin: 3rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .8rem .3rem 0; }
td.n, th.n { text-align: right; } tr + tr { border-top: 1px solid #8884; }
code { font: .9em ui-monospace, monospace; } .lead { margin-top: .2rem; opacity: .8; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_LINKS = (
    ("api.html", "API, to try out"),
    ("collections", "collections (JSON)"),
    ("search", "items (GeoJSON)"),
    ("queryables", "what can be filtered by"),
    ("conformance", "conformance classes"),
    ("log/checkpoint", "newest checkpoint of the transparency log"),
)


def prefers_html(accept: str) -> bool:
    """Whether HTML is named, and before any JSON: browsers do so, STAC clients do not."""
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    json = [kinds.index(kind) for kind in ("application/json", "application/geo+json") if kind in kinds]
    return "text/html" in kinds and kinds.index("text/html") < min(json, default=len(kinds))


def landing_html(base_url: str, collections: Sequence[dict[str, Any]]) -> HTMLResponse:
    """The page. collections: `id`, `title`, `items`, `rows`, `encoder` of each, in order."""
    rows = "".join(
        f'<tr><td><a href="collections/{escape(one["id"])}">{escape(one["title"] or one["id"])}</a></td>'
        f"<td>{escape(one['encoder'])}</td>"
        f'<td class="n">{one["items"]:,}</td><td class="n">{one["rows"]:,}</td></tr>'
        for one in collections
    )
    links = "".join(f'<li><a href="{href}">{escape(text)}</a></li>' for href, text in _LINKS)
    example = escape(f"eocat search --api {base_url.rstrip('/')}")
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>eocat</title> <meta name="viewport"
content="width=device-width"><style>{_STYLE}</style></head><body> <h1>eocat</h1> <p
class="lead">Earth-observation embeddings in which a search hit comes with a proof: a STAC API.</p>
<h2>Collections</h2> <table><tr><th>collection</th><th>encoder</th><th class="n">items</th><th
class="n">vectors</th></tr>{rows}</table> <h2>Go on</h2> <ul>{links}</ul> <p><code>{example}</code></p>
</body></html>
""",
        headers={"Content-Security-Policy": _POLICY, "Vary": "Accept"},
    )
