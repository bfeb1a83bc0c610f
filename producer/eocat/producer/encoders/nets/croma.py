"""CROMA (Fuller et al. 2023, arXiv:2311.00566): radar and optical ViTs with 2D-ALiBi attention biases.

Keys and order of operations read in antofuller/CROMA `use_croma.py` and microsoft/torchgeo
`torchgeo/models/croma.py` (MIT). One modality is run; the joint encoder needs both images of a place.
"""

import math

import torch
from torch import nn
from torch.nn import functional

HEADS = 16  # in every published size
PATCH = 8


def alibi(heads: int, grid: int) -> torch.Tensor:
    """(1, heads, grid², grid²): minus the distance of two patches, times a slope of each head."""
    start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
    slopes = torch.tensor([start ** (i + 1) for i in range(heads)])
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    points = torch.stack([row, column], -1).reshape(-1, 2).double()
    return (-slopes[:, None, None] * torch.cdist(points, points).float())[None]


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        qkv = self.to_qkv(self.input_norm(x)).view(n, tokens, 3, HEADS, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out: torch.Tensor = self.to_out(y.transpose(1, 2).reshape(n, tokens, width))
        return out


class FeedForward(nn.Module):
    """Keys `input_norm`, `net.0`, `net.3` (1 and 2 are activation and dropout)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_norm = nn.LayerNorm(width)
        self.net = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(self.input_norm(x))
        return out


class Transformer(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        pairs = [nn.ModuleList([Attention(width), FeedForward(width)]) for _ in range(depth)]
        self.layers = nn.ModuleList(pairs)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = attention(x, bias) + x
            x = feed_forward(x) + x
        out: torch.Tensor = self.norm_out(x)
        return out


class Encoder(nn.Module):
    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.linear_input = nn.Linear(PATCH * PATCH * channels, width)
        self.transformer = Transformer(width, depth)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        patches = functional.unfold(x, PATCH, stride=PATCH).transpose(1, 2)  # channel, row, column
        out: torch.Tensor = self.transformer(self.linear_input(patches), bias)
        return out


class Croma(nn.Module):
    """modality: "s1" (depth / 2 layers) or "s2"; depth: of the optical encoder. Gives (N, width)."""

    def __init__(self, *, modality: str, channels: int, width: int, depth: int, image: int = 120) -> None:
        super().__init__()
        self.encoder = Encoder(channels, width, depth // 2 if modality == "s1" else depth)
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.register_buffer("bias", alibi(HEADS, image // PATCH), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.encoder(x, self.get_buffer("bias"))
        out: torch.Tensor = self.head(tokens.float().mean(1).to(tokens.dtype))
        return out
