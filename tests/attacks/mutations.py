"""Ways to spoil what is signed: bytes, JSON, lines, base64, notes and Parquet, each a function of a `Random`.

A mutator gives other bytes, or (rarely) the same: the caller compares. `other` is a real, valid artefact of
the same kind, for splices.
"""

import base64
import io
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import rfc8785

Mutator = Callable[[Random, bytes, bytes], bytes]

HOSTILE = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\n\n", b'"', b"\\", b"{", b"}", b"[" * 40, b"NaN",
    b"1e999",    b"\xed\xa0\x80", b"\xe2\x80\xae", b"-", b" ", b"0", b"=", b"9" * 20, b"PAR1",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 255, 256, 2**31, 2**32, 2**40, 2**53 - 1, 2**53, 2**63, 2**64, -(2**63), 10**30,
    0.5, -0.0, 1.0, 1e2, 1e308,
)  # fmt: skip
RAW_NUMBERS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-0",
    "1E0",
    "1.0",
    "01",
    "+1",
    "1e-400",
    "0x1",
    "1_0",
)
TEXTS = (
    "", " ", "\u0000", "\ud800", "\u202e", "e\u0301", "\u00e9", "\u0430lpha", "../x", "/etc/passwd", "file:///x",
    "C:\\x", "*", "x" * 2000, "\uff11", "s2/alpha", "NaN", "null", "\n", "CREATE", "WITHDRAW",
)  # fmt: skip
TWINS = str.maketrans(
    {"a": "\u0430", "e": "\u0435", "o": "\u043e", "1": "\uff11", "0": "\u0660", "-": "\u2010"}
)


class Raw(str):
    """Text that stands in the JSON as it is: what a number's spelling or a second key looks like."""

    __slots__ = ()


# --- bytes


def mutate_bytes(random: Random, data: bytes, other: bytes) -> bytes:
    """One byte-level change anywhere."""
    if not data:
        return random.randbytes(random.randint(1, 40))
    at, length = random.randrange(len(data)), random.choice((1, 1, 2, 4, 8, 32, 64, 500))
    end = min(at + length, len(data))
    match random.randrange(12):
        case 0 | 1 | 2:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 3:
            return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
        case 4:
            return data[:at] + data[end:]
        case 5:
            return data[:end] + data[at:]  # a part twice
        case 6:
            return data[:at]
        case 7:
            return data + random.choice((b"\x00", b"\n", data, random.randbytes(8)))
        case 8:
            return data[:at] + random.choice(HOSTILE) + data[at:]
        case 9:
            return data[:at] + bytes(end - at) + data[end:]
        case 10:
            cut = min(at, len(other))
            return data[:at] + other[cut:]
    place = random.randrange(len(data))
    low, high = sorted((at, place))
    return (
        data[:low]
        + data[high : high + length]
        + data[low + length : high]
        + data[low : low + length]
        + data[high:]
    )


# --- JSON


def mutate_json(random: Random, data: bytes, other: bytes) -> bytes:
    """One change in the tree, then written again in one of several spellings."""
    try:
        value, donor = json.loads(data), json.loads(other)
    except (ValueError, RecursionError):
        return mutate_bytes(random, data, other)
    return write(random, change(random, value, donor))


def write(random: Random, value: Any) -> bytes:
    """JSON bytes: mostly canonical, since only those are looked into; sometimes another spelling."""
    style = random.randrange(8)
    if style < 5:
        try:
            return rfc8785.dumps(value)
        except Exception:  # noqa: BLE001  what has no canonical form is written in another
            style = 7
    options: dict[str, Any] = {
        5: {"indent": 1}, 6: {"ensure_ascii": True, "separators": (",", ":")}, 7: {"ensure_ascii": False},
    }[style]  # fmt: skip
    text = json.dumps(_marked(value), **options)
    for raw in _RAW_SEEN:
        text = text.replace(json.dumps(f"\x01{raw}", ensure_ascii=style == 6), raw)
    _RAW_SEEN.clear()
    return text.encode("utf-8", "surrogatepass")


_RAW_SEEN: list[str] = []


def _marked(value: Any) -> Any:
    if isinstance(value, Raw):
        _RAW_SEEN.append(str(value))
        return f"\x01{value}"
    if isinstance(value, dict):
        return {key: _marked(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_marked(member) for member in value]
    return value


def change(random: Random, value: Any, donor: Any) -> Any:
    """The tree with one place in it changed; `donor` is a tree of the same kind."""
    path = draw_path(random, value)
    if not path:
        return random.choice(([], {}, None, donor))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    _change_member(random, holder, path[-1], _at(donor, path))
    return value


def draw_path(random: Random, value: Any) -> list[Any]:
    """A way down to a place, deeper ones more likely."""
    path: list[Any] = []
    while isinstance(value, dict | list) and value and (not path or random.random() < 0.85):
        key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        path.append(key)
        value = value[key]
    return path


def _at(tree: Any, path: list[Any]) -> Any:
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def _change_member(random: Random, holder: Any, key: Any, donor: Any) -> None:
    match random.randrange(10):
        case 0 | 1 | 2:
            holder[key] = edge_of(random, holder[key])
        case 3:
            del holder[key]
        case 4 if isinstance(holder, dict):
            name = random.choice((key.upper(), key + " ", key.translate(TWINS), key + "\u0301", "x", ""))
            holder[name] = holder.pop(key) if random.random() < 0.5 else holder[key]
        case 4 | 5 if isinstance(holder, list):
            match random.randrange(4):
                case 0:
                    holder.insert(key, holder[key])
                case 1:
                    holder.reverse()
                case 2:
                    random.shuffle(holder)
                case 3:
                    holder.extend(holder * random.choice((1, 70)))
        case 5 if isinstance(holder, dict):
            holder[random.choice(("extra", "id", "type", "alg", "__proto__"))] = random.choice(
                (1, None, "x", {}, [])
            )
        case 6:
            other = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            holder[key], holder[other] = holder[other], holder[key]
        case 7:
            holder[key] = random.choice((None, True, False, [], {}, [holder[key]], {"x": holder[key]}))
        case _:
            holder[key] = donor  # a splice of valid parts


def edge_of(random: Random, value: Any) -> Any:
    """Another value of the same type, near or at an edge; of text also another spelling."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        near = value + random.choice((-1, 1, 256, 2**32, 1e-9))
        return random.choice(
            (near, -value, random.choice(NUMBERS), Raw(random.choice(RAW_NUMBERS)), str(value))
        )
    if isinstance(value, str):
        return edge_of_text(random, value)
    return value


def edge_of_text(random: Random, text: str) -> Any:
    at = random.randrange(len(text) + 1)
    match random.randrange(11):
        case 0:
            return random.choice(TEXTS)
        case 1:
            return text.translate(TWINS)
        case 2:
            return text.swapcase()
        case 3:
            return text[:at]
        case 4:
            return text + random.choice((" ", "\n", "\u0301", "0", "=", text))
        case 5:
            return text[:at] + random.choice(("0", "\u200b", "Z", "+00:00")) + text[at:]
        case 6 if len(text) > 1:
            at = random.randrange(len(text) - 1)
            return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        case 7 if text.endswith("Z"):  # the same moment, or another, in another spelling
            return text[:-1] + random.choice((".0Z", "+00:00", "+01:00", "z", ".000001Z", ""))
        case 8:
            return random.choice((1, None, [text], {"x": text}))
        case _ if text:
            at = random.randrange(len(text))
            return text[:at] + random.choice("0123456789abcdefXYZ+/=-_ ") + text[at + 1 :]
    return ""


# --- base64, and what is inside of it


def mutate_base64(random: Random, data: bytes, other: bytes) -> bytes:
    """Another spelling of standard base64, or its content changed by a bit, a cut or a splice."""
    match random.randrange(8):
        case 0:
            return data.replace(b"+", b"-").replace(b"/", b"_")
        case 1:
            return data.rstrip(b"=")
        case 2:
            at = random.randrange(len(data) + 1)
            return data[:at] + random.choice((b"\n", b" ", b"=", b"!", b"\\n")) + data[at:]
        case 3 if data.endswith(b"="):
            at = len(data.rstrip(b"=")) - 1
            return data[:at] + bytes([data[at] + 1]) + data[at + 1 :]  # spare bits
    try:
        raw, donor = base64.b64decode(data), base64.b64decode(other)
    except ValueError:
        return mutate_bytes(random, data, other)
    return base64.b64encode(mutate_bytes(random, raw, donor))


def mutate_envelope(random: Random, data: bytes, other: bytes) -> bytes:
    """One envelope (a JSON object): its own members, its signatures, or a field inside its payload."""
    try:
        envelope, donor = json.loads(data), json.loads(other)
        payload = base64.b64decode(envelope["payload"])
        donor_payload, signature = base64.b64decode(donor["payload"]), random.choice(envelope["signatures"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return mutate_bytes(random, data, other)
    match random.randrange(8):
        case 0 | 1 | 2:
            changed = mutate_json(random, payload, donor_payload)
            envelope["payload"] = base64.b64encode(changed).decode()
        case 3:
            changed = mutate_base64(random, envelope["payload"].encode(), donor["payload"].encode())
            envelope["payload"] = changed.decode("utf-8", "replace")
        case 4:
            changed = mutate_base64(random, signature["sig"].encode(), donor["signatures"][0]["sig"].encode())
            signature["sig"] = changed.decode("utf-8", "replace")
        case 5:
            envelope["signatures"] = random.choice((
                envelope["signatures"] * random.choice((2, 17)), envelope["signatures"] + donor["signatures"],
                donor["signatures"], [],
            ))  # fmt: skip
        case 6:
            envelope["payload"] = donor["payload"]
        case _:
            return mutate_json(random, data, other)
    return write(random, envelope)


# --- lines: attestations and notes


def mutate_lines(random: Random, data: bytes, other: bytes) -> bytes:
    """Lines dropped, doubled, moved, or taken from `other`."""
    lines, donors = data.split(b"\n"), other.split(b"\n")
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines[at] = random.choice(donors)
        case 4:
            lines.insert(at, random.choice(donors))
        case 5:
            lines[at:] = donors[at:]
        case _:
            lines[at] += b"\r"
    return b"\n".join(lines)


def mutate_attestation(random: Random, data: bytes, other: bytes) -> bytes:
    lines, donors = data.splitlines(), other.splitlines()
    if not lines or not donors or random.random() < 0.4:
        return mutate_lines(random, data, other)
    at = random.randrange(len(lines))
    lines[at] = mutate_envelope(random, lines[at], random.choice(donors))
    return b"".join(line + b"\n" for line in lines)


def mutate_log_proof(random: Random, data: bytes, other: bytes) -> bytes:
    """The document, or the note inside it by line and by byte."""
    if random.random() < 0.6:
        return mutate_json(random, data, other)
    try:
        document, donor = json.loads(data), json.loads(other)
        place, spare = random.choice(document["checkpoints"]), random.choice(donor["checkpoints"])["note"]
        note = place["note"].encode()
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return mutate_bytes(random, data, other)
    way = random.choice((mutate_lines, mutate_lines, mutate_bytes))
    place["note"] = way(random, note, str(spare).encode()).decode("utf-8", "replace")
    return write(random, document)


# --- hits and bundles, which hold all of these


def mutate_hit(random: Random, data: bytes, other: bytes) -> bytes:
    """The Feature's own members, one of its envelopes, or its log proof."""
    way = random.choice((mutate_json, mutate_json, mutate_envelope, mutate_log_proof))
    try:
        hit, donor = (json.loads(each)["properties"]["eocat:proof"] for each in (data, other))
        whole = json.loads(data)
        if way is mutate_json:
            return way(random, data, other)
        if way is mutate_envelope:
            at = random.randrange(len(hit["envelopes"]))
            spare = random.choice(donor["envelopes"])
            hit["envelopes"][at] = _inside(random, way, hit["envelopes"][at], spare)
        else:
            hit["log_proof"] = _inside(random, way, hit["log_proof"], donor["log_proof"])
        whole["properties"]["eocat:proof"] = hit
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return mutate_bytes(random, data, other)
    return json.dumps(whole).encode("utf-8", "surrogatepass")


def mutate_bundle(random: Random, data: bytes, other: bytes) -> bytes:
    """Its lines, or the document in one of them."""
    lines, donors = data.splitlines(), other.splitlines()
    if random.random() < 0.25 or not lines:
        return mutate_lines(random, data, other)
    at = random.randrange(len(lines))
    try:
        [(kind, document)] = json.loads(lines[at]).items()
        donor = next(json.loads(line)[kind] for line in donors if line.startswith(b'{"%b":' % kind.encode()))
        ways = {"envelope": mutate_envelope, "logProof": mutate_log_proof}
        lines[at] = write(random, {kind: _inside(random, ways.get(kind, mutate_json), document, donor)})
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError, AttributeError):
        return mutate_bytes(random, data, other)
    return b"".join(line + b"\n" for line in lines)


def _inside(random: Random, way: Mutator, value: Any, donor: Any) -> Any:
    """A document in a document; ValueError where the mutation made no JSON of it."""
    return json.loads(way(random, rfc8785.dumps(value), rfc8785.dumps(donor)))


# --- Parquet


def mutate_parquet(random: Random, data: bytes, other: bytes) -> bytes:
    """A byte anywhere, a byte of the footer, its length, or the table written anew with a change."""
    way = random.randrange(6)
    if way < 2 or len(data) < 16:
        return mutate_bytes(random, data, other)
    (length,) = struct.unpack("<I", data[-8:-4])
    start = max(len(data) - 8 - length, 0)
    if way < 4:
        footer = mutate_bytes(random, data[start:-8], other[-8 - length : -8])
        said = random.choice((len(footer), len(footer), length, 0, 2**31, 2**32 - 1))
        return data[:start] + footer + struct.pack("<I", said) + data[-4:]
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        return mutate_bytes(random, data, other)
    return _written(random, _changed_table(random, table))


def _changed_table(random: Random, table: pa.Table) -> pa.Table:
    if table.num_rows < 2:
        return table
    order = list(range(table.num_rows))
    match random.randrange(6):
        case 0:
            random.shuffle(order)
        case 1:
            order.pop(random.randrange(len(order)))
        case 2:
            order.append(random.choice(order))
        case 3:
            return table.drop_columns([random.choice(table.column_names)])
        case 4:
            name, twin = random.sample(table.column_names, 2)
            return table.rename_columns([{name: twin, twin: name}.get(n, n) for n in table.column_names])
    return table.take(order)


def _written(random: Random, table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        table, sink, compression=random.choice(("none", "snappy", "zstd", "gzip", "lz4")),
        use_dictionary=random.random() < 0.5, row_group_size=random.choice((1, 2, 4096)),
        data_page_version=random.choice(("1.0", "2.0")), write_statistics=random.random() < 0.5,
    )  # fmt: skip
    return sink.getvalue()


MUTATORS: dict[str, tuple[Mutator, ...]] = {
    "item.json": (mutate_json, mutate_json, mutate_json, mutate_bytes),
    "attestation.jsonl": (mutate_attestation, mutate_attestation, mutate_attestation, mutate_bytes),
    "log-proof.json": (mutate_log_proof, mutate_log_proof, mutate_log_proof, mutate_bytes),
    "embeddings.parquet": (mutate_parquet,),
    "row-hashes.bin": (mutate_bytes,),
    "thumbnail.png": (mutate_bytes,),
    "hit.json": (mutate_hit, mutate_hit, mutate_hit, mutate_bytes),
    "item.eocat": (mutate_bundle, mutate_bundle, mutate_bundle, mutate_bytes),
    "policy.json": (mutate_json, mutate_json, mutate_bytes),
    "trust root": (mutate_json, mutate_json, mutate_bytes),
    "signed policy": (mutate_envelope, mutate_envelope, mutate_bytes),
}
