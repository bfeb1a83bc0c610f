"""What verification costs: an item's metadata, a row's proof, and a shard of a gigabyte beside other tools.

    python tests/benchmarks/verify_cost.py [--gigabytes 1] [--rounds 3] [--folder DIR]

The shard's rows are drawn (float16 × 768), its statement is signed with a key of the tests. Beside it, on
the same file in the page cache: `sha256sum`, one read by pyarrow, Debian's `b3sum`, and model-signing 1.1.1
from PyPI in an environment of its own, which verifies a signature over the file. Each is a process of its
own; wall and CPU seconds are the least of the rounds. Memory is the most, and not below what this process
has itself. What cannot be had is said.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / room) for room in ("judges", "attacks", "verify")]

from debian_judges import find_program
from make_shard import PRODUCER, Made, make_item, make_row, make_statement, square
from process_cost import Cost, run
from signed_world import make_world, policy_bytes

from eocat.verify.bundle import evidence_of, parse_bundle
from eocat.verify.check import check
from eocat.verify.errors import EocatError
from eocat.verify.geometry import format_wkb
from eocat.verify.merkle import build_tiles, leaf_hash, root_from_path, tree_of
from eocat.verify.policy import parse_policy
from eocat.verify.row import encode_row
from eocat.verify.shard import Shard, rows_per_group, shard_schema
from eocat.verify.statement import Rows

DIMENSION = 768
MODEL_SIGNING = "model-signing==1.1.1"
READ = """
import sys, pyarrow.parquet as pq
file = pq.ParquetFile(sys.argv[1])
for group in range(file.num_row_groups):
    file.read_row_group(group, use_threads=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    chosen = parser.parse_args()
    apart = multiprocessing.get_context("spawn")  # what needs memory is done elsewhere: see `Cost`
    with tempfile.TemporaryDirectory(prefix="eocat-cost-", dir=chosen.folder) as made:
        folder = Path(made)
        for work, *arguments in (
            (small_costs, folder),
            (make_large, folder / "s2" / "scene", int(chosen.gigabytes * 1e9)),
        ):
            process = apart.Process(target=work, args=arguments)
            process.start()
            process.join()
            if process.exitcode:
                sys.exit("it could not be measured")
        for line in shard_costs(folder, chosen.rounds):
            print(line, flush=True)


# --- metadata and a row


def small_costs(folder: Path) -> None:
    world = make_world(folder / "world")
    policy, now = parse_policy(world.logged), datetime.now(UTC)
    for state in (world.honest[0], world.honest[4]):
        evidence = evidence_of(parse_bundle(state.bundle), "item", None)
        took = least_ms(lambda evidence=evidence: check(evidence, policy, now=now), 100)
        marks = {step.name: step.mark for step in check(evidence, policy, now=now).steps}
        held = [marks[name] for name in ("signature", "history", "item", "log")]
        what = f"item metadata, {len(state.lines)} events, log proof"
        print(f"{what}: {took:.2f} ms CPU (at most 10), {held}", flush=True)
    size = 1_000_000
    leaves = np.random.default_rng(1).bytes(32 * size)
    row = make_row(0, dimension=DIMENSION)
    index = 654_321
    leaves = leaves[: 32 * index] + leaf_hash(encode_row(row)) + leaves[32 * (index + 1) :]
    tree = tree_of(build_tiles(leaves), size)
    path, root = tree.prove(index), tree.root()

    def proven() -> None:
        if root_from_path(leaf_hash(encode_row(row)), index, size, path) != root:
            raise AssertionError("the proof does not hold")

    took = least_ms(proven, 2000)
    print(
        f"row proof at 10^6 rows: {took:.3f} ms CPU (at most 0.1), {32 * len(path)} B (at most 640)",
        flush=True,
    )


def least_ms(call: Callable[[], Any], rounds: int) -> float:
    """The median CPU ms of a call over the rounds."""
    took = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return 1000 * sorted(took)[rounds // 2]


# --- a large shard


def shard_costs(folder: Path, rounds: int) -> Iterator[str]:
    scene = folder / "s2" / "scene"
    file = scene / "embeddings.parquet"
    trust = folder / "policy.json"
    trust.write_bytes(policy_bytes(logged=False))
    size_mb = file.stat().st_size / 1e6
    verify = [sys.executable, "-m", "eocat.verify", "verify", scene, "--trust", trust]
    runs: dict[str, list[Any]] = {
        "sha256sum": ["sha256sum", file],
        "one Parquet read": [sys.executable, "-c", READ, file],
        "eocat verify (L2)": verify,
    }
    notes = []
    try:
        runs["b3sum"] = [find_program("b3sum"), file]
    except (EocatError, OSError, KeyError) as error:
        notes.append(f"b3sum NOT RUN: {error}")
    try:
        runs[MODEL_SIGNING] = model_signing(folder, file)
    except (OSError, subprocess.CalledProcessError) as error:
        notes.append(f"{MODEL_SIGNING} NOT RUN: {error}")
    costs = {name: [] for name in runs}  # type: dict[str, list[Cost]]
    for _ in range(rounds):  # in turns, so that other work on the machine hits all of them
        for name, command in runs.items():
            costs[name].append(run(command))
    best = {name: summed(each) for name, each in costs.items()}
    yield f"{size_mb:.0f} MB of rows of {DIMENSION} float16, {rounds} rounds"
    yield f"{'':<22} {'wall s':>8} {'CPU s':>8} {'MB/s':>7} {'peak MiB':>9}"
    for name, cost in best.items():
        yield (
            f"{name:<22} {cost.wall_s:>8.2f} {cost.cpu_s:>8.2f} {size_mb / cost.wall_s:>7.0f} "
            f"{cost.peak_mib:>9.0f}"
        )
    ours, hashed, read = best["eocat verify (L2)"], best["sha256sum"], best["one Parquet read"]
    for what in ("wall_s", "cpu_s"):
        ratio = getattr(ours, what) / (getattr(hashed, what) + getattr(read, what))
        yield f"eocat verify / (sha256sum + one Parquet read), {what}: {ratio:.2f} (at most 1.3)"
    for other in ("b3sum", MODEL_SIGNING):
        if other in best:
            yield f"eocat verify / {other}, wall_s: {ours.wall_s / best[other].wall_s:.2f}"
    yield f"peak memory {ours.peak_mib:.0f} MiB (at most 512)"
    yield from notes


def summed(costs: list[Cost]) -> Cost:
    least = min(costs, key=lambda cost: cost.wall_s)
    return replace(
        least, cpu_s=min(cost.cpu_s for cost in costs), peak_mib=max(cost.peak_mib for cost in costs)
    )


def model_signing(folder: Path, file: Path) -> list[Any]:
    """The command that verifies the file's signature by a key of its own.

    The package asks for pyOpenSSL when it starts, and does not declare it.
    """
    place = Path(tempfile.gettempdir()) / "eocat-model-signing"
    program = place / "bin" / "model_signing"
    if not program.exists():
        venv.create(place, with_pip=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", MODEL_SIGNING, "pyopenssl"], check=True)
    model, key = folder / "model", folder / "model.pem"
    model.mkdir()
    os.link(file, model / file.name)
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True
    )
    public = subprocess.run(["openssl", "ec", "-in", key, "-pubout"], check=True, capture_output=True).stdout
    (folder / "model.pub").write_bytes(public)
    signature = folder / "model.sig"
    subprocess.run(
        [program, "sign", "key", model, "--private_key", key, "--signature", signature],
        check=True, capture_output=True,
    )  # fmt: skip
    return [program, "verify", "key", model, "--public_key", folder / "model.pub", "--signature", signature]


def make_large(folder: Path, size_bytes: int) -> None:
    """A signed shard of about that size, as producers write it: vectors plain and uncompressed."""
    folder.mkdir(parents=True)
    per_group = rows_per_group("float16", DIMENSION)
    count = size_bytes // (2 * DIMENSION + 160)
    random = np.random.default_rng(1)
    schema = shard_schema("float16", DIMENSION)
    names = [field.name for field in schema]
    with pq.ParquetWriter(
        folder / "embeddings.parquet",
        schema,
        compression=dict.fromkeys(names, "zstd") | {"embedding.list.element": "none"},
        use_dictionary=False,
    ) as writer:
        for first in range(0, count, per_group):
            table = drawn(schema, first, min(per_group, count - first), random)
            writer.write_table(table, row_group_size=per_group)
    draft = Rows(
        count=count, root="0" * 64, leaf="eocat-row/v1", dtype="float16", dimension=DIMENSION,
        crs="OGC:CRS84", inputDigests=True,
    )  # fmt: skip
    shard = Shard.open(folder / "embeddings.parquet", draft)
    tiles = build_tiles(b"".join(batch.leaf_hashes() for batch in shard.batches()))
    (folder / "row-hashes.bin").write_bytes(tiles)
    (folder / "thumbnail.png").write_bytes(b"\x89PNG")
    rows = [make_row(0, dimension=DIMENSION), make_row(1, dimension=DIMENSION)]
    item = make_item("s2", "scene", rows, tree_of(tiles, count).root().hex(), folder)
    item["properties"]["table:row_count"] = count
    made = Made(folder, rows, make_statement(item, rows, folder))
    made.write_item(item)
    made.sign(PRODUCER)


def drawn(schema: pa.Schema, first: int, count: int, random: np.random.Generator) -> pa.Table:
    """Rows `first` … with vectors drawn, each with a footprint of its own."""
    start = make_row(0).start
    vectors = random.standard_normal((count, DIMENSION), np.float32).astype(np.float16)
    squares = [format_wkb(square(index % 4000)) for index in range(first, first + count)]
    columns = [
        [f"scene/{index}_0" for index in range(first, first + count)],
        squares,
        [start] * count,
        [start] * count,
        [{"xmin": 11.0, "ymin": 46.0, "xmax": 11.05, "ymax": 46.05}] * count,
        [None] * count,
        ["scene"] * count,
        [{"x": index, "y": 0, "width": 64, "height": 64} for index in range(first, first + count)],
        [random.bytes(32) for _ in range(count)],
    ]
    arrays = [pa.array(column, schema.field(place).type) for place, column in enumerate(columns)]
    kind = schema.field("embedding").type
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=kind))
    return pa.Table.from_arrays(arrays, schema=schema)


if __name__ == "__main__":
    main()
