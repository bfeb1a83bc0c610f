"""The stages of producing, overlapped. What a shard's folder needs but its signature comes out of it.

    opening   files are hashed, the task is looked up, chips are laid out      reader.py, one scene ahead
    reading   strips are decoded by processes, windows cut, pixels hashed      reader.py, decoders.py
    encoding  vectors                                                          encoding.py
    writing   the shard, in a folder without a name                            draft.py, one thread, in order

Queues are short and strips limited, so memory grows neither with a scene nor with the run. The bytes of a
shard depend on the scene and the recipe alone: not on batch size, threads, or what else was running.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError
from eocat.verify.hit import microseconds

from .choice import Refused
from .decoders import Decoders
from .draft import Draft, Found, write_draft
from .encoding import EncodingThreads
from .reader import Batch, End, Message, Opened, Reader
from .receipt import Meter, Receipt
from .run import Run
from .shard_writer import ChipRows
from .sources import Scene

SHARDS_BEHIND: Final = 2  # encoded and waiting for the disk

Progress = Callable[[str, int, int], None]  # scene, chips done, chips in all
Delivered = TypeVar("Delivered")


@dataclass(slots=True)
class _Encoded:
    """What has been encoded of a scene. numbers: of its chips, beside their digests and vectors."""

    read: int = 0
    numbers: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    vectors: list[NDArray[np.floating]] = field(default_factory=list)
    error: InputError | None = None

    def add(self, batch: Batch, vectors: "Future[NDArray[np.floating]] | None") -> None:
        """Take in a batch, whose vectors may still be on the way. An error is kept for the scene's end."""
        self.read += batch.read
        if vectors is None:
            return
        try:
            self.vectors.append(vectors.result())
        except InputError as error:
            self.error = error
        self.numbers += batch.numbers
        self.digests += batch.digests

    def rows(self, opened: Opened) -> ChipRows:
        """The rows in the order of the chips, which is not the one in which they were read."""
        order = np.argsort(self.numbers)
        return ChipRows(
            [opened.chips[self.numbers[i]] for i in order],
            opened.scene.id,
            microseconds(opened.identified.start),
            microseconds(opened.identified.end),
            [self.digests[i] for i in order],
            np.concatenate(self.vectors)[order],
            dict(sorted(opened.left_out.items())),
        )


def make_drafts(
    scenes: Sequence[Scene],
    run: Run,
    deliver: Callable[[Draft], Delivered],
    progress: Progress = lambda scene, done, total: None,
) -> Generator[Delivered | Found | Refused]:
    """What becomes of each scene, in the order given. `deliver` gets each draft, in the writing thread.

    A scene that cannot be used is Refused and the next one follows; whatever else goes wrong ends the run
    (ConfigError: a full disk). Leaving the iterator early ends all threads and processes.
    """
    with ExitStack() as stack:
        decoders = stack.enter_context(Decoders(run.threads))
        reader = stack.enter_context(Reader(scenes, run, decoders))
        encoding = stack.enter_context(EncodingThreads(run.encoder, run.threads))
        writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        stack.callback(writer.shutdown, cancel_futures=True)
        writing: deque[Future[Delivered]] = deque()
        encoded, meter = _Encoded(), Meter(run.encoder)
        for message, vectors in _encoded(reader, encoding):
            if isinstance(message, Batch):
                encoded.add(message, vectors)
                progress(message.opened.scene.id, encoded.read, len(message.opened.chips))
                continue
            refused = message if isinstance(message, Found | Refused) else _refusal(message, encoded)
            receipt = meter.lap()
            if isinstance(message, End) and refused is None:
                writing.append(writer.submit(_write, message.opened, encoded, run, receipt, deliver))
            while len(writing) > (0 if refused else SHARDS_BEHIND):
                yield writing.popleft().result()
            if refused:
                yield refused
            encoded = _Encoded()
        while writing:
            yield writing.popleft().result()


def _encoded(
    reader: Reader, encoding: EncodingThreads
) -> "Iterator[tuple[Message, Future[NDArray[np.floating]] | None]]":
    """The messages in their order, those with chips beside their vectors to come."""
    waiting: deque[tuple[Message, Future[NDArray[np.floating]] | None]] = deque()
    for message in reader:
        vectors = None
        if isinstance(message, Batch) and message.numbers:
            vectors = encoding.submit(message.pixels, message.opened.scene.offset)
        waiting.append((message, vectors))
        while len(waiting) > encoding.count:
            yield waiting.popleft()
    yield from waiting


def _refusal(end: End, encoded: _Encoded) -> Refused | None:
    error = end.error or encoded.error
    return Refused(end.opened.scene.id, error) if error else None


def _write(
    opened: Opened, encoded: _Encoded, run: Run, receipt: Receipt, deliver: Callable[[Draft], Delivered]
) -> Delivered:
    rows = encoded.rows(opened)
    return deliver(write_draft(opened.identified, rows, run, receipt, evidence=opened.evidence))
