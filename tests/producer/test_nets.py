"""Our nets against the published implementations: the same keys and shapes, the same features.

originals.json holds what timm, open_clip, torchgeo and MMEarth-train gave (make_originals.py).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from seeded import seeded_pixels, seeded_tensors

from eocat.producer.encoders.published import build_filled
from eocat.producer.encoders.registry import Model

ORIGINALS = json.loads(Path(__file__).with_name("originals.json").read_text("utf-8"))
VIT = {"channels": 3, "patch": 8, "width": 32, "depth": 2, "heads": 4, "image": 32}
TEXT = {"vocabulary": 60, "context": 12, "width": 64, "depth": 2, "heads": 4, "dimension": 24}
IMAGE = {"patch": 8, "width": 64, "depth": 2, "heads": 4, "dimension": 24, "image": 32}
SMALL = {"width": 32, "depth": 2, "heads": 4, "image": 32}
CROMA = {"width": 32, "depth": 4, "image": 32}
NOT_TEXT = ("visual.", "logit_scale", "logit_bias")


def model(architecture: str, parameters: dict[str, Any], **more: Any) -> Model:
    defaults = {"layout": "plain", "strip": "", "drop": ()}
    return Model(
        architecture=architecture, parameters=parameters, dimension=0, pooling="", url="", sha256=None,
        source=None, prefix=None, **(defaults | more),
    )  # fmt: skip


CASES = {
    "resnet-bottleneck": model("resnet", {"channels": 5, "block": "bottleneck", "depths": [1, 2, 1, 1]}),
    "resnet-basic": model("resnet", {"channels": 5, "block": "basic", "depths": [1, 2, 1, 1]}),
    "vit": model("vit", VIT | {"channels": 5}),
    "vit-map": model("vit", VIT | {"class_token": False, "mlp_ratio": "3.5", "pooling": "map"}),
    "vit-dinov2": model("vit", VIT | {"layer_scale": True, "registers": 2}),
    "clip-image": model("clip-image", IMAGE | {"quick": False}, strip="visual."),
    "clip-quick-image": model("clip-image", IMAGE | {"quick": True}, strip="visual."),
    "clip-text": model("clip-text", TEXT, drop=NOT_TEXT),
    "clip-quick-text": model("clip-text", TEXT | {"quick": True}, drop=NOT_TEXT),
    "siglip-text": model("clip-text", TEXT | {"causal": False, "mlp_ratio": "3.5"}, strip="text."),
    "dofa": model("dofa", SMALL | {"wavelengths": ["0.665", "0.56", "1.61"]}),
    "croma-s1": model("croma", CROMA | {"modality": "s1", "channels": 2}, layout="croma-s1"),
    "croma-s2": model("croma", CROMA | {"modality": "s2", "channels": 12}, layout="croma-s2"),
    "copernicus-fm": model(
        "copernicus-fm", SMALL | {"wavelengths": ["665", "560", "1610"], "bandwidths": ["30", "35", "90"]},
        drop=("patch_embed_variable.",),
    ),
    "convnextv2": model(
        "convnextv2", {"channels": 5, "patch": 8, "depths": [1, 2, 1, 1], "widths": [8, 16, 24, 32]},
        layout="mmearth",
    ),
}  # fmt: skip
TOKENS = torch.tensor([[58, 3, 7, 59, *[0] * 8], [58, 9, 59, *[0] * 9]])


def test_every_original_has_its_net() -> None:
    assert CASES.keys() == ORIGINALS.keys()


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_net_takes_the_original_s_keys_and_gives_its_features(name: str) -> None:
    expected = torch.tensor(ORIGINALS[name]["output"])
    net = build_filled(CASES[name], seeded_tensors(ORIGINALS[name]["keys"]), name)
    channels = {
        "resnet-bottleneck": 5,
        "resnet-basic": 5,
        "vit": 5,
        "convnextv2": 5,
        "croma-s1": 2,
        "croma-s2": 12,
    }
    size = 64 if name.startswith("resnet") else 32
    with torch.inference_mode():
        found = net(TOKENS) if name.endswith("-text") else net(seeded_pixels(channels.get(name, 3), size))
    assert (found[:, : expected.shape[1]] - expected).abs().max() < 2e-5 * expected.abs().max()
    assert not torch.allclose(found[0], found[1], rtol=1e-3)
