"""The encoders of an audit: loaded and checked one by one, and brought to the device as many at a time as fit."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from memkern._util.devices import free_memory
from memkern._util.text import first_of
from memkern.audit.data.membership import EncoderLine
from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import Loaded, find_weights, load_weights
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import WeightsEntry
from memkern.errors import WeightsError

SHARE = 2
"""Weights take one part in this many of the memory that is free; the rest is for what a forward pass makes."""

InMemory = tuple[nn.Module | Sequence[nn.Module], nn.Module | Sequence[nn.Module] | None]
"""Encoders in place of files: f, or several, and g, several, or none."""


@dataclass(frozen=True)
class Encoder:
    """Encoder of an audit.

    Attributes:
        line: Name, role, and what the user wrote.
        weights: Where its weights came from.
        size: Bytes of its weights.
        module: The encoder, where it stays in memory; `None` where it is loaded when its turn comes.
    """

    line: EncoderLine
    weights: WeightsEntry
    size: int
    module: nn.Module | None


@dataclass(frozen=True)
class Encoders:
    """Encoders of an audit, in order.

    Attributes:
        entries: The encoders.
        templates: Encoder, as the user wrote it -> the built module without weights, on the CPU.
        turns: Places of the encoders that are in memory together, turn by turn.
        options: The device.
        channels_last: Whether encoders run with the channels of a pixel side by side in memory.
    """

    entries: tuple[Encoder, ...]
    templates: Mapping[str, nn.Module]
    turns: tuple[range, ...]
    options: Options
    channels_last: bool = True

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the encoders."""
        return tuple(each.line.name for each in self.entries)

    @property
    def lines(self) -> tuple[EncoderLine, ...]:
        """Name, role and description of the encoders."""
        return tuple(each.line for each in self.entries)

    @property
    def example(self) -> nn.Module:
        """The first encoder, with its weights or without."""
        first = self.entries[0]
        return self.templates[first.line.encoder] if first.module is None else first.module

    @contextmanager
    def on_device(self, places: Sequence[int]) -> Iterator[dict[str, nn.Module]]:
        """Brings encoders to the device for the block: in eval mode, in the order in memory that they take.

        Args:
            places: Places of the encoders.

        Yields:
            Name -> encoder.

        Raises:
            WeightsError: If a file of weights changed since the audit began.
        """
        chosen = [self.entries[place] for place in places]
        modules = {each.line.name: self._placed(self._module(each)) for each in chosen}
        try:
            yield modules
        finally:
            modules.clear()  # whoever asked may still hold the mapping when the next ones are loaded
            if len(self.turns) > 1:  # the next ones need the space
                for each in chosen:
                    if each.module is not None:
                        each.module.cpu()

    def _module(self, each: Encoder) -> nn.Module:
        if each.module is not None:
            return each.module
        module = _copy(self.templates[each.line.encoder], each.line.encoder)
        _float32(module)
        if load_weights(module, each.line.weights).digest != each.weights.sha256:
            raise WeightsError(
                f"Expected {each.line.weights} to stay as it was when the audit began; it changed: restore it"
            )
        return module

    def _placed(self, encoder: nn.Module) -> nn.Module:
        # Convolutions of oneDNN and cuDNN gain from channels last; layers without maps are left as they are.
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        return encoder.to(device=self.options.torch_device(), memory_format=order).eval()  # type: ignore[call-overload,no-any-return]


def load_encoders(
    lines: Sequence[EncoderLine], options: Options, log: Callable[[str], None], *, processes: int = 1
) -> Encoders:
    """Builds each encoder and loads its weights, so that a file that does not fit is found at once.

    Encoders that fit in memory together stay there. Of more of them, none does: each is loaded again when its turn
    comes.

    Args:
        lines: The encoders, and the files of their weights.
        options: The device.
        log: Told of tensors in the files that are not the encoder's.
        processes: How many processes share the memory.

    Returns:
        The encoders, on the CPU.

    Raises:
        ValueError: If an encoder is unknown, weights do not fit, or two files hold the same weights.
    """
    for line in lines:
        find_weights(line.weights)  # a wrong path is wrong before encoders are built
    space = free_memory(options.torch_device()) // (SHARE * processes)
    # In the layout in which they are run, so that weights are loaded into it: converted later, each tensor would leave
    # a hole in the heap that the next one does not fit into.
    templates = {text: _side_by_side(build_encoder(text)) for text in dict.fromkeys(line.encoder for line in lines)}
    weights: list[WeightsEntry] = []
    sizes: list[int] = []
    modules: list[nn.Module] = []
    heads: dict[str, tuple[str, tuple[str, ...]]] = {}
    first: dict[str, EncoderLine] = {}
    for line in lines:
        module = _copy(templates[line.encoder], line.encoder)
        notes = _float32(module)
        loaded = load_weights(module, line.weights)
        weights.append(_entry(loaded, notes, line, log))
        _require_same_head(line, loaded.head_off, heads)
        other = first.setdefault(_digest(module), line)
        if other is not line:
            raise WeightsError(_same_weights(other, line))
        sizes.append(_size(module))
        modules = [*modules, module] if sum(sizes) <= space else []
    kept: Sequence[nn.Module | None] = modules or [None] * len(lines)
    entries = tuple(map(Encoder, lines, weights, sizes, kept))
    return Encoders(entries, {} if modules else templates, turns(sizes, space), options)


def encoders_in_memory(
    lines: Sequence[EncoderLine], modules: Sequence[nn.Module], options: Options, *, processes: int = 1
) -> Encoders:
    """Makes the encoders of an audit that came from no files; a digest of each one's state stands for its file's.

    Args:
        lines: Their names and roles.
        modules: The encoders.
        options: The device.
        processes: How many processes share the memory.

    Returns:
        The encoders.

    Raises:
        WeightsError: If two of them have the same weights.
    """
    weights = [_in_memory(module) for module in modules]
    sizes = [_size(module) for module in modules]
    first: dict[str, EncoderLine] = {}
    for line, entry in zip(lines, weights, strict=True):
        other = first.setdefault(entry.sha256, line)
        if other is not line and len(lines) > 2:  # the two of a pair may be untrained alike, in a bench say
            raise WeightsError(_same_weights(other, line))
    device = options.torch_device()
    here = device.type == "cpu"  # where they are already
    space = sum(sizes) if here else free_memory(device) // (SHARE * processes)
    return Encoders(tuple(map(Encoder, lines, weights, sizes, modules)), {}, turns(sizes, space), options)


def turns(sizes: Sequence[int], space: int) -> tuple[range, ...]:
    """Divides encoders into those that are in memory together, turn by turn.

    Args:
        sizes: Bytes of the weights of each encoder.
        space: Bytes that may be taken by weights.

    Returns:
        Places of the encoders of each turn, one at least, in order.

    Example:
        >>> turns([4, 4, 4, 9], space=8)
        (range(0, 2), range(2, 3), range(3, 4))
    """
    found: list[range] = []
    for place, size in enumerate(sizes):
        last = found[-1] if found else None
        if last is not None and sum(sizes[each] for each in last) + size <= space:
            found[-1] = range(last.start, place + 1)
        else:
            found.append(range(place, place + 1))
    return tuple(found)


def modules_of(given: InMemory) -> tuple[list[nn.Module], list[nn.Module]]:
    """Lists the f's and the g's of encoders that are given in place of files."""
    f, g = ([] if each is None else [each] if isinstance(each, nn.Module) else list(each) for each in given)
    return f, g


def _copy(template: nn.Module, text: str) -> nn.Module:
    """A copy of an encoder without weights; built anew where it holds what cannot be copied, as `weight_norm` does."""
    try:
        return copy.deepcopy(template)
    except RuntimeError:
        return build_encoder(text)


def _entry(loaded: Loaded, notes: tuple[str, ...], line: EncoderLine, log: Callable[[str], None]) -> WeightsEntry:
    """Makes the record of weights that were loaded, and says what the user should know of them."""
    file, notes = loaded.file, notes + loaded.notes
    if loaded.network:
        others = first_of(repr(each) for each in loaded.others)
        log(
            f"{line.name}: {file} holds several networks that fit; {loaded.network!r} was taken, not {others} (choose "
            f"with {file}?network=NAME)."
        )
    if loaded.head_off:
        off = first_of(loaded.head_off)
        notes = (f"{file} has no weights that fit the head {off}; it was taken off: its input is the output.", *notes)
    if loaded.left:
        log(f"{line.name}: {len(loaded.left)} tensors of {file} are not the encoder's: {first_of(loaded.left, 3)}")
    for note in notes:
        log(f"{line.name}: {note}")
    return WeightsEntry(line.weights, loaded.digest, loaded.prefix, loaded.left, loaded.network, loaded.others, notes)


def _float32(encoder: nn.Module) -> tuple[str, ...]:
    """Brings an encoder of other floats to float32, in which views are drawn; returns the sentence that says so."""
    kinds = {value.dtype for value in (*encoder.parameters(), *encoder.buffers()) if value.is_floating_point()}
    if kinds <= {torch.float32}:
        return ()
    encoder.float()
    found = first_of(sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}))
    return (f"The encoder is of {found}; it is run in float32.",)


def _require_same_head(line: EncoderLine, off: tuple[str, ...], heads: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    """Requires the files of one kind of encoder to have its head, or not to have it, all of them."""
    other, without = heads.setdefault(line.encoder, (line.weights, off))
    if without != off:
        raise WeightsError(
            f"Expected weights of the same parts, got {other} without {first_of(without) or 'nothing'} and "
            f"{line.weights} without {first_of(off) or 'nothing'}: outputs with a head and without cannot be compared"
        )


def _same_weights(one: EncoderLine, other: EncoderLine) -> str:
    if (one.role, other.role) == ("f", "g"):
        return (
            f"Expected --reference to be another encoder than --weights, got the same weights in {one.weights} and "
            f"{other.weights}"
        )
    return (
        f"Expected each training once, got the same weights for {one.name} ({one.weights}) and {other.name} "
        f"({other.weights}): leave one of them out"
    )


def _digest(encoder: nn.Module) -> str:
    """Digest of the weights, in whatever file and under whatever prefix they were."""
    found = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _in_memory(encoder: nn.Module) -> WeightsEntry:
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return WeightsEntry(None, digest.hexdigest(), "", ())


def _size(encoder: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in (*encoder.parameters(), *encoder.buffers()))


def _side_by_side(encoder: nn.Module) -> nn.Module:
    # Convolutions of oneDNN and cuDNN gain from channels last; layers without maps are left as they are.
    return encoder.to(memory_format=torch.channels_last)
