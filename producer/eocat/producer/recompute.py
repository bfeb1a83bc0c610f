"""Making rows again for a verifier: the entry point `eocat.recompute` (eocat.verify.recompute)."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from eocat.verify.digest import Digests, digest_file
from eocat.verify.errors import InputError, Malformed, UsageError
from eocat.verify.recompute import Again, NotRecomputable, Window
from eocat.verify.row import pixels_digest
from eocat.verify.statement import Create, Source

from .decoders import Decoders
from .encoders import Checkpoint, Encoder, load_encoder
from .run import space_of
from .sources import Scene, Told, find_scenes
from .windows import Windows

BATCH = 16


def recompute(create: Create, windows: Sequence[Window], folder: Path) -> list[Again]:
    """The rows of these windows, from the statement's scene in `folder` with its encoder, in the order given.

    Raises NotRecomputable where the scene is not there with the signed bytes, a window does not lie in it, or
    the encoder here is missing or another one.
    """
    scene = _find_scene(create.scenes[0], folder, _told(create))
    encoder = _find_encoder(create, scene, folder)
    for window in windows:
        if not (0 <= window.x <= scene.width - window.size and 0 <= window.y <= scene.height - window.size):
            text = f"window {window.x},{window.y} of {window.size} pixels is not inside {scene.id}"
            raise NotRecomputable("no-source", text)
    made: dict[int, Again] = {}
    threads = os.cpu_count() or 1
    with Decoders(threads) as decoders, ThreadPoolExecutor(threads) as cutters:
        for size in {window.size for window in windows}:
            alike = [number for number, window in enumerate(windows) if window.size == size]
            squares = Windows(scene, encoder.bands, [windows[number] for number in alike], decoders)
            for places, pixels in squares.batches(BATCH, cutters):
                vectors = encoder.encode(pixels, offset=scene.offset)
                little_endian = vectors.astype(np.dtype(create.rows.dtype).newbyteorder("<"), copy=False)
                for place, chip, vector in zip(places, pixels, little_endian, strict=True):
                    made[alike[place]] = Again(pixels_digest(chip), vector.tobytes())
    return [made[number] for number in range(len(windows))]


def _told(create: Create) -> Told:
    """What the publisher said of the scene, as the statement has it."""
    match create.parameters.get("told"):
        case {"values": str() | None as values, "offset": int() | None as offset, "bands": list(bands)}:
            with suppress(UsageError):
                return Told(values, offset, tuple(str(band) for band in bands))  # type: ignore[arg-type]
    raise NotRecomputable("no-source", "the statement does not say what its publisher told of the scene")


def _find_encoder(create: Create, scene: Scene, folder: Path) -> Encoder:
    """The encoder that the statement names, of the same space and in the same precision class.

    The weights of a published one are a file in `folder` with the last part of the name that is signed; they
    are loaded only if they have the signed SHA-256.
    """
    precision, checkpoint = create.tolerance.get("precision"), None
    if precision is not None and create.encoder.weights:
        signed = create.encoder.weights[0]
        checkpoint = Checkpoint(folder / Path(signed.name).name, signed.sha256)
    try:
        encoder = load_encoder(create.encoder.name, scene.bands, checkpoint=checkpoint, precision=precision)
    except (UsageError, InputError, Malformed) as error:
        raise NotRecomputable("no-encoder", str(error), hint=error.hint) from error
    if space_of(encoder) != create.space:
        text = f"the encoder {encoder.name} of this installation is of another space than the statement's"
        raise NotRecomputable("other-space", text)
    return encoder


def _find_scene(source: Source, folder: Path, told: Told) -> Scene:
    """The scene of that name in the folder, its files as signed."""
    try:
        scenes = find_scenes([folder], told, refuse=lambda error: None)
    except InputError as error:
        raise NotRecomputable("no-source", str(error), hint=error.hint) from error
    for scene in scenes:
        if scene.id != source.name:
            continue
        found = {file.name: digest_file(file.path) for file in scene.files}
        if found != {file.name: Digests(file.sha256, file.blake3, file.size) for file in source.files}:
            raise NotRecomputable("no-source", f"scene {scene.id} in {folder} is not the signed one")
        return scene
    raise NotRecomputable("no-source", f"{folder} holds no scene {source.name}")
