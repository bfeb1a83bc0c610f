"""Peak memory of producing a Sentinel-2-sized scene: 10,980 × 10,980 pixels, all thirteen bands at 10 m.

`python tests/benchmarks/scene_memory.py [SIZE]`: makes the scene (2 GB in the temporary folder), produces it,
and adds up the memory of this process and its decoders every 50 ms: proportional set size, so that shared
strips count once. What the process held with its encoder loaded is taken off. Fails above 2 GiB.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path

from make_cog import make_cog

from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run
from eocat.producer.signer import KeyFile
from eocat.producer.sources import find_scenes

LIMIT = 2 << 30


def memory_bytes() -> int:
    """Of this process and its children, pages that several of them share counted once."""
    own, total = os.getpid(), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != own:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if parent != own:
                    continue
            for line in (process / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 10_980
    with tempfile.TemporaryDirectory() as folder:
        path = make_cog(Path(folder) / "scene.tif", size, compress="zstd")
        (scene,) = find_scenes([path])
        run = prepare_run(
            [scene], publisher="bench", collection="c", out=Path(folder) / "out", device="cpu",
            threads=os.cpu_count() or 1,
        )  # fmt: skip
        before, peak, stop = memory_bytes(), 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(0.05):
                peak = max(peak, memory_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        shard = produce_scene(scene, run, KeyFile.generate("bench"))
        stop.set()
        watcher.join()
    print(
        f"{size} × {size} × {len(scene.bands)}, {shard.rows} chips, "
        f"{shard.seconds:.0f} s, {run.threads} threads"
    )
    print(f"with the encoder loaded {before / 2**20:.0f} MiB, peak {peak / 2**20:.0f} MiB")
    print(f"beyond the model {(peak - before) / 2**20:.0f} MiB")
    sys.exit(peak - before > LIMIT)


if __name__ == "__main__":
    main()
