"""Work order of an audit, from which every shard is measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from memkern.audit.data.source import Source
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.hook_points import Layers


@dataclass(frozen=True)
class Job:
    """Work order of an audit: encoders, images, layers and views, from which every shard is measured.

    Attributes:
        options: How to measure.
        source: The images.
        f: The encoder that was trained with the candidates, on the device, in eval mode.
        g: The reference; `None` without one.
        layers: What is read of both.
        views: The views of each image.
        batch_size: Images per forward pass.
    """

    options: Options
    source: Source
    f: nn.Module
    g: nn.Module | None
    layers: Layers
    views: ViewCall
    batch_size: int

    @property
    def n_shards(self) -> int:
        """Number of shards that the images make."""
        return -(-len(self.source) // self.options.shard_size)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """Encoders by their roles: "f" and, with a reference, "g"."""
        return {"f": self.f} if self.g is None else {"f": self.f, "g": self.g}

    @property
    def names(self) -> list[str]:
        """Names of the layers in forward order."""
        return [hook_point.name for hook_point in self.layers.hook_points]

    def rows(self, number: int) -> range:
        """Returns the rows of a shard."""
        size = self.options.shard_size
        return range(number * size, min((number + 1) * size, len(self.source)))


def rows_per_image(options: Options) -> int:
    """Counts the rows of a batch that belong to one image: its views, and the clean image where pairs are anchored."""
    return options.views + options.clean
