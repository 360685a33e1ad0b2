"""The options of an audit, declared once: fields, command line and docs; checked before any work."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from memkern import transforms
from memkern._util.arguments import numbers, part_of
from memkern._util.devices import usable_device
from memkern._util.files import read_json
from memkern._util.options import option, option_rows, required, switches
from memkern._util.remote import is_remote
from memkern._util.text import did_you_mean, markdown_table
from memkern.audit.data.check import CHECKS, SAMPLE
from memkern.audit.data.decode import EXIF
from memkern.audit.data.open import data_examples
from memkern.audit.encoders.build import encoder_examples
from memkern.audit.run_folder.write_exports import export_summaries
from memkern.checks import values as checks
from memkern.errors import ArgumentTypeError, ArgumentValueError, MissingFileError
from memkern.metrics.options import ACTIVATIONS

PRECISIONS = ("fp32", "bf16")
KEPT = ("all", "output")
CONTROLS = ("auto", "extra", "shared", "none")


def _encoder_help() -> str:
    return f"{encoder_examples()}, with ?key=value&… for the constructor"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an audit: what is measured, on what, and how.

    Every field is an option of `memkern audit`, with what `memkern audit --help` and docs/audit.md say of it beside its
    default. An f is an encoder that was trained with the candidates, a g one of the same recipe trained without them;
    several of each are several trainings. One file of weights may be given as text.

    Raises:
        ArgumentValueError: If an option is out of bounds; the message names it.
        ArgumentTypeError: If an option is of another kind.
        MissingFileError: If `transform` names a file that is not there.
    """

    encoder: str = option("", _encoder_help, metavar="ENCODER", positional=True)
    weights: tuple[str, ...] = option(
        (), "weights of f, trained with the candidates; several files: several trainings", metavar="F", many=True
    )
    data: str = required(str, data_examples)
    out: Path = required(Path, "folder of the results", metavar="RUN")
    reference: tuple[str, ...] = option(
        (), "weights of g, trained without them; without it UnitMem and ClassMem only", metavar="G", many=True
    )
    groups: str | None = option(
        None,
        ".csv or .parquet file with id, group (shared, candidate, independent, extra) and, if several images are of "
        "one picture, picture",
        metavar="FILE",
    )
    candidates: str | None = option(
        None, "in place of --groups: file with one id a line, .npy, or START:STOP", metavar="IDS"
    )
    encoders: str | None = option(
        None,
        "in place of ENCODER, --weights and --reference: .csv or .parquet file with name, encoder, weights, members "
        "(file of ids, START:STOP, or empty: none)",
        metavar="FILE",
    )
    control: str = option(
        "auto", "images that candidates are compared with", metavar="GROUP", choices=CONTROLS, group="measurement"
    )
    level: str = option(
        "auto",
        "auto takes out how tight an encoder is as a whole, where the design can tell",
        choices=("auto", "none"),
        group="measurement",
    )
    fdr: float = option(
        0.05, "false-discovery rate at which an image is called memorized", metavar="RATE", group="measurement"
    )
    labels: str = option("auto", "auto, none, folder, or a file")
    exif: str = option(
        "auto",
        "orientation that a photograph's EXIF data state; auto: as the library does that trains on such data",
        choices=("auto", *EXIF),
    )

    views: int = option(10, "views of each image", metavar="K", group="views")
    transform: str = option("simclr", "a preset or a .json file", metavar="NAME", group="views")
    size: int | None = option(None, "height and width of a view", metavar="PX", group="views")
    mean: tuple[float, ...] | None = option(
        None, "mean of each channel, 0.5,0.5,0.5 say; default: the transform's", group="views", parse=numbers
    )
    std: tuple[float, ...] | None = option(None, "standard deviation of each channel", group="views", parse=numbers)

    layers: str = option(
        "*", "names or globs separated by commas, re:REGEX, or sublayers", metavar="GLOB", group="measurement"
    )
    output: str | None = option(
        None, "where SSLMem is measured; default: the encoder's output", metavar="LAYER", group="measurement"
    )
    pairs: str = option("all", "pairs of views", group="measurement", choices=("all", "anchor"))
    normalize: bool = option(True, "keep lengths in distances", group="measurement")
    distance: str = option(
        "l2", "distance of two views", group="measurement", choices=("l2", "l1", "cosine", "angular")
    )
    activation: str = option(
        "raw",
        "what is done to activations before they are averaged to means of units: nothing, negative ones set to 0, or "
        "all taken as absolute values",
        group="measurement",
        choices=ACTIVATIONS,
    )
    seed: int = option(0, "seed of the views", metavar="S", group="views")
    batch_size: int | None = option(
        None, "images per forward pass; default: by the size of a view", metavar="B", group="work"
    )
    shard_size: int = option(1024, "images per shard", metavar="M", group="work")
    median: bool = option(
        False,
        "UnitMem against the median of the other images; keeps a number per image and unit",
        group="measurement",
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, …", metavar="D", group="work")
    precision: str = option("fp32", "of the encoders", group="measurement", choices=PRECISIONS)
    workers: int = option(2, "threads that load images", group="work")
    check: str = option(
        "full",
        f"images to decode before the work: full, sample ({SAMPLE} of them), none; copies are looked for in full",
        choices=CHECKS,
        group="work",
    )
    skip_corrupt: bool = option(False, "leave out images that cannot be read", group="work")
    duplicates: bool = option(True, "do not look for copies", group="work")
    allow_nan: bool = option(False, "go on where an encoder gives NaN", group="work")
    resume: bool = option(False, "go on from what a stopped run left in RUN", group="work")
    shard: tuple[int, int] | None = option(
        None, "do the i-th of n parts; see `memkern merge`", metavar="i/n", group="work", parse=part_of
    )

    images: bool = option(True, "keep pictures out of the results", group="results")
    keep: str = option(
        "all", "layers whose alignments are kept for every image: all, or the output alone", metavar="LAYERS",
        choices=KEPT, group="results",
    )  # fmt: skip
    exports: tuple[str, ...] = switches(export_summaries, group="results")

    def __post_init__(self) -> None:
        for name in ("weights", "reference"):
            object.__setattr__(self, name, _tuple(getattr(self, name)))
        self._check_inputs()
        least = {"views": 2 if self.pairs == "all" else 1, "batch_size": 1, "shard_size": 1, "workers": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "batch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise ArgumentTypeError(f"Expected `{name}` to be a whole number, got {value!r}")
            if value < low:
                raise ArgumentValueError(f"Expected `{name}` to be {low} or more, got {value}")
        checks.one_of(self.pairs, "pairs", ("all", "anchor"))
        checks.distance(self.distance, self.normalize)
        checks.one_of(self.activation, "activation", ACTIVATIONS)
        checks.one_of(self.precision, "precision", PRECISIONS)
        checks.one_of(self.control, "control", CONTROLS)
        checks.one_of(self.level, "level", ("auto", "none"))
        checks.one_of(self.exif, "exif", ("auto", *EXIF))
        checks.one_of(self.check, "check", CHECKS)
        if self.skip_corrupt and self.check != "full":
            raise ArgumentValueError(
                f"Expected `skip_corrupt` with check='full', got check={self.check!r}: an image that is found corrupt "
                "during the work cannot be left out any more"
            )
        if is_remote(self.out) and self.shard is not None:
            raise ArgumentValueError(
                f"Expected `out` to be a local folder with `shard`, got {self.out}: parts of an audit are put together "
                "before they are copied"
            )
        checks.one_of(self.keep, "keep", KEPT)
        if isinstance(self.fdr, bool) or not isinstance(self.fdr, (int, float)):
            raise ArgumentTypeError(f"Expected `fdr` to be a number, got {self.fdr!r}")
        if not 0 < self.fdr < 1:
            raise ArgumentValueError(f"Expected `fdr` to be between 0 and 1, 0.05 say, got {self.fdr}")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            i, n = self.shard
            raise ArgumentValueError(f"Expected `shard` to be i/n with 1 <= i <= n, got {i}/{n}")
        self.spec()
        self.torch_device()

    def _check_inputs(self) -> None:
        """Requires one description of the encoders, and one of who saw what."""
        if self.encoders is not None:
            also = [name for name in ("encoder", "weights", "reference", "candidates") if getattr(self, name)]
            if also:
                raise ArgumentValueError(
                    f"Expected `encoders` alone, got `{also[0]}` as well: the file {self.encoders} names every "
                    f"encoder, its weights and what it saw; leave `{also[0]}` out"
                )
            return
        missing = [name for name in ("encoder", "weights") if not getattr(self, name)]
        if missing:
            raise ArgumentValueError(
                f"Expected `{missing[0]}`: an encoder and its weights, or `encoders`, a file that lists several"
            )
        if self.groups is not None and self.candidates is not None:
            raise ArgumentValueError(
                "Expected `groups` or `candidates`, got both: the file of `groups` has a group for candidates"
            )

    def spec(self) -> transforms.ViewSpec:
        """Builds the `ViewSpec` of a view: the transform with `size`, `mean` and `std` put in."""
        if self.transform.endswith(".json"):
            spec = spec_from_json(Path(self.transform))
        else:
            spec = transforms.named(self.transform)
        return replace(
            spec,
            size=spec.size if self.size is None else self.size,
            mean=spec.mean if self.mean is None else self.mean,
            std=spec.std if self.std is None else self.std,
        )

    def torch_device(self) -> torch.device:
        """Chooses the device; "auto" is the first GPU if there is one, else the CPU."""
        return usable_device(self.device)

    @property
    def clean(self) -> bool:
        """True if the clean image is view 0."""
        return self.pairs == "anchor"


def _tuple(given: tuple[str, ...] | list[str] | str | None) -> tuple[str, ...]:
    """Files as a tuple: none, one, or several of them."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def spec_from_json(path: Path) -> transforms.ViewSpec:
    """Reads the `ViewSpec` whose fields a JSON file holds.

    Args:
        path: The JSON file.

    Returns:
        The spec.

    Raises:
        MissingFileError: If there is no file.
        ArgumentValueError: If the file is no JSON object of fields of a `ViewSpec`.
    """
    if path.exists() and not path.is_file():
        raise ArgumentValueError(
            f"Expected `transform` to be a preset or a JSON file, got {str(path)!r}; it is no file"
        )
    if not path.is_file():
        near = did_you_mean(path, (*transforms.PRESETS, *(str(each) for each in path.parent.glob("*.json"))))
        raise MissingFileError(
            f"Expected `transform` to be a preset or a JSON file, got {str(path)!r}; no such file{near}"
        )
    try:
        given = read_json(path)
    except ValueError as error:
        raise ArgumentValueError(f"Expected {path} to be JSON, got: {error}") from error
    known = {field.name for field in fields(transforms.ViewSpec)}
    if not isinstance(given, dict) or set(given) - known:
        got = sorted(set(given) - known) if isinstance(given, dict) else type(given).__name__
        near = did_you_mean(got[0], known) if isinstance(got, list) else ""
        raise ArgumentValueError(f"Expected {path} to hold fields of a ViewSpec, got {got}{near}")
    given |= {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    return transforms.ViewSpec(**given)


def options_table() -> str:
    """Returns the options as a markdown table, for docs/audit.md."""
    return markdown_table(("option", "default", "meaning"), option_rows(Options))
