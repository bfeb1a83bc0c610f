"""Mutation fuzzing of complete evidence: `python tests/attacks/fuzz.py --count 100000 --seed 1`.

Takes the real artefacts of signed_world.py (folders, hits, log proofs, trust roots), spoils them
(mutations.py), and runs the real command, `eocat verify`, on them: in process, some tens of targets a call.
Demanded of every one:

    1 never VERIFIED, unless nothing that is signed differs (allowed.py says what that is)
    2 no unexpected exception, and no crash of the process
    3 at most 10 s of CPU and 512 MiB

A mutation is named by seed, batch and place in the batch: `--only SEED/BATCH/PLACE` makes it again and keeps
it. The work is done in a child process, so that a crash or a hang is caught and named by its batch.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / room) for room in ("attacks", "verify") if str(TESTS / room) not in sys.path]

import typer  # noqa: E402
from allowed import (  # noqa: E402
    bundle_is_allowed,
    folder_is_allowed,
    hit_is_allowed,
    same_rows,
    statement_is_true,
    trust_is_allowed,
)
from make_shard import PRODUCER, Made  # noqa: E402
from mutations import MUTATORS, mutate_json  # noqa: E402
from signed_world import NAMES, State, World, make_world  # noqa: E402

from eocat.verify.dsse import PAYLOAD_TYPE, Envelope  # noqa: E402
from eocat.verify.edge.cli import verify  # noqa: E402
from eocat.verify.errors import EocatError  # noqa: E402

BATCH = 40
LIMIT_S = 10
LIMIT_MIB = 512
UNEXPECTED = "not judged, unexpected"  # how the command reports what nobody thought of
HANGS_S = 300  # without a word from the process: more than a batch takes on the most loaded machine
MODES = {
    "logged": 8, "plain": 4, "rows only": 2, "insider": 2, "statement": 2, "hit": 4, "plain hit": 1,
    "bundle": 4, "trust": 1,
}  # fmt: skip
LOGGED = ("logged", "hit", "bundle")  # judged under the policy that names the log
DATA = ("embeddings.parquet", "row-hashes.bin", "thumbnail.png")
Maker = Callable[[Random, Path], tuple[dict[str, bytes], str]]
WEIGHTS = {
    "item.json": 5, "attestation.jsonl": 8, "log-proof.json": 7,
    "embeddings.parquet": 2, "row-hashes.bin": 1, "thumbnail.png": 1,
}  # fmt: skip


@dataclass
class Case:
    """A mutated artefact on the disk, and what it was made of. name: SEED/BATCH/PLACE."""

    name: str
    mode: str
    target: Path
    files: dict[str, bytes]
    about: str


@dataclass
class Tally:
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    same: int = 0  # mutations that gave the same bytes

    def add(self, other: "Tally") -> None:
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.same += other.same


class Fuzzer:
    """Makes and judges batches in `folder`, which holds the world."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder, self.seed = folder, seed
        shutil.rmtree(folder / "world", ignore_errors=True)
        self.world: World = make_world(folder / "world")
        self.policies = {True: folder / "logged.json", False: folder / "plain.json"}
        self.policies[True].write_bytes(self.world.logged)
        self.policies[False].write_bytes(self.world.plain)
        self.good = folder / "good"
        _write(self.good, self.world.honest[0].files)

    def mode(self, batch: int) -> str:
        return Random(f"{self.seed}/{batch}").choices(list(MODES), list(MODES.values()))[0]

    def make(self, batch: int, place: int) -> Case:
        name, mode = f"{self.seed}/{batch}/{place}", self.mode(batch)
        random = Random(name)
        target = self.folder / "work" / f"{place}"
        maker: dict[str, Maker] = {
            "hit": self._hit, "plain hit": self._hit, "insider": self._insider, "statement": self._statement,
            "trust": self._trust, "bundle": lambda random, target: self._bundle(random, target, batch),
        }  # fmt: skip
        files, about = maker.get(mode, self._folder)(random, target)
        name_of = {"hit": "hit.json", "plain hit": "hit.json", "bundle": "item.eocat"}.get(mode, "")
        return Case(name, mode, target / name_of, files, about)

    def _folder(self, random: Random, target: Path) -> tuple[dict[str, bytes], str]:
        state, other = random.choice(self.world.honest), self._donor(random)
        files, changed = dict(state.files), []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            name = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            if random.random() < 0.08:
                files[name] = other.files[name]  # a whole valid part of something else
            else:
                files[name] = random.choice(MUTATORS[name])(random, files[name], other.files[name])
            changed.append(name)
        _write(target, files)
        return files, f"{state.name}, {'+'.join(changed)}, with parts of {other.name}"

    def _hit(self, random: Random, target: Path) -> tuple[dict[str, bytes], str]:
        hit, other = random.choice(self.world.hits), random.choice(self.world.hits)
        for _ in range(random.choice((1, 1, 2))):
            hit = random.choice(MUTATORS["hit.json"])(random, hit, other)
        files = {"hit.json": hit}
        _write(target, files)
        return files, "hit"

    def _bundle(self, random: Random, target: Path, batch: int) -> tuple[dict[str, bytes], str]:
        state, other = self._state_of(batch), self._donor(random)
        bundle = state.bundle
        for _ in range(random.choice((1, 1, 2))):
            bundle = random.choice(MUTATORS["item.eocat"])(random, bundle, other.bundle)
        files = {"item.eocat": bundle}
        _write(target, files)
        return files, f"bundle of {state.name} with parts of {other.name}"

    def _state_of(self, batch: int) -> State:
        """Whose data files lie beside the bundles of a batch: a call has one --files."""
        return self.world.honest[batch % len(self.world.honest)]

    def _insider(self, random: Random, target: Path) -> tuple[dict[str, bytes], str]:
        """Spoilt rows under the producer's own signature, but the old row root."""
        made = random.choice(list(self.world.shards.values()))
        _write(target, {name: (made.folder / name).read_bytes() for name in NAMES})
        (target / "log-proof.json").unlink()
        again = Made(target, made.rows, json.loads(json.dumps(made.statement)))
        name, file = random.choice((("embeddings", "embeddings.parquet"), ("row-hashes", "row-hashes.bin")))
        data = (target / file).read_bytes()
        (target / file).write_bytes(random.choice(MUTATORS[file])(random, data, data))
        again.redigest(name)
        again.sign(PRODUCER)
        files = {each: (target / each).read_bytes() for each in NAMES if (target / each).exists()}
        return files | {"signed": made.file("embeddings").read_bytes()}, f"insider, {file}"

    def _statement(self, random: Random, target: Path) -> tuple[dict[str, bytes], str]:
        """A spoilt statement, signed by the producer: it may verify only of the files that it names."""
        made, donor = random.sample(list(self.world.shards.values()), 2)
        _write(
            target, {name: (made.folder / name).read_bytes() for name in NAMES if name != "log-proof.json"}
        )
        payload = mutate_json(random, made.payload, donor.payload)
        Made(target, made.rows, {}).write_envelope(
            Envelope(payload, PAYLOAD_TYPE, (PRODUCER.sign(payload),))
        )  # fmt: skip
        files = {name: (target / name).read_bytes() for name in NAMES if name != "log-proof.json"}
        return files, "statement"

    def _trust(self, random: Random, target: Path) -> tuple[dict[str, bytes], str]:
        files = dict(self.world.trust)
        name = random.choice([name for name in files if name != "memory.json"])
        kind = "signed policy" if name == "policy.signed.json" else "trust root"
        other = files[name if kind == "signed policy" else random.choice(("1.root.json", "2.root.json"))]
        files[name] = random.choice(MUTATORS[kind])(random, files[name], other)
        _write(target, files)
        return files, f"trust folder, {name}"

    def _donor(self, random: Random) -> State:
        return random.choice([*self.world.honest, *self.world.hostile])

    def run(self, batch: int, places: Iterator[int] | range = range(BATCH)) -> Tally:
        """Make and judge the batch, or some places of it."""
        cases = [self.make(batch, place) for place in places]
        tally = Tally()
        if self.mode(batch) == "trust":
            for case in cases:  # each its own policy
                [report] = judge([str(self.good)], trust=case.target)
                self._judge(case, report, tally)
            return tally
        mode, beside = self.mode(batch), None
        if mode == "bundle":
            beside, data = self.folder / "beside", self._state_of(batch).files
            _write(beside, {name: data[name] for name in DATA})
        targets, trust = [str(case.target) for case in cases], self.policies[mode in LOGGED]
        reports = judge(targets, trust=trust, rows_only=mode == "rows only", files=beside)
        for case, report in zip(cases, reports, strict=True):
            self._judge(case, report, tally)
        return tally

    def _judge(self, case: Case, report: dict[str, Any], tally: Tally) -> None:
        tally.outcomes[report["outcome"]] += 1
        unexpected = [step["text"] for step in report["steps"] if step["text"].startswith(UNEXPECTED)]
        if unexpected:
            tally.failures.append(f"{case.name} ({case.about}): {unexpected[0]}")
        if report["outcome"] != "VERIFIED":
            return
        try:
            allowed = self._is_allowed(case)
        except (ValueError, KeyError, TypeError, StopIteration, AttributeError) as error:
            allowed = False  # what the judge cannot even read should not have verified
            case.about += f"; the judge: {error!r}"
        if not allowed:
            tally.failures.append(f"{case.name} ({case.about}): VERIFIED, and it is not what was signed")

    def _is_allowed(self, case: Case) -> bool:
        match case.mode:
            case "hit" | "plain hit":
                return hit_is_allowed(case.files["hit.json"], self.world, logged=case.mode == "hit")
            case "bundle":
                return bundle_is_allowed(case.files["item.eocat"], self.world)
            case "insider":
                return same_rows(case.files["embeddings.parquet"], case.files["signed"])
            case "statement":
                return statement_is_true(case.files)
            case "trust":
                return trust_is_allowed(case.files, self.world)
        return folder_is_allowed(
            case.files, self.world, logged=case.mode == "logged", rows_only=case.mode == "rows only"
        )


# What the command line gives where the user names no such option.
DEFAULTS: dict[str, Any] = {
    "require": None, "rows_only": False, "sources": None, "files": None, "recompute": 0, "log": None,
    "api": "http://127.0.0.1:1", "as_json": True,
}  # fmt: skip


def judge(targets: list[str], *, trust: Path, **options: Any) -> list[dict[str, Any]]:
    """What `eocat verify TARGET… --trust … --json` says of each; an error that ends the command is of all."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            verify(targets, **{**DEFAULTS, **options, "trust": trust})
    except typer.Exit as exited:
        reports: list[dict[str, Any]] = json.loads(out.getvalue())
        if exited.exit_code in {report["exitCode"] for report in reports} and len(reports) == len(targets):
            return reports
    except EocatError as error:
        if len(targets) > 1:  # it ends the command for all of them: who was it?
            return [judge([one], trust=trust, **options)[0] for one in targets]
        name = f"{type(error).__name__} (exit {error.exit_code})"
        return [{"outcome": name, "exitCode": error.exit_code, "steps": []} for _ in targets]
    except Exception as error:  # noqa: BLE001  what the command does not catch either is what is looked for
        return [{"outcome": "CRASHED", "steps": [{"text": f"{UNEXPECTED} {error!r}"}]} for _ in targets]
    raise AssertionError("the command ended without an exit code")


def _write(target: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, data in files.items():
        (target / name).write_bytes(data)


# --- the process that works, and the one that watches it


def work(folder: Path, seed: str, first: int, until: float, batches: int, to_parent: Any) -> None:
    """Run batches from `first` on and tell of each: (batch, tally, seconds, peak MiB)."""
    fuzzer = Fuzzer(folder, seed)
    for batch in range(first, batches):
        if time.monotonic() > until:
            break
        to_parent.send(("begin", batch))
        began = time.process_time()
        tally = fuzzer.run(batch)
        to_parent.send(("done", batch, tally, time.process_time() - began, _peak_mib()))
    to_parent.send(("end",))


def _peak_mib() -> float:
    """The most memory that this process has had; `ru_maxrss` would begin with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def fuzz(folder: Path, seed: str, *, seconds: float = 1e9, count: int = 10**9) -> tuple[Tally, float, float]:
    """(tally, slowest batch in CPU s, peak MiB) after `count` mutations or `seconds`, whichever is first."""
    until, batches = time.monotonic() + seconds, -(-count // BATCH)
    total, slowest, peak, batch = Tally(), 0.0, 0.0, 0
    context = multiprocessing.get_context("spawn")
    while batch < batches and time.monotonic() < until:
        ours, theirs = context.Pipe()
        worker = context.Process(target=work, args=(folder, seed, batch, until, batches, theirs))
        worker.start()
        theirs.close()
        try:
            while True:
                if not ours.poll(HANGS_S):
                    raise EOFError
                match ours.recv():
                    case ("done", done, tally, took, used):
                        total.add(tally)
                        slowest, peak, batch = max(slowest, took), max(peak, used), done + 1
                    case ("end",):
                        worker.join()
                        return total, slowest, peak
        except EOFError:
            worker.kill()
            worker.join()
            total.failures.append(f"{seed}/{batch}: the process ended with {worker.exitcode} in this batch")
            batch += 1
    return total, slowest, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument(
        "--only", metavar="SEED/BATCH[/PLACE]", help="Make one again, keep it and show its report."
    )
    arguments = parser.parse_args()
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="eocat-fuzz-", dir=shared if shared.is_dir() else None))
    if arguments.only:
        return _again(folder, arguments.only)
    if arguments.seconds == 1e9 and arguments.count == 10**9:
        parser.error("say --seconds or --count")
    began = time.monotonic()
    try:
        tally, slowest, peak = fuzz(folder, arguments.seed, seconds=arguments.seconds, count=arguments.count)
    finally:
        shutil.rmtree(folder)
    done = sum(tally.outcomes.values())
    print(f"{done} mutated artefacts, seed {arguments.seed}, {time.monotonic() - began:.0f} s, "
          f"slowest batch of {BATCH} {slowest:.2f} s, peak {peak:.0f} MiB")  # fmt: skip
    for outcome, number in tally.outcomes.most_common():
        print(f" {number:>8} {outcome}")
    if slowest > LIMIT_S or peak > LIMIT_MIB:
        tally.failures.append(f"above {LIMIT_S} s of CPU in a batch or {LIMIT_MIB} MiB")
    print(" VERIFIED are those in which nothing that is signed differs (tests/attacks/allowed.py)")
    print(
        "\n".join(f" FAILED {failure}" for failure in tally.failures)
        or " 0 accepted, 0 unexpected, 0 over a limit"
    )
    return 1 if tally.failures or not done else 0


def _again(folder: Path, name: str) -> int:
    seed, batch, *place = name.rsplit("/", 2) if name.count("/") > 1 else name.rsplit("/", 1)
    fuzzer = Fuzzer(folder, seed)
    for number in [int(place[0])] if place else range(BATCH):
        case = fuzzer.make(int(batch), number)
        print(f"{case.name}: {case.mode}, {case.about}, kept in {case.target}", flush=True)
        tally = fuzzer.run(int(batch), range(number, number + 1))
        print(f" {dict(tally.outcomes)} {tally.failures}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
