"""DOFA and Copernicus-FM: ViTs whose patch embedding is generated from the wavelengths of the bands.

Xiong et al. 2024 (arXiv:2403.15356), Wang et al. 2025 (arXiv:2503.11849). Keys and order of operations read
in microsoft/torchgeo `torchgeo/models/dofa.py`, `copernicusfm.py` (MIT) and zhu-xlab/Copernicus-FM
`dynamic_hypernetwork.py`, `models_dwv.py` (Apache-2.0). The generator depends on the bands alone, so it
runs once, in float32, when weights are loaded; encoding is then a plain ViT with a 16×16 convolution.
Copernicus-FM is run without place, time and area: their learned "unknown" tokens stand for them.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from .vit import Block

PLANES = 128  # width of the generator, and number of its weight tokens
SCALE = 0.01


class WeightGenerator(nn.Module):
    """Patch kernels (C, k·k·D) and a bias (D) from one vector per band; one post-norm transformer layer."""

    def __init__(self, kernel: int, width: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            PLANES, 4, dim_feedforward=2048, activation="gelu", dropout=0.0, batch_first=False
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight = nn.Linear(PLANES, kernel * kernel * width)
        self.fc_bias = nn.Linear(PLANES, width)
        self.weight_tokens = nn.Parameter(torch.zeros(PLANES, PLANES))
        self.bias_token = nn.Parameter(torch.zeros(1, PLANES))

    def forward(self, waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = self.transformer_encoder(torch.cat([self.weight_tokens, waves, self.bias_token]))
        return self.fc_weight(made[PLANES:-1] + waves), self.fc_bias(made[-1])


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(PLANES, PLANES)
        self.w2 = nn.Linear(PLANES, PLANES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.w2(torch.relu(self.w1(x))))


class DynamicEmbed(nn.Module):
    """The generator of a patch embedding with kernel k and width D."""

    def __init__(self, kernel: int, width: int) -> None:
        super().__init__()
        self._kernel, self._width = kernel, width
        self.weight_generator = WeightGenerator(kernel, width)
        self.fclayer = Residual()

    def generate(self, waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convolution weights (D, C, k, k) and bias (D) for bands described by `waves` (C, 128)."""
        weight, bias = self.weight_generator(self.fclayer(waves))
        kernels = weight.view(len(waves), self._kernel, self._kernel, self._width).permute(3, 0, 1, 2)
        return (kernels * SCALE).contiguous(), bias * SCALE


class _DynamicViT(nn.Module):
    """What both have in common: the mean of the patches, LayerNorm without weights. Gives (N, width).

    The published files bring no weights for that last norm (torchgeo's `fc_norm` is new, so identity).
    """

    def __init__(self, *, width: int, depth: int, heads: int, image: int, patch: int) -> None:
        super().__init__()
        self._patch = patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, width))
        blocks = [Block(width, heads, mlp_ratio=4.0, layer_scale=False) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)

    def prepare(self) -> None:
        """Once weights are loaded: make the patch kernel, and let go of its generator."""
        kernel, bias = self._generate()
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.pos_embed = nn.Parameter(self.pos_embed + self._unknown(), requires_grad=False)

    def _generate(self) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def _unknown(self) -> torch.Tensor:
        return torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # padding 1 as in both originals: every patch is read one pixel further up and left
        kernel, bias = self.get_buffer("kernel"), self.get_buffer("bias")
        tokens = functional.conv2d(x, kernel, bias, stride=self._patch, padding=1).flatten(2).transpose(1, 2)
        tokens = tokens + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        mean = tokens[:, 1:].float().mean(1)
        return functional.layer_norm(mean, mean.shape[1:], eps=1e-6)


class Dofa(_DynamicViT):
    """wavelengths: centre of each band in micrometres, as text."""

    def __init__(
        self,
        *,
        wavelengths: Sequence[str],
        width: int,
        depth: int,
        heads: int,
        image: int = 224,
        patch: int = 16,
    ) -> None:
        super().__init__(width=width, depth=depth, heads=heads, image=image, patch=patch)
        self.patch_embed = DynamicEmbed(patch, width)
        self._wavelengths = [float(text) for text in wavelengths]

    def _generate(self) -> tuple[torch.Tensor, torch.Tensor]:
        positions = torch.tensor(self._wavelengths) * 1000  # nanometres
        omega = 1.0 / 10000 ** (torch.arange(PLANES // 2, dtype=torch.float32) / (PLANES / 2))
        angles = torch.outer(positions, omega)
        made = self.patch_embed.generate(torch.cat([angles.sin(), angles.cos()], 1))
        del self.patch_embed
        return made


class CopernicusFM(_DynamicViT):
    """wavelengths, bandwidths: of each band in nanometres, as text."""

    def __init__(
        self, *, wavelengths: Sequence[str], bandwidths: Sequence[str], width: int, depth: int, heads: int,
        image: int = 224, patch: int = 16,
    ) -> None:  # fmt: skip
        super().__init__(width=width, depth=depth, heads=heads, image=image, patch=patch)
        self.patch_embed_spectral = DynamicEmbed(patch, width)
        self._wavelengths = [float(text) for text in wavelengths]
        self._bandwidths = [float(text) for text in bandwidths]
        for name in ("coord", "scale", "time"):
            self.add_module(f"{name}_fc", nn.Linear(width, width))
            self.register_parameter(f"{name}_token", nn.Parameter(torch.zeros(1, 1, width)))

    def _generate(self) -> tuple[torch.Tensor, torch.Tensor]:
        waves = fourier(self._wavelengths, 100, 1e9) + fourier(self._bandwidths, 1, 1e9)
        made = self.patch_embed_spectral.generate(waves)
        del self.patch_embed_spectral
        return made

    def _unknown(self) -> torch.Tensor:
        """Sum of the embeddings that stand for an unknown place, area and time, (1, 1, width)."""
        parts = [
            self.get_submodule(f"{name}_fc")(self.get_parameter(f"{name}_token"))
            for name in ("coord", "scale", "time")
        ]
        return torch.stack(parts).sum(0)


def fourier(values: Sequence[float], lower: float, upper: float) -> torch.Tensor:
    """Sines and cosines (n, 128) at wavelengths spaced evenly in log10 from lower to upper (Aurora's)."""
    spaced = torch.logspace(math.log10(lower), math.log10(upper), PLANES // 2, dtype=torch.float64)
    angles = torch.outer(torch.tensor(values, dtype=torch.float64), 2 * math.pi / spaced)
    return torch.cat([angles.sin(), angles.cos()], 1).float()
