"""Which encoder a run takes: the one that its scenes' bands select, and which scenes it cannot take.

One odd scene among many must not stop the others, and nobody must find two spaces in one collection: the
encoder that most scenes select is the run's, and those that select another, or none, are refused by name.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eocat.verify.errors import EocatError, InputError, UsageError

from .encoders import Encoder
from .sources import Scene

Load = Callable[[tuple[str, ...]], Encoder]  # for a scene of these bands; InputError where it lacks one


@dataclass(frozen=True, slots=True)
class Refused:
    """A scene that gives no shard, and why."""

    scene: str
    error: EocatError


@dataclass(frozen=True, slots=True)
class Choice:
    """encoder: None where no scene has its bands. scenes: those that it takes, in the order given."""

    encoder: Encoder | None
    scenes: list[Scene]
    refused: list[Refused]


def choose_encoder(scenes: Sequence[Scene], load: Load) -> Choice:
    """The choice for a run; `load` is called once for each set of bands.

    Raises UsageError where as many scenes select one encoder as another, and what `load` raises but for
    InputError.
    """
    selected: dict[tuple[str, ...], Encoder | EocatError] = {}
    for bands in {scene.bands: None for scene in scenes}:
        try:
            selected[bands] = load(bands)
        except InputError as error:
            selected[bands] = error
    votes = Counter(
        encoder.name for scene in scenes if not isinstance(encoder := selected[scene.bands], EocatError)
    )
    match votes.most_common(2):
        case [(one, first), (two, second)] if first == second:
            raise UsageError(
                f"as many scenes select the encoder {one} as {two}",
                hint="vectors of two spaces cannot be compared: produce them into two collections",
            )
    chosen = next(iter(dict(votes.most_common(1))), None)
    taken: list[Scene] = []
    refused: list[Refused] = []
    run: Encoder | None = None
    for scene in scenes:
        found = selected[scene.bands]
        if isinstance(found, EocatError):
            named = InputError(f"scene {scene.id} cannot be used: {found}", hint=found.hint)
            refused.append(Refused(scene.id, named))
        elif found.name == chosen:
            run = run or found
            taken.append(scene)
        else:
            refused.append(Refused(scene.id, _other(scene, found.name, str(chosen))))
    return Choice(run, taken, refused)


def _other(scene: Scene, selects: str, chosen: str) -> InputError:
    return InputError(
        f"scene {scene.id} has the bands of encoder {selects}, this run's is {chosen}",
        hint="vectors of two spaces cannot be compared: produce it into another collection",
    )
