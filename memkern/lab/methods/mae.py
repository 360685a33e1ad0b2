"""MAE: see a quarter of the patches, paint the others (He et al. 2021, arXiv:2111.06377)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from memkern.errors import ArgumentValueError
from memkern.lab.method import Batch, HeadSettings, Method, MethodOptions, Output, ViewRequest
from memkern.transforms import ViewSpec, view_masks


class MAE(Method):
    """Reconstructs the pixels of hidden patches; there is no augmentation besides the mask.

    The loss of an image does not depend on the other images, so it can be trained with DP-SGD.

    Args:
        encoder: A vision transformer of the lab.
        settings: Width of the decoder (`hidden`).
        mask: Share of the patches that are hidden.
        depth: Blocks of the decoder.
        heads: Heads of the decoder.
        n_masks: How often each image is masked anew in one step; 2 or more with an alignment term.

    Raises:
        ArgumentValueError: If the encoder has no patches.
    """

    defaults: ClassVar = {"mask": 0.75, "depth": 4, "heads": 3, "n_masks": 1}

    def __init__(
        self,
        encoder: nn.Module,
        settings: HeadSettings,
        *,
        mask: float = 0.75,
        depth: int = 4,
        heads: int = 3,
        n_masks: int = 1,
    ) -> None:
        from memkern.lab.encoders.vit import MAEDecoder, ViT

        super().__init__(encoder)
        if not isinstance(encoder, ViT):
            raise ArgumentValueError(f"Expected `encoder` to be a vit-... for MAE, got {type(encoder).__name__}")
        self.mask, self.n_masks, self.patch = mask, n_masks, encoder.patch
        self.decoder = MAEDecoder(encoder, dim=settings.hidden, depth=depth, heads=heads)

    @staticmethod
    def view_requests(views: ViewSpec, options: MethodOptions) -> list[ViewRequest]:
        """Returns the whole image, normalized as the recipe's views are."""
        return [ViewRequest(ViewSpec(scale=None, mean=views.mean, std=views.std), 1)]

    def hidden(self, batch: Batch) -> Tensor:
        """Draws the hidden patches from (seed, image, epoch): bool, `[N * n_masks, T]`, equally many in each row."""
        spec = ViewSpec(scale=None, mask=self.mask, patch=self.patch)
        size = batch.views[0].shape[-1]
        first = batch.epoch * self.n_masks
        drawn = view_masks(
            spec, n_views=self.n_masks, seed=batch.seed, index=batch.ids.cpu(), size=size, first_view=first
        )
        return drawn.flatten(0, 1).flatten(1).to(batch.views[0].device)

    def forward(self, batch: Batch) -> Output:
        """`parts` are the painted patches, the true ones (`[M, T, 3 * patch**2]`) and the mask (`[M, T]`)."""
        images = batch.views[0].repeat_interleave(self.n_masks, 0)
        hidden = self.hidden(batch)
        n_seen = int((~hidden[0]).sum())
        # A stable sort puts the seen patches first, in their order; its inverse says where each patch went.
        order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
        places = order.argsort(dim=1).clamp_max(n_seen)
        tokens = self.encoder.tokens(images, order[:, :n_seen])  # type: ignore[operator]
        painted = self.decoder(tokens, places)
        representations = tokens[:, 0].unflatten(0, (-1, self.n_masks))
        return Output(representations, (painted, patches(images, self.patch), hidden))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Mean squared error over the hidden patches."""
        painted, true, hidden = output.parts
        error = (painted.float() - true).square().mean(2)
        return (error * hidden).sum() / hidden.sum()


def patches(images: Tensor, patch: int) -> Tensor:
    """Cuts `[N, C, H, W]` into `[N, T, patch * patch * C]`, row by row."""
    n, c, h, w = images.shape
    cut = images.reshape(n, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, (h // patch) * (w // patch), patch * patch * c)


METHOD = MAE
