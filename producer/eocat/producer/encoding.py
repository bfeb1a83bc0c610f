"""Threads that encode: one for each CPU, or two that take turns at a GPU.

On CPUs each thread computes one batch with one thread of torch. Several threads of torch for one batch are
slower, and on a busy machine much slower; batches are independent by the encoders' contract. On CUDA two
threads have a stream each: while one batch is computed the next is copied, from page-locked memory
(`pixel_array`). What is computed in which precision is the encoder's own business.
"""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .encoders import Encoder

Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]


class EncodingThreads:
    """`count` batches are encoded at once. Use as a context manager."""

    def __init__(self, encoder: Encoder, threads: int) -> None:
        self._encoder, self._cuda = encoder, str(encoder.device) != "cpu"
        self.count = 2 if self._cuda else threads
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self.count, "encoder", initializer=self._set_up)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, pixels: NDArray[Any], offset: int) -> "Future[NDArray[np.floating]]":
        return self._pool.submit(self._encode, pixels, offset)

    def _set_up(self) -> None:
        import torch

        torch.set_num_threads(1)  # of this thread's computations
        self._own.stream = None
        if self._cuda:
            stream = torch.cuda.Stream(str(self._encoder.device))  # type: ignore[no-untyped-call]
            self._own.stream = torch.cuda.stream(stream)

    def _encode(self, pixels: NDArray[Any], offset: int) -> NDArray[np.floating]:
        with self._own.stream or nullcontext():
            return self._encoder.encode(pixels, offset=offset)


def pixel_array(encoder: Encoder) -> Allocate:
    """What makes the arrays that batches are read into: page-locked where the encoder is on a GPU."""
    if str(encoder.device) == "cpu":
        return np.empty

    def locked(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        import torch

        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        flat: NDArray[np.uint8] = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True).numpy()
        return flat.view(dtype).reshape(shape)

    return locked
