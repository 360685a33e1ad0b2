"""Work order of an audit, from which every encoder is read on every shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memkern.audit.data.source import Source
from memkern.audit.measure.encoders import Encoders
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.hook_points import Layers


@dataclass(frozen=True)
class Job:
    """Work order of an audit: encoders, images, layers and views, from which every encoder is read on every shard.

    Attributes:
        options: How to measure.
        source: The images.
        encoders: The encoders.
        layers: What is read of each encoder, in the order of `encoders`, under the same names.
        views: The views of each image.
        batch_size: Images per forward pass.
        by_class: Names of the encoders whose units are measured by class as well.
        balanced: Images among which the peaks of units are looked for, `[N]` bool; `None` if there are none.
        contents: Digest of the pixels of each image, `[N, 32]` uint8, which they must have when they are measured;
            `None` where not every image was looked at.
    """

    options: Options
    source: Source
    encoders: Encoders
    layers: tuple[Layers, ...]
    views: ViewCall
    batch_size: int
    by_class: frozenset[str]
    balanced: Tensor | None
    contents: NDArray[np.uint8] | None = None

    @property
    def n_shards(self) -> int:
        """Number of shards that the images make."""
        return -(-len(self.source) // self.options.shard_size)

    @property
    def names(self) -> list[str]:
        """Names of the layers in forward order."""
        return [hook_point.name for hook_point in self.layers[0].hook_points]

    @property
    def output(self) -> str:
        """Name of the layer at which SSLMem is measured."""
        return self.layers[0].output

    @property
    def view_sums(self) -> bool:
        """True if the distances of each view to the others are kept as well: where all pairs of views are compared."""
        return self.options.pairs == "all"

    def layers_of(self, encoder: str) -> Layers:
        """Returns what is read of an encoder, by its name."""
        return self.layers[self.encoders.names.index(encoder)]

    def rows(self, number: int) -> range:
        """Returns the rows of a shard."""
        size = self.options.shard_size
        return range(number * size, min((number + 1) * size, len(self.source)))


def share_of(shards: Sequence[int], encoders: Sequence[str], part: int, parts: int) -> dict[int, list[str]]:
    """Divides a work evenly: what one part reads.

    While there are as many shards as parts, a part has whole shards, for the views of a shard are drawn once for all
    encoders. More parts share shards by encoder.

    Args:
        shards: Numbers of the shards.
        encoders: Names of the encoders.
        part: Number of the part, from 0.
        parts: How many parts there are.

    Returns:
        Shard -> the encoders that the part reads on it.

    Example:
        >>> share_of([0, 1, 2], ["f", "g"], 0, 2)
        {0: ['f', 'g'], 2: ['f', 'g']}
        >>> share_of([0], ["f1", "f2", "g"], 0, 2)
        {0: ['f1', 'g']}
    """
    found = {}
    for place, shard in enumerate(shards):
        sharing = range(place, parts, len(shards)) if parts > len(shards) else (place % parts,)
        own = [name for k, name in enumerate(encoders) if sharing[k % len(sharing)] == part]
        if own:
            found[shard] = own
    return found


def rows_per_image(options: Options) -> int:
    """Counts the rows of a batch that belong to one image: its views, and the clean image where pairs are anchored."""
    return options.views + options.clean
