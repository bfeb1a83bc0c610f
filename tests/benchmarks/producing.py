"""Producing end to end, against the bare encoder and against a plain loop; and where the time goes.

`python tests/benchmarks/producing.py [--size 4480] [--threads N]`: a scene of thirteen bands (make_cog.py),
all figures in one process, one after the other. The rates need a quiet machine; shares are of processor time,
each part run alone.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from make_cog import make_cog
from rasterio.windows import Window

from eocat.producer.chips import hilbert_order, tile_chips
from eocat.producer.decoders import Decoders, Strip
from eocat.producer.draft import write_draft
from eocat.producer.encoding import EncodingThreads
from eocat.producer.identify import identify
from eocat.producer.output import finish
from eocat.producer.produce import produce_scene
from eocat.producer.receipt import Meter
from eocat.producer.run import prepare_run
from eocat.producer.shard_writer import ChipRows
from eocat.producer.signer import KeyFile
from eocat.producer.sources import find_scenes
from eocat.producer.windows import Windows
from eocat.verify.row import pixels_digest
from eocat.verify.shard import RowBatch

SIZE = 224
NOT_PROVENANCE = ("decode", "cut windows", "write")


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def timed() -> Iterator[list[float]]:
    """[wall seconds, processor seconds] once left."""
    spent: list[float] = []
    wall, processor = time.perf_counter(), processor_seconds()
    yield spent
    spent += [time.perf_counter() - wall, processor_seconds() - processor]


def line(what: str, value: str) -> None:
    print(f"{what:52} {value}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=4480)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(make_cog(Path(folder) / "scene.tif", asked.size), asked.threads)


def compare(path: Path, threads: int) -> None:
    (scene,) = find_scenes([path])
    out = path.parent / "out"
    run = prepare_run([scene], publisher="bench", collection="c", out=out, device="cpu", threads=threads)
    chips = hilbert_order(tile_chips(scene, size=SIZE, stride=SIZE))
    line(
        "scene", f"{scene.width} × {scene.height} × {len(scene.bands)}, {len(chips)} chips, {threads} threads"
    )
    signer = KeyFile.generate("bench")

    sample = some_pixels(scene, chips[: 16 * threads], threads)
    bare = bare_rate(run, sample, threads)
    with timed() as spent:
        produce_scene(scene, run, signer)
    whole, whole_processor = len(chips) / spent[0], spent[1]
    loop = loop_rate(path, run, chips[:: max(1, len(chips) // 40)])
    line("bare encoder", f"{bare:.1f} chips/s")
    line("eocat produce, end to end", f"{whole:.1f} chips/s, {whole / bare:.2f} of the bare encoder")
    line(
        "plain loop: one window, one chip, one vector", f"{loop:.1f} chips/s; produce is {whole / loop:.1f} ×"
    )

    parts = provenance(scene, run, chips, sample, signer)
    decode, own, cut = decode_seconds(scene, run, chips, path)
    parts = {"decode": decode, "cut windows": cut, **parts}
    for name, seconds in parts.items():
        line(f"  {name}", f"{100 * seconds / whole_processor:.1f} % of processor time")
    proven = sum(seconds for name, seconds in parts.items() if name not in NOT_PROVENANCE)
    line("provenance: hashes, signature, check", f"{100 * proven / whole_processor:.1f} %")
    megabytes = len(scene.bands) * scene.height * scene.width * 2 / 1e6
    rate, gdal = megabytes / decode, megabytes / own
    line("decode", f"{rate:.0f} MB per core-second, {rate / gdal:.2f} of GDAL's own {gdal:.0f}")


def some_pixels(scene: Any, chips: Any, threads: int) -> Any:
    with Decoders(threads) as decoders, ThreadPoolExecutor(threads) as cutters:
        windows = Windows(scene, scene.bands, chips, decoders)
        return np.concatenate([pixels for _, pixels in windows.batches(16, cutters)])


def bare_rate(run: Any, sample: Any, threads: int) -> float:
    """Chips per second of the encoder alone, on chips in memory, with as many threads."""
    with EncodingThreads(run.encoder, threads) as encoding:
        batches = [sample[i : i + 16] for i in range(0, len(sample), 16)] * 4
        [vectors.result() for vectors in [encoding.submit(batch, 0) for batch in batches[:threads]]]
        with timed() as spent:
            [vectors.result() for vectors in [encoding.submit(batch, 0) for batch in batches]]
    return sum(len(batch) for batch in batches) / spent[0]


def loop_rate(path: Path, run: Any, chips: Any) -> float:
    """What one writes first: open, read a window of all bands, encode it, next; torch as it comes."""
    torch.set_num_threads(os.cpu_count() or 1)
    with timed() as spent, rasterio.open(path) as dataset:
        for chip in chips:
            pixels = dataset.read(window=Window(chip.x, chip.y, chip.size, chip.size))
            run.encoder.encode(pixels[None], offset=0)
    return len(chips) / spent[0]


def decode_seconds(scene: Any, run: Any, chips: Any, path: Path) -> tuple[float, float, float]:
    """Processor seconds of strips by one decoder, its start excepted; of GDAL; of cutting the windows out.

    GDAL fills one array that is there already, strip by strip of the same blocks.
    """
    source = scene.sources(run.recipe.bands)[0]
    bands, height = tuple(range(1, len(scene.bands) + 1)), scene.height
    tops = range(0, height, 512)

    def strip(top: int, rows: int) -> Strip:
        return Strip(scene, source.path, source.name, bands, top, rows, scene.width, scene.dtype)

    with timed() as start, Decoders(1) as decoders:
        decoders.submit(replace(strip(0, 1), bands=(1,))).result()
    with timed() as spent, Decoders(1) as decoders:
        for top in tops:
            decoders.submit(strip(top, min(512, height - top))).result()
    with timed() as cut, Decoders(1) as decoders, ThreadPoolExecutor(1) as cutters:
        for _ in Windows(scene, run.recipe.bands, chips, decoders).batches(16, cutters):
            pass
    with timed() as own, rasterio.Env(GDAL_NUM_THREADS="1"), rasterio.open(path) as dataset:
        array = np.empty((dataset.count, 512, dataset.width), np.uint16)
        for top in tops:
            rows = min(512, height - top)
            dataset.read(window=Window(0, top, dataset.width, rows), out=array[:, :rows])
    return spent[1] - start[1], own[1], max(0.0, cut[1] - spent[1])


def provenance(scene: Any, run: Any, chips: Any, sample: Any, signer: KeyFile) -> dict[str, float]:
    """Processor seconds of what makes a shard provable, and of writing it."""
    with timed() as files:
        identified = identify(scene, run)
    with timed() as pixels:
        digests = [pixels_digest(chip) for chip in sample]
    vectors = run.encoder.encode(sample[:1], offset=0).repeat(len(chips), axis=0)
    digests = (digests * (len(chips) // len(digests) + 1))[: len(chips)]
    rows = ChipRows(chips, scene.id, 0, 0, digests, vectors)
    table = rows.table()
    with timed() as leaves:
        RowBatch(0, rows.dtype, table, rows.vectors).leaf_hashes()
    elsewhere = replace(run, collection="elsewhere")
    receipt = Meter(run.encoder).lap()
    with timed() as write:
        draft = write_draft(identified, rows, elsewhere, receipt)
    with timed() as sign:
        finish(draft, elsewhere, signer)
    return {
        "hash the scene's files": files[1],
        "hash the chips' pixels": pixels[1] * len(chips) / len(sample),
        "hash the rows": leaves[1],
        "check, sign, name": sign[1],
        "write": write[1] - leaves[1],
    }


if __name__ == "__main__":
    main()
