"""`memkern lab list | run | index | train | family`: the command line of the lab."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memkern._util.arguments import positive_number, seed, whole_number
from memkern._util.text import did_you_mean
from memkern.errors import ArgumentValueError

if TYPE_CHECKING:
    from torch import Tensor

    from memkern.lab.data.packaged import ImageSet
    from memkern.lab.family import Family
    from memkern.lab.training.recipe import Recipe
    from memkern.lab.training.trainer import Training

PRESET_NAMES = ("tiny", "small", "paper")


def add_arguments(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of `memkern lab`; nothing heavy is imported for that."""
    commands = parser.add_subparsers(dest="lab_command", required=True, metavar="COMMAND")
    listed = commands.add_parser("list", parents=[common], help="show every table and figure of the papers")
    listed.add_argument("--json", action="store_true", help="with inputs, columns and published numbers")
    run = commands.add_parser("run", parents=[common], help="run experiments and write their pages")
    run.add_argument("ids", nargs="+", metavar="ID", help="experiments, by the ids that `memkern lab list` shows")
    run.add_argument("--preset", choices=PRESET_NAMES, default="small", help="size (%(default)s)")
    run.add_argument("--out", type=Path, default=Path("memkern-lab"), help="folder of the pages (%(default)s)")
    run.add_argument("--cache", type=Path, help="folder of trained encoders (OUT/cache)")
    run.add_argument("--root", type=Path, help="folder of data sets that do not ship in packages")
    run.add_argument("--reuse", type=Path, help="folder of pairs made by python -m memkern.lab.encoder_pairs")
    _add_activation(run)
    _add_device(run)
    data = commands.add_parser(
        "data", parents=[common], help="list the data sets: which are here, how to get the others"
    )
    data.add_argument("--root", type=Path, help="folder of data sets that do not ship in packages")
    index = commands.add_parser("index", parents=[common], help="write index.md of the pages in a folder")
    index.add_argument("folder", type=Path, help="what `run` was given as --out")
    train = commands.add_parser("train", parents=[common], help="train one encoder")
    _add_recipe(train)
    train.add_argument("--role", choices=("f", "g"), default="f", help="which half of a pair (%(default)s)")
    train.add_argument("--seed", type=whole_number, default=0, help="seed of split and training (%(default)s)")
    train.add_argument(
        "--monitor", type=positive_number, metavar="N", help="print UnitMem of the candidates every N epochs"
    )
    _add_activation(train)
    train.add_argument("--out", type=Path, required=True, help="checkpoint to write and to go on from (.safetensors)")
    _add_device(train)
    _add_family(commands.add_parser("family", parents=[common], help="train the encoders of a `memkern audit` of many"))


def _add_activation(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--activation",
        choices=("raw", "relu", "abs"),
        default="raw",
        help="what is done to activations before they are averaged to means of units (%(default)s)",
    )


def _add_family(family: argparse.ArgumentParser) -> None:
    family.add_argument("--design", choices=tuple(OWN_OPTIONS), required=True, help="who is trained on which images")
    family.add_argument("--trainings", type=positive_number, metavar="K", help="halves: how many encoders (8)")
    family.add_argument("--images", type=positive_number, metavar="N", help="halves: of how many images (preset's)")
    family.add_argument("--f", type=positive_number, metavar="F", help="split: encoders that see the candidates (4)")
    family.add_argument("--g", type=positive_number, metavar="G", help="split: encoders that do not (4)")
    family.add_argument(
        "--sizes",
        type=_sizes,
        metavar="S,C,E",
        help="split: shared, candidate, extra images of each class, or of photos pictures (preset's)",
    )
    _add_recipe(family)
    family.add_argument(
        "--size", type=positive_number, metavar="PX", help="edge of the images of folder and stl10 (32)"
    )
    family.add_argument("--seed", type=seed, default=0, help="seed of design and trainings (%(default)s)")
    family.add_argument("--cache", type=Path, help="folder of trained encoders (OUT/cache)")
    family.add_argument("--out", type=Path, required=True, help="folder of the family; a stopped one goes on")
    _add_device(family)


OWN_OPTIONS = {"halves": ("trainings", "images"), "split": ("f", "g", "sizes")}
"""Design of a family -> the options that it alone has."""


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="simclr", help="training method (%(default)s)")
    parser.add_argument("--encoder", help="encoder (resnet9; for mae the preset's transformer)")
    parser.add_argument("--data", help="data set; default: that of the preset")
    parser.add_argument("--root", type=Path, help="folder of a data set that does not ship in a package")
    parser.add_argument("--preset", choices=PRESET_NAMES, default="small", help="recipe and split (%(default)s)")
    parser.add_argument(
        "--set", type=_field, action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe, JSON"
    )
    parser.add_argument("--every", type=positive_number, default=10, help="epochs between checkpoints (%(default)s)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="torch device to train on (%(default)s)")
    parser.add_argument(
        "--threads", type=positive_number, default=1, help="CPU threads; weights depend on it (%(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Runs a sub-command of `memkern lab`.

    Args:
        args: The parsed arguments.

    Raises:
        ArgumentValueError: If an experiment, method or field does not exist.
    """
    commands = {"list": _list, "run": _run, "data": _data, "index": _index, "train": _train, "family": _family}
    commands[args.lab_command](args)


def _list(args: argparse.Namespace) -> None:
    from memkern.lab.experiments._catalogue import entries

    if args.json:
        listed: list[dict[str, object]] = []
        for entry in entries():
            found = entry.experiment
            more: dict[str, object] = {} if found is None else {
                "id": found.id, "inputs": found.inputs, "columns": found.columns,
                "findings": dict(found.findings), "published": list(found.published),
            }  # fmt: skip
            listed.append({"name": entry.name, "title": entry.title, "why_not": entry.why or None, **more})
        print(json.dumps(listed, indent=2))
        return
    for entry in entries():
        maker = entry.experiment.id if entry.experiment else "-"
        print(f"{entry.name:<11} {maker:<12} {entry.title}" + (f" ({entry.why})" if entry.why else ""))


def _run(args: argparse.Namespace) -> None:
    import torch

    from memkern._util.devices import usable_device
    from memkern.lab.experiments import _report_pages
    from memkern.lab.experiments._catalogue import implemented
    from memkern.lab.experiments._context import ExperimentContext
    from memkern.lab.experiments._experiment import verdict
    from memkern.lab.presets import PRESETS

    known = implemented()
    wrong = [name for name in args.ids if name not in known]
    if wrong:
        raise ArgumentValueError(
            f"Expected experiments among {', '.join(known)}, got {', '.join(wrong)}{did_you_mean(wrong[0], known)}"
        )
    device = str(usable_device(args.device))
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # a GPU measures in float32, as the CPU does
    cache = args.cache or args.out / "cache"
    context = ExperimentContext(
        PRESETS[args.preset], cache=cache, root=args.root, reuse=args.reuse, device=device, log=print,
        activation=args.activation,
    )  # fmt: skip
    for name in args.ids:
        context.used.clear()
        start = time.monotonic()
        result = known[name].run(context)
        shown = f"memkern lab run {name} --preset {args.preset}" + (" --reuse PAIRS" if args.reuse else "")
        shown += "" if args.activation == "raw" else f" --activation {args.activation}"
        shown += "" if args.device == "cpu" else f" --device {args.device}"
        seconds = time.monotonic() - start
        files = _report_pages.write(known[name], result, context, args.out, command=shown, seconds=seconds)
        for finding, effects in result.effects.items():
            print(f"{name}: {verdict(effects)}: {known[name].findings[finding]}")
        print(f"{name}: {files[-1]}")


def _data(args: argparse.Namespace) -> None:
    from memkern.lab.data.listing import listed

    for line in listed(args.root):
        count = f"{line.images:,} images" if line.here else "not here"
        print(f"{line.name:<14} {count:<14} {line.remark}", flush=True)


def _index(args: argparse.Namespace) -> None:
    from memkern.lab.experiments._report_pages import write_index

    print(write_index(args.folder))


def _train(args: argparse.Namespace) -> None:
    import torch

    from memkern._util.devices import usable_device
    from memkern.lab.distributed import processes
    from memkern.lab.encoder_pairs import training_seed
    from memkern.lab.experiments._context import ExperimentContext
    from memkern.lab.presets import PRESETS
    from memkern.lab.training.trainer import Checkpoints, train

    device = str(usable_device(args.device))
    torch.set_num_threads(args.threads)
    preset = PRESETS[args.preset]
    recipe = preset.recipe(args.method, args.encoder, **dict(args.set))
    context = ExperimentContext(preset, cache=args.out.parent, root=args.root)
    data, split = context.data(args.data), context.split(args.seed, args.data)
    recipe = _with_fitting_views(recipe, data, "views" in dict(args.set))
    ids = split.f if args.role == "f" else split.g
    with processes(device) as place:
        first = torch.distributed.get_rank() == 0 if torch.distributed.is_initialized() else True

        watch = None
        if args.monitor is not None:
            watch = _monitor(data.images[split.candidate], recipe, args, show=first)

        def report(epoch: int, loss: float) -> None:
            if first and (epoch % max(1, recipe.epochs // 20) == 0 or epoch == recipe.epochs):
                print(f"epoch {epoch} of {recipe.epochs} loss {loss:.4f}", flush=True)

        done = train(
            data.floats(ids) if recipe.pixels == "float32" else data.images[ids],
            recipe,
            training_seed(args.seed, args.role),
            labels=data.labels[ids],
            device=place,
            checkpoints=Checkpoints(args.out, args.every),
            on_epoch=report,
            metrics=watch,
        )
        if first:
            print(done.timing())
            if done.privacy is not None:
                print(f"epsilon {done.privacy.epsilon():.3f} at delta {recipe.delta}")


def _family(args: argparse.Namespace) -> None:
    import torch

    from memkern._util.devices import usable_device
    from memkern.lab.encoder_cache import EncoderCache
    from memkern.lab.family import audit_command, write_family
    from memkern.lab.presets import PRESETS

    device = str(usable_device(args.device))
    torch.set_num_threads(args.threads)
    recipe = PRESETS[args.preset].recipe(args.method, args.encoder, **dict(args.set))
    family = _drawn_family(args)
    recipe = _with_fitting_views(recipe, family.data, "views" in dict(args.set))
    cache = EncoderCache(
        (args.cache or args.out / "cache") / "encoders", device=device, every=args.every, log=partial(print, flush=True)
    )
    write_family(family, recipe, cache, args.out)
    print(f"\n{args.out}: {len(family.encoders)} encoders, {len(family.rows)} images; audit them with\n")
    print(audit_command(family, recipe, args.out))


def _with_fitting_views(recipe: Recipe, data: ImageSet, chosen: bool) -> Recipe:
    """Replaces views that do nothing to gray images, unless they were chosen, and says so."""
    from memkern.lab.training.recipe import for_gray_images

    if chosen or not data.gray:
        return recipe
    print(f"images of {data.name} have no color: views leave out saturation and hue, and blur")
    return replace(recipe, views=for_gray_images(recipe.views))


def _drawn_family(args: argparse.Namespace) -> Family:
    """Reads the data set and draws the images of every encoder."""
    import torch

    from memkern.lab.data import datasets
    from memkern.lab.data.splits import Sizes
    from memkern.lab.family import halves_family, split_family
    from memkern.lab.presets import PRESETS

    others = [name for design, names in OWN_OPTIONS.items() if design != args.design for name in names]
    wrong = [f"--{name}" for name in others if getattr(args, name) is not None]
    if wrong:
        own = ", ".join(f"--{name}" for name in OWN_OPTIONS[args.design])
        raise ArgumentValueError(f"Expected {own} with --design {args.design}, got {', '.join(wrong)}")
    preset = PRESETS[args.preset]
    name = args.data or preset.data
    data = datasets.load(name, root=args.root, size=args.size or 32)
    if args.size is not None and args.size != data.images.shape[-1]:
        raise ArgumentValueError(
            f"Expected --size with folder or stl10; images of {name} have {data.images.shape[-1]} px"
        )
    if args.design == "split":
        if args.sizes is not None:
            preset = replace(preset, sizes=Sizes(*args.sizes), pictures=Sizes(*args.sizes))
        return split_family(data, preset.split(data, args.seed), args.f or 4, args.g or 4, args.seed)
    if args.images is None:
        split = preset.split(data, args.seed)
        rows = torch.cat([split.shared, split.candidate, split.independent])
    else:
        count = data.n_train or len(data)
        if args.images > count:
            raise ArgumentValueError(f"Expected --images to be {count} at most, the training images of {name}")
        rows = torch.randperm(count, generator=torch.Generator().manual_seed(args.seed))[: args.images]
    return halves_family(data, rows, args.trainings or 8, args.seed)


def _sizes(text: str) -> tuple[int, ...]:
    """Reads SHARED,CANDIDATE,EXTRA."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"Expected SHARED,CANDIDATE,EXTRA, 3,3,10 say, got {text!r}")
    return tuple(map(int, parts))


def _monitor(images: Tensor, recipe: Recipe, args: argparse.Namespace, *, show: bool) -> Callable[[Training], None]:
    """Watches the units of an encoder on some images, through the views of its training, as `lab train` was told."""
    from memkern.audit.monitor.monitor import Monitor
    from memkern.lab.encoders.build import described

    monitors: list[Monitor] = []

    def step(training: Training) -> None:
        encoder = training.model.encoder
        if not monitors:
            layers = ",".join(described(encoder).unit_taps.values())
            monitors.append(
                Monitor(
                    images,
                    layers=layers,
                    transform=recipe.views,
                    every=args.monitor,
                    activation=args.activation,
                    show=None,
                )
            )
        scalars = monitors[0].step(encoder, training.epoch)
        if scalars is not None and show:
            means = [value for name, value in scalars.items() if "/unitmem/" in name and name.endswith("/mean")]
            print(f"epoch {training.epoch} mean UnitMem by layer: {', '.join(f'{mean:.3f}' for mean in means)}")

    return step


def _field(text: str) -> tuple[str, object]:
    """Reads FIELD=VALUE; a value that is not JSON is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"Expected FIELD=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
