"""Encoders that users bring, as small as they come, with random weights: nothing is downloaded.

A member has a size of images, another size, and arguments of its constructor. Where the constructor takes the size, two
models are built; else one model takes images of both sizes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn


@dataclass(frozen=True)
class Member:
    """Encoder of the zoo.

    Attributes:
        size: Height and width of its images, pixels.
        other: Another size; 0 if there is none.
        arguments: Arguments of its constructor.
        sized: Name of the argument that is the size; "" if the model takes images of any size.
    """

    size: int = 64
    other: int = 128
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sized: str = ""


def fixed(size: int = 64, other: int = 128, *, sized: str = "img_size", **arguments: Any) -> Member:
    """A member whose constructor takes the size."""
    return Member(size, other, arguments, sized)


_VIT = {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2}
_SWIN = {"depths": (2, 2, 1, 1), "embed_dim": 12, "num_heads": (1, 2, 2, 4)}

TIMM: dict[str, Member] = {
    "beit_base_patch16_224": fixed(32, 64, **_VIT),
    "gernet_s": Member(),
    "cait_xxs24_224": fixed(32, 64, **_VIT),
    "coat_tiny": fixed(),
    "coatnet_nano_rw_224": fixed(),
    "convit_tiny": fixed(32, 64, **_VIT, local_up_to_layer=1),
    "convnext_atto": Member(arguments={"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
    "crossvit_9_240": Member(240, 0),
    "cspdarknet53": Member(),
    "davit_tiny": Member(arguments={"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4)}),
    "densenet121": Member(),
    "dla34": Member(),
    "dpn68": Member(),
    "edgenext_xx_small": Member(),
    "efficientnet_b0": Member(),
    "efficientvit_b0": Member(),
    "efficientvit_m0": fixed(),
    "eva02_tiny_patch14_224": fixed(56, 84, depth=2),
    "fasternet_t0": Member(),
    "fastvit_t8": Member(),
    "ghostnet_050": Member(),
    "gmlp_ti16_224": fixed(),
    "hgnet_tiny": Member(),
    "hiera_tiny_224": Member(64, 0, {"img_size": (64, 64)}),
    "hrnet_w18_small": Member(),
    "inception_next_atto": Member(),
    "inception_v3": Member(96, 128),
    "levit_128s": Member(224, 0),
    "mambaout_femto": Member(arguments={"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48)}),
    "maxvit_rmlp_pico_rw_256": fixed(),
    "mixer_s32_224": fixed(),
    "mobilenetv3_small_050": Member(),
    "mobilenetv4_conv_small": Member(),
    "mobilevit_xxs": Member(),
    "mobilevitv2_050": Member(),
    "mvitv2_tiny": fixed(),
    "nest_tiny_jx": fixed(),
    "nextvit_small": Member(),
    "nf_regnet_b0": Member(),
    "pit_ti_224": fixed(),
    "poolformer_s12": Member(),
    "pvt_v2_b0": Member(),
    "regnety_002": Member(),
    "repghostnet_050": Member(),
    "repvit_m0_9": Member(),
    "res2net50_26w_4s": Member(),
    "resmlp_12_224": fixed(),
    "resnest14d": Member(),
    "resnet18": Member(),
    "resnetv2_50": Member(),
    "rexnet_100": Member(),
    "samvit_base_patch16": fixed(depth=3, embed_dim=24, num_heads=2, global_attn_indexes=(1,), window_size=3),
    "selecsls42": Member(),
    "sequencer2d_s": Member(
        arguments={"layers": (1, 1, 1, 1), "embed_dims": (24, 32, 32, 32), "hidden_sizes": (8, 8, 8, 8)}
    ),
    "shvit_s1": Member(),
    "starnet_s1": Member(),
    "swiftformer_xs": Member(),
    "swin_tiny_patch4_window7_224": fixed(56, 112, **_SWIN),
    "swinv2_cr_tiny_224": fixed(56, 112, window_size=7, **_SWIN),
    "swinv2_tiny_window8_256": fixed(64, 96, window_size=4, **_SWIN),
    "tiny_vit_5m_224": Member(),
    "tnt_s_patch16_224": fixed(32, 64, depth=2),
    "twins_svt_small": fixed(depths=(1, 1, 1, 1)),
    "visformer_tiny": fixed(),
    "vit_relpos_small_patch16_224": fixed(32, 64, **_VIT),
    "vit_tiny_patch16_224": fixed(32, 64, **_VIT),
    "volo_d1_224": fixed(),
    "vovnet39a": Member(),
    "xception41": Member(),
    "xcit_nano_12_p16_224": Member(arguments={"depth": 2}),
}

TORCHVISION: dict[str, Member] = {
    "alexnet": Member(),
    "densenet121": Member(),
    "efficientnet_b0": Member(),
    "googlenet": Member(96, 128, {"aux_logits": False, "init_weights": False}),
    "inception_v3": Member(96, 128, {"aux_logits": False, "init_weights": False}),
    "mnasnet0_5": Member(),
    "mobilenet_v2": Member(),
    "mobilenet_v3_small": Member(),
    "regnet_y_400mf": Member(),
    "resnet18": Member(),
    "resnext50_32x4d": Member(),
    "shufflenet_v2_x0_5": Member(),
    "squeezenet1_1": Member(),
    "swin_t": Member(),
    "swin_v2_t": Member(),
    "VisionTransformer": fixed(
        64, 96, sized="image_size", patch_size=16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48
    ),
}

_HF_VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_HEADS = {**_STAGES, "num_attention_heads": [1, 2, 2, 4]}


def _hf_vit(size: int = 32, other: int = 64, **arguments: Any) -> Member:
    return fixed(size, other, sized="image_size", **{**_HF_VIT, "patch_size": 8, **arguments})


TRANSFORMERS: dict[str, Member] = {
    "Aimv2Vision": _hf_vit(),
    "Beit": _hf_vit(),
    "BlipVision": _hf_vit(),
    "CLIPVision": _hf_vit(),
    "ConvNext": Member(arguments=_STAGES),
    "ConvNextV2": Member(arguments=_STAGES),
    "DINOv3ConvNext": Member(arguments=_STAGES),
    "DINOv3ViT": _hf_vit(),
    "Data2VecVision": _hf_vit(),
    "DeiT": _hf_vit(),
    "Dinov2": _hf_vit(),
    "Dinov2WithRegisters": _hf_vit(),
    "DonutSwin": fixed(56, 112, sized="image_size", embed_dim=12, depths=[2, 1], num_heads=[1, 2], window_size=7),
    "FocalNet": Member(arguments={"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1]}),
    "GLPN": Member(arguments=_HEADS),
    "GitVision": _hf_vit(),
    "Hiera": Member(
        64, 0,
        {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8],
         "patch_stride": [4, 4]},
    ),
    "Levit": Member(
        64, 0,
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 2, 2], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]},
    ),
    "MobileNetV2": Member(arguments={"depth_multiplier": 0.35}),
    "MobileViT": Member(
        arguments={"image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]}
    ),
    "MobileViTV2": Member(arguments={"width_multiplier": 0.5}),
    "PoolFormer": Member(arguments=_STAGES),
    "Pvt": fixed(sized="image_size", **_HEADS),
    "PvtV2": Member(arguments=_HEADS),
    "RegNet": Member(arguments={"embedding_size": 8, **_STAGES, "groups_width": 8}),
    "ResNet": Member(arguments={"embedding_size": 8, **_STAGES}),
    "SamVision": fixed(
        64, 128, sized="image_size", hidden_size=24, num_hidden_layers=2, num_attention_heads=2, patch_size=8,
        window_size=3, global_attn_indexes=[1], output_channels=16, mlp_dim=48,
    ),
    "Segformer": Member(arguments={**_STAGES, "decoder_hidden_size": 16}),
    "SiglipVision": _hf_vit(),
    "SwiftFormer": Member(arguments={"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32]}),
    "Swin": fixed(56, 112, sized="image_size", embed_dim=12, depths=[2, 1], num_heads=[1, 2], window_size=7),
    "Swinv2": fixed(64, 96, sized="image_size", embed_dim=12, depths=[2, 1], num_heads=[1, 2], window_size=4),
    "TextNet": Member(),
    "ViT": _hf_vit(),
    "ViTMSN": _hf_vit(),
    "VitDet": Member(
        arguments={**_HF_VIT, "image_size": 64, "pretrain_image_size": 64, "patch_size": 8, "window_size": 4,
                   "window_block_indices": [0]}
    ),
}  # fmt: skip

ZOO = {("timm", each): member for each, member in TIMM.items()}
ZOO |= {("torchvision", each): member for each, member in TORCHVISION.items()}
ZOO |= {("transformers", each): member for each, member in TRANSFORMERS.items()}

QUICK = [
    ("timm", "vit_tiny_patch16_224"), ("timm", "swin_tiny_patch4_window7_224"), ("timm", "mixer_s32_224"),
    ("timm", "sequencer2d_s"), ("timm", "mambaout_femto"), ("transformers", "ConvNext"),
    ("transformers", "MobileViT"), ("transformers", "SamVision"),
]  # fmt: skip
"""Members that show every kind of layer: windows, tokens of images, LSTMs, channels last, tokens as units."""


def build(library: str, name: str, size: int) -> nn.Module:
    """Builds a member for images of a size, in float64 and eval mode, with no parameter that makes zeros of all."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip(library)
    member = ZOO[library, name]
    arguments = {**member.arguments, **({member.sized: size} if member.sized else {})}
    torch.manual_seed(0)
    if library == "timm":
        model = package.create_model(name, pretrained=False, num_classes=0, **arguments)
    elif library == "torchvision":
        make = getattr(package.models, name)  # a function, or the class itself where no function builds a small one
        model = make(**arguments)
    else:
        model = getattr(package, f"{name}Model")(getattr(package, f"{name}Config")(**arguments))
    with torch.no_grad():
        for module in model.modules():
            for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if value.is_floating_point() and value.numel() and bool((value == value.flatten()[0]).all()):
                    value.add_(torch.rand_like(value), alpha=0.5)  # a scale that begins at 0 hides its layer
    built: nn.Module = model.double().eval()
    return built
