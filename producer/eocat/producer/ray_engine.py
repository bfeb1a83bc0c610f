"""The engine `ray`: one worker per node (per GPU on CUDA) makes drafts, this process checks and signs them.

The private key stays here. A worker is a plain actor that runs the pipeline of the local engine for one scene
at a time and writes the draft into `--out`, which all nodes must share, as they must share the scenes. Making
a scene twice under one recipe gives the same bytes: so when a worker is lost, with its node or alone, its
scene is given to another, and what it had written does not count. Ray itself restarts nothing: the task of an
actor that waits for a node that never comes back would wait with it.
"""

import os
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, sleep
from typing import Any, Final, NoReturn

from eocat.verify.errors import ConfigError, EocatError, InputError

from .choice import Refused
from .draft import Draft, Found
from .encoders import load_encoder
from .evidence import EvidenceRules
from .output import Produced, finish
from .pipeline import Progress, make_drafts
from .produce import found
from .run import Run, space_of
from .signer import Signer
from .sources import Scene

MAX_LOSSES: Final = 3  # workers that one scene may take with it
PATIENCE_S: Final = 60
_LOOK_S: Final = 2.0  # how often nodes are counted


@dataclass(slots=True)
class _Task:
    scene: Scene
    losses: int = 0


class Worker:
    """What runs on a node. Its encoder is loaded there: neither weights nor keys travel."""

    def __init__(self, run: Run, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        recipe = run.recipe
        encoder = load_encoder(
            recipe.encoder,
            recipe.bands,
            device=run.device,
            checkpoint=run.checkpoint,
            precision=recipe.precision if run.checkpoint else None,
        )
        if space_of(encoder) != recipe.space:
            raise ConfigError(
                f"encoder {recipe.encoder} of a worker is of another space than this machine's: "
                "the same version of eocat is expected on all nodes"
            )
        self._run = replace(run, encoder=encoder, threads=threads)

    def ready(self) -> None:
        """Answers once the encoder is loaded."""

    def make(self, scene: Scene) -> Draft | Found | Refused | EocatError:
        """The scene's draft. An error that ends the run is returned, not raised: Ray would wrap it."""
        try:
            (made,) = make_drafts([scene], self._run, lambda draft: draft)
        except EocatError as error:
            return error
        return made


def produce_on_ray(
    scenes: Sequence[Scene],
    run: Run,
    signer: Signer,
    progress: Progress = lambda scene, done, total: None,
) -> Generator[Produced | Refused]:
    """As `produce`, in the order in which shards get done; progress is by scenes.

    Uses the cluster that RAY_ADDRESS names, or else one on this machine. Raises ConfigError where no node has
    room for a worker within a minute, and for a draft that is not what was asked for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    connects = not ray.is_initialized()
    if connects:
        _connect(ray)
    crew = _Crew(ray, run)
    try:
        waiting = deque(_Task(scene) for scene in scenes)
        while waiting or crew.busy:
            crew.look_around()
            while waiting and crew.idle:
                crew.give(waiting.popleft())
            for task, made in crew.results():
                if made is None:
                    task.losses += 1
                    if task.losses < MAX_LOSSES:
                        waiting.appendleft(task)
                        continue
                    made = Refused(task.scene.id, _lost(task.scene))
                progress(task.scene.id, 1, 1)
                yield _delivered(made, run, signer)
    finally:
        crew.dismiss()
        if connects:
            ray.shutdown()


class _Crew:
    """The workers: one on each node, or one on each of its GPUs, as nodes come and go."""

    def __init__(self, ray: Any, run: Run) -> None:
        self._ray = ray
        self._on_gpus = str(run.encoder.device) != "cpu"
        portable = replace(run, encoder=None, evidence=_settled(run.evidence))  # type: ignore[arg-type]
        self._run = ray.put(portable)  # the worker puts its own encoder in
        self._nodes: dict[Any, str] = {}  # worker → its node
        self._joining: dict[Any, Any] = {}  # answer to come → worker
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, _Task]] = {}  # answer to come → worker, task
        self._looked, self._deadline = 0.0, monotonic() + PATIENCE_S

    def look_around(self) -> None:
        """Start workers on nodes that have too few, every few seconds."""
        if monotonic() - self._looked < _LOOK_S:
            return
        self._looked = monotonic()
        for node in self._ray.nodes():
            resources = node["Resources"]
            places = int(resources.get("GPU" if self._on_gpus else "CPU", 0))
            wanted = places if self._on_gpus else min(places, 1)
            here = sum(place == node["NodeID"] for place in self._nodes.values())
            for _ in range(here, wanted if node["Alive"] else 0):
                self._start(node["NodeID"], max(1, int(resources.get("CPU", 1)) // wanted))
        if self.idle or self.busy:
            self._deadline = monotonic() + PATIENCE_S
        elif monotonic() > self._deadline:
            raise ConfigError(
                f"no node of the Ray cluster took a worker in {PATIENCE_S} s",
                hint="each needs a free CPU, with --device cuda a free GPU: see 'ray status'",
            )

    def give(self, task: _Task) -> None:
        worker = self.idle.pop()
        self.busy[worker.make.remote(task.scene)] = (worker, task)

    def results(self) -> list[tuple[_Task, Any]]:
        """Tasks that have ended, with what `make` gave, or None if the worker was lost."""
        ended: list[tuple[_Task, Any]] = []
        answers = [*self.busy, *self._joining]
        if not answers:
            sleep(_LOOK_S)
            return ended
        for answer in self._ray.wait(answers, num_returns=1, timeout=_LOOK_S)[0]:
            worker, task = self.busy.pop(answer, (None, None))
            worker = worker or self._joining.pop(answer)
            try:
                made = self._ray.get(answer)
            except self._ray.exceptions.RayActorError as error:
                if getattr(error, "actor_init_failed", False):
                    raise ConfigError(f"a Ray worker cannot start: {_last_line(error)}") from error
                self._let_go(worker)
                made = None
            else:
                self.idle.append(worker)
            if task is not None:
                ended.append((task, made))
        return ended

    def dismiss(self) -> None:
        for worker in list(self._nodes):
            self._let_go(worker)

    def _start(self, node: str, threads: int) -> None:
        place = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        actor = self._ray.remote(Worker).options(
            num_cpus=1, num_gpus=int(self._on_gpus), max_restarts=0, scheduling_strategy=place
        )
        worker = actor.remote(self._run, threads)
        self._nodes[worker] = node
        self._joining[worker.ready.remote()] = worker

    def _let_go(self, worker: Any) -> None:
        del self._nodes[worker]
        self._ray.kill(worker)


def _connect(ray: Any) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:  # a cluster of its own, which listens on this machine alone
        options |= {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster: {_last_line(error)}",
            hint="check RAY_ADDRESS, or unset it for this machine alone",
        ) from error


def _delivered(made: Draft | Found | Refused | EocatError, run: Run, signer: Signer) -> Produced | Refused:
    if isinstance(made, EocatError):
        raise made
    if isinstance(made, Draft):
        return finish(made, run, signer)
    return found(made) if isinstance(made, Found) else made


def _settled(rules: EvidenceRules) -> EvidenceRules:
    """The rules with the pins of this machine's policy, or with the reason why there are none."""
    try:
        return replace(rules, pins=partial(tuple, tuple(rules.pins())))
    except EocatError as error:
        return replace(rules, pins=partial(_raise, error))


def _raise(error: EocatError) -> NoReturn:
    raise error


def _lost(scene: Scene) -> InputError:
    return InputError(
        f"scene {scene.id} was lost with its worker {MAX_LOSSES} times",
        hint="a worker may have too little memory: see 'ray logs', or try the scene with --engine local",
    )


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
