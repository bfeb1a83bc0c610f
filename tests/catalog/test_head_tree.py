"""head_tree.py: the database hashes the tree of heads that the verifier knows, at every size of the log."""

import hashlib
from collections.abc import Iterator

import pytest
from catalogue import new_database

from eocat.catalog.database import Database
from eocat.catalog.head_tree import HeadTree
from eocat.catalog.log_store import insert_entries
from eocat.verify.errors import LogViolation
from eocat.verify.log.entry import Entry, format_entry
from eocat.verify.log.heads import Absent, Head, SortedTree
from eocat.verify.merkle import leaf_hash

# In order of bytes, as the tree has them, which is not the order of a dictionary.
NAMES = ["10", "2", "A-1", "Z", "a", "a-1", "a.1", "a1", "a_1", "b" * 128]
EVENTS = [("CREATE", "active"), ("SUPERSEDE", "superseded"), ("WITHDRAW", "withdrawn")]


def entries() -> list[tuple[str, Entry, str]]:
    """(collection, entry, status): the items in another order, some with later events, and a neighbour."""
    found = []
    for seq, (event, status) in enumerate(EVENTS):
        for number in range(0, len(NAMES), seq + 1):
            name = NAMES[number * 7 % len(NAMES)]
            digests = [hashlib.sha256(f"{part} {name} {seq}".encode()).hexdigest() for part in "pe"]
            found.append(("demo", Entry("demo", name, seq, event, digests[0], digests[1]), status))
            found.append(("demo2", Entry("demo2", name, seq, event, digests[1], digests[0]), status))
    return found


@pytest.fixture(scope="module")
def database(embedded: Database) -> Iterator[Database]:
    with new_database(embedded) as database, database.connect() as connection:
        rows: list[tuple[object, ...]] = []
        for index, (collection, entry, status) in enumerate(entries()):
            data = format_entry(entry)
            rows.append((index, data, leaf_hash(data), collection, entry.item, entry.seq, status))
        insert_entries(connection, rows)
        connection.commit()
        yield database


def test_the_tree_is_the_verifier_s_at_every_size(database: Database) -> None:
    listed = entries()
    with database.connect("reader") as connection:
        for size in range(len(listed) + 1):
            heads: dict[str, Head] = {}
            for collection, entry, status in listed[:size]:
                if collection == "demo" and entry.seq >= getattr(heads.get(entry.item), "seq", 0):
                    heads[entry.item] = Head(entry.item, entry.seq, status, entry.payload)
            expected, found = SortedTree(list(heads.values())), HeadTree.at(connection, "demo", size)
            assert (len(found), found.root()) == (len(expected), expected.root()), size
            for name in (*NAMES, "", "1", "B", "a-", "b", "zz"):
                assert found.prove(name) == expected.prove(name), (size, name)
    assert [leaf.name for leaf in expected.leaves] == NAMES


def test_a_collection_that_the_log_does_not_know(database: Database) -> None:
    with database.connect("reader") as connection:
        tree = HeadTree.at(connection, "none", 100)
        assert (len(tree), tree.root()) == (0, SortedTree([]).root())
        assert tree.prove("a") == Absent(None, None)


def test_a_head_that_changes_under_the_tree_proves_nothing(database: Database) -> None:
    with database.connect() as connection:
        tree = HeadTree.at(connection, "demo", 100)
        connection.execute("SET LOCAL session_replication_role TO replica")  # as an intruder would
        connection.execute("UPDATE eocat.log_entry SET status = 'obsolete' WHERE item_id = 'a1'")
        with pytest.raises(LogViolation, match="demo/a1 is not the one"):
            tree.prove("a1")
        connection.execute("DELETE FROM eocat.log_entry WHERE item_id = 'a1'")
        with pytest.raises(LogViolation, match="demo/a1 any more"):
            tree.prove("a1")
        connection.rollback()
