"""A tapped model returns what the untapped one does: 20 architectures of torchvision and timm, small."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memkern.audit.taps.tap import Tap

pytestmark = pytest.mark.long
VIEWS = 2
TORCHVISION: dict[str, dict[str, Any]] = {
    "alexnet": {},
    "convnext_tiny": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
    "mnasnet0_5": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "regnet_y_400mf": {},
    "resnet18": {},
    "resnext50_32x4d": {},
    "shufflenet_v2_x0_5": {},
    "squeezenet1_1": {},
    "vgg11_bn": {},
}
TIMM: dict[str, dict[str, Any]] = {
    "ghostnet_050": {},
    "mixer_s32_224": {"img_size": 64},
    "nf_regnet_b0": {},
    "repvgg_a0": {},
    "resnet26d": {},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 4, "embed_dim": 12, "num_heads": (1, 2, 4, 8)},
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 3, "embed_dim": 24, "num_heads": 2},
}  # fmt: skip


def network(library: str, name: str) -> nn.Module:
    """The network, with moments of batch norms as after some training."""
    package = pytest.importorskip(library)
    torch.manual_seed(0)
    if library == "timm":
        model: nn.Module = package.create_model(name, num_classes=5, **TIMM[name])
    else:
        model = package.models.get_model(name, num_classes=5, **TORCHVISION[name])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    return model.eval()


CASES = [("torchvision", name) for name in TORCHVISION] + [("timm", name) for name in TIMM]


@pytest.mark.parametrize(("library", "name"), CASES, ids=[f"{library} {name}" for library, name in CASES])
def test_a_model_returns_what_it_returns_untapped(library: str, name: str) -> None:
    """To the bit; within 2e-6 of the largest value where a GELU is fused."""
    model = network(library, name)
    x = torch.randn(2 * VIEWS, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    gelu = any(type(module) is nn.GELU for module in model.modules())
    for memory in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=memory)
        with torch.inference_mode():
            want = model(y)
        for fuse in (False, True):
            tap = Tap(model, "*", n_views=VIEWS, example=y[:2], fuse=fuse)
            for _ in range(2):  # the first pass, and one that is prepared
                got = passed(tap, y)
                assert got.stride() == want.stride()
                if fuse and gelu:
                    assert (got - want).abs().max() <= 2e-6 * want.abs().max()
                else:
                    assert torch.equal(got, want)
    assert not [module for module in model.modules() if "forward" in vars(module) or module._forward_hooks]


def passed(tap: Tap, x: Tensor) -> Tensor:
    with tap, torch.inference_mode():
        output: Tensor = tap.model(x)
        tap.take()
    return output
