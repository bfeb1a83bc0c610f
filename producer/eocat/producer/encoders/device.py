"""Where an encoder runs, and how pixels get there: on CUDA through two pinned buffers, while it works."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eocat.verify.errors import ConfigError, UsageError


def choose_device(name: str) -> torch.device:
    """ "auto": CUDA where torch sees one. Raises UsageError for another name, ConfigError for absent CUDA."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is not auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, torch {torch.__version__} sees no CUDA device")
    return device


def device_batches(
    pixels: NDArray[np.integer[Any]], batch: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Integer tensors (n ≤ batch, C, H, W) on the device, in order; uint16 and wider come as int32.

    CUDA: batch i+1 is copied on its own stream while batch i is worked on. A buffer is written again only
    when its last copy is over, and a batch is handed out only when its own copy is.
    """
    parts = [pixels[first : first + batch] for first in range(0, len(pixels), batch)]
    unsigned = pixels.dtype == np.uint16
    if device.type != "cuda":
        yield from (_widen(_tensor(part), unsigned=unsigned) for part in parts)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    buffers: list[tuple[torch.Tensor, torch.cuda.Event] | None] = [None, None]

    def send(number: int) -> tuple[torch.Tensor, torch.cuda.Event]:
        source = _tensor(parts[number])
        slot = buffers[number % 2]
        if slot is not None:
            slot[1].synchronize()
        pinned = slot[0] if slot is not None else torch.empty_like(source).pin_memory()
        pinned[: len(source)].copy_(source)
        with torch.cuda.stream(stream):
            there = pinned[: len(source)].to(device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)
        buffers[number % 2] = pinned, copied
        return there, copied

    ahead = [send(0)] if parts else []
    for number in range(len(parts)):
        there, copied = ahead.pop()
        if number + 1 < len(parts):
            ahead.append(send(number + 1))
        torch.cuda.current_stream(device).wait_event(copied)
        there.record_stream(torch.cuda.current_stream(device))
        yield _widen(there, unsigned=unsigned)


def _tensor(part: NDArray[np.integer[Any]]) -> torch.Tensor:
    """The same bytes in the machine's order; uint16, for which torch has little arithmetic, as int16."""
    native = np.ascontiguousarray(part, part.dtype.newbyteorder("="))
    return torch.from_numpy(native.view(np.int16) if native.dtype == np.uint16 else native)


def _widen(batch: torch.Tensor, *, unsigned: bool) -> torch.Tensor:
    """On the device, so that half the bytes are copied to it."""
    if batch.dtype != torch.int16:
        return batch
    wide = batch.to(torch.int32)
    return wide.bitwise_and_(0xFFFF) if unsigned else wide
