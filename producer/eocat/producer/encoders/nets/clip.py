"""The two towers of CLIP (Radford et al. 2021, arXiv:2103.00020) and the text tower of SigLIP (2303.15343).

Keys and order of operations read in mlfoundations/open_clip `src/open_clip/transformer.py` and `model.py`
(MIT). OpenAI's weights use QuickGELU, the other CLIPs of open_clip GELU. SigLIP's image tower is `ViT`.
"""

import torch
from torch import nn
from torch.nn import functional


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention's keys (`in_proj_weight`, `out_proj`)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        n, tokens, width = x.shape
        qkv = functional.linear(x, self.in_proj_weight, self.in_proj_bias).view(n, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        out: torch.Tensor = self.out_proj(y.transpose(1, 2).reshape(n, tokens, width))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, *, quick: bool, eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)})
        self._activation = quick_gelu if quick else functional.gelu

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x), causal=causal)
        out: torch.Tensor = x + self.mlp["c_proj"](self._activation(self.mlp["c_fc"](self.ln_2(x))))
        return out


class Transformer(nn.Module):
    def __init__(
        self, width: int, depth: int, heads: int, *, mlp_ratio: float = 4.0, quick: bool, eps: float = 1e-5
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.resblocks = nn.ModuleList(
            Block(width, heads, hidden, quick=quick, eps=eps) for _ in range(depth)
        )

    def forward(self, x: torch.Tensor, *, causal: bool) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, causal=causal)
        return x


class ClipImage(nn.Module):
    """The image tower. dimension: of the common space. Gives (N, dimension), not normalised."""

    def __init__(
        self, *, patch: int, width: int, depth: int, heads: int, dimension: int, image: int = 224, quick: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((image // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, depth, heads, quick=quick)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, dimension))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(tokens), 1, -1)
        tokens = torch.cat([first, tokens], 1) + self.positional_embedding
        tokens = self.transformer(self.ln_pre(tokens), causal=False)
        out: torch.Tensor = self.ln_post(tokens[:, 0]) @ self.proj
        return out


class ClipText(nn.Module):
    """The text tower: token numbers (N, context) → (N, dimension), not normalised.

    causal: CLIP, pooled at the end-of-text token (the highest number); else SigLIP, pooled at the last token,
    with a bias on its projection.
    """

    def __init__(
        self, *, vocabulary: int, context: int, width: int, depth: int, heads: int, dimension: int,
        quick: bool = False, causal: bool = True, mlp_ratio: float | str = 4.0,
    ) -> None:  # fmt: skip
        super().__init__()
        eps = 1e-5 if causal else 1e-6
        self._causal = causal
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.transformer = Transformer(width, depth, heads, mlp_ratio=float(mlp_ratio), quick=quick, eps=eps)
        self.ln_final = nn.LayerNorm(width, eps=eps)
        if causal:
            self.text_projection = nn.Parameter(torch.zeros(width, dimension))
        else:
            self.add_module("text_projection", nn.Linear(width, dimension))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, causal=self._causal))
        if self._causal:
            pooled: torch.Tensor = x[torch.arange(len(x)), tokens.argmax(-1)] @ self.text_projection
            return pooled
        out: torch.Tensor = self.get_submodule("text_projection")(x[:, -1])
        return out
