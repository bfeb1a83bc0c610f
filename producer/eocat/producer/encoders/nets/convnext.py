"""ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808) with the stem of MMEarth (arXiv:2405.02771).

Keys and order of operations read in vishalned/MMEarth-train `models/convnextv2.py` and `norm_layers.py`
(CC-BY-4.0; ConvNeXt-V2 by Meta: MIT for the code). The stem is a 3×3 convolution without padding and a
depthwise one whose stride is the patch size over 8.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    """Global response normalisation of (N, H, W, C); the 1e-4 is MMEarth's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        out: torch.Tensor = self.gamma * (x * (norm / (norm.mean(-1, keepdim=True) + 1e-4))) + self.beta + x
        return out


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.grn = ResponseNorm(4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(nn.functional.gelu(self.pwconv1(y))))
        out: torch.Tensor = x + y.permute(0, 3, 1, 2)
        return out


class ConvNeXtV2(nn.Module):
    """channels: of the input; patch: pixels of the last stage's cell; depths and widths of the four stages.

    Gives (N, widths[3]): LayerNorm without weights of the mean over the last stage; the pretraining has none.
    """

    def __init__(self, *, channels: int, patch: int, depths: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        first, stride = widths[0], patch // 8
        self.initial_conv = nn.Sequential(
            nn.Conv2d(channels, first, 3), ChannelNorm(first, eps=1e-6), nn.GELU()
        )
        self.stem = nn.Sequential(
            nn.Conv2d(first, first, stride, stride, stride // 2, groups=first), ChannelNorm(first, eps=1e-6)
        )
        self.downsample_layers = nn.ModuleList(
            nn.Sequential(ChannelNorm(inputs, eps=1e-6), nn.Conv2d(inputs, outputs, 2, 2))
            for inputs, outputs in pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages[0](self.stem(self.initial_conv(x)))
        for downsample, stage in zip(self.downsample_layers, list(self.stages)[1:], strict=True):
            x = stage(downsample(x))
        mean = x.float().mean((2, 3))
        return nn.functional.layer_norm(mean, mean.shape[1:], eps=1e-6)
