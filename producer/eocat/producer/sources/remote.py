"""Files behind http(s):// and s3://, fetched whole into a cache before anything is made of them: obstore.

What was fetched is hashed afterwards like any local file, so the cache is a convenience and proves nothing.
S3 takes endpoint, region and credentials from the environment (AWS_…; AWS_SKIP_SIGNATURE=true for public
buckets).
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from eocat.verify.errors import InputError, MissingExtra, Unavailable
from eocat.verify.home import home

MAX_BYTES: Final = 16 << 30
SCHEMES: Final = ("http", "https", "s3")

_CHUNK_BYTES: Final = 8 << 20


def is_remote(text: str) -> bool:
    """Whether `text` is an address that `fetch` takes."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def fetch(url: str, *, size: int | None = None, limit: int = MAX_BYTES) -> Path:
    """The file behind the address, in the cache under its own name; fetched if it is not there.

    size: in bytes, where it is known; another size is fetched again. Raises InputError for an address that is
    no file's and for a file above the limit, Unavailable where it cannot be had.
    """
    parts = urlsplit(url)
    name = unquote(parts.path).rpartition("/")[2]
    if parts.scheme not in SCHEMES or not name or name.startswith(".") or "@" in parts.netloc:
        raise InputError(
            f"{url[:120]} is no address of a file",
            hint="https://…/NAME or s3://BUCKET/…/NAME, no credentials in it",
        )
    target = home() / "cache" / "sources" / sha256(url.encode()).hexdigest()[:32] / name
    if target.is_file() and size in (None, target.stat().st_size):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{name}.{os.getpid()}")
    try:
        _download(url, draft, min(limit, MAX_BYTES if size is None else size))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _download(url: str, draft: Path, limit: int) -> None:
    obstore, failures = _obstore()
    base, _, name = url.rpartition("/")
    options: dict[str, Any] = {"timeout": "120s", "connect_timeout": "20s"}
    if url.startswith("http:") or os.environ.get("AWS_ALLOW_HTTP") == "true":  # given options hide it
        options["allow_http"] = True
    try:
        store = obstore.store.from_url(base, client_options=options)
        result = obstore.get(store, unquote(name))
        if result.meta["size"] > limit:
            raise InputError(
                f"{url[:120]} has {result.meta['size']} bytes, at most {limit} are expected",
                hint="the Item may be older than the file: fetch both yourself",
            )
        with draft.open("wb") as file:
            for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                file.write(chunk)
    except (failures, OSError) as error:
        raise Unavailable(
            f"{url[:120]} cannot be fetched: {str(error).splitlines()[0][:160]}",
            hint="for S3: AWS_REGION, AWS_ENDPOINT_URL, and AWS_SKIP_SIGNATURE=true for public buckets",
        ) from None


def _obstore() -> tuple[Any, type[Exception]]:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise MissingExtra(
            "remote files need obstore, which is not installed", hint="pip install 'eocat[producer,remote]'"
        ) from None
    return obstore, obstore.exceptions.BaseError
