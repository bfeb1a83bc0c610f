"""From scenes to signed shards, in the order of docs/walk.md:

    1 digests   the scene's files are hashed before they are decoded,      identify.py
                and held against their manifest, Item and traces           evidence.py
    2 chips     windows in Hilbert order                                   chips.py
    3 vectors   windows read strip by strip, those without data left out,  reader.py, windows.py
                their integer pixels hashed, then encoded                  pipeline.py
    4 files     shard, row hashes, thumbnail, Item, statement to be signed draft.py
    5 signature of that statement                                          output.py
    6 name      the folder gets its own: from then on it counts            output.py

Here is the engine `local`, in which all that happens on one machine; ray_engine.py spreads steps 1 to 4.
"""

from collections.abc import Generator, Sequence
from contextlib import closing

from .choice import Refused
from .draft import Draft, Found
from .output import Produced, finish
from .pipeline import Progress, make_drafts
from .run import Run
from .signer import Signer
from .sources import Scene


def produce(
    scenes: Sequence[Scene],
    run: Run,
    signer: Signer,
    progress: Progress = lambda scene, done, total: None,
) -> Generator[Produced | Refused]:
    """Make, or find again, the shard of each scene, in the order given.

    A scene that cannot be used is Refused and the run goes on; ConfigError (a full disk) ends it. Close the
    iterator to end the run early; what was yielded is on disk.
    """

    def sign(draft: Draft) -> Produced:
        return finish(draft, run, signer)

    with closing(make_drafts(scenes, run, sign, progress)) as made:
        for one in made:
            yield found(one) if isinstance(one, Found) else one


def produce_scene(
    scene: Scene, run: Run, signer: Signer, progress: Progress = lambda scene, done, total: None
) -> Produced:
    """The shard of one scene. Raises the error with which it is refused."""
    with closing(produce([scene], run, signer, progress)) as made:
        one = next(made)
    if isinstance(one, Refused):
        raise one.error
    return one


def found(shard: Found) -> Produced:
    return Produced(shard.item, shard.folder, shard.rows, 0, shard.root, 0.0, fresh=False)
