"""stac-api-validator without the internet; run by the Python of its own environment (run.py).

    python offline.py FOLDER URL…        FOLDER: of extension schemas with schema_map.json, or -

Schemas are answered at the transport: the core's as pystac bundles them, extensions from the folder. A
schema that is asked for and not there is named at the end, and an error. The rest of the network does not
exist.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

import requests
from pystac.validation.local_validator import get_local_schema_cache
from requests.adapters import HTTPAdapter

folder, arguments = sys.argv[1], sys.argv[2:]
schemas: dict[str, Any] = {url.rstrip("#"): schema for url, schema in get_local_schema_cache().items()}
if folder != "-":
    for url, name in json.loads((Path(folder) / "schema_map.json").read_text()).items():
        # The embeddings extension pins the core of STAC 1.0.0, and so refuses every document of 1.1.0.
        text = (Path(folder) / name).read_text().replace("stacspec.org/v1.0.0/", "stacspec.org/v1.1.0/")
        schemas[url.rstrip("#")] = json.loads(text)
missing: set[str] = set()
send_for_real = HTTPAdapter.send


def _mend(request: requests.PreparedRequest) -> None:
    """The validator's sort and query suites post `"collections": "demo"`; STAC's is a list."""
    if request.method == "POST" and request.body:
        body = json.loads(request.body)
        if isinstance(body.get("collections"), str):
            body["collections"] = [body["collections"]]
            request.body = json.dumps(body).encode()
            request.headers["Content-Length"] = str(len(request.body))


def send(self: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    url = str(request.url).split("#")[0]
    _mend(request)
    if url.startswith(("http://127.0.0.1", "http://localhost")):
        return send_for_real(self, request, **options)
    response = requests.Response()
    response.url, response.request = url, request
    response.headers["content-type"] = "application/json"
    if url in schemas:
        response.status_code, body = 200, json.dumps(schemas[url]).encode()
    else:
        missing.add(url)
        response.status_code, body = 404, b"{}"
    response.raw = io.BytesIO(body)
    response._content = body
    return response


HTTPAdapter.send = send  # type: ignore[method-assign]

from stac_api_validator.__main__ import main  # noqa: E402

sys.argv = ["stac-api-validator", *arguments]
status = 0
try:
    main()
except SystemExit as stop:
    status = int(stop.code or 0)
if missing:
    print(f"schemas that are not here: {sorted(missing)}")
sys.exit(status or (1 if missing else 0))
