"""CQL2 filters, bounded before they reach a parser or SQL (design, `STAC.md`, hardening).

pgSTAC translates them; it looks operators up with ILIKE, so that `%` would match any, and it recurses as
deep as it is sent. So: known operators in their own spelling, limits on size, depth, lists and vertices, no
pattern that begins with a wildcard (no index could serve it), and property names that are names.
"""

import re
from typing import Any

from cql2 import Expr

from eocat.verify.errors import Malformed

MAX_TEXT = 8 << 10  # characters
MAX_DEPTH = 16
MAX_NODES = 1_000
MAX_OPERATORS = 500  # in text, where each may stand inside the one before
MAX_VERTICES = 10_000
SIMILAR = "similar"  # our own function: nearest_items.py

OPERATORS = frozenset({
    "and", "or", "not", "=", "<>", "<", "<=", ">", ">=", "isNull", "like", "between", "in",
    "casei", "accenti",
    "s_intersects", "s_equals", "s_disjoint", "s_touches", "s_within", "s_overlaps", "s_crosses",
    "s_contains",
    "t_after", "t_before", "t_contains", "t_disjoint", "t_during", "t_equals", "t_finishedBy", "t_finishes",
    "t_intersects", "t_meets", "t_metBy", "t_overlappedBy", "t_overlaps", "t_startedBy", "t_starts",
    "a_equals", "a_contains", "a_containedBy", "a_overlaps",
})  # fmt: skip

PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_:.-]{0,127}")
_QUOTED = re.compile(r"'(?:[^']|'')*'")
_NESTING = re.compile(r"[-=<>+*/^%]|\b(?:not|like|div|is)\b", re.IGNORECASE)


def parse_filter(value: Any, language: str | None, *, similar: bool = False) -> dict[str, Any]:
    """The CQL2 JSON of a filter given as text or as JSON; Malformed says what is not allowed.

    language: `cql2-text`, `cql2-json`, or None for whichever `value` is.
    """
    if isinstance(value, str) and language != "cql2-json":
        value = _from_text(value)
    if not isinstance(value, dict):
        raise Malformed("filter is neither CQL2 text nor a CQL2 JSON object")
    check_filter(value, similar=similar)
    try:
        Expr(value).validate()
    except Exception:  # noqa: BLE001  # what cql2 raises for a wrong tree is a bare Exception
        raise Malformed("filter is not valid CQL2") from None
    return value


def check_filter(root: dict[str, Any], *, any_pattern: bool = False, similar: bool = False) -> None:
    """Raise Malformed if a CQL2 JSON tree is beyond a limit or holds what pgSTAC should not see.

    any_pattern: a LIKE may begin with a wildcard, as the query extension's `contains` has to. similar: the
    function may stand in it, which nearest_items.py takes out before pgSTAC sees the rest.
    """
    nodes = 0
    pending: list[tuple[Any, int]] = [(root, 1)]
    while pending:
        node, depth = pending.pop()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise Malformed(f"filter has more than {MAX_NODES} parts or {MAX_DEPTH} levels")
        if isinstance(node, dict):
            if "coordinates" in node or "geometries" in node:
                if count_vertices(node) > MAX_VERTICES:
                    raise Malformed(f"filter has a geometry of more than {MAX_VERTICES} vertices")
                continue
            _check_node(node, any_pattern, similar)
            pending += [(member, depth + 1) for member in node.values()]
        elif isinstance(node, list):
            pending += [(member, depth + 1) for member in node]


def count_vertices(geometry: Any) -> int:
    """Positions in a GeoJSON geometry, counted up to just above the limit."""
    count = 0
    pending = [geometry]
    while pending and count <= MAX_VERTICES:
        node = pending.pop()
        if isinstance(node, dict):
            pending += [node.get("coordinates"), node.get("geometries")]
        elif isinstance(node, list):
            if node and not isinstance(node[0], list | dict):
                count += 1
            else:
                pending += node
    return count


def _check_node(node: dict[str, Any], any_pattern: bool, similar: bool) -> None:
    if "op" in node and node["op"] not in OPERATORS and not (similar and node["op"] == SIMILAR):
        raise Malformed(f"filter has the operator {str(node['op'])[:40]!r}, which is not one of CQL2's")
    if "property" in node and not (
        isinstance(node["property"], str) and PROPERTY.fullmatch(node["property"])
    ):
        raise Malformed(f"filter has the property name {str(node['property'])[:40]!r}")
    if node.get("op") == "like" and isinstance(arguments := node.get("args"), list):
        patterns = [argument for argument in arguments[1:] if isinstance(argument, str)]
        wild = patterns and not any_pattern and patterns[0][:1] in ("%", "_", "")
        if len(arguments) != 2 or not patterns or wild:
            raise Malformed("filter has a LIKE whose pattern is not text that begins with a plain character")


def _from_text(text: str) -> Any:
    """CQL2 JSON of CQL2 text. The parser recurses on the stack: 5,000 times NOT or `=` kills the process."""
    code = _QUOTED.sub("", text[: MAX_TEXT + 1])
    nesting = deepest = 0
    for character in code:
        nesting += (character == "(") - (character == ")")
        deepest = max(deepest, nesting)
    if len(text) > MAX_TEXT or deepest > MAX_DEPTH or len(_NESTING.findall(code)) > MAX_OPERATORS:
        raise Malformed(
            f"filter is longer than {MAX_TEXT} characters, nested deeper than {MAX_DEPTH} levels"
            f" or has more than {MAX_OPERATORS} operators"
        )
    try:
        return Expr(text).to_json()
    except Exception:  # noqa: BLE001  # as above
        raise Malformed("filter is not CQL2 text") from None
