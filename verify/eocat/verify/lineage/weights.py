"""The encoder's weights: the very files that the statement names, and safetensors, never a pickle. Attack 58.

A pickle runs code when it is loaded, so a statement whose weights are one is refused here, where nothing is
loaded at all. Config and preprocessing need no file: they stand in the statement, under its space digest.
The safetensors layout is huggingface/safetensors' README: u64 length, JSON header, tensors without a gap.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .. import canonical
from ..digest import Digests, digest_file
from ..errors import Malformed
from ..report import Outcome, Step
from ..statement import Encoder

MAX_HEADER_BYTES: Final = 16 << 20
_BITS: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64"), 64),
}


def check_weights(encoder: Encoder, files: Mapping[str, Path]) -> Step:
    """One step on the weights. files: name as in the statement → local file; those absent count by hash."""
    given = 0
    for weights in encoder.weights:
        path = files.get(weights.name)
        if path is None:
            continue
        given += 1
        try:
            found = digest_file(path)
            if found != Digests(weights.sha256, weights.blake3, weights.size):
                text = f"weights {weights.name}: sha256 {found.sha256[:16]}…, signed {weights.sha256[:16]}…"
                return Step("encoder", text, Outcome.LINEAGE_FAILED)
            check_safetensors(path)
        except OSError as error:
            return Step("encoder", f"weights {weights.name}: {error.strerror}", Outcome.UNAVAILABLE)
        except Malformed as error:
            return Step("encoder", f"weights {weights.name}: {error}", Outcome.MALFORMED)
    return Step("encoder", f"{encoder.name}: {given} of {len(encoder.weights)} weight files held against it")


def check_safetensors(path: Path) -> None:
    """Malformed unless the file is safetensors whose tensors fill it exactly; reads the header alone."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise Malformed(f"{path.name} is no safetensors file: its header would have {length} bytes")
        header = stream.read(length)
    if not header.startswith(b"{"):
        raise Malformed(f"{path.name} is no safetensors file: its header is no JSON object")
    tensors = canonical.parse(header, what=f"header of {path.name}", limit_bytes=MAX_HEADER_BYTES)
    tensors.pop("__metadata__", None)
    end = 0
    for start, stop in sorted(_extent(name, tensor) for name, tensor in tensors.items()):
        if start != end:
            raise Malformed(f"{path.name} has tensors that overlap or leave a gap at byte {end}")
        end = stop
    if 8 + length + end != size:
        raise Malformed(f"{path.name} has {size} bytes, its tensors end at {8 + length + end}")


def _extent(name: str, tensor: Any) -> tuple[int, int]:
    """(start, end) of a tensor's bytes, which must be as many as its type and shape say."""
    match tensor:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]} if (
            len(tensor) == 3 and dtype in _BITS and _are_counts([*shape, start, end])
        ):
            if start <= end and 8 * (end - start) == _BITS[dtype] * math.prod(shape):
                return start, end
    raise Malformed(f"tensor {name[:80]!r} has a type, shape and place that do not go together")


def _are_counts(values: list[Any]) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
