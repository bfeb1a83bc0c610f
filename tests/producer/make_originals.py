"""Writes originals.json: what the published implementations give on seeded weights, with keys and shapes.

    pip install timm==1.0.31 open_clip_torch==3.3.0 torchgeo==0.8.1    # and a torchvision that imports
    python tests/producer/make_originals.py --torchgeo SITE/torchgeo/models --mmearth MMEarth-train

A maker, not a test: these libraries are not needed to run eocat or its tests. torchgeo's modules are loaded
one by one, since its package imports far more; MMEarth-train is a checkout of vishalned/MMEarth-train.
"""

import argparse
import importlib
import json
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from seeded import seeded_pixels, seeded_tensors, shapes_of

SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}


def declare_torchvision_operators() -> Any:
    """torchvision's wheel wants two operators declared that a CPU build of torch lacks; neither is used."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def fill(module: torch.nn.Module) -> torch.nn.Module:
    module.load_state_dict(seeded_tensors(shapes_of(module)))
    return module.eval()


def case(run: Callable[[], torch.Tensor], keys: dict[str, list[int]]) -> dict[str, Any]:
    with torch.inference_mode():
        return {"keys": keys, "output": [[round(v, 6) for v in row[:24]] for row in run().tolist()]}


def timm_cases() -> dict[str, Any]:
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet
    from timm.models.vision_transformer import VisionTransformer

    found = {}
    for name, block in (("resnet-bottleneck", Bottleneck), ("resnet-basic", BasicBlock)):
        net = fill(ResNet(block, [1, 2, 1, 1], in_chans=5, num_classes=0))
        found[name] = case(lambda net=net: net(seeded_pixels(5, 64)), shapes_of(net))
    vit = fill(VisionTransformer(in_chans=5, **SMALL_VIT))
    found["vit"] = case(lambda: vit(seeded_pixels(5, 32)), shapes_of(vit))
    siglip = fill(VisionTransformer(class_token=False, global_pool="map", mlp_ratio=3.5, **SMALL_VIT))
    found["vit-map"] = case(lambda: siglip(seeded_pixels(3, 32)), shapes_of(siglip))
    found["vit-dinov2"] = dinov2_case(VisionTransformer)
    return found


def dinov2_case(kind: Any) -> dict[str, Any]:
    """timm folds the class token's position into the token; the original file holds them apart."""
    net = kind(init_values=1e-5, reg_tokens=2, no_embed_class=True, **SMALL_VIT)
    keys = shapes_of(net)
    keys["register_tokens"] = keys.pop("reg_token")
    keys["pos_embed"][1] += 1
    original = seeded_tensors(keys)
    folded = dict(original)
    folded["reg_token"] = folded.pop("register_tokens")
    folded["cls_token"] = original["cls_token"] + original["pos_embed"][:, :1]
    folded["pos_embed"] = original["pos_embed"][:, 1:]
    net.load_state_dict(folded)
    return case(lambda: net.eval()(seeded_pixels(3, 32)), keys)


def open_clip_cases() -> dict[str, Any]:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    vision = CLIPVisionCfg(layers=2, width=64, head_width=16, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=12, vocab_size=60, width=64, heads=4, layers=2)
    tokens = torch.tensor([[58, 3, 7, 59, *[0] * 8], [58, 9, 59, *[0] * 9]])
    found = {}
    for name, quick in (("clip", False), ("clip-quick", True)):
        net = fill(CLIP(24, vision, text, quick_gelu=quick))
        found[f"{name}-image"] = case(lambda net=net: net.encode_image(seeded_pixels(3, 32)), shapes_of(net))
        found[f"{name}-text"] = case(lambda net=net: net.encode_text(tokens), shapes_of(net))
    siglip_text = CLIPTextCfg(
        context_length=12, vocab_size=60, width=64, heads=4, layers=2, mlp_ratio=3.5, no_causal_mask=True,
        proj_bias=True, pool_type="last", norm_kwargs={"eps": 1e-6},
    )  # fmt: skip
    net = fill(CustomTextCLIP(24, vision, siglip_text))
    found["siglip-text"] = case(lambda: net.encode_text(tokens), shapes_of(net))
    return found


def torchgeo_cases(folder: Path) -> dict[str, Any]:
    for name in ("torchgeo", "torchgeo.models", "torchgeo.samplers", "torchgeo.samplers.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchgeo.models"].__path__ = [str(folder)]
    sys.modules["torchgeo.samplers.utils"]._to_tuple = lambda v: v if isinstance(v, tuple) else (v, v)  # type: ignore[attr-defined]
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    dofa = importlib.import_module("torchgeo.models.dofa").DOFA(
        img_size=32, embed_dim=32, depth=2, num_heads=4, num_classes=0
    )
    tensors = seeded_tensors(shapes_of(dofa)) | plain_norm(32)
    dofa.load_state_dict(tensors)
    keys = {key: shape for key, shape in shapes_of(dofa).items() if not key.startswith("fc_norm")}
    waves = [0.665, 0.56, 1.61]
    found = {"dofa": case(lambda: dofa.eval()(seeded_pixels(3, 32), waves), keys)}
    croma = importlib.import_module("torchgeo.models.croma").CROMA(
        encoder_dim=32, encoder_depth=4, image_size=32
    )
    tensors = seeded_tensors(shapes_of(croma))
    tensors["attn_bias"] = croma.attn_bias
    croma.load_state_dict(tensors)
    keys = {key: shape for key, shape in shapes_of(croma).items() if key != "attn_bias"}
    pixels = {"s1": seeded_pixels(2, 32), "s2": seeded_pixels(12, 32)}
    for modality, name in (("s1", "sar_GAP"), ("s2", "optical_GAP")):
        run = lambda name=name: croma.eval()(pixels["s1"], pixels["s2"])[name]  # noqa: E731
        found[f"croma-{modality}"] = case(run, keys)
    found["copernicus-fm"] = copernicus_case(norm)
    return found


def copernicus_case(norm: Any) -> dict[str, Any]:
    module = importlib.import_module("torchgeo.models.copernicusfm")
    net = module.CopernicusFM(img_size=32, embed_dim=32, depth=2, num_heads=4, norm_layer=norm)
    net.load_state_dict(seeded_tensors(shapes_of(net)) | plain_norm(32))
    unknown, waves, widths = torch.full((2, 4), float("nan")), [665.0, 560.0, 1610.0], [30.0, 35.0, 90.0]
    keys = {key: shape for key, shape in shapes_of(net).items() if not key.startswith("fc_norm")}
    return case(lambda: net.eval()(seeded_pixels(3, 32), unknown, waves, widths), keys)


def plain_norm(width: int) -> dict[str, torch.Tensor]:
    """The norm that the published files do not bring, as it is when it is new."""
    return {"fc_norm.weight": torch.ones(width), "fc_norm.bias": torch.zeros(width)}


def mmearth_cases(folder: Path) -> dict[str, Any]:
    sys.path.insert(0, str(folder))
    net = importlib.import_module("models.convnextv2").ConvNeXtV2(
        patch_size=8, img_size=32, in_chans=5, num_classes=1, depths=[1, 2, 1, 1], dims=[8, 16, 24, 32]
    )
    tensors = seeded_tensors(shapes_of(net))
    tensors |= {"norm.weight": torch.ones(32), "norm.bias": torch.zeros(32)}
    net.load_state_dict(tensors)
    keys = {key: shape for key, shape in shapes_of(net).items() if not key.startswith(("norm.", "head."))}
    return {"convnextv2": case(lambda: net.eval().forward_features(seeded_pixels(5, 32)), keys)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--torchgeo", type=Path, required=True)
    parser.add_argument("--mmearth", type=Path, required=True)
    args = parser.parse_args()
    library = declare_torchvision_operators()
    cases = timm_cases() | open_clip_cases() | torchgeo_cases(args.torchgeo) | mmearth_cases(args.mmearth)
    del library
    lines = [f" {json.dumps(name)}: {json.dumps(cases[name])}" for name in sorted(cases)]
    Path(__file__).with_name("originals.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
