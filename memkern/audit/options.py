"""The options of an audit, checked before any work."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from memkern import transforms
from memkern.checks import values as checks

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, on what, and how. Every field is an option of `memkern audit`.

    Attributes:
        encoder: `timm:NAME`, `torchvision:NAME`, `lightly:NAME`, `hf:CONFIG_DIR`, `memkern:NAME` or
            `py:FILE.py:FUNCTION`, each with `?key=value&…` for the constructor.
        weights: File of f, the encoder that was trained with the candidates.
        reference: File of g, of the same architecture, trained without them; without it only UnitMem and ClassMem are
            measured.
        data: Where the images are (`memkern.audit.data.source`).
        out: The RUN folder.
        candidates: File or range of the images that f saw and g did not.
        labels: "auto", "none", "folder", or a file with one label per image.
        views: Random views of each image.
        transform: Name of a set of transformations, or a JSON file with the fields of a `ViewSpec`.
        size: Height and width of a view, pixels; by default the transform's, else that of the images.
        mean: Mean of each channel that the encoder was trained with; by default the transform's.
        std: Their standard deviations.
        layers: Names or globs separated by commas, "re:" and a regular expression, or "sublayers".
        output: The layer at which SSLMem is measured; by default the encoder's output.
        pairs: "all" pairs of views, or "anchor": the clean image against each view, as the released scripts do.
        normalize: Whether representations are brought to unit length before the distance.
        seed: Of the views.
        batch_size: Images per forward pass; by default chosen from the size of the views.
        shard_size: Images per shard; what is lost at most when a run is stopped.
        median: UnitMem against the median of the others, not their mean: keeps one number per image and unit.
        device: "auto", "cpu", "cuda", "cuda:1", …
        precision: "fp32" or "bf16" (autocast).
        workers: Threads that load images.
        skip_corrupt: Leave out images that cannot be read, instead of an error.
        duplicates: Look for exact and near copies among the images, which look memorized.
        allow_nan: Go on where an encoder gives NaN.
        resume: Go on from what an interrupted run left in `out`.
        shard: (i, n): do the i-th of n parts, counted from 1; `memkern merge` puts them together.
        images: Write small pictures of the most memorized images for the report.
        mat: Write MATLAB files too.
        fiftyone: Write a FiftyOne-style JSON file too.

    Raises:
        ValueError: If an option is out of bounds; the message names it.
        TypeError: If it is of another kind.
    """

    encoder: str
    weights: str
    data: str
    out: Path
    reference: str | None = None
    candidates: str | None = None
    labels: str = "auto"
    views: int = 10
    transform: str = "simclr"
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layers: str = "*"
    output: str | None = None
    pairs: str = "all"
    normalize: bool = True
    seed: int = 0
    batch_size: int | None = None
    shard_size: int = 1024
    median: bool = False
    device: str = "auto"
    precision: str = "fp32"
    workers: int = 2
    skip_corrupt: bool = False
    duplicates: bool = True
    allow_nan: bool = False
    resume: bool = False
    shard: tuple[int, int] | None = None
    images: bool = True
    mat: bool = False
    fiftyone: bool = False

    def __post_init__(self) -> None:
        least = {"views": 2 if self.pairs == "all" else 1, "batch_size": 1, "shard_size": 1, "workers": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "batch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Expected `{name}` to be a whole number, got {value!r}")
            if value < low:
                raise ValueError(f"Expected `{name}` to be {low} or more, got {value}")
        checks.one_of(self.pairs, "pairs", ("all", "anchor"))
        checks.one_of(self.precision, "precision", PRECISIONS)
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"Expected `shard` to be i/n with 1 <= i <= n, got {self.shard[0]}/{self.shard[1]}")
        self.spec()
        self.torch_device()

    def spec(self) -> transforms.ViewSpec:
        """What a view does: the transform with `size`, `mean` and `std` put in."""
        if self.transform.endswith(".json"):
            spec = spec_from_json(Path(self.transform))
        else:
            spec = transforms.named(self.transform)
        given: dict[str, Any] = {"size": self.size, "mean": self.mean, "std": self.std}
        return replace(spec, **{name: value for name, value in given.items() if value is not None})

    def torch_device(self) -> torch.device:
        """The device; "auto" is the first GPU if there is one, else the CPU."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(f"Expected `device` to be auto, cpu, cuda or cuda:N, got {self.device!r}") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"Expected `device` to be here, got {self.device!r}; torch sees no GPU: use --device cpu")
        return device

    @property
    def clean(self) -> bool:
        """Whether the clean image is view 0."""
        return self.pairs == "anchor"


def spec_from_json(path: Path) -> transforms.ViewSpec:
    """The `ViewSpec` whose fields a JSON file holds.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is no JSON object of fields of a `ViewSpec`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected `transform` to be a preset or a JSON file, got {str(path)!r}; no such file")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected {path} to be JSON, got: {error}") from error
    known = {field.name for field in fields(transforms.ViewSpec)}
    if not isinstance(given, dict) or set(given) - known:
        got = sorted(set(given) - known) if isinstance(given, dict) else type(given).__name__
        raise ValueError(f"Expected {path} to hold fields of a ViewSpec, got {got}")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    return transforms.ViewSpec(**values)
