"""Weights from files: found in checkpoints of every habit, never by running code, and never half loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern._util.text import first_of
from memkern.audit.encoders.checkpoints.adapters import adapter_files, merged, with_adapter
from memkern.audit.encoders.checkpoints.files import NUMPY, SAVED, files_digest, read_files, short, weights_files
from memkern.audit.encoders.checkpoints.inert_pickle import Placeholder
from memkern.audit.encoders.checkpoints.misfits import of_another_library, of_another_size
from memkern.audit.encoders.checkpoints.networks import Network, networks, nothing
from memkern.audit.encoders.checkpoints.state_dicts import StateDict, state_dicts
from memkern.audit.encoders.heads import HEADS, head_names, parts_without_weights, take_off
from memkern.audit.encoders.spec import Spec, parse
from memkern.errors import WeightsError

ARGUMENTS = ("key", "prefix", "network", "strict", "adapter", "lora_alpha")
"""What may stand after the '?' of a file of weights."""

Pretrained = Callable[..., tuple[nn.Module, Mapping[str, Iterable[object]]]]
"""`from_pretrained` of a model of transformers: from a folder to the model and the report of what did not fit."""


@dataclass(frozen=True)
class Loaded:
    """Weights that were loaded: from which files, which network of them, and what was left.

    Attributes:
        files: The file, or an index and its shards, and those of an adapter.
        prefix: What stood before the encoder's names in the file, "" if nothing.
        left: Names in the file that are not the encoder's: heads, optimizers' copies, other networks.
        network: Which network of the file was taken; "" if there is no other that fits.
        others: Networks of the file that would fit as well, and have other weights.
        head_off: Parts of the encoder's classifier head that the file lacks, and that were taken off.
        notes: What else was done to load the weights, in sentences.
        choice: What tells these weights from others of the same files; "" if there are none.
    """

    files: tuple[Path, ...]
    prefix: str
    left: tuple[str, ...]
    network: str = ""
    others: tuple[str, ...] = ()
    head_off: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    choice: str = ""

    @property
    def file(self) -> Path:
        """The file, or the index of shards."""
        return self.files[0]

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes of all files, and of what was chosen among several networks in them."""
        digest = files_digest(self.files)
        return hashlib.sha256(f"{digest}\n{self.choice}".encode()).hexdigest() if self.choice else digest


def find_weights(text: str) -> tuple[Path, ...]:
    """Finds the files that weights are in, without reading them.

    Args:
        text: Weights, as `load_weights` takes them.

    Returns:
        The files.

    Raises:
        MissingFileError: If there is no file.
        WeightsError: If an argument is unknown, or the path is an adapter alone.
    """
    spec = parse(text)
    unknown = set(spec.arguments) - set(ARGUMENTS)
    if unknown:
        known = f"{', '.join(ARGUMENTS[:-1])} or {ARGUMENTS[-1]}"
        raise WeightsError(f"Expected {known} after the '?' of {text!r}, got {first_of(sorted(unknown))}")
    adapter = _text(spec, "adapter")
    return weights_files(spec.path) + (() if adapter is None else adapter_files(Path(adapter)))


def load_weights(encoder: nn.Module, text: str) -> Loaded:
    """Loads a file into an encoder, every parameter and buffer of it or none.

    Args:
        encoder: The encoder; changed in place.
        text: A `.safetensors` file, a checkpoint saved by torch, an index of shards, or a folder with one of them, with
            `?network=NAME` for one of several networks, "teacher" say, `?key=NAME` for the state dict inside a
            checkpoint, `?prefix=NAME.` for the part of its names, `?strict=False` to allow names of the encoder's own
            parts that it lacks, `?adapter=FOLDER` for an adapter of PEFT to merge, and `?lora_alpha=NUMBER` where the
            file itself holds one.

    Returns:
        What was loaded.

    Raises:
        WeightsError: If the file holds no state dict, lacks names of the encoder, or has other names, shapes or kinds
            of numbers.
        MissingFileError: If there is no file.
    """
    files, spec = find_weights(text), parse(text)
    load = getattr(type(encoder), "from_pretrained", None)
    file = files[0]
    if load is not None and not spec.arguments and (file.parent / "config.json").is_file() and file.name in SAVED:
        return _pretrained(encoder, load, files)
    wanted = encoder.state_dict()
    network, others = _network(wanted, spec, head_names(encoder), file)
    head_off = _all_there(encoder, network, file)
    used = set(network.names.values())
    lora = {name: value for name, value in network.state.tensors.items() if ".lora_" in name}
    left = tuple(name for name in network.state.tensors if name not in used and name not in lora)
    if spec.arguments.get("strict", True):
        _nothing_inside_is_left(encoder, network, left, file)
    found, notes = _floats(wanted, network, file)
    if lora:
        found = merged(found, lora, {"lora_alpha": _alpha(spec, file)}, str(file))
    adapter = _text(spec, "adapter")
    if adapter is not None:
        found = with_adapter(found, Path(adapter))
    take_off(encoder, head_off)
    encoder.load_state_dict({**encoder.state_dict(), **found})
    given = {key: value for key, value in spec.arguments.items() if key in ("lora_alpha", "strict")}
    return Loaded(
        files=files,
        prefix=_raw_prefix(network),
        left=left,
        network=_shown(network) if others else "",
        others=tuple(map(_shown, others)),
        head_off=head_off,
        notes=notes,
        choice=f"{network.address} {given}" if others or spec.arguments else "",
    )


def _shown(network: Network) -> str:
    return network.address or "the names without a prefix"


def _text(spec: Spec, key: str) -> str | None:
    value = spec.arguments.get(key)
    return None if value is None else str(value)


def _pretrained(encoder: nn.Module, load: Pretrained, files: tuple[Path, ...]) -> Loaded:
    """Loads what transformers saved, by transformers: its files name tensors otherwise than its modules do."""
    file = files[0]
    logging = require("transformers.utils.logging", "transformers", extra="")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it reports in a table of many lines is listed by `left`
    try:
        loaded, report = load(
            file.parent, config=encoder.config, local_files_only=True, weights_only=True, output_loading_info=True
        )
    except OSError:
        raise
    except Exception as error:  # transformers and the readers below it raise their own kinds
        raise WeightsError(f"Expected {file} to be what transformers saved, got: {short(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
    wanted = encoder.state_dict()
    missing = sorted(str(name) for key in ("missing_keys", "mismatched_keys") for name in report[key])
    missing = [name for name in missing if name in wanted]  # of a model that is built without its pooler
    pooler = all(name.startswith("pooler.") for name in missing)
    if missing and not pooler:
        raise WeightsError(
            f"Expected {file} to hold all tensors of the encoder; missing or of other shapes: {first_of(missing)}"
        )
    _require_floats(wanted, {name: value for name, value in loaded.state_dict().items() if name in wanted}, file)
    if missing:
        encoder.register_module("pooler", None)  # as transformers builds it with add_pooling_layer=False
    own, values = encoder.state_dict(), loaded.state_dict()
    encoder.load_state_dict({name: values[name] for name in own})
    left = tuple(sorted(map(str, report["unexpected_keys"])))
    return Loaded(files, "", left, head_off=("pooler",) if missing else ())


def _network(
    wanted: Mapping[str, Tensor], spec: Spec, optional: frozenset[str], file: Path
) -> tuple[Network, list[Network]]:
    """Reads a file and finds the network in it that is taken, and the others that fit and have other weights."""
    states = _states(read_files(weights_files(spec.path)), _text(spec, "key"), file)
    found = networks(wanted, states, _text(spec, "prefix"), optional)
    return _chosen(found, spec, file) if found else (nothing(wanted, states[0]), [])


def _states(content: Mapping[object, object], key: str | None, file: Path) -> list[StateDict]:
    """The state dicts of a checkpoint, or those under a key."""
    states = list(state_dicts(content))
    if key is not None:
        chosen = [each for each in states if f"{each.path}.".startswith(f"{key}.")]
        if not chosen:
            paths = list(dict.fromkeys(each.path for each in states if each.path))
            raise WeightsError(
                f"Expected {file} to hold a state dict under {key!r}; it does under {paths or 'no name'}"
            )
        return chosen
    if not states:
        odd = [name for name in content if not isinstance(name, str)]
        if odd:
            raise WeightsError(f"Expected {file} to name its tensors by text, got names like {odd[0]!r}")
        inside = [each for value in content.values() for each in (value, *_values(value))]
        if any(isinstance(each, Placeholder) and "multiarray" in each.KIND for each in inside):
            raise WeightsError(f"Expected {file} to hold tensors by name, got numpy arrays: {NUMPY}")
        entries = [
            f"{name} ({value.KIND})" if isinstance(value, Placeholder) else str(name) for name, value in content.items()
        ]
        raise WeightsError(
            f"Expected {file} to hold tensors by name, got the entries {first_of(sorted(entries), 8) or 'none'}"
        )
    return states


def _values(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, Mapping) else ()


def _chosen(found: Sequence[Network], spec: Spec, file: Path) -> tuple[Network, list[Network]]:
    """The network that is taken, the first one or the one that is asked for, and the others that fit."""
    complete = [each for each in found if each.complete]
    name = _text(spec, "network")
    if name is not None:
        asked = [each for each in complete or found if name in each.words]
        if not asked:
            fit = first_of(repr(each.address) if each.address else "one without a name" for each in complete or found)
            raise WeightsError(f"Expected a network {name!r} in {file} that fits the encoder, got {fit or 'none'}")
        complete, rest = [each for each in asked if each.complete], complete
    else:
        rest = complete
    if not complete:
        return found[0], []
    taken = complete[0]
    others = [each for each in rest if each is not taken and not taken.same_values(each)]
    equals = [each for each in others if each in complete and each.rank == taken.rank]
    if equals:
        names = ", ".join(repr(each.prefix or each.address) for each in (taken, *equals))
        raise WeightsError(f"Expected one network in {file}, got several, under {names}; choose with {file}?prefix=…")
    return taken, others


def _all_there(encoder: nn.Module, network: Network, file: Path) -> tuple[str, ...]:
    """Requires every tensor of an encoder but a head's; returns the parts of the head that have none."""
    wanted, state = encoder.state_dict(), network.state
    off = parts_without_weights(encoder, network.optional.intersection(network.missing))
    missing = [name for name in network.missing if not name.startswith(tuple(f"{part}." for part in off))]
    if missing:
        names = [each for each in state.objects if each.endswith(missing[0])]
        kind = state.objects[names[0]] if names else ""
        also = f"; {missing[0]} is an object of {kind}" if kind else ""
        also += "; a quantised file: save the weights as floats" if "qtensor" in kind else ""
        library = of_another_library(wanted, state.tensors)
        also += f"; the file is of {library}" if library else ""
        raise WeightsError(
            f"Expected {file} to hold all {len(wanted)} tensors of the encoder, got {len(network.names)}; missing: "
            f"{first_of(missing)}{also}; the file has: {first_of(state.tensors)}"
        )
    if network.misfits:
        pairs = ((name, wanted[name].shape, network.tensors()[name].shape) for name in network.misfits[:3])
        shapes = (f"{name} {list(want)}, got {list(got)}" for name, want, got in pairs)
        raise WeightsError(
            f"Expected the shapes of the encoder in {file}: {'; '.join(shapes)} ({len(network.misfits)} differ); "
            + (of_another_size(encoder, network) or "give the constructor's arguments after a '?'")
        )
    return off


def _nothing_inside_is_left(encoder: nn.Module, network: Network, left: Sequence[str], file: Path) -> None:
    """A name that is left but belongs to a part the encoder has means that the file is of a larger network."""
    filled = {name.partition(".")[0] for name in network.names}
    parts = {name for name, _ in encoder.named_children() if name in filled or name not in HEADS}
    names = {raw: cleaned for cleaned, raw in network.state.cleaned.items()}
    inside = []
    for name in left:
        own = names.get(name, name)
        if own.startswith(network.prefix) and own.removeprefix(network.prefix).partition(".")[0] in parts:
            inside.append(name)
    if inside:
        raise WeightsError(
            f"Expected {file} to hold this encoder, got a larger one with {first_of(inside)}; allow it with "
            f"{file}?strict=False"
        )


def _floats(wanted: Mapping[str, Tensor], network: Network, file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors in the encoder's shapes, and what is said of them; nothing is cast in silence."""
    found = network.spelling.as_encoder(wanted, network.tensors())
    _require_floats(wanted, found, file)
    wider = [name for name, value in found.items() if value.dtype == torch.float64 != wanted[name].dtype]
    notes = (f"{len(wider)} tensors of float64 were rounded to float32.",) if wider else ()
    return found, notes


def _require_floats(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path) -> None:
    wrong = [
        name
        for name, value in found.items()
        if not name.endswith("num_batches_tracked")
        and (wanted[name].is_floating_point(), wanted[name].is_complex())
        != (value.is_floating_point() and value.element_size() > 1, value.is_complex())
    ]
    if wrong:
        name = wrong[0]
        small = found[name].element_size() == 1 and found[name].dtype != torch.bool
        fix = "a quantised file: save the weights as floats" if small else "save the weights as floats"
        raise WeightsError(
            f"Expected {name} in {file} to be of {wanted[name].dtype}, got {found[name].dtype} ({len(wrong)} like it); "
            f"{fix}"
        )


def _alpha(spec: Spec, file: Path) -> object:
    if "lora_alpha" not in spec.arguments:
        raise WeightsError(
            f"Expected weights alone in {file}, got an adapter of LoRA beside them, whose alpha it does not say: "
            f"give it with {file}?lora_alpha=NUMBER"
        )
    return spec.arguments["lora_alpha"]


def _raw_prefix(network: Network) -> str:
    """Finds what stands before an encoder's names in the file, wrappers' parts among it."""
    for name, raw in network.names.items():
        if raw.endswith(own := network.spelling.in_file(name)):
            return raw.removesuffix(own)
    return network.prefix
