"""SimCLR: the projector and the NT-Xent loss (Chen et al. 2020, arXiv:2002.05709, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from memkern.errors import ArgumentValueError
from memkern.lab.distributed import gather
from memkern.lab.method import Batch, HeadSettings, Method, Output


def projector(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Builds the training-only head: `dim -> hidden -> out` with one ReLU."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, out))


def nt_xent(a: Tensor, b: Tensor, *, temperature: float) -> Tensor:
    """Returns the normalized temperature-scaled cross entropy of two views of every image.

    With z the 2N unit-normalized rows of `a` and `b` and p(i) the row of the other view of the same image,
    the loss is the mean over i of -log( exp(z_i . z_p(i) / t) / sum over k != i of exp(z_i . z_k / t) ).

    Args:
        a: Projections of the first views, shape `[N, D]`.
        b: Projections of the second views, row i belongs to the same image as row i of `a`, shape `[N, D]`.
        temperature: The temperature t, above 0.

    Returns:
        The loss, in nats, float32 scalar.

    Raises:
        ArgumentValueError: If the shapes differ, are not `[N, D]`, or `temperature` is not above 0.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ArgumentValueError(
            f"Expected `a` and `b` to share one shape [N, D], got {list(a.shape)} and {list(b.shape)}"
        )
    if not temperature > 0:
        raise ArgumentValueError(f"Expected `temperature` > 0, got {temperature}")
    n = len(a)
    z = functional.normalize(torch.cat([a, b]).float(), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return functional.cross_entropy(logits, partner)


class SimCLR(Method):
    """Two views of an image attract each other and repel those of all other images of the batch.

    Args:
        encoder: The encoder.
        settings: Widths of the projector's hidden layer and of the projection, temperature of NT-Xent.
    """

    def __init__(self, encoder: nn.Module, settings: HeadSettings) -> None:
        super().__init__(encoder)
        self.temperature = settings.temperature
        self.projector = projector(int(encoder.dim), settings.hidden, settings.out)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Output:
        """Projects two views; `parts` are the projections, `[N, out]` each."""
        joined = torch.cat(batch.views).to(memory_format=torch.channels_last)
        h = self.encoder(joined)
        return Output(torch.stack(h.chunk(2), 1), self.projector(h).chunk(2))

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """NT-Xent over the images of all processes."""
        a, b = (gather(part) for part in output.parts)
        return nt_xent(a, b, temperature=self.temperature)


METHOD = SimCLR
