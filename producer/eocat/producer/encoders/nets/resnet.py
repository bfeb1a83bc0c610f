"""ResNet (He et al. 2016, arXiv:1512.03385) with the keys of torchvision and timm, global mean pooling.

Stride on the 3×3 convolution of a bottleneck ("v1.5"), as both libraries have it. Keys read in
pytorch/vision `models/resnet.py` and huggingface/pytorch-image-models `timm/models/resnet.py`.
"""

from collections.abc import Sequence

import torch
from torch import nn


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """1×1 convolution where the block changes the shape; keys `downsample.0`, `downsample.1`."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """channels: of the input; block: "basic" or "bottleneck"; depths: blocks of the four stages.

    Gives (N, 8 · width · expansion): 512 for ResNet18, 2048 for ResNet50 (width 64).
    """

    def __init__(self, *, channels: int, block: str, depths: Sequence[int], width: int = 64) -> None:
        super().__init__()
        kind = Bottleneck if block == "bottleneck" else BasicBlock
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, depth in enumerate(depths):
            planes, blocks = width << stage, nn.Sequential()
            for place in range(depth):
                blocks.append(kind(inputs, planes, 2 if stage and not place else 1))
                inputs = planes * kind.expansion
            self.add_module(f"layer{stage + 1}", blocks)
        self._stages = len(depths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(self._stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.float().mean((2, 3))
