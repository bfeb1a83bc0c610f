"""Where the finished shards are that a user names: for who registers, here or at a catalogue afar."""

from collections.abc import Iterable
from pathlib import Path

from eocat.verify.errors import InputError
from eocat.verify.evidence import ITEM_FILE


def find_shards(directories: Iterable[Path]) -> list[Path]:
    """The folders of finished shards: each directory itself, or one or two levels below, in order.

    A folder whose name begins with a dot is one that a producer has not finished.
    """
    found: set[Path] = set()
    for directory in directories:
        items = [item for pattern in ("", "*/", "*/*/") for item in directory.glob(pattern + ITEM_FILE)]
        shards = {item.parent for item in items if not _is_hidden(item.parent.relative_to(directory))}
        if not shards:
            raise InputError(
                f"{directory} holds no finished shard", hint="name a folder that 'eocat produce' has written"
            )
        found |= {shard.resolve() for shard in shards}
    return sorted(found)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
