"""Content of a RUN folder: names of its files, records of plan.json and manifest.json.

```
plan.json          what is measured; there from the beginning, so that a run that goes on can be checked against it
manifest.json      what was measured and how; written last, so a folder with one is complete
samples.parquet    one row per image, in data order
units.parquet      one row per unit of every layer, layers in forward order, encoder after encoder
layers.parquet     one row per layer, in forward order
encoders.parquet   one row per encoder
state.safetensors  the streaming states, "<layer>/<name>"
```
`docs/run-folder.md` specifies the folder for readers in other languages; `columns.py` has the columns of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from memkern._util.records import Json, Record, json_digest
from memkern.audit.run_folder.significance import Significance
from memkern.audit.taps.transformer_blocks import Block
from memkern.errors import MemkernError, PlanError
from memkern.transforms import ViewSpec

PLAN, MANIFEST, STATE = "plan.json", "manifest.json", "state.safetensors"


@dataclass(frozen=True)
class LayerPlan(Record):
    """A layer that is measured.

    Attributes:
        name: Name of the layer.
        units: How many units the layer has.
        points: How many images the layer is measured on.
        shape: Shape of the layer's output for one view, the units among its dims.
    """

    name: str
    units: int
    points: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EncoderPlan(Record):
    """Encoder of an audit, as far as it decides the result.

    Attributes:
        name: Name of the encoder.
        role: "f", trained with the candidates, "g", trained without them, or "" where that varies by image.
        encoder: The encoder, as the user wrote it.
        encoder_file: SHA-256 of the user's files that decide the encoder, its code or configuration; `None` if none do.
        weights: SHA-256 of the weights.
        members: Digest of what is known of the images that the encoder was trained on; `None` if nothing is.
        units: How many units each layer has; encoders of several architectures may differ in that.
        readings: Digest of all that decides what is read of the encoder, `Plan.read_digest` among it; its files in RUN
            carry it.
    """

    name: str
    role: str
    encoder: str
    encoder_file: str | None
    weights: str
    members: str | None
    units: tuple[int, ...]
    readings: str


@dataclass(frozen=True)
class Plan(Record):
    """Plan of an audit: everything that decides its result. Two audits with equal plans give the same bits.

    Attributes:
        memkern: Version of memkern.
        torch: Version of torch.
        encoder: The encoder, as the user wrote it.
        encoder_file: SHA-256 of the user's files that decide the encoder, its code or configuration; `None` if none do.
        weights: SHA-256 of the weights of f.
        reference: SHA-256 of the weights of g; `None` without one.
        data: Digest of the list of images.
        n_images: How many images.
        labels: Digest of the labels; `None` without.
        candidates: Digest of the ids of the candidates; `None` without.
        views: Views of each image.
        transform: What a view does.
        size: Height and width of a view, pixels.
        pairs: "all" pairs of views, or "anchor".
        normalize: Whether representations are brought to unit length.
        seed: Seed of the views.
        batch_size: Images per forward pass.
        shard_size: Images per shard.
        median: Whether UnitMem is against the median of the other images, not their mean.
        precision: "fp32" or "bf16".
        device: "cpu" or "cuda".
        allow_nan: Whether NaN is let through.
        layers: The layers, in forward order.
        output: The layer at which SSLMem is measured.
        blocks: The transformer blocks among the layers.
        encoders: The encoders, the first f, whose weights are `weights`, first. More may be added to an audit.
        groups: Digest of the groups and pictures of the images; `None` if none were named.
        control: Which images scored ones are compared with: "auto", "extra", "shared" or "none".
        level: "auto" or "none": whether the level of an encoder is taken out of scores.
        fdr: False-discovery rate at which an image is called memorized.
        distance: "l2", "l1", or of directions "cosine" or "angular".
        activation: What activations are before they are averaged to means of units: "raw", "relu" or "abs".
        contents: Digest of the pixels of all images; `None` where not every image was looked at.
        versions: Package that decodes images or builds encoders -> version.
        keep: "all" layers, or the "output" alone: what the tables keep of every image.
    """

    ERROR: ClassVar[type[MemkernError]] = PlanError
    OF_ENCODERS: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "encoder_file", "weights", "reference", "encoders", "candidates"}
    )
    OF_SCORES: ClassVar[frozenset[str]] = frozenset({"groups", "control", "level", "fdr", "keep"})

    memkern: str
    torch: str
    encoder: str
    encoder_file: str | None
    weights: str
    reference: str | None
    data: str
    n_images: int
    labels: str | None
    candidates: str | None
    views: int
    transform: ViewSpec
    size: tuple[int, int]
    pairs: str
    normalize: bool
    seed: int
    batch_size: int
    shard_size: int
    median: bool
    precision: str
    device: str
    allow_nan: bool
    layers: tuple[LayerPlan, ...]
    output: str
    blocks: tuple[Block, ...]
    encoders: tuple[EncoderPlan, ...] = ()
    groups: str | None = None
    control: str = "auto"
    level: str = "auto"
    fdr: float = 0.05
    distance: str = "l2"
    activation: str = "raw"
    contents: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    keep: str = "all"

    @property
    def digest(self) -> str:
        """Digest of all that decides the result."""
        return json_digest(self.to_json())

    @property
    def read_digest(self) -> str:
        """Digest of what decides the readings of every encoder, without encoders and what scores are made with."""
        fields = self.to_json()
        return json_digest({name: fields[name] for name in fields.keys() - self.OF_ENCODERS - self.OF_SCORES})

    @property
    def n_shards(self) -> int:
        """Number of shards that the images make."""
        return -(-self.n_images // self.shard_size)


@dataclass(frozen=True)
class WeightsEntry(Record):
    """Origin of the weights of an encoder.

    Attributes:
        file: The file, as the user wrote it; `None` for an encoder in memory.
        sha256: Digest of the file, and of what was chosen in it, or of the state of an encoder in memory.
        prefix: What was taken off the names of its tensors.
        unused: Tensors of the file that are not the encoder's.
        network: Which network of the file was taken; "" if no other one fits.
        others: Networks of the file that would fit as well.
        notes: What else was done to load the weights, a head that was taken off among it.
    """

    file: str | None
    sha256: str
    prefix: str
    unused: tuple[str, ...]
    network: str = ""
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightsEntries(Record):
    """The weights of the first f and, with a reference, of the first g; in a varying design, of the first encoder.

    Attributes:
        f: The weights of f, trained with the candidates.
        g: The weights of g, trained without them; `None` without a reference.
    """

    f: WeightsEntry
    g: WeightsEntry | None


@dataclass(frozen=True)
class EncoderEntry(Record):
    """Encoder of an audit.

    Attributes:
        name: Name of the encoder.
        role: "f", trained with the candidates, "g", trained without them, or "" where that varies by image.
        encoder: The encoder, as the user wrote it.
        weights: Origin of its weights.
        n_members: How many of the images the encoder is known to have been trained on; `None` if nobody says.
    """

    name: str
    role: str
    encoder: str
    weights: WeightsEntry
    n_members: int | None


@dataclass(frozen=True)
class DataEntry(Record):
    """Images of an audit: their origin, how many there are, and which were left out.

    Attributes:
        source: Where the images are, as the user wrote it.
        n_images: How many images were measured.
        n_listed: How many images were found before those that cannot be read were left out.
        list_sha256: Digest of the list of images.
        classes: Name of each class; `None` without labels.
        skipped: Id and reason of each image that was left out.
        repeated: Ids that the list named again.
        duplicates: Image, its copy, "exact" or "near".
        exif: "apply" if images were turned as their EXIF orientation says, "ignore" if not, "" if they have none.
        left_out: What else was found beside the images (hidden files, files with other endings) -> how many.
        check: Which images were decoded before the work: "full", "sample" or "none".
        folder: Folder in which relative paths of images begin; `None` where there are none.
    """

    source: str
    n_images: int
    n_listed: int
    list_sha256: str
    classes: tuple[str, ...] | None
    skipped: tuple[tuple[str, str], ...]
    repeated: tuple[str, ...]
    duplicates: tuple[tuple[str, str, str], ...]
    exif: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    check: str = "full"
    folder: str | None = None


@dataclass(frozen=True)
class CandidatesEntry(Record):
    """The images that f was trained with and g was not.

    Attributes:
        n: How many candidates.
        sha256: Digest of their ids.
    """

    n: int
    sha256: str


@dataclass(frozen=True)
class ViewCall(Record):
    """Views of each image, and which pairs of them are compared.

    Attributes:
        n_views: How many views of each image.
        transform: Name of the transform, or its file.
        spec: What the transform does.
        seed: Seed of the views.
        size: Height and width, pixels; `None`: those of the spec, or of the images.
        pairs: "all" pairs of views, or "anchor": the clean image against each view.
        normalize: Whether representations are brought to unit length before the distance.
        distance: "l2", "l1", or of directions "cosine" or "angular".
        activation: What activations are before they are averaged to means of units: "raw", "relu" or "abs".
    """

    n_views: int
    transform: str
    spec: ViewSpec
    seed: int
    size: tuple[int, int] | None = None
    pairs: str = "all"
    normalize: bool = True
    distance: str = "l2"
    activation: str = "raw"


@dataclass(frozen=True)
class About(Record):
    """Facts of an audit that are known when it begins and decide nothing.

    Attributes:
        versions: Package -> version; and the "machine".
        encoder: The encoder, as the user wrote it; several kinds separated by commas.
        reference: The weights of g, as the user wrote them, several separated by commas; in a design that varies by
            image the file that lists the encoders. `None` without a reference.
        weights: The weights of the first f and the first g.
        data: The images.
        candidates: The candidates; `None` if they were not named.
        views: The views.
        options: Every option as it was resolved: name -> value.
        device: The device.
        precision: "fp32" or "bf16".
        backends: What `memkern.backends()` said.
        encoders: All encoders; empty in the files of memkern 0.2.0 and before, which knew of one f and one g.
        left_out: Name -> why a tensor of a layer that was asked for is not read.
        notes: Name -> what should be known of the units of a layer that is read.
        units_by: How the dimensions of units were told: from images of two sizes, or why not; "" before memkern 0.4.0.
    """

    versions: Mapping[str, str]
    encoder: str
    reference: str | None
    weights: WeightsEntries
    data: DataEntry
    candidates: CandidatesEntry | None
    views: ViewCall
    options: Mapping[str, object]
    device: str
    precision: str
    backends: tuple[Mapping[str, object], ...]
    encoders: tuple[EncoderEntry, ...] = field(default=(), kw_only=True)
    left_out: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    notes: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    units_by: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Manifest(About):
    """Content of manifest.json: `About`, and what is known when the audit is complete.

    Attributes:
        created: When the audit was completed, ISO 8601 in UTC.
        layers: The layers, in forward order.
        output: The layer at which SSLMem is measured.
        blocks: The transformer blocks among the layers.
        wall: Part of the work -> seconds, summed over processes; and the "total".
        shards: How many shards the images were measured in.
        plan: The plan.
        significance: How sure the scores are over trainings; `None` without encoders that did not see an image.
        files: File -> SHA-256.
        complete: Always true: the file is written last.
    """

    FORMAT: ClassVar[str] = "memkern-audit"
    VERSION: ClassVar[int] = 2
    # Version 2 says how sure scores are over trainings; an audit of version 1 does not know.
    UPGRADES: ClassVar[Mapping[int, Callable[[dict[str, Json]], dict[str, Json]]]] = {
        1: lambda fields: {**fields, "significance": None}
    }
    SEALED: ClassVar[bool] = True

    created: str
    layers: tuple[LayerPlan, ...]
    output: str
    blocks: tuple[Block, ...]
    wall: Mapping[str, float]
    shards: int
    plan: Plan
    significance: Significance | None
    files: Mapping[str, str]
    complete: bool = True

    def to_json(self) -> dict[str, Json]:
        """Turns the manifest into JSON; the format and `complete` come first."""
        fields = super().to_json()
        return {"format": fields["format"], "complete": self.complete} | fields


@dataclass(frozen=True)
class PlanFile(Record):
    """Content of plan.json.

    Attributes:
        plan: What decides the result; must be equal for a run to go on.
        about: What else is known when the audit begins.
        images: SHA-256 of the list of images, images.parquet; "" for audits of memkern 0.3 or earlier.
    """

    FORMAT: ClassVar[str] = "memkern-plan"
    SEALED: ClassVar[bool] = True
    ERROR: ClassVar[type[MemkernError]] = PlanError

    plan: Plan
    about: About
    images: str = ""
