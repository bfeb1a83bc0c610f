"""Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) with timm's keys and its DINOv2 variant.

Keys and order of operations read in huggingface/pytorch-image-models `timm/models/vision_transformer.py` and
facebookresearch/dinov2 `dinov2/models/vision_transformer.py` (LayerScale, register tokens after the class
token and without a position). Position embeddings of another grid are resized once, when weights are loaded.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Pooling = Literal["cls", "mean", "map"]


class Attention(nn.Module):
    """Multi-head self-attention with joint `qkv`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        out: torch.Tensor = self.proj(y.transpose(1, 2).reshape(n, tokens, width))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, *, mlp_ratio: float, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: torch.Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class AttentionPool(nn.Module):
    """One learned query over all tokens (timm's AttentionPoolLatent, SigLIP's "map" head)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        q = self.q(self.latent.expand(n, -1, -1)).view(n, 1, self.heads, -1).transpose(1, 2)
        k, v = self.kv(x).view(n, tokens, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, 1, width)
        y = self.proj(y)
        pooled: torch.Tensor = (y + self.mlp(self.norm(y)))[:, 0]
        return pooled


class PatchEmbed(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return out


class ViT(nn.Module):
    """channels, patch, width, depth, heads: as named; image: edge in pixels that it is run at.

    weights_image: edge at which the position embeddings were trained, if another (resized bicubically).
    class_token: whether there is one; registers: how many; layer_scale: DINOv2's.
    pooling, after the last norm: "cls" the class token; "mean" of all tokens without registers, class token
    included; "map" attention pooling. Gives (N, width).
    """

    def __init__(
        self, *, channels: int, patch: int, width: int, depth: int, heads: int, image: int = 224,
        weights_image: int | None = None, class_token: bool = True, registers: int = 0,
        layer_scale: bool = False, mlp_ratio: float | str = 4.0, pooling: Pooling = "cls",
    ) -> None:  # fmt: skip
        super().__init__()
        ratio = float(mlp_ratio)
        self._grid, self._prefix, self._pooling = image // patch, int(class_token), pooling
        trained = (weights_image or image) // patch
        self.patch_embed = PatchEmbed(channels, width, patch)
        if class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self._registers = registers
        self.pos_embed = nn.Parameter(torch.zeros(1, trained * trained + self._prefix, width))
        blocks = [Block(width, heads, mlp_ratio=ratio, layer_scale=layer_scale) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if pooling == "map":
            self.attn_pool = AttentionPool(width, heads, ratio)

    def prepare(self) -> None:
        """Once weights are loaded: position embeddings of the grid that the net is run at."""
        self.pos_embed = resize_positions(self.pos_embed, self._grid, self._prefix)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T, width): class token, registers, patches row by row."""
        tokens: torch.Tensor = self.patch_embed(x)
        if self._prefix:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + self.pos_embed
        if self._registers:
            registers = self.register_tokens.expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], 1)
        return tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x)
        for block in self.blocks:
            tokens = block(tokens)
        pooled: torch.Tensor = self._pool(self.norm(tokens))
        return pooled

    def _pool(self, tokens: torch.Tensor) -> torch.Tensor:
        if self._pooling == "map":
            pooled: torch.Tensor = self.attn_pool(tokens)
            return pooled
        if self._pooling == "cls":
            return tokens[:, 0]
        patches = tokens[:, self._prefix + self._registers :]
        return torch.cat([tokens[:, : self._prefix], patches], 1).mean(1)


def resize_positions(positions: nn.Parameter, grid: int, prefix: int) -> nn.Parameter:
    """(1, prefix + grid², D) of position embeddings trained on another square grid, bicubic, no antialias."""
    trained = round((positions.shape[1] - prefix) ** 0.5)
    if trained == grid:
        return positions
    square = positions[:, prefix:].reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    flat = resized.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)
    return nn.Parameter(torch.cat([positions[:, :prefix], flat], 1), requires_grad=False)
