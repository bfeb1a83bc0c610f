"""Imported shards enter the catalogue as others do, and are found by a vector of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogue import new_database
from make_embeddings import write_earth_index
from shard_maker import new_signer, policy_for

from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.producer.import_cli import _asked, _open
from eocat.producer.importing.asked import Options
from eocat.producer.importing.shard import import_file, write_import_documents


@pytest.fixture
def catalogue(embedded: Database) -> Iterator[Database]:
    with new_database(embedded) as database:
        yield database


def test_an_imported_shard_is_registered(catalogue: Database, tmp_path: Path) -> None:
    signer, options = new_signer(), Options()
    opened, files = _open(write_earth_index(tmp_path / "21MNT.parquet", count=30), "earth-index", options)
    asked = _asked(
        opened, "earth-index", options, None, name=None, version=None, collection="earth",
        out=tmp_path / "out", publisher="tester", licence="other", source_prefix=None,
    )  # fmt: skip
    (produced,) = import_file(opened, files, asked, signer)
    write_import_documents(asked, kind="chip")
    (admission,) = register(catalogue, [produced.folder], policy_for(signer))
    assert admission.rows == 30
