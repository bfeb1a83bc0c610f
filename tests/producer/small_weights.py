"""Small random weights of a registry entry, in the true layout of keys of its published file."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from seeded import seeded_tensors, shapes_of

from eocat.producer.encoders.checkpoint import Checkpoint
from eocat.producer.encoders.nets import build_net
from eocat.producer.encoders.registry import Entry, Model, find_entry
from eocat.verify.digest import digest_file

_WIDTH = {"width": 32, "depth": 2, "heads": 4}
SMALLER: dict[str, tuple[dict[str, Any], int]] = {  # architecture → parameters that shrink it, dimension
    "resnet": ({"width": 8, "depths": [1, 1, 1, 1]}, 64),  # four times that with bottlenecks
    "vit": (_WIDTH, 32),
    "dofa": (_WIDTH, 32),
    "copernicus-fm": (_WIDTH, 32),
    "croma": ({"width": 32, "depth": 4}, 32),
    "convnextv2": ({"depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32]}, 32),
    "clip-image": (_WIDTH | {"dimension": 24}, 24),
    "clip-text": (_WIDTH | {"dimension": 24}, 24),
}
EXTRA = {
    "fc.": [5, 8],
    "head.": [5, 8],
    "mask_token": [1, 8],
    "logit_scale": [],
    "decoder": [3],
    "norm.": [8],
}


def small_model(model: Model) -> Model:
    shrink, dimension = SMALLER[model.architecture]
    if model.parameters.get("block") == "bottleneck":
        dimension *= 4
    return replace(
        model, parameters=dict(model.parameters) | shrink, dimension=dimension, sha256=None, prefix=None
    )


def small_entry(name: str) -> Entry:
    """The entry with a model of small width and depth; bands, size and preprocessing are the real ones."""
    entry = find_entry(name)
    return replace(entry, model=small_model(entry.model))


def file_tensors(model: Model) -> dict[str, torch.Tensor]:
    """Seeded tensors under the keys of the published file, with keys that the encoder leaves aside."""
    net = build_net(model.architecture, dict(model.parameters))
    tensors = {
        _as_published(model.layout, key): value for key, value in seeded_tensors(shapes_of(net)).items()
    }
    if model.layout == "dinov2-hf":
        tensors = _split_qkv(tensors)
    tensors = {model.strip + _inside(model.layout) + key: value for key, value in tensors.items()}
    for drop in model.drop:
        if drop in EXTRA:
            key = model.strip + (drop + "weight" if drop.endswith(".") else drop)
            tensors[key] = torch.zeros(EXTRA[drop])
    return tensors


def _inside(layout: str) -> str:
    return "encoder." if layout == "mmearth" else ""


def _as_published(layout: str, key: str) -> str:
    """Our key as the published file spells it: the other way round from `layouts.py`."""
    if layout.startswith("croma-"):
        modality = layout.removeprefix("croma-")
        return re.sub(r"^encoder\.", f"{modality}_encoder.", re.sub(r"^head\.", f"{modality}_GAP_FFN.", key))
    if layout == "dinov2-hf":
        for pattern, name in (
            (r"^(cls_token)$", r"embeddings.\1"), (r"^pos_embed$", "embeddings.position_embeddings"),
            (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."), (r"^norm\.", "layernorm."),
            (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
            (r"^blocks\.(\d+)\.ls(\d)\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
            (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
        ):  # fmt: skip
            key, count = re.subn(pattern, name, key)
            if count:
                return key
    return key


def _split_qkv(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        if ".attn.qkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[key.replace(".attn.qkv.", f".attention.attention.{name}.")] = part.clone()
        else:
            found[key] = value
    return found


def save_small(model: Model, folder: Path, *, form: str = "torch") -> Checkpoint:
    """The small weights as a file of that form, and its digest. form: "torch", "legacy" or "safetensors"."""
    tensors = file_tensors(model)
    path = folder / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    writers: dict[str, Callable[[], object]] = {
        "safetensors": lambda: save_file({k: v.contiguous() for k, v in tensors.items()}, path),
        "torch": lambda: torch.save(_nested(model, tensors), path),
        "legacy": lambda: torch.save(tensors, path, _use_new_zipfile_serialization=False),
    }
    writers[form]()
    return Checkpoint(path, digest_file(path).sha256)


def _nested(model: Model, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """CROMA's file holds a dictionary for each encoder, MMEarth's the model beside an epoch."""
    if model.layout == "mmearth":
        return {"model": {key.removeprefix("model."): value for key, value in tensors.items()}, "epoch": 199}
    if model.layout.startswith("croma-"):
        nested: dict[str, Any] = {}
        for key, value in tensors.items():
            part, _, rest = key.partition(".")
            nested.setdefault(part, {})[rest] = value
        return nested
    return tensors
