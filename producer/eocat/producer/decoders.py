"""The decoding processes of a run, and the memory that they share with it.

A thread stands for each process: it hands over a strip, waits for the answer, and starts another process
where one has died. Strips lie in anonymous shared memory (memfd), which needs no room in /dev/shm and leaves
nothing behind, however the run ends. Strips of one size take turns in it: the kernel clears the pages of new
memory, which costs as much as decoding a good part of a strip.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError

from .decoder import map_shared
from .sources import Scene

FREE_BYTES: Final = 256 << 20  # of memory that no strip lies in


@dataclass(frozen=True, slots=True)
class Strip:
    """`rows` rows from row `top` on of some bands (counted from 1) of one raster file of a scene."""

    scene: Scene = field(repr=False)
    path: str
    name: str
    bands: tuple[int, ...]
    top: int
    rows: int
    width: int
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.bands), self.rows, self.width

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Closed(Exception):
    """The decoders were closed before the strip was decoded."""


class Decoders:
    """Up to `count` processes, each started with its first strip. Use as a context manager."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._own = threading.local()
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._memory = _Memory()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, strip: Strip) -> Future[NDArray[Any]]:
        """The strip's pixels (bands, rows, W) when they are decoded.

        InputError if the file is damaged, or if two processes in turn died of it.
        """
        return self._threads.submit(self._decode, strip)

    def close(self) -> None:
        """End the processes at once: they write nothing but memory that nobody else has."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._memory.close()

    def _decode(self, strip: Strip) -> NDArray[Any]:
        segment = self._memory.take(strip.size_bytes)
        status = 0
        for _ in range(2):
            worker = self._worker()
            answer = worker.ask(strip, segment.descriptor)
            if answer is not None:
                break
            status = self._bury(worker)
        else:
            raise _died(strip, status)
        if "damaged" in answer:
            raise strip.scene.damaged(strip.name)
        if "refused" in answer:
            raise InputError(answer["refused"], hint=answer["hint"] or None)
        return self._memory.lend(segment, strip.dtype).reshape(strip.shape)

    def _worker(self) -> "_Worker":
        """This thread's process, running. Raises Closed if there shall be no more."""
        worker: _Worker | None = getattr(self._own, "worker", None)
        with self._lock:
            if self._closed:
                raise Closed
            if worker is None:
                worker = self._own.worker = _Worker()
                self._workers.add(worker)
        return worker

    def _bury(self, worker: "_Worker") -> int:
        with self._lock:
            self._workers.discard(worker)
        del self._own.worker
        return worker.end()


class _Worker:
    """A decoder.py and our end of the socket to it."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "eocat.producer.decoder", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def ask(self, strip: Strip, descriptor: int) -> dict[str, Any] | None:
        """Its answer; None if it died."""
        members = ("path", "bands", "top", "rows", "width", "dtype")
        request = json.dumps({name: getattr(strip, name) for name in members}).encode() + b"\n"
        answer = b""
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self._link, [request], [descriptor])
            while not answer.endswith(b"\n"):
                part = self._link.recv(1 << 16)
                if not part:
                    return None
                answer += part
        return json.loads(answer) if answer else None

    def end(self) -> int:
        """Exit status, negative for a signal."""
        self._link.close()
        return self.process.wait()


class _Segment:
    """Shared memory of `size_bytes`, mapped here; its descriptor goes to the processes that fill it."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.descriptor = _anonymous_file(size_bytes)
        try:
            self.mapped = map_shared(self.descriptor, size_bytes)
        except OSError:
            os.close(self.descriptor)
            raise

    def __del__(self) -> None:
        if hasattr(self, "mapped"):
            os.close(self.descriptor)


class _Memory:
    """Free segments, at most FREE_BYTES of them; a strip's comes back when the last view of it is gone."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[_Segment]] = defaultdict(list)
        self._bytes = 0
        self._lock = threading.RLock()  # a view may go while the lock is held: the collector runs anywhere

    def take(self, size_bytes: int) -> _Segment:
        with self._lock:
            if self._free[size_bytes]:
                self._bytes -= size_bytes
                return self._free[size_bytes].pop()
        return _Segment(size_bytes)

    def lend(self, segment: _Segment, dtype: str) -> NDArray[Any]:
        """The segment as one row of numbers, which all views of it keep alive."""
        numbers = np.frombuffer(segment.mapped, dtype)
        weakref.finalize(numbers, self._give_back, segment).atexit = False
        return numbers

    def close(self) -> None:
        """Keep nothing from now on."""
        with self._lock:
            self._free.clear()
            self._bytes = FREE_BYTES

    def _give_back(self, segment: _Segment) -> None:
        with self._lock:
            if self._bytes + segment.size_bytes <= FREE_BYTES:
                self._bytes += segment.size_bytes
                self._free[segment.size_bytes].append(segment)


def _died(strip: Strip, status: int) -> InputError:
    how = f"signal {-status}" if status < 0 else f"exit {status}"
    return InputError(
        f"{strip.name} of scene {strip.scene.id} cannot be decoded: two decoders in turn died of it ({how})",
        hint="with signal 9 memory may be short: fewer --threads; else the file is damaged: fetch it again",
    )


def _anonymous_file(size_bytes: int) -> int:
    """Descriptor of a file of that size without a name: in memory on Linux, else in the temporary folder."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("eocat-strip", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
