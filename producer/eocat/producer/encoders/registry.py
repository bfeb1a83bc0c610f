"""The published encoders that eocat knows: one TOML file per family in `families/`, read without torch.

A family file states who made the models, under which licence and where they were published; `[models.KEY]` an
architecture with its weights file; `[[encoders]]` a model with bands and preprocessing. One model under two
preprocessings is two encoders, since their vectors must not be compared. All numbers that are not whole stand
as text, as in a statement.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from eocat.verify.errors import Malformed, UsageError

from .layouts import LAYOUTS

Input = Literal["dn", "uint8", "centidecibel"]
INPUTS: Final[dict[str, str]] = {
    "dn": "DN after max(0, DN - scene offset)",
    "uint8": "uint8",
    "centidecibel": "backscatter in 0.01 dB",
}
_S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
BANDS: Final[dict[str, tuple[str, ...]]] = {
    "s2-l1c": _S2,
    "s2-l2a": tuple(band for band in _S2 if band != "B10"),
    "s2-rgb": ("B04", "B03", "B02"),
    "s2-satlas": ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12"),
    "s1": ("VV", "VH"),
    "rgb": ("red", "green", "blue"),
}


@dataclass(frozen=True, slots=True)
class Family:
    """Who made the models. licence: SPDX, of the weights; licence_note: what is uncertain about it."""

    title: str
    licence: str
    licence_note: str
    citation: str
    doi: str
    repository: str
    read_in: str  # repositories and files in which layout and preprocessing were read


@dataclass(frozen=True, slots=True)
class Model:
    """An architecture and its weights file.

    sha256: of the whole file, or None; source: where that was read; prefix: its first eight digits where only
    these are public. strip, drop: a prefix of all keys that is taken off, and beginnings of keys that the
    encoder leaves aside.
    """

    architecture: str
    parameters: Mapping[str, Any]
    dimension: int
    pooling: str
    url: str
    sha256: str | None
    source: str | None
    prefix: str | None
    layout: str
    strip: str
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One encoder of the registry. size: edge in pixels at which it is run; steps: see `preprocess.py`."""

    name: str
    family: Family
    model: Model
    bands: tuple[str, ...]
    input: Input
    size: int
    steps: tuple[Mapping[str, Any], ...]
    text: str | None  # name of the model of the text tower in the same space
    notes: tuple[str, ...]


def entry_names() -> list[str]:
    return sorted(_registry())


def find_entry(name: str) -> Entry:
    """The encoder of that name; UsageError, with those that are near, for an unknown one."""
    entries = _registry()
    if name not in entries:
        near = [known for known in sorted(entries) if known.split("-")[0] == name.split("-")[0]]
        raise UsageError(
            f"no encoder is named {name!r}",
            hint=f"one of {', '.join(near)}" if near else "`eocat encoders list` names them",
        )
    return entries[name]


def find_text_model(entry: Entry) -> Model:
    """The text tower that shares the space of `entry`; UsageError where there is none."""
    if entry.text is None:
        raise UsageError(f"encoder {entry.name} has no text tower", hint="choose a CLIP or SigLIP encoder")
    return _text_models()[entry.name]


@cache
def _registry() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for _, entries, _ in _families():
        for entry in entries:
            if entry.name in found:
                raise Malformed(f"encoder {entry.name} stands twice in the registry")
            found[entry.name] = entry
    return found


@cache
def _text_models() -> dict[str, Model]:
    return {
        entry.name: models[entry.text]
        for models, entries, _ in _families()
        for entry in entries
        if entry.text is not None
    }


def _families() -> list[tuple[dict[str, Model], list[Entry], Family]]:
    folder = resources.files(__package__) / "families"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda f: f.name)
    return [parse_family(file.read_text("utf-8"), file.name) for file in files]


def parse_family(text: str, name: str) -> tuple[dict[str, Model], list[Entry], Family]:
    """Models by key, encoders and the family of one TOML file; Malformed names what is wrong in it."""
    try:
        document = tomllib.loads(text)
        family = Family(**{key: document[key] for key in Family.__dataclass_fields__})
        models = {key: _model(table) for key, table in document["models"].items()}
        entries = [_entry(table, models, family) for table in document["encoders"]]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"registry file {name}: {type(error).__name__}: {error}") from None
    return models, entries, family


def _model(table: Mapping[str, Any]) -> Model:
    model = Model(
        architecture=table["architecture"],
        parameters=table["parameters"],
        dimension=table["dimension"],
        pooling=table["pooling"],
        url=table["url"],
        sha256=table.get("sha256"),
        source=table.get("sha256_source"),
        prefix=table.get("sha256_prefix"),
        layout=table.get("layout", "plain"),
        strip=table.get("strip", ""),
        drop=tuple(table.get("drop", ())),
    )
    if model.layout not in LAYOUTS:
        raise ValueError(f"layout {model.layout!r} is not one of {', '.join(LAYOUTS)}")
    if model.sha256 is not None and not (re.fullmatch(r"[0-9a-f]{64}", model.sha256) and model.source):
        raise ValueError(f"SHA-256 {model.sha256!r} is not 64 hex digits, or has no sha256_source")
    if model.prefix is not None and (model.sha256 or not re.fullmatch(r"[0-9a-f]{8}", model.prefix)):
        raise ValueError(
            f"sha256_prefix {model.prefix!r} is not 8 hex digits, or stands beside the whole digest"
        )
    return model


def _entry(table: Mapping[str, Any], models: Mapping[str, Model], family: Family) -> Entry:
    kind = table["input"]
    if kind not in INPUTS:
        raise ValueError(f"input {kind!r} is not one of {', '.join(INPUTS)}")
    return Entry(
        name=table["name"],
        family=family,
        model=models[table["model"]],
        bands=BANDS[table["bands"]],
        input=kind,
        size=table["size"],
        steps=tuple(table["steps"]),
        text=table.get("text"),
        notes=tuple(table.get("notes", ())),
    )
