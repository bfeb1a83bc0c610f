"""The architectures of the published encoders, with the parameter names of their weights files; torch alone.

Every module takes float pixels (N, C, H, W) and gives pooled features (N, D). They are inference only: no
dropout, no stochastic depth, no heads. `build_net` makes one by the name that the registry gives it.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from .clip import ClipImage, ClipText
from .convnext import ConvNeXtV2
from .croma import Croma
from .dynamic import CopernicusFM, Dofa
from .resnet import ResNet
from .vit import ViT

NETS: dict[str, Callable[..., nn.Module]] = {
    "resnet": ResNet,
    "vit": ViT,
    "dofa": Dofa,
    "copernicus-fm": CopernicusFM,
    "croma": Croma,
    "convnextv2": ConvNeXtV2,
    "clip-image": ClipImage,
    "clip-text": ClipText,
}


def build_net(architecture: str, parameters: dict[str, Any]) -> nn.Module:
    """The architecture with random weights, in evaluation mode and without gradients."""
    return NETS[architecture](**parameters).eval().requires_grad_(requires_grad=False)
