"""Traces of the Copernicus traceability service: the format, and the message that is signed.

Sources: the service's OpenAPI (Trace, RegisterTrace, Product, Content, Input, Signature) and its own client
(eu-cdse/trace-cli: `SignatureContents`, written by Go's encoding/json). Signed is the compact JSON of
`contents, hash, inputs, name, size, event`, in that order; origin, timestamp, hash_algorithm, obsolescence
and id are NOT signed by anyone. Who signed, and whether it counts, is for `cdse.py`.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .. import canonical, certificate
from ..errors import Malformed
from ..keys import decode_base64
from ..statement import Strict, validated
from .paths import check_path

MAX_BYTES: Final = 16 << 20
MAX_TRACES: Final = 50  # the service's own limit for an answer and for a registration
MAX_CONTENTS: Final = 10_000
UNSIGNED_FIELDS: Final = ("origin", "timestamp", "hash_algorithm", "obsolescence", "id")

Event = Literal["CREATE", "COPY", "DELETE", "OBSOLETE"]
HashAlgorithm = Literal["BLAKE3", "SHA256", "SHA3"]
SignatureAlgorithm = Literal["RSA-SHA256", "ECDSA-SHA256"]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)


def _check_path(path: str) -> str:
    try:
        return check_path(path, what="trace")
    except Malformed as error:
        raise ValueError(str(error)) from None


def _check_time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError(f"time {text[:40]!r} is not RFC 3339 in UTC")
    datetime.fromisoformat(text)
    return text


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_check_path)]
Text = Annotated[str, Field(max_length=4096)]
Time = Annotated[str, AfterValidator(_check_time)]


class Content(Strict):
    """A file inside the product."""

    hash: Hash
    path: Name


class Input(Strict):
    """A product that this one was derived from. The service holds real ones with an empty hash."""

    hash: Hash | Literal[""]
    name: Name


class Product(Strict):
    """None and an empty list are two different signed messages: the key is absent, or `[]`."""

    contents: Annotated[list[Content], Field(max_length=MAX_CONTENTS)] | None = None
    hash: Hash
    inputs: Annotated[list[Input], Field(max_length=MAX_CONTENTS)] | None = None
    name: Name
    size: Annotated[int, Field(ge=0, le=canonical.MAX_INTEGER)]

    @model_validator(mode="after")
    def _paths_are_unique(self) -> Self:
        paths = [content.path for content in self.contents or ()]
        if len(set(paths)) != len(paths):
            raise ValueError("one path stands twice in its contents")
        return self


class Signature(Strict):
    """As the service holds it: base64, and all four members empty where the trace is unsigned."""

    algorithm: SignatureAlgorithm | Literal[""]
    certificate: Annotated[str, Field(max_length=2 * certificate.MAX_BYTES)]
    message: str
    signature: Text

    @model_validator(mode="after")
    def _is_whole_or_absent(self) -> Self:
        members = (self.algorithm, self.certificate, self.message, self.signature)
        if any(members) and not all(members):
            raise ValueError("a signature has algorithm, certificate, message and signature, or none of them")
        try:
            decode_base64(self.certificate, what="certificate")
            decode_base64(self.signature, what="signature")
        except Malformed as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def certificate_der(self) -> bytes:
        return decode_base64(self.certificate, what="certificate")

    @property
    def raw(self) -> bytes:
        return decode_base64(self.signature, what="signature")


class Registration(Strict):
    """A trace as its maker registers it (`RegisterTrace`)."""

    product: Product
    event: Event
    obsolescence: Text | None = None
    hash_algorithm: HashAlgorithm
    signature: Signature

    @model_validator(mode="after")
    def _reason_has_its_event(self) -> Self:
        if self.obsolescence and self.event != "OBSOLETE":
            raise ValueError(f"a trace of the event {self.event} has a reason for obsolescence")
        return self

    @property
    def is_signed(self) -> bool:
        return bool(self.signature.signature)

    @property
    def message(self) -> str:
        """What the signature must be over: rebuilt from the trace, never taken from it."""
        return signed_message(self.product, self.event)


class Trace(Registration):
    """A trace as the service answers (`Trace`): its three own fields are the service's word, unsigned."""

    timestamp: Time
    origin: Text
    id: Text

    @property
    def claimed_time(self) -> datetime:
        return datetime.fromisoformat(self.timestamp).astimezone(UTC)

    @property
    def unsigned(self) -> dict[str, str | None]:
        """The fields that nobody signed, for a report that calls them so."""
        return {name: getattr(self, name) for name in UNSIGNED_FIELDS}

    @property
    def digest(self) -> str:
        """SHA-256 hex of what is signed (or would be): names the trace when an answer is compared later."""
        return hashlib.sha256(self.message.encode()).hexdigest()


def signed_message(product: Product, event: Event) -> str:
    """The exact text that a trace signs, in UTF-8: Go's `json.Marshal` of the product, then the event."""
    members = {
        "contents": _dump(product.contents),
        "hash": product.hash,
        "inputs": _dump(product.inputs),
        "name": product.name,
        "size": product.size,
        "event": event,
    }
    present = {key: value for key, value in members.items() if value is not None}
    text = json.dumps(present, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _dump(members: Sequence[Content | Input] | None) -> list[dict[str, str]] | None:
    return None if members is None else [member.model_dump() for member in members]


def parse_traces(data: bytes) -> tuple[Trace, ...]:
    """The traces of an answer of the service: a JSON array of them, or one alone."""
    value = canonical.parse(data, what="traces", limit_bytes=MAX_BYTES)
    found = value if isinstance(value, list) else [value]
    if len(found) > MAX_TRACES:
        raise Malformed(f"answer has {len(found)} traces, at most {MAX_TRACES} are read")
    return tuple(validated(Trace, member, what=f"trace {number}") for number, member in enumerate(found))
