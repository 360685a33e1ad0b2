"""Spellings: how code bases name what timm and torchvision name otherwise, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Spelling:
    """Names of a code base for the tensors of an encoder.

    Attributes:
        name: Whose names they are, and for which encoders.
        rules: Pattern in an encoder's name -> what stands in the file in its place; each is applied once, in order.
        class_position: Whether the file's `pos_embed` begins with the class token's, which timm adds to `cls_token`.
    """

    name: str
    rules: Mapping[str, str]
    class_position: bool = False

    def in_file(self, name: str) -> str:
        """Returns what the code base calls a tensor of the encoder."""
        for pattern, replacement in self.rules.items():
            name = re.sub(pattern, replacement, name)
        return name

    def fits(self, name: str, wanted: Sequence[int], got: Sequence[int]) -> bool:
        """Tells whether a tensor of the file has the shape of the encoder's, but for ones before it."""
        wanted, got = list(wanted), list(got)
        if self.class_position and name == "pos_embed" and len(got) == 3:
            got[1] -= 1
        return wanted == got or (bool(self.rules) and wanted == [1] * (len(wanted) - len(got)) + got)

    def as_encoder(self, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Brings tensors of the file, by the encoder's names, to the encoder's shapes: `[U]` to `[1, 1, U]`, say."""
        tensors = dict(found)
        if self.class_position and {"pos_embed", "cls_token"} <= tensors.keys():
            position = tensors["pos_embed"]
            tensors["cls_token"] = tensors["cls_token"] + position[:, :1]
            tensors["pos_embed"] = position[:, 1:]
        return {name: value.reshape(wanted[name].shape) if self.rules else value for name, value in tensors.items()}


_RESNET = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
_CHILDREN = ("0", "1", "4", "5", "6", "7")  # in nn.Sequential(*resnet.children()): 2 and 3 are the ReLU and the pool
_SWIGLU = {r"\.mlp\.fc1\.": ".mlp.w12.", r"\.mlp\.fc2\.": ".mlp.w3."}
_REGISTERS = {"^reg_token$": "register_tokens"}

SPELLINGS = (
    Spelling("the encoder's own", {}),
    Spelling(
        "nn.Sequential of a ResNet's children (lightly's examples), for torchvision's ResNets",
        {rf"^{name}\.": f"{place}." for name, place in zip(_RESNET, _CHILDREN, strict=True)},
    ),
    Spelling(
        "torchvision's ResNets, for an nn.Sequential of their children",
        {rf"^{place}\.": f"{name}." for name, place in zip(_RESNET, _CHILDREN, strict=True)},
    ),
    Spelling(
        "lightly's ResNetGenerator, for torchvision's ResNets",
        {rf"^{name}\.": f"{place}." for place, name in enumerate(_RESNET)},
    ),
    Spelling(
        "mmpretrain and mmselfsup, for timm's ViTs",
        {
            r"^norm\.": "ln1.", r"^patch_embed\.proj\.": "patch_embed.projection.", r"^blocks\.": "layers.",
            r"\.norm([12])\.": r".ln\1.", r"\.mlp\.fc1\.": ".ffn.layers.0.0.", r"\.mlp\.fc2\.": ".ffn.layers.1.",
            r"\.ls1\.gamma$": ".attn.gamma1.weight", r"\.ls2\.gamma$": ".ffn.gamma2.weight",
        },
    ),
    Spelling("DINOv2 with register tokens, for timm's ViTs", _REGISTERS, class_position=True),
    Spelling("DINOv2 of giant size, for timm's ViTs", _SWIGLU),
    Spelling("DINOv2 of giant size with register tokens, for timm's ViTs", _REGISTERS | _SWIGLU, class_position=True),
    Spelling(
        "OpenAI's CLIP and open_clip, for timm's ViTs",
        {
            "^cls_token$": "class_embedding", "^pos_embed$": "positional_embedding", r"^patch_embed\.proj\.": "conv1.",
            r"^norm_pre\.": "ln_pre.", r"^norm\.": "ln_post.", r"^blocks\.": "transformer.resblocks.",
            r"\.norm([12])\.": r".ln_\1.", r"\.attn\.qkv\.(weight|bias)$": r".attn.in_proj_\1",
            r"\.attn\.proj\.": ".attn.out_proj.", r"\.mlp\.fc1\.": ".mlp.c_fc.", r"\.mlp\.fc2\.": ".mlp.c_proj.",
        },
    ),
)  # fmt: skip
"""The spellings; a name that a file has as the encoder does is taken first."""
