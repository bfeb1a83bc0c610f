"""Files behind http(s):// and s3://, fetched whole into a cache before anything is made of them: obstore.

What was fetched is hashed afterwards like any local file, so the cache is a convenience and proves nothing.
S3 takes endpoint, region and credentials from the environment (AWS_…; AWS_SKIP_SIGNATURE=true for public
buckets).
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from eocat.verify.errors import ConfigError, InputError, MissingExtra, NotThere, Unavailable
from eocat.verify.home import home

MAX_BYTES: Final = 16 << 30
SCHEMES: Final = ("http", "https", "s3")

_CHUNK_BYTES: Final = 8 << 20
_ACCESS: Final = (
    "for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, and "
    "AWS_SKIP_SIGNATURE=true for public buckets"
)


def is_remote(text: str) -> bool:
    """Whether `text` is an address that `fetch` takes."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def fetch(url: str, *, size: int | None = None, limit: int = MAX_BYTES) -> Path:
    """The file behind the address, in the cache under its own name; fetched if it is not there.

    size: in bytes, where it is known; another size is fetched again. Raises InputError for an address that is
    no file's and for a file above the limit, Unavailable where it cannot be had, ConfigError where the cache
    cannot be written.
    """
    parts = _split(url)
    name = unquote(parts.path).rpartition("/")[2]
    secret = "@" in parts.netloc or parts.query or parts.fragment
    if parts.scheme not in SCHEMES or not name or name.startswith(".") or secret:
        raise InputError(
            f"{_shown(parts)} is no address of a file",
            hint="https://…/NAME or s3://BUCKET/…/NAME, no credentials and no signature (?…) in it",
        )
    target = home() / "cache" / "sources" / sha256(url.encode()).hexdigest()[:32] / name
    if target.is_file() and size in (None, target.stat().st_size):
        return target
    draft = target.with_name(f".{name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _download(url, draft, min(limit, MAX_BYTES if size is None else size))
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {os.strerror(error.errno) if error.errno else error}",
            hint="check EOCAT_HOME, its rights and free space",
        ) from None
    return target


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InputError(f"an address cannot be read: {error}", hint="https://…/NAME is expected") from None


def _shown(parts: SplitResult) -> str:
    """The address as errors name it: without what may be secret, a password or a signature."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:120]


def _download(url: str, draft: Path, limit: int) -> None:
    obstore = _obstore()
    failures = obstore.exceptions
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
    except (failures.NotFoundError, FileNotFoundError):  # obstore 0.12 raises the second
        raise NotThere(
            f"{url[:120]} cannot be fetched: it is not there",
            hint="the Item may be older than what it names: fetch it again",
        ) from None
    except (failures.PermissionDeniedError, failures.UnauthenticatedError):
        raise Unavailable(f"{url[:120]} cannot be fetched: access is denied", hint=_ACCESS) from None
    except failures.BaseError as error:
        raise Unavailable(
            f"{url[:120]} cannot be fetched: {str(error).splitlines()[0][:160]}", hint=_ACCESS
        ) from None


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise MissingExtra(
            "remote files need obstore, which is not installed", hint="pip install 'eocat[producer,remote]'"
        ) from None
    return obstore
