"""Which source files a finished shard was made from, by what the file system says of them (`--resume`).

`COLLECTION/.stamps/ITEM.json` holds size, time of change and inode of each of the scene's files when they
were hashed. With `--resume`, a shard whose stamps still hold is found again without reading the scene: the
digests are then those of its signed statement, and with the recipe they must give its task. A stamp never
enters a statement: whatever is made anew is hashed.
"""

import json
from pathlib import Path

from eocat.verify.errors import Malformed
from eocat.verify.evidence import read_limited
from eocat.verify.statement import Source

from .draft import Draft, Found, statement_in
from .identify import Stamp, stamp, times
from .run import Run
from .sources import Scene

MAX_BYTES = 1 << 20


def remember(draft: Draft, folder: Path) -> None:
    """Write the stamps of a shard that has just been finished in the `folder` of its collection."""
    if not draft.stamps:  # an import's
        return
    path = _path(folder, draft.item)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{draft.folder.name}")
    temporary.write_text(json.dumps([_plain(one) for one in draft.stamps]) + "\n", "ascii")
    temporary.replace(path)


def find_unread(scene: Scene, run: Run) -> Found | None:
    """The scene's shard, if it was made by this recipe from files that have the same stamps now."""
    target, path = run.folder / scene.id, _path(run.folder, scene.id)
    if not target.exists() or not path.is_file():
        return None
    try:
        held = json.loads(read_limited(path, MAX_BYTES))
    except (ValueError, Malformed):
        return None  # then the files are read
    if held != [_plain(stamp(file.path)) for file in scene.files]:
        return None
    create = statement_in(target).predicate
    source = create.sources[0]
    if not isinstance(source, Source) or [f.name for f in source.files] != [f.name for f in scene.files]:
        return None
    if create.parameters.get("task") != run.recipe.task(source.files, *times(scene, run)):
        return None
    return Found(scene.id, target, create.rows.count, create.rows.root)


def _plain(one: Stamp) -> list[int]:
    return [one.size, one.modified_ns, one.inode]


def _path(folder: Path, item: str) -> Path:
    return folder / ".stamps" / f"{item}.json"
