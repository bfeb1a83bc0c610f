"""The reading half of a run (pipeline.py): scenes in, batches of chips with their digests out.

One thread opens: files are hashed and held against manifest, Item and traces, the task is looked up, chips
are laid out. Another reads: strips come from
the decoders, windows are cut, chips without data left out, pixels hashed. While one scene is read, the next
is opened and its first strips are decoded.
"""

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Self

from numpy.typing import NDArray

from eocat.verify.claims import Evidence
from eocat.verify.errors import EocatError, InputError
from eocat.verify.row import pixels_digest

from .chips import Chip, fault_of, hilbert_order, majortom_chips, tile_chips
from .choice import Refused
from .decoders import Decoders
from .draft import Found, find_shard
from .encoding import pixel_array
from .evidence import evidence_of
from .identify import Identified, check_unchanged, identify
from .recipe import Recipe
from .run import Run
from .sources import Scene
from .sources.scene import Clouds
from .stamps import find_unread
from .windows import AHEAD_BYTES, Windows

BATCHES_AHEAD: Final = 2  # read and waiting for the encoder


@dataclass(frozen=True, slots=True)
class Opened:
    """A scene to be read, with its chips in the order of rows."""

    identified: Identified
    evidence: Evidence  # what was checked of the files
    chips: Sequence[Chip]
    clouds: Clouds | None
    windows: Windows
    left_out: Counter[str] = field(default_factory=Counter)  # why → how many chips give no row

    @property
    def scene(self) -> Scene:
        return self.identified.scene


@dataclass(frozen=True, slots=True)
class Batch:
    """Chips with data: their numbers, pixels (n, C, H, W) and digests. read: chips looked at for it."""

    opened: Opened
    read: int
    numbers: list[int]
    pixels: NDArray[Any]
    digests: list[bytes]


@dataclass(frozen=True, slots=True)
class End:
    """The last word on a scene that was opened; with an error, it gives no shard."""

    opened: Opened
    error: EocatError | None


Message = Batch | End | Found | Refused


class Reader:
    """Messages on the scenes, in their order: Found, Refused, or Batches and an End. A context manager."""

    def __init__(self, scenes: Sequence[Scene], run: Run, decoders: Decoders) -> None:
        self._scenes, self._run, self._decoders = iter(scenes), run, decoders
        self._messages: queue.Queue[Message | BaseException | None] = queue.Queue(BATCHES_AHEAD)
        self._stop = threading.Event()
        self._allocate = pixel_array(run.encoder)
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="opener")
        self._cutters = ThreadPoolExecutor(run.threads, thread_name_prefix="cutter")
        self._thread = threading.Thread(target=self._work, name="reader")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._decoders.close()  # whatever the thread waits for, ends
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._messages.get(timeout=0.05)
        for pool in (self._opener, self._cutters):
            pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Message]:
        while (message := self._messages.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message

    def _work(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._messages.put(error)
        else:
            self._messages.put(None)

    def _read_all(self) -> None:
        opening = self._open_next()
        while opening is not None and not self._stop.is_set():
            opened, opening = opening.result(), self._open_next()
            if isinstance(opened, Opened):
                self._messages.put(self._read(opened, opening))
            else:
                self._messages.put(opened)

    def _open_next(self) -> "Future[Opened | Found | Refused] | None":
        scene = next(self._scenes, None)
        return None if scene is None else self._opener.submit(self._open, scene)

    def _open(self, scene: Scene) -> Opened | Found | Refused:
        try:
            if self._run.resume and (unread := find_unread(scene, self._run)):
                return unread
            identified = identify(scene, self._run)
            if found := find_shard(identified, self._run):
                return found
            evidence = evidence_of(scene, identified.files, self._run.evidence)
            clouds = scene.clouds() if self._run.recipe.max_cloud_percent < 100 else None
            chips = _layout(scene, self._run.recipe)
            windows = Windows(scene, self._run.recipe.bands, chips, self._decoders)
        except EocatError as error:
            return Refused(scene.id, error)
        return Opened(identified, evidence, chips, clouds, windows)

    def _read(self, opened: Opened, opening: "Future[Opened | Found | Refused] | None") -> End:
        """Put the scene's batches; returns its end. opening: the scene that follows."""
        kept = 0
        try:
            for numbers, pixels in opened.windows.batches(self._run.batch, self._cutters, self._allocate):
                batch = self._screened(opened, numbers, pixels)
                kept += len(batch.numbers)
                self._messages.put(batch)
                if self._stop.is_set():
                    break
                if opened.windows.is_submitted and opening and opening.done():
                    following = opening.result()
                    if isinstance(following, Opened):
                        following.windows.decode_ahead(AHEAD_BYTES - opened.windows.held_bytes)
            check_unchanged(opened.identified)
            if not kept:
                raise _without_data(opened.scene, self._run.recipe)
        except EocatError as error:
            return End(opened, error)
        finally:
            opened.windows.close()
        return End(opened, None)

    def _screened(self, opened: Opened, numbers: list[int], pixels: NDArray[Any]) -> Batch:
        """The batch of those chips that hold enough data."""

        def judge(number: int, chip: NDArray[Any]) -> tuple[str, bytes]:
            fault = fault_of(opened.chips[number], chip, opened.scene, self._run.recipe, opened.clouds)
            return fault, b"" if fault else pixels_digest(chip)

        judged = list(self._cutters.map(judge, numbers, pixels))
        opened.left_out.update(fault for fault, _ in judged if fault)
        full = [place for place, (fault, _) in enumerate(judged) if not fault]
        return Batch(
            opened,
            read=len(numbers),
            numbers=[numbers[place] for place in full],
            pixels=pixels if len(full) == len(numbers) else pixels[full],
            digests=[judged[place][1] for place in full],
        )


def _layout(scene: Scene, recipe: Recipe) -> list[Chip]:
    if recipe.layout == "majortom":
        return hilbert_order(majortom_chips(scene, size=recipe.chip_size))
    return hilbert_order(tile_chips(scene, size=recipe.chip_size, stride=recipe.stride, edge=recipe.edge))


def _without_data(scene: Scene, recipe: Recipe) -> InputError:
    cloud = f" and {recipe.max_cloud_percent} % of cloud" if recipe.max_cloud_percent < 100 else ""
    return InputError(
        f"scene {scene.id} has no chip with at most {recipe.max_nodata_percent} % of no-data pixels{cloud}",
        hint="raise --max-nodata or --max-cloud, or check the scene's no-data value",
    )
