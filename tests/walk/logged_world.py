"""A catalogue whose log two real witnesses cosign, for the tests of levels 3 to 5."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from catalogue import new_database, running
from witnesses import Served, served

from eocat.catalog.admission import register
from eocat.catalog.cosign import witnesses_path
from eocat.catalog.database import Database
from eocat.catalog.keyring import Keyring, ensure_keyring
from eocat.producer.encoders import bank as banks
from eocat.producer.output import Produced, write_collection
from eocat.producer.produce import produce_scene
from eocat.producer.run import prepare_run
from eocat.producer.sequel import append_event
from eocat.producer.signer import KeyFile
from eocat.producer.sources import find_scenes
from eocat.producer.synthetic import write_scene
from eocat.verify.check import check
from eocat.verify.edge.fetch import fetch_envelopes, fetch_item
from eocat.verify.evidence import Evidence
from eocat.verify.keys import PublicKey
from eocat.verify.log.note import format_vkey
from eocat.verify.policy import LogTrust, Policy, draft_policy, parse_policy
from eocat.verify.report import Report


@dataclass(frozen=True)
class Logged:
    """A catalogue whose log two witnesses cosign, with three items, and a reader's policy."""

    url: str
    database: Database
    keyring: Keyring
    signer: KeyFile
    witnesses: tuple[Served, Served]
    shards: list[Produced]
    policy: Policy
    gather: Callable[[str], Evidence]

    def judge(self, item: str, policy: Policy | None = None, *, days: float = 0, **options: Any) -> Report:
        """The report on an item as the catalogue now serves it, so many days from now."""
        now = datetime.now(UTC) + timedelta(days=days)
        return check(self.gather(item), policy or self.policy, now=now, **options)

    @property
    def scenes(self) -> Path:
        return self.shards[0].folder.parents[1] / "scenes"

    def then(self, shard: Produced, **event: str) -> None:
        """Sign one more event of a shard and register it."""
        held = fetch_envelopes(f"{self.url}/collections/coasts/items/{shard.item}")
        append_event(shard.folder, held, event, self.signer, actor="tester")
        (admission,) = register(self.database, [shard.folder], self.policy)
        assert admission.status == "updated", admission.reason


def policy_of(keyring: Keyring, signer: KeyFile, registrar: PublicKey, *witnesses: Served) -> Policy:
    names = [f"w{number}" for number in range(len(witnesses))]
    lines = [f"log {format_vkey(keyring.verifier)}\n"]
    lines += [witness.line(name) for name, witness in zip(names, witnesses, strict=True)]
    lines += [f"group both all {' '.join(names)}\nquorum both\n" if names else "quorum none\n"]
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    log = LogTrust(policy="".join(lines), maxAgeHours=24)
    registrars = {"registrar": registrar}
    return parse_policy(draft_policy({"p": signer.public}, ["*"], start, 3, registrars=registrars, log=log))


@contextmanager
def logged_world(embedded: Database, folder: Path) -> Iterator[Logged]:
    (folder / "scenes").mkdir()
    for number, name in enumerate(("first", "second", "third")):
        write_scene(folder / "scenes" / f"{name}.tif", seed=number, size=128)
    signer = KeyFile.generate("p")
    scenes = find_scenes([folder / "scenes"])
    run = prepare_run(scenes, publisher="tester", collection="coasts", out=folder, chip_size=64)
    shards = [produce_scene(scene, run, signer) for scene in scenes]
    write_collection(run)
    with new_database(embedded) as database:
        home = database.required_home()
        keyring = ensure_keyring(home)
        follows = [keyring.verifier]
        with (
            served(folder / "w0", follows, "w0.example") as one,
            served(folder / "w1", follows, "w1.example") as two,
        ):
            policy = policy_of(keyring, signer, keyring.registrar, one, two)
            assert policy.log is not None
            witnesses_path(home).write_text(policy.log.policy)
            assert {each.status for each in register(database, [run.folder], policy)} == {"registered"}
            with running(database) as url:
                count = iter(range(1000))

                def gather(item: str) -> Evidence:
                    downloads = folder / f"downloads-{next(count)}"
                    downloads.mkdir()
                    return fetch_item(f"{url}/collections/coasts/items/{item}", downloads)

                yield Logged(url, database, keyring, signer, (one, two), shards, policy, gather)


def with_weights(logged: Logged, folder: Path) -> Path:
    """A folder with the scenes and the encoder's weights."""
    shutil.copytree(logged.scenes, folder)
    (weights,) = Path(banks.__file__).parent.glob("banks/exact-s2-l2a-*.safetensors")
    shutil.copy(weights, folder)
    return folder
