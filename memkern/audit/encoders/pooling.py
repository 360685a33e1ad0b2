"""Pooling of the tokens or maps that an encoder returns: the choice `?pool=` of ENCODER."""

from __future__ import annotations

from torch import Tensor, nn

from memkern.audit.taps.modules import first_tensor
from memkern.errors import EncoderError

POOLS = ("cls", "mean", "tokens")
"""The first token; the mean over all tokens, or over the places of a map; all tokens or places as they are."""


def pool_output(encoder: nn.Module, how: object) -> None:
    """Has an encoder return one tensor: its first one, pooled.

    Args:
        encoder: The encoder; a forward hook is added that replaces its output.
        how: One of `POOLS`: "cls", token 0 of `[N, T, U]`; "mean", over T, or over h and w of `[N, U, h, w]`; "tokens",
            the tensor as it is.

    Raises:
        EncoderError: If `how` is none of them; when the encoder runs, if its output does not have what is asked for.
    """
    if how not in POOLS:
        raise EncoderError(f"Expected `pool` to be one of {', '.join(POOLS)}, got {how!r}")

    def hook(module: nn.Module, args: object, output: object) -> Tensor:
        found = first_tensor(output)
        shape = None if found is None else list(found.shape)
        if found is None or found.ndim not in ((3,) if how == "cls" else (3, 4)):
            wanted = "tokens [N, T, U]" if how == "cls" else "tokens [N, T, U] or maps [N, U, h, w]"
            raise EncoderError(
                f"Expected the encoder to return {wanted} for ?pool={how}, got {shape or 'no tensor'}; models of timm "
                "pool by themselves: ?global_pool=token, avg or ''"
            )
        if how == "tokens":
            return found
        return found[:, 0] if how == "cls" else found.mean(1 if found.ndim == 3 else (2, 3))

    encoder.register_forward_hook(hook)
