"""Networks in a checkpoint: the parts of its state dicts that fit an encoder, and which of several is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memkern.audit.encoders.checkpoints.spellings import SPELLINGS, Spelling
from memkern.audit.encoders.checkpoints.state_dicts import StateDict, clean

SECOND = frozenset({"ema", "momentum", "target", "student", "k", "old", "avg", "averaged", "swa", "shadow"})
"""Words in the names of networks that are a copy of another one in the same file, or trained towards it."""

NESTS = ("", "state_dict", "model_state_dict", "model", "encoder", "module", "net", "teacher")
"""Keys under which training scripts put the state dict that they go on with; the first that is there is taken."""

ANCHORS = 12
"""Names of an encoder that are looked for in a checkpoint to find what stands before them."""


@dataclass(frozen=True)
class Network:
    """Part of a state dict that has names of an encoder.

    Attributes:
        state: The state dict.
        prefix: What stands before the encoder's names, without the parts of wrappers.
        spelling: How the code base names what the encoder has.
        names: Name in the encoder -> name in the file.
        missing: Names of the encoder that the part lacks, but for counters of batch norms.
        misfits: Names of the encoder that have another shape in the file.
        optional: Names of the encoder that may be missing.
    """

    state: StateDict
    prefix: str
    spelling: Spelling
    names: Mapping[str, str]
    missing: tuple[str, ...]
    misfits: tuple[str, ...]
    optional: frozenset[str]

    @property
    def address(self) -> str:
        """Address of the network: the path of the state dict, and what stands before the names."""
        return ".".join(part for part in (self.state.path, self.prefix.removesuffix(".")) if part)

    @property
    def words(self) -> frozenset[str]:
        """Words by which the network may be asked for: parts of the address, and of their names."""
        parts = [part for part in self.address.split(".") if part]
        return frozenset([self.address, *parts, *(word for part in parts for word in part.split("_"))])

    @property
    def complete(self) -> bool:
        """True if nothing is missing but what may be, and all shapes fit."""
        return bool(self.names) and not self.misfits and self.optional.issuperset(self.missing)

    @property
    def rank(self) -> tuple[int, ...]:
        """Order in which one of several is taken, the smallest first: what is complete, then the name's kind."""
        nest = self.state.path.rpartition(".")[2]
        second, lacks = int(bool(self.words & SECOND)), len(self.missing) + len(self.misfits)
        order = (second, lacks) if self.complete else (lacks, second)
        place = NESTS.index(nest) if nest in NESTS else len(NESTS)
        return int(not self.complete), *order, place, SPELLINGS.index(self.spelling)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors of the file by the encoder's names."""
        return {name: self.state.tensors[there] for name, there in self.names.items()}

    def same_values(self, other: Network) -> bool:
        """Tells whether another network has the same numbers."""
        mine, theirs = self.tensors(), other.tensors()
        return mine.keys() == theirs.keys() and all(
            mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine
        )


def nothing(wanted: Mapping[str, Tensor], state: StateDict) -> Network:
    """Makes the network of a state dict that has no name of an encoder; its tensors are `[…]` of any shapes."""
    missing = tuple(name for name in wanted if not name.endswith("num_batches_tracked"))
    return Network(state, "", SPELLINGS[0], {}, missing, (), frozenset())


def networks(
    wanted: Mapping[str, Tensor], states: Sequence[StateDict], prefix: str | None, optional: frozenset[str]
) -> list[Network]:
    """Finds the networks that have names of an encoder.

    Args:
        wanted: The encoder's state dict: tensors `[…]` of any shapes.
        states: State dicts of a checkpoint.
        prefix: What stands before the encoder's names in the file; `None` to find it.
        optional: Names of the encoder that may be missing.

    Returns:
        The networks, one of each address, in the order in which they are taken.
    """
    found: dict[str, Network] = {}
    for state in states:
        for names, shown, spelling, pairs in _places(list(wanted), state, prefix):
            network = _matched(wanted, state, names, shown, spelling, pairs, optional)
            other = found.get(network.address)
            if network.names and (other is None or network.rank < other.rank):
                found[network.address] = network
    return sorted(found.values(), key=lambda each: (each.rank, len(each.address)))


Lookup = tuple[Mapping[str, str], str, Spelling, Mapping[str, str]]
"""A file's names by how they are looked up, what stands before the encoder's, the spelling, how those are looked up."""


def _places(wanted: list[str], state: StateDict, prefix: str | None) -> Iterator[Lookup]:
    """Yields where an encoder's names could be in a state dict."""
    names: Mapping[str, str] = state.cleaned
    if prefix is not None:
        inside = [each for each in state.tensors if each.startswith(prefix)]
        names = dict(zip(clean([each.removeprefix(prefix) for each in inside]), inside, strict=True))
    ends: dict[str, list[str]] = {}
    for key in names:
        ends.setdefault(key.rpartition(".")[2], []).append(key)
    for spelling in SPELLINGS:
        for mine in dict.fromkeys((tuple(wanted), _core(wanted))):
            spelled = clean([spelling.in_file(each) for each in mine])
            prefixes = {""}
            for each in spelled[:: max(1, len(spelled) // ANCHORS)] if prefix is None else ():
                keys = ends.get(each.rpartition(".")[2], ())
                prefixes |= {key.removesuffix(each) for key in keys if key.endswith("." + each)}
            for before in sorted(prefixes):
                pairs = {name: before + each for name, each in zip(wanted, spelled, strict=True)}
                yield names, prefix or before, spelling, pairs


def _core(wanted: list[str]) -> tuple[str, ...]:
    """The encoder's names without what stands before all of them, in a wrapper around it."""
    names = wanted
    while names and "." in names[0]:
        first = names[0].partition(".")[0] + "."
        if not all(name.startswith(first) for name in names):
            break
        names = [name.removeprefix(first) for name in names]
    return tuple(names)


def _matched(
    wanted: Mapping[str, Tensor], state: StateDict, names: Mapping[str, str], shown: str, spelling: Spelling,
    pairs: Mapping[str, str], optional: frozenset[str],
) -> Network:  # fmt: skip
    found = {name: names[key] for name, key in pairs.items() if key in names}
    missing = tuple(name for name in wanted if name not in found and not name.endswith("num_batches_tracked"))
    misfits = tuple(
        name for name, there in found.items() if not spelling.fits(name, wanted[name].shape, state.tensors[there].shape)
    )
    if misfits and optional.issuperset(misfits):  # of other classes, or no classes: not this head
        found = {name: there for name, there in found.items() if name not in misfits}
        missing, misfits = tuple(name for name in wanted if name in {*missing, *misfits}), ()
    return Network(state, shown, spelling, found, missing, misfits, optional)
