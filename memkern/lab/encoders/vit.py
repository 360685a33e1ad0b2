"""Vision transformers made of timm's blocks, with a module for every place that is measured, and MAE's decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.lab.encoders.resnet9 import Add

_timm: Any = require("timm.models.vision_transformer", "timm", extra="ssl")

SIZES = {"nano": (48, 3, 3), "tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
"""Name -> width, blocks, heads; `nano` is no published size: it trains in seconds."""


class Block(_timm.Block):  # type: ignore[misc]  # timm's types stop here
    """timm's block; the residual stream after attention and after the MLP are modules' outputs."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.add_attn, self.add_mlp = Add(), Add()

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens `[N, T, D]` to tokens."""
        x = self.add_attn(x, self.drop_path1(self.attn(self.norm1(x))))
        out: Tensor = self.add_mlp(x, self.drop_path2(self.mlp(self.norm2(x))))
        return out


class ClassToken(nn.Module):
    """A learned token in front of the others; a module of its own, so that Opacus finds its gradient per sample."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[N, T, D]` to `[N, 1 + T, D]`."""
        return torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), x], 1)


class Positions(nn.Module):
    """Learned positions of a square grid of tokens; another grid gets them interpolated."""

    def __init__(self, grid: int, dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(0.02 * torch.randn(1, grid * grid, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Adds to `[N, T, D]`."""
        side = round(x.shape[1] ** 0.5)
        if side == self.grid:
            return x + self.table
        table = self.table.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        resized = functional.interpolate(table, size=(side, side), mode="bicubic", align_corners=False)
        return x + resized.flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """A vision transformer without classifier.

    Args:
        size: `nano`, `tiny`, `small` or `base`.
        patch: Edge of a patch, pixels.
        image_size: Edge of an image, pixels, a multiple of the patch.
        drop_path: Stochastic depth.

    Attributes:
        dim: Length of a representation, the class token after the last norm.
        taps: The rows of arXiv:2409.19069, Table 10: for every block the attention's output (`att`), the residual
            stream after it (`res-att`), the MLP's output (`fc`) and the stream after it (`res-fc`).
        unit_taps: Where UnitMem is measured: the output of the last layer of each MLP.
        output: The module at which SSLMem is measured: all tokens after the last norm.

    Raises:
        ArgumentValueError: If the image is not cut into whole patches.
    """

    output = "norm"

    def __init__(self, size: str, patch: int, image_size: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        if image_size % patch:
            raise ArgumentValueError(f"Expected `image_size` to be a multiple of the patch, {patch}, got {image_size}")
        self.dim, depth, heads = SIZES[size]
        self.patch, self.grid = patch, image_size // patch
        self.embed = nn.Conv2d(3, self.dim, patch, stride=patch)
        self.positions, self.token = Positions(self.grid, self.dim), ClassToken(self.dim)
        drops = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.Sequential(*(Block(self.dim, heads, qkv_bias=True, drop_path=drop) for drop in drops))
        self.norm = nn.LayerNorm(self.dim, eps=1e-6)
        self.taps: dict[str, str] = {}
        for i in range(depth):
            places = {"att": "attn", "res-att": "add_attn", "fc": "mlp", "res-fc": "add_mlp"}
            self.taps |= {f"block{i + 1}.{row}": f"blocks.{i}.{module}" for row, module in places.items()}
        self.unit_taps = {f"block{i + 1}": f"blocks.{i}.mlp" for i in range(depth)}

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encodes images as tokens, the class token first.

        Args:
            x: `[N, 3, H, W]`.
            keep: The patches that are seen, int64, `[N, K]`; `None`: all.

        Returns:
            `[N, 1 + K, dim]`.
        """
        x = self.positions(self.embed(x).flatten(2).transpose(1, 2))
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[2]))
        out: Tensor = self.norm(self.blocks(self.token(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Encodes `[N, 3, H, W]` as `[N, dim]`."""
        return self.tokens(x)[:, 0]


class MAEDecoder(nn.Module):
    """Decoder of MAE: from the visible tokens to the pixels of every patch (arXiv:2111.06377, section 3).

    Args:
        encoder: The encoder whose tokens it reads.
        dim: Width.
        depth: Blocks.
        heads: Heads.
    """

    def __init__(self, encoder: ViT, *, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.widen = nn.Linear(encoder.dim, dim)
        # The token of a hidden patch, as the weight of a layer that Opacus knows how to differentiate per sample.
        self.fill, self.positions = nn.Linear(1, dim, bias=False), Positions(encoder.grid, dim)
        nn.init.normal_(self.fill.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, qkv_bias=True) for _ in range(depth)))
        self.norm, self.pixels = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 3 * encoder.patch**2)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Paints every patch.

        Args:
            tokens: The encoder's output, `[N, 1 + K, D]`, the class token first.
            places: For each of the T patches the token that shows it, or K if none does, int64, `[N, T]`.

        Returns:
            Pixels, `[N, T, 3 * patch**2]`.
        """
        x = self.widen(tokens)
        hidden = (places == tokens.shape[1] - 1)[:, :, None]
        spread = x[:, 1:].gather(1, places.clamp_max(tokens.shape[1] - 2)[:, :, None].expand(-1, -1, x.shape[2]))
        patches = torch.where(hidden, self.fill(hidden.to(x.dtype)), spread)
        x = self.blocks(torch.cat([x[:, :1], self.positions(patches)], 1))
        out: Tensor = self.pixels(self.norm(x[:, 1:]))
        return out
