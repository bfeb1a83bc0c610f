"""A log to test: shards registered one by one, and the events that a producer signs after them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogue import fetch_all
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard

from eocat.catalog.admission import Admission, register
from eocat.catalog.database import Database
from eocat.catalog.keyring import read_verifier
from eocat.catalog.log import log_folder
from eocat.catalog.log_audit import Audit, FolderSource, audit
from eocat.catalog.log_evidence import open_checkpoint
from eocat.producer.sequel import append_event, projection_in
from eocat.producer.signer import KeyFile
from eocat.verify.evidence import read_envelopes
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.policy import Policy

ENCODER = DrawnEncoder(dimension=8)


@dataclass(frozen=True)
class LogWorld:
    """A catalogue's database with its home, a trusted producer, and the folder of the shards."""

    database: Database
    out: Path
    signer: KeyFile = field(default_factory=new_signer)

    @property
    def home(self) -> Path:
        return self.database.required_home()

    @property
    def policy(self) -> Policy:
        return policy_for(self.signer)

    def write(self, item: str, collection: str = "demo", **options: Any) -> Path:
        options = {"count": 6, "encoder": ENCODER, **options}
        return write_shard(self.out, collection, item, signer=self.signer, **options)

    def add(self, item: str, collection: str = "demo", **options: Any) -> Admission:
        return self.register(self.write(item, collection, **options))

    def register(self, folder: Path, policy: Policy | None = None) -> Admission:
        (admission,) = register(self.database, [folder], policy or self.policy)
        return admission

    def held(self, item: str, collection: str = "demo") -> list[bytes]:
        """The envelopes that the catalogue has of an item."""
        query = "SELECT envelope FROM eocat.event WHERE collection = %s AND item_id = %s ORDER BY seq"
        return [bytes(row[0]) for row in fetch_all(self.database, query, collection, item)]

    def sign(self, item: str, event: str, signer: KeyFile | None = None, **members: Any) -> Path:
        """The producer's next event of a registered item, in the item's folder."""
        folder = self.out / "demo" / item
        append_event(
            folder, self.held(item), {"event": event, **members}, signer or self.signer, actor="Example"
        )
        return folder

    def update(self, item: str, title: str, **properties: Any) -> Path:
        """Edit the Item in its folder, and sign that."""
        path = self.out / "demo" / item / "item.json"
        document = json.loads(path.read_text())
        document["properties"] |= {"title": title, **properties}
        path.write_text(json.dumps(document))
        return self.sign(item, "UPDATE", projection=projection_in(path.parent))

    def checkpoint(self) -> Checkpoint:
        """The published one, with its signature checked."""
        note = log_folder(self.home).read_checkpoint()
        assert note is not None
        return open_checkpoint(note, read_verifier(self.home))

    def audit(self, home: Path) -> Audit:
        return audit(FolderSource(self.home / "log"), read_verifier(self.home), home)

    def entries(self) -> list[tuple[int, str | None, int | None]]:
        """(index, item, seq) of all entries; None for heads entries."""
        return [
            (row[0], row[1], row[2])
            for row in fetch_all(self.database, "SELECT index, item_id, seq FROM eocat.log_entry ORDER BY 1")
        ]

    def in_folder(self, item: str) -> tuple[bytes, ...]:
        return read_envelopes(self.out / "demo" / item / "attestation.jsonl")


def without_triggers(database: Database, *statements: str) -> None:
    """What an insider with the owner's rights can do: switch the triggers off and rewrite."""
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)
