"""Reasons why a checkpoint does not fit an encoder, with the way on: images of another size, names of a library."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from torch import nn

from memkern.audit.encoders.checkpoints.networks import Network

POSITIONS = re.compile(r"(^|\.)pos(ition)?_embed(ding|dings)?$")
"""Names of the embeddings of places in the image, `[1, T, U]`, one for each patch and some before."""

LIBRARIES = {
    r"(^|\.)_?flat_param(_\d+)?$": (
        "what FSDP makes of the parameters, one process's share of them: save the whole model, by "
        "torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
        "options=StateDictOptions(full_state_dict=True)), and give that file"
    ),
    r"(^|\.)(embeddings\.patch_embeddings|embedder\.embedder)\.": (
        "a model of transformers: name the folder that save_pretrained wrote, hf:FOLDER --weights FOLDER"
    ),
    r"(^|\.)encoder\.layers\.encoder_layer_\d+\.": "a ViT of torchvision: name the encoder torchvision:vit_…",
    r"(^|\.)blocks\.\d+\.attn\.qkv\.weight$": "a ViT as timm has it: name the encoder timm:vit_…",
}
"""Pattern of names in a file -> whose names they are, and how the encoder is named then."""


def of_another_library(wanted: Iterable[str], names: Iterable[str]) -> str:
    """Tells whose names those in a file are, if they are not the encoder's; "" if that is not known.

    Args:
        wanted: The encoder's names.
        names: The names in the file.

    Returns:
        Words that go on a sentence about the file.
    """
    wanted, names = list(wanted), list(names)
    return next(
        (
            words
            for pattern, words in LIBRARIES.items()
            if any(re.search(pattern, each) for each in names) and not any(re.search(pattern, each) for each in wanted)
        ),
        "",
    )


def of_another_size(encoder: nn.Module, network: Network) -> str:
    """Tells for which size of image a file's embeddings of positions are, if they alone do not fit; "" otherwise.

    With P patches in the encoder's T positions, T' positions are `sqrt(T' - (T - P))` patches a side.

    Args:
        encoder: The encoder: a ViT of timm or torchvision.
        network: The network in the file.

    Returns:
        Words that go on a sentence about the shapes.
    """
    patches = getattr(encoder, "patch_embed", encoder)
    argument = next((each for each in ("img_size", "image_size") if hasattr(patches, each)), "")
    pixels, patch = (getattr(patches, each, None) for each in (argument, "patch_size"))
    pixels, patch = (each[0] if isinstance(each, tuple) else each for each in (pixels, patch))
    if not isinstance(pixels, int) or not isinstance(patch, int) or len(network.misfits) != 1:
        return ""
    (name,) = network.misfits
    own, shape = encoder.state_dict()[name].shape, network.tensors()[name].shape
    if not POSITIONS.search(name) or len(own) != 3 or len(shape) != 3 or own[2] != shape[2]:
        return ""
    before = own[1] - (pixels // patch) ** 2 + int(network.spelling.class_position)
    side = math.isqrt(max(0, shape[1] - before))
    if not side or side**2 != shape[1] - before:
        return ""
    size = side * patch
    return (
        f"they are of images of {size} x {size} pixels, the encoder is of {pixels} x {pixels}: name it with "
        f"?{argument}={size}"
    )
