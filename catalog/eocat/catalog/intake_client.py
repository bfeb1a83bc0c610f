"""The publisher's side of intake_service.py: `eocat register --api` sends finished shards to a catalogue.

What broke off goes on where it was; a commit whose answer was lost is asked for again. All of it may be
repeated at will, since nothing that the catalogue holds is ever overwritten.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from eocat.verify import canonical
from eocat.verify.errors import ConfigError, EocatError, InputError, Malformed, Unavailable, UsageError
from eocat.verify.evidence import ITEM_FILE, asset_hrefs, read_item_file, read_limited
from eocat.verify.projection import ATTESTATION

from .admitted import Admission, read_admission
from .shard_folders import find_shards

TIMEOUT_S = (10, 60)
COMMIT_TIMEOUT_S = (10, 3600)  # the catalogue reads the whole shard before it answers
TRIES, WAIT_S = 6, 1.0
REFUSED = InputError.exit_code

Progress = Callable[[str, int, int], None]


class Refusal(EocatError):
    """The catalogue refuses this folder (4xx): its sentence."""

    exit_code = REFUSED


class _Bearer(AuthBase):
    """The token as a header. (Given as a plain header, a ~/.netrc would take its place.)"""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def submit(
    api: str, token: str, directories: Sequence[Path], *, progress: Progress = lambda *_: None
) -> list[Admission]:
    """Send every finished shard in or under `directories`; one Admission for each.

    Raises InputError if there is no shard at all, UsageError for an address that would show the token to
    others, ConfigError if the token is not accepted, Unavailable if the catalogue is not there.
    """
    folders, api = find_shards(directories), checked_address(api)
    done: list[Admission] = []
    with requests.Session() as session:
        session.auth = _Bearer(token)
        for folder in folders:
            progress(f"registering {folder.name}", len(done), len(folders))
            try:
                done.append(_submit_one(session, api, folder, progress))
            except (Refusal, InputError, Malformed) as error:
                done.append(Admission(folder, None, "refused", 0, str(error), error.exit_code))
    return done


def checked_address(api: str) -> str:
    """The address without a slash at its end; UsageError unless it is https, or on this machine."""
    parts = urlsplit(api)
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{api[:120]!r} is not an http(s) address without credentials")
    if parts.scheme == "http" and not loopback:
        raise UsageError(
            f"{api[:120]} would show the token to everyone on the way", hint="name its https address"
        )
    return api.rstrip("/")


def _submit_one(session: requests.Session, api: str, folder: Path, progress: Progress) -> Admission:
    evidence = read_item_file(folder / ITEM_FILE)
    hrefs = asset_hrefs(evidence.item)
    if ATTESTATION not in hrefs:
        raise InputError(f"{folder} is not signed: its item has no {ATTESTATION}")
    body = canonical.encode({
        "item": evidence.item.decode(),
        "attestation": (folder / hrefs[ATTESTATION].removeprefix("./")).read_text("utf-8"),
        "collection": _document(folder.parent / "collection.json"),
        "model": _document(folder.parent / "model.json"),
    })  # fmt: skip
    registration = _ask(session, "POST", f"{api}/registrations", body, {"Content-Type": "application/json"})
    place = f"{api}/registrations/{registration['id']}"
    for file in registration["missing"]:
        path = evidence.files.get(file["key"])
        if path is None:
            raise InputError(f"{folder} lacks the file {file['name']}")
        progress(f"uploading {folder.name}/{file['name']}", 0, 0)
        _ask(
            session, "PUT", f"{place}/files/{file['key']}", path,
            {"Content-Type": "application/octet-stream"},
        )  # fmt: skip
    answer = _ask(session, "POST", place, b"", {}, timeout=COMMIT_TIMEOUT_S, refusals=True)
    return read_admission(folder, answer)


def _document(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is missing", hint="name the folder that 'eocat produce' has written")
    return read_limited(path, canonical.MAX_BYTES).decode()


def _ask(
    session: requests.Session,
    method: str,
    url: str,
    body: bytes | Path,
    headers: dict[str, str],
    *,
    timeout: tuple[float, float] = TIMEOUT_S,
    refusals: bool = False,
) -> dict[str, Any]:
    """The catalogue's answer. What may pass (no connection, 5xx, 408, 429) is tried again; then Unavailable.

    refusals: a 422 that says what became of the item is an answer, too.
    """
    why = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(WAIT_S * 2 ** (attempt - 1))
        try:
            with nullcontext(body) if isinstance(body, bytes) else body.open("rb") as data:
                answer = session.request(
                    method, url, data=data, headers=headers, timeout=timeout, allow_redirects=False
                )
        except requests.RequestException as error:
            why = type(error).__name__
            continue
        value = _parse(answer)
        if answer.status_code in (200, 201) or (refusals and answer.status_code == 422 and "status" in value):
            return value
        why = str(value.get("description", answer.text[:200]))
        if answer.status_code == 401:
            raise ConfigError(
                f"{url} does not accept the token: {why}", hint="is it expired, or of another catalogue?"
            )
        if answer.status_code < 500 and answer.status_code not in (408, 429):
            raise Refusal(why)
    raise Unavailable(
        f"{url} failed {TRIES} times: {why}", hint="the address is that of 'eocat serve --writes'"
    )


def _parse(answer: requests.Response) -> dict[str, Any]:
    try:
        value = canonical.parse(answer.content, what="answer")
    except Malformed:
        return {}
    return value if isinstance(value, dict) else {}
