"""The command `eocat produce`."""

# Heavy imports (torch, rasterio, pyarrow) stand inside the commands, so that `--help` is quick.

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from eocat.verify.edge.terminal import answer, answer_json, needs, note, progress_bar
from eocat.verify.edge.trust_cli import Trust
from eocat.verify.errors import EocatError, UsageError

if TYPE_CHECKING:
    from .output import Produced
    from .run import Run
    from .signer import Signer
    from .sources import Scene

app = typer.Typer(no_args_is_help=True, add_completion=False)

MAX_REPORTED = 20  # of the scenes that cannot be used, in words


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends what is inside with a sentence and exit code 130, SIGTERM, as of SLURM, with 143."""
    terminated = False

    def terminate(*_: object) -> NoReturn:
        nonlocal terminated
        terminated = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what ends threads and decoders is not disturbed
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        note(f"interrupted: {interrupt or 'no scene is done'}; the same command takes up the rest")
        raise typer.Exit(143 if terminated else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command()
@interruptible()
def produce(
    scenes: Annotated[
        list[str],
        typer.Argument(metavar="SCENE…", help="GeoTIFFs, folders, SAFE products, STAC Items …"),
    ],
    collection: Annotated[str, typer.Option(help="Id of the collection that the shards belong to.")],
    out: Annotated[Path, typer.Option(help="Where COLLECTION/ITEM folders are written.")],
    key: Annotated[str, typer.Option(help="Name of the signing key.")],
    encoder: Annotated[str, typer.Option(help="'exact', or one that 'eocat encoders list' names.")] = "exact",
    weights: Annotated[
        Path | None, typer.Option(help="The weights of a published encoder; nothing is downloaded.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="SHA-256 of the weights, where eocat does not know it.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(help="Of a published encoder (default: fp32, on CUDA bf16)."),
    ] = None,
    layout: Annotated[Literal["tile", "majortom"], typer.Option(help="Where the chips lie.")] = "tile",
    size: Annotated[int, typer.Option(min=1, help="Edge of a chip in pixels.")] = 224,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Pixels between tiles (default: the chip's size).")
    ] = None,
    max_nodata: Annotated[
        int, typer.Option(min=0, max=100, help="Leave out chips with more no-data, in percent.")
    ] = 50,
    max_cloud: Annotated[
        int, typer.Option(min=0, max=100, help="Leave out chips with more cloud, in percent (needs a mask).")
    ] = 100,
    edge: Annotated[
        Literal["drop", "shift"], typer.Option(help="The rest at the border: no chip, or a last one shifted.")
    ] = "drop",
    values: Annotated[
        Literal["dn", "reflectance", "db", "power"] | None,
        typer.Option(help="What real numbers are, where the files do not say."),
    ] = None,
    offset: Annotated[
        int | None, typer.Option(min=0, help="DN of reflectance 0, where the files do not say or are wrong.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Names of the bands: by order (VV,VH), or of files (nir=B08).")
    ] = None,
    interval: Annotated[
        str | None, typer.Option("--datetime", help="Time or interval, where the scene does not say.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", "--license", help="SPDX id of the vectors.")] = "other",
    publisher: Annotated[str | None, typer.Option(help="Who publishes (default: the key's name).")] = None,
    source_prefix: Annotated[
        str | None, typer.Option(help="Public address under which the scenes lie.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            exists=True,
            help="Folder of SCENE.json Items and SCENE.traces.json (default: beside each scene).",
        ),
    ] = None,
    accept_damaged: Annotated[
        bool,
        typer.Option(
            "--accept-damaged",
            help="Use a source that differs from its own manifest or Item; the statement then says so.",
        ),
    ] = False,
    trust: Trust = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N equal parts of the scenes, I from 1."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do not hash again what an interrupted run has finished.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This machine, or the Ray cluster of RAY_ADDRESS.")
    ] = "local",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Chips encoded at once.")] = 16,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the encoder, and processes that decode (default: CPUs).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same facts as JSON.")] = False,
) -> None:
    """Turn scenes into signed shards. A shard that is there already is left as it is.

    A scene that cannot be used is reported and the run goes on; the exit code is then that of the last error.
    Interrupted at any moment, the same command takes up the rest.
    """
    with needs("producer"):
        from .sources import Told, find_scenes

    from eocat.verify.trust_store import load_policy

    from .choice import choose_encoder
    from .encoders import Checkpoint, load_encoder
    from .evidence import EvidenceRules
    from .interval import parse_interval
    from .output import write_collection
    from .passphrase import open_key
    from .run import prepare_run

    part = parse_task(task)
    threads = threads or os.cpu_count() or 1
    signer = open_key(key)
    summary = Summary()
    told = Told(values, offset, tuple(bands.split(",")) if bands else ())
    checkpoint = Checkpoint(weights, sha256) if weights else None
    unopened: list[EocatError] = []
    choice = choose_encoder(
        find_scenes(scenes, told, refuse=unopened.append),
        partial(load_encoder, encoder, device=device, checkpoint=checkpoint, precision=precision),
    )
    for error in unopened[part]:
        summary.refuse(None, error)
    for one in choice.refused[part]:
        summary.refuse(one.scene, one.error)
    found = choice.scenes[part]
    if task and not found:
        note(f"task {task} has no scene of its own")
    if found and choice.encoder:
        run = prepare_run(
            found,
            collection=collection,
            out=out,
            publisher=publisher or signer.name,
            encoder=choice.encoder,
            layout=layout,
            chip_size=size,
            stride=stride,
            max_nodata_percent=max_nodata,
            max_cloud_percent=max_cloud,
            edge=edge,
            told=told,
            interval=parse_interval(interval) if interval else None,
            licence=licence,
            source_prefix=source_prefix,
            device=device,
            batch=batch,
            threads=threads,
            checkpoint=checkpoint,
            resume=resume,
            evidence=EvidenceRules(
                evidence, lambda: load_policy(trust, datetime.now(UTC)).cdse, accept_damaged
            ),
        )
        if weights and weights.suffix != ".safetensors":
            note(f"hint: 'eocat encoders convert' makes {weights.name} a file that levels 4 and 5 take")
        with needs("ray"):
            produce_all(found, run, signer, summary, engine=engine)
        write_collection(run)
    summary.show(as_json)
    if summary.refused:
        raise typer.Exit(summary.refused[-1][1].exit_code)


def parse_task(task: str | None) -> slice:
    """What `task` "I/N" takes of a list: every N-th, so that N tasks share it out without a word."""
    if task is None:
        return slice(None)
    if not (match := re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", task)):
        raise UsageError(f"task {task!r} is not I/N", hint="such as 1/8 for the first of eight parts")
    number, parts = int(match[1]), int(match[2])
    if number > parts:
        raise UsageError(f"task {task} is beyond the last part", hint=f"1/{parts} to {parts}/{parts}")
    return slice(number - 1, None, parts)


def produce_all(
    scenes: "Sequence[Scene]", run: "Run", signer: "Signer", summary: "Summary", *, engine: str = "local"
) -> None:
    """Produce with a bar in a terminal; what becomes of each scene is in `summary`.

    Interrupted, or stopped by an error that no other scene would escape, says what was done so far.
    """
    from .choice import Refused
    from .produce import produce
    from .ray_engine import produce_on_ray

    make = produce_on_ray if engine == "ray" else produce
    so_far = f"of {len(scenes)} scenes are done"
    try:
        with (
            progress_bar() as advance,
            closing(make(scenes, run, signer, bar(advance, len(scenes)))) as made,
        ):
            for one in made:
                if isinstance(one, Refused):
                    summary.refuse(one.scene, one.error)
                else:
                    summary.shards.append(one)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{len(summary.shards)} {so_far}") from None
    except EocatError:
        if summary.shards:  # else there is nothing but the error to tell
            note(f"stopped: {len(summary.shards)} {so_far}; the same command takes up the rest")
        raise


@dataclass(slots=True)
class Summary:
    """What became of the scenes of a run."""

    shards: "list[Produced]" = field(default_factory=list)
    refused: list[tuple[str | None, EocatError]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def refuse(self, scene: str | None, error: EocatError) -> None:
        """Note the error and say it at once, the first ones. scene: None if it could not even be opened."""
        self.refused.append((scene, error))
        if len(self.refused) <= MAX_REPORTED:
            note(f"eocat: error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))
        elif len(self.refused) == MAX_REPORTED + 1:
            note(f"more scenes cannot be used than these {MAX_REPORTED}; --json names them all")

    def show(self, as_json: bool) -> None:
        if as_json:
            answer_json(self._facts())
            return
        for p in self.shards:
            state = f"{p.seconds:.1f} s" if p.fresh else "was there already"
            left_out = f", {p.left_out} chips left out" if p.left_out else ""
            answer(f"{p.folder}  {p.rows} rows  root {p.root[:16]}…  {state}{left_out}")
        if self.refused:
            note(f"{len(self.refused)} of {len(self.shards) + len(self.refused)} scenes could not be used")

    def _facts(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        made = sum(p.rows for p in self.shards if p.fresh)
        return {
            "shards": [
                {
                    "item": p.item,
                    "folder": str(p.folder),
                    "rows": p.rows,
                    "leftOut": p.left_out,
                    "rowRoot": p.root,
                    "seconds": round(p.seconds, 3),
                    "fresh": p.fresh,
                }
                for p in self.shards
            ],
            "refused": [
                {"scene": scene, "error": str(error), "hint": error.hint, "exitCode": error.exit_code}
                for scene, error in self.refused
            ],
            "rowsMade": made,
            "seconds": round(seconds, 3),
            "rowsPerSecond": round(made / seconds, 1),
        }


def bar(advance: Callable[[str, int, int], None], scenes: int) -> Callable[[str, int, int], None]:
    """A progress of chips over all scenes; those not yet opened count as the mean of the others."""
    chips: dict[str, tuple[int, int]] = {}

    def progress(scene: str, done: int, total: int) -> None:
        chips[scene] = (done, total)
        read, known = (sum(column) for column in zip(*chips.values(), strict=True))
        advance(f"scene {len(chips)} of {scenes}, chips of {scene}", read, known * scenes // len(chips))

    return progress
