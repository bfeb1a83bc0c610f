"""Weights files of published models: read once, hashed, and only then parsed from the very bytes hashed.

A file without a pinned SHA-256 is refused, so is one that differs from its pin. safetensors files and torch
files (`weights_only`: tensors and plain containers, never code) are told apart by their first bytes. Between
hash and parse nothing is read again: a file that is exchanged meanwhile changes nothing.
Layouts of keys are data of the registry (`registry.py`); the few that need arithmetic are in `layouts.py`.
"""

import io
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError

from eocat.verify.canonical import parse
from eocat.verify.digest import digest_bytes
from eocat.verify.errors import InputError, Malformed, UsageError

from .bank import Weights

if TYPE_CHECKING:
    import torch

MAX_BYTES: Final = 8 << 30  # the largest published one (ViT-H, float32) has 2.5 GB
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_ORIGIN: Final = "eocat.converted_from"  # key in the header of a converted file
_MAX_HEADER: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A weights file as the user names it. sha256: 64 lower-case hex digits, None: the registry's pin."""

    path: Path
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise UsageError(
                f"--sha256 {self.sha256[:70]!r} is no SHA-256",
                hint="64 hex digits, as `sha256sum` prints them",
            )


def read_checkpoint(
    checkpoint: Checkpoint, *, pinned: str | None, prefix: str | None
) -> tuple[bytes, Weights]:
    """The file's bytes and digests, if they are the pinned ones.

    pinned: SHA-256 of the registry; prefix: the digits of it that are public where the whole is not. The
    file, or the one that it was converted from, must agree with either. Raises UsageError without any whole
    digest and for another encoder's file, InputError for a file that cannot be read, Malformed for other
    bytes.
    """
    expected = checkpoint.sha256 or pinned
    if expected is None:
        known = f" (only that it begins with {prefix} is public)" if prefix else ""
        raise UsageError(
            f"weights {checkpoint.path} are not pinned: no whole SHA-256 of this encoder is known{known}",
            hint="give the digest that its publisher states: --sha256 HEX",
        )
    data = _read(checkpoint.path)
    found = digest_bytes(data)
    if found.sha256 != expected:
        raise Malformed(
            f"weights {checkpoint.path} have sha256 {found.sha256}, expected {expected}",
            hint="fetch the file again: it was changed, cut off or is another version",
        )
    origin, known = converted_from(data) or found.sha256, pinned or prefix or ""
    if not origin.startswith(known):
        raise UsageError(
            f"weights {checkpoint.path} come from {origin[:16]}…, this encoder's begin with {known}",
            hint="give the file and digest of the encoder that you name",
        )
    return data, Weights(checkpoint.path.name, found.sha256, found.blake3, found.size)


def convert(data: bytes, name: str, sha256: str) -> bytes:
    """All tensors of a torch file as safetensors, which says which file it comes from.

    The same bytes wherever it is done, so that whoever has the published file can check a converted one.
    """
    from safetensors.torch import save

    tensors = {key: value.contiguous().clone() for key, value in parse_checkpoint(data, name).items()}
    return save(tensors, metadata={_ORIGIN: sha256})


def converted_from(data: bytes) -> str | None:
    """The SHA-256 of the file that a converted one says it comes from; None for any other file."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(_MAX_HEADER, len(data) - 8) or data[8:9] != b"{":
        return None
    header = parse(data[8 : 8 + length], what="header of a weights file", limit_bytes=_MAX_HEADER)
    metadata = header.get("__metadata__")
    origin = metadata.get(_ORIGIN) if isinstance(metadata, dict) else None
    return origin if isinstance(origin, str) else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if size > MAX_BYTES:
                raise InputError(f"weights {path} have {size} bytes, more than {MAX_BYTES}")
            stream.seek(0)
            return stream.read(MAX_BYTES)
    except OSError as error:
        raise InputError(f"weights {path} cannot be read: {error.strerror or error}") from None


def parse_checkpoint(data: bytes, name: str) -> "dict[str, torch.Tensor]":
    """Tensors by key of a safetensors or torch file; nested dictionaries are joined by dots.

    Raises Malformed for a damaged file, and for one that holds anything but tensors and plain containers.
    """
    if data.startswith((_ZIP, _PICKLE)):
        return _flatten(_load_torch(data, name), name)
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise Malformed(
            f"weights {name} are neither safetensors nor a torch file, or cut off: {error}",
            hint="fetch the file again",
        ) from None


def _load_torch(data: bytes, name: str) -> Any:
    """What torch restores without running anything. Its messages advise to run the code: not passed on."""
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):  # it warns of what is refused below anyway
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        told = str(error)
        if code := _refused_code(told):
            raise Malformed(
                f"weights {name} hold {code} beside tensors; nothing of it was run",
                hint="save its state_dict as safetensors in a place where you trust it, and pin that file",
            ) from None
    except (EOFError, ValueError, KeyError, IndexError, OSError):
        pass
    raise Malformed(
        f"weights {name} are a torch file that is damaged or cut off", hint="fetch the file again"
    ) from None


def _refused_code(told: str) -> str | None:
    """What torch's message says that it refused; None for a message on a damaged file."""
    if "TorchScript" in told:
        return "a TorchScript program"
    if found := re.search(r"GLOBAL ([\w.]+)", told):
        return f"the Python object {found[1]}"
    return "Python objects" if "Unsupported operand" in told else None


def _flatten(value: Any, name: str, prefix: str = "") -> "dict[str, torch.Tensor]":
    """Tensors alone: an epoch number or an optimiser's hyperparameter beside the weights is left behind."""
    import torch

    if not isinstance(value, Mapping):
        raise Malformed(f"weights {name} hold a {type(value).__name__}, expected a dictionary of tensors")
    found: dict[str, torch.Tensor] = {}
    for key, member in value.items():
        path = f"{prefix}{key}"
        if isinstance(member, torch.Tensor):
            found[path] = member
        elif isinstance(member, Mapping):
            found |= _flatten(member, name, f"{path}.")
    return found


def select_keys(
    tensors: "Mapping[str, torch.Tensor]", *, strip: str, drop: Sequence[str]
) -> "dict[str, torch.Tensor]":
    """The tensors under the prefix `strip`, without it; keys that then begin with one of `drop` left out.

    A file that has no such prefix at all was saved from the model alone: its keys are taken as they are.
    """
    inside = {key.removeprefix(strip): value for key, value in tensors.items() if key.startswith(strip)}
    chosen = inside or tensors
    return {key: value for key, value in chosen.items() if not key.startswith(tuple(drop))}


def fill(module: "torch.nn.Module", tensors: "Mapping[str, torch.Tensor]", name: str) -> None:
    """Load `tensors` into `module`: the same keys and shapes, none missing, none too many; else Malformed."""
    expected = module.state_dict()
    problems = [
        _listed("missing", sorted(expected.keys() - tensors.keys())),
        _listed("unexpected", sorted(tensors.keys() - expected.keys())),
        _listed(
            "of another shape",
            [
                f"{key} {tuple(tensors[key].shape)} for {tuple(value.shape)}"
                for key, value in expected.items()
                if key in tensors and tensors[key].shape != value.shape
            ],
        ),
    ]
    if any(problems):
        raise Malformed(
            f"weights {name} do not fit this encoder: {'; '.join(filter(None, problems))}",
            hint="`eocat encoders show NAME` says which file it takes",
        )
    module.load_state_dict(dict(tensors), strict=True)


def _listed(what: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{what}: {', '.join(keys[:3])}{more}" if keys else ""
