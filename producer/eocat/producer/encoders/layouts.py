"""Weights files whose keys or tensors have another form than the nets: `LAYOUTS` turns them, by name.

Read in vishalned/MMEarth-train `helpers.py` (`remap_checkpoint_keys`), huggingface/transformers
`modeling_dinov2.py` and antofuller/CROMA `use_croma.py`.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]
    Layout = Callable[[Tensors], dict[str, torch.Tensor]]


def plain(tensors: "Tensors") -> "dict[str, torch.Tensor]":
    """As they are."""
    return dict(tensors)


def croma(modality: str) -> "Layout":
    """The encoder of one modality and its head, of a file that has three encoders."""

    def turn(tensors: "Tensors") -> "dict[str, torch.Tensor]":
        names = {f"{modality}_encoder.": "encoder.", f"{modality}_GAP_FFN.": "head."}
        return {
            new + key.removeprefix(old): value
            for key, value in tensors.items()
            for old, new in names.items()
            if key.startswith(old)
        }

    return turn


def mmearth(tensors: "Tensors") -> "dict[str, torch.Tensor]":
    """Sparse (MinkowskiEngine) or dense pretraining weights as a dense net.

    A sparse kernel is (k², in, out) or (k², channels), its first axis column by column.
    """
    found: dict[str, torch.Tensor] = {}
    for old, value in tensors.items():
        key = re.sub(r"\.(ln|linear)(?=\.(weight|bias)$)", "", old.removeprefix("encoder."))
        if key.endswith(".kernel"):
            key, value = key.removesuffix("kernel") + "weight", _dense_kernel(value)
        elif key.endswith(".bias"):
            value = value.reshape(-1)
        elif ".grn." in key:
            value = value.reshape(1, 1, 1, -1)
        found[key] = value
    return found


def _dense_kernel(value: "torch.Tensor") -> "torch.Tensor":
    edge = round(value.shape[0] ** 0.5)
    if value.dim() == 3:
        return value.permute(2, 1, 0).reshape(value.shape[2], value.shape[1], edge, edge).transpose(3, 2)
    return value.permute(1, 0).reshape(value.shape[1], 1, edge, edge).transpose(3, 2)


def dinov2_hf(tensors: "Tensors") -> "dict[str, torch.Tensor]":
    """The names of transformers' Dinov2Model as those of the original; query, key and value joined."""
    import torch

    names = [
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.register_tokens$", "register_tokens"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
        (r"^encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1$", r"blocks.\1.ls\2.gamma"),
        (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
        (r"^layernorm\.", "norm."),
    ]
    found: dict[str, torch.Tensor] = {}
    for old, value in tensors.items():
        if joined := re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)", old):
            parts = [value, *(tensors[old.replace(".query.", f".{part}.")] for part in ("key", "value"))]
            found[f"blocks.{joined[1]}.attn.qkv.{joined[2]}"] = torch.cat(parts)
        elif not re.search(r"\.attention\.attention\.(key|value)\.", old):
            key = old
            for pattern, name in names:
                key, count = re.subn(pattern, name, key)
                if count:
                    break
            found[key] = value
    return found


LAYOUTS: "Final[dict[str, Layout]]" = {
    "plain": plain,
    "croma-s1": croma("s1"),
    "croma-s2": croma("s2"),
    "mmearth": mmearth,
    "dinov2-hf": dinov2_hf,
}
