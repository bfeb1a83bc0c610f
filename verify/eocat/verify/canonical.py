"""Strict JSON in and RFC 8785 (JCS) out: the spelling of everything that is signed.

The standard library keeps the last of two equal keys and reads NaN; pydantic does too. `parse` refuses
both, and also integers that a double cannot hold, lone surrogates, control of depth and size by the
sender, and text that is not NFC (two spellings of one name). Section 2 of the design of provenance.
"""

import json
import math
import re
import unicodedata
from typing import Any

import rfc8785

from .errors import Malformed

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_INTEGER = (1 << 53) - 1

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
# A string that never ends is one token too: with possessive quantifiers the scan stays linear.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{}]', re.DOTALL)


def parse(data: bytes, *, what: str = "JSON", limit_bytes: int = MAX_BYTES) -> Any:
    """The value of the UTF-8 JSON text `data`.

    what: names the text in an error. Raises Malformed for anything that two parsers could read differently.
    """
    if len(data) > limit_bytes:
        raise Malformed(f"{what} is {len(data)} bytes long, at most {limit_bytes} are read")
    _check_depth(data, what)
    try:
        value = json.loads(
            data.decode("utf-8"),  # never json.loads(bytes): that guesses UTF-16 and swallows a BOM
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise Malformed(f"{what} is not UTF-8: byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what} is not strict JSON: {error}") from None
    _check_text(value, what)
    return value


def encode(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value; raises Malformed where it has none that `parse` takes."""
    _check_numbers(value)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise Malformed(f"value has no canonical JSON form: {error}") from None


def parse_canonical(data: bytes, *, what: str, limit_bytes: int = MAX_BYTES) -> Any:
    """As `parse`, but only the one spelling that `encode` prints is accepted."""
    value = parse(data, what=what, limit_bytes=limit_bytes)
    if encode(value) != data:
        raise Malformed(f"{what} is not in canonical form (RFC 8785)")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"key {key[:80]!r} stands twice in one object")
        table[key] = value
    return table


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise ValueError(f"integer {text[:24]} is beyond 2^53 - 1")
    return int(text)


def _float(text: str) -> float:
    if len(text) > 64 or not math.isfinite(number := float(text)):
        raise ValueError(f"number {text[:24]} is beyond a double or longer than 64 characters")
    return number


def _check_depth(data: bytes, what: str) -> None:
    """Refuse deep nesting before the recursive parser sees it."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(data):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed(f"{what} is nested deeper than {MAX_DEPTH} levels")
        elif token[0] in (b"]", b"}"):
            depth -= 1


def _check_numbers(value: Any) -> None:
    """Refuse whole doubles from 2^53 to 10^21: JCS prints them as integers, which `parse` refuses."""
    if isinstance(value, float):
        if MAX_INTEGER < abs(value) < 1e21:
            raise Malformed(f"number {value!r} has no canonical JSON form: it is an integer beyond 2^53 - 1")
    elif isinstance(value, dict):
        for member in value.values():
            _check_numbers(member)
    elif isinstance(value, list | tuple):
        for member in value:
            _check_numbers(member)


def _check_text(value: Any, what: str) -> None:
    if isinstance(value, str):
        if _NO_TEXT.search(value):
            raise Malformed(f"{what} holds a string with NUL or a lone surrogate")
        if not value.isascii() and not unicodedata.is_normalized("NFC", value):
            raise Malformed(f"{what} holds a string that is not in Unicode NFC: {value[:40]!r}")
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_text(key, what)
            _check_text(member, what)
    elif isinstance(value, list):
        for member in value:
            _check_text(member, what)
