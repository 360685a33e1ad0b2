"""The sub-layers of vision transformer blocks, and the three deltas between them (arXiv:2409.19069, Table 10).

```
x -> norm1 -> attention ─┐ att        x = residual stream
x ───────────────────── (+) res_att   the input of norm2
  -> norm2 -> MLP ───────┐ fc
  ────────────────────── (+) res_fc   the block's output
```
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """Names of the four taps of one block, in forward order.

    Attributes:
        att: The attention's output, before the residual addition.
        residual_att: The residual stream after the attention.
        fc: The MLP's output, before the residual addition.
        residual_fc: The residual stream after the MLP, the block's output.
    """

    att: str
    residual_att: str
    fc: str
    residual_fc: str


class Delta(NamedTuple):
    """Difference of LayerMem that a sub-layer of a transformer block adds.

    Attributes:
        kind: "att", "res_att", "fc" or "res_fc".
        block: Number of the block, from 1.
        sublayer: On "att": LayerMem minus that of the stream before it. On "fc": likewise. Else NaN.
        block_delta: On "res_fc": LayerMem of the stream minus that after the block before. Else NaN.
    """

    kind: str
    block: int
    sublayer: float
    block_delta: float


LAYOUTS = (
    ("norm1", "attn", "norm2", "mlp"),  # timm
    ("ln_1", "self_attention", "ln_2", "mlp"),  # torchvision
    ("layernorm_before", "attention", "layernorm_after", "output.dense"),  # transformers: ViT, DeiT, MAE
    ("layernorm_before", "attention", "layernorm_after", "mlp"),  # transformers: its newer ViT
    ("norm1", "attention", "norm2", "mlp"),  # transformers: DINOv2
)
"""Children of pre-norm blocks: first norm, attention, second norm, MLP (its last part, where it holds the addition)."""


def find_blocks(names: Sequence[str]) -> list[Block]:
    """Finds the transformer blocks among the submodules of a model.

    Args:
        names: Names of all submodules.

    Returns:
        One `Block` per block, in the order of the names.
    """
    every = set(names)
    found = []
    for name in names:
        for first, att, second, mlp in LAYOUTS:
            if name and {f"{name}.{part}" for part in (first, att, second, mlp)} <= every:
                found.append(Block(f"{name}.{att}", f"{name}.{second}:in", f"{name}.{mlp}", name))
                break
    return sorted(found, key=lambda block: [int(part) if part.isdigit() else -1 for part in _parts(block.residual_fc)])


def _parts(name: str) -> list[str]:
    return re.split(r"[._]", name)


def sublayer_deltas(values: Mapping[str, float], blocks: Sequence[Block]) -> dict[str, Delta]:
    r"""Computes the three deltas of arXiv:2409.19069, Table 10.

    .. math::
        \Delta^{ATT}_N = LM^{ATT}_N - Res^{FC}_{N-1}, \quad
        \Delta^{FC}_N = LM^{FC}_N - Res^{ATT}_N, \quad
        \Delta Block_N = Res^{FC}_N - Res^{FC}_{N-1}

    Args:
        values: Tap -> LayerMem.
        blocks: The blocks in forward order; those with a tap that is not in `values` have NaN there.

    Returns:
        Tap -> delta, for the taps in `values`.
    """
    out: dict[str, Delta] = {}
    before = math.nan  # the residual stream before this block
    for number, block in enumerate(blocks, 1):
        att, res_att, fc, res_fc = (values.get(name, math.nan) for name in block)
        rows = (
            Delta("att", number, att - before, math.nan),
            Delta("res_att", number, math.nan, math.nan),
            Delta("fc", number, fc - res_att, math.nan),
            Delta("res_fc", number, math.nan, res_fc - before),
        )
        out |= {name: row for name, row in zip(block, rows, strict=True) if name in values}
        before = res_fc
    return out
