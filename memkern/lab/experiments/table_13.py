"""Tables 13 and 14: a unit that is trained on a point memorizes it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

import memkern
from memkern.audit.interventions.finetune import finetune_layers
from memkern.lab.encoders.build import described
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread
from memkern.lab.method import Batch, Method
from memkern.lab.training.recipe import Recipe

TAP = "conv5-4"
"""layer4.1.conv2 of ResNet18, 512 units."""

_PAPER = {
    "one point": ((0.754, 0.761, 0.792, 0.814, 0.824, 0.826), (0, 0, 0, 0.0008, 0.0021, 0.0109)),
    "300 points": ((0.754, 0.766, 0.809, 0.819, 0.826, 0.828), (0, 0, 0.011, 0.038, 0.046, 0.051)),
    "one point 300 times": ((0.754, 0.798, 0.846, 0.857, 0.861, 0.862), (0, 0.039, 0.065, 0.079, 0.081, 0.081)),
}
RATE = 2.5e-2
"""Setting of SimSiam in arXiv:2409.19069, Table 9."""

_STEPS = (0, 10, 50, 200, 500, 1000)


def run(context: ExperimentContext) -> Result:
    """Tunes one unit of a SimSiam encoder on extra points, with the method's own loss and heads; the rest stays."""
    recipe = context.recipe("simsiam", context.preset.resnet)
    steps = {"tiny": (0, 2), "small": (0, 10, 50, 200), "paper": _STEPS}[context.preset.name]
    found: dict[tuple[str, str, int], list[float]] = {}
    others: list[float] = []
    for seed in context.seeds:
        split = context.split(seed)
        model = context.method(seed, recipe)
        module = described(model.encoder).unit_taps[TAP]
        means = _means(context, model, recipe, split.f)
        peaks = means.max(0).values
        units = {"highest": int(peaks.argmax()), "lowest": int(peaks.argmin())}
        clean = _means(context, model, recipe, split.extra)
        point = split.extra[int(clean[:, units["highest"]].argmax())]
        many = split.extra[: context.preset.points(300)]
        sets = {"one point": point[None], "300 points": many, "one point 300 times": point.repeat(len(many))}
        for name, ids in sets.items():
            for which, unit in units.items():
                tuned = copy.deepcopy(model)
                done = 0
                for count in steps:
                    _tune(tuned, _Task(module, unit, ids, recipe, seed), context, done, count)
                    done = count
                    after = _means(context, tuned, recipe, torch.cat([split.f, ids.unique()]))
                    mem = memkern.unitmem(after)
                    found.setdefault((name, which, count), []).append(float(mem[unit]))
                rest = torch.ones(len(peaks), dtype=torch.bool)
                rest[unit] = False
                same = _means(context, tuned, recipe, split.f)
                others.append(float((same - means)[:, rest].abs().max()))
    rows: list[Row] = [
        {"trained_on": name, "unit": which, "steps": count, "unitmem": center(values), "std": spread(values)}
        for (name, which, count), values in found.items()
    ]
    last, n = steps[-1], range(len(context.seeds))

    def gain(name: str, which: str, i: int) -> float:
        return found[name, which, last][i] - found[name, which, 0][i]

    effects = {
        "highest unit rises": [gain("one point", "highest", i) for i in n],
        "lowest unit rises": [gain("one point", "lowest", i) for i in n],
        "a repeated point has more effect": [
            center(gain("one point 300 times", w, i) - gain("300 points", w, i) for w in ("highest", "lowest"))
            for i in n
        ],
    }
    note = (
        f"Largest change of any other unit's mean activation: {max(others):.1e}. UnitMem is measured over f's training "
        "points and the tuned ones. The unit is the output channel of the convolution, measured after the block's "
        f"activation, skip included. Batch norm keeps its statistics. Plain SGD with a rate of {RATE}."
    )
    return Result(rows, effects, None, [note])


def _means(context: ExperimentContext, model: Method, recipe: Recipe, ids: Tensor) -> Tensor:
    return context.read(model.encoder, ids, recipe.views).unit_means[TAP]


@dataclass(frozen=True)
class _Task:
    """Unit that is trained, the row of a convolution.

    Attributes:
        module: The activation behind the convolution.
        unit: Its number.
        ids: The points, int64; one may be there many times.
        recipe: How the encoder was trained.
        seed: Seed of the views.
    """

    module: str
    unit: int
    ids: Tensor
    recipe: Recipe
    seed: int


def _tune(model: Method, task: _Task, context: ExperimentContext, start: int, stop: int) -> None:
    """Trains a unit from step `start` to `stop`."""
    tuning = finetune_layers(model.encoder, {task.module.replace("relu2", "conv2"): [task.unit]})
    learned = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=RATE, momentum=0.0)
    ids, views, seed = task.ids, task.recipe.views, task.seed
    for step in range(start, stop):
        # Views are keyed by the place in the list, so a point that is there many times has many different views.
        place = (torch.arange(min(32, len(ids))) + 32 * step) % len(ids)
        images = context.data().images[ids[place]].to(context.device)
        drawn = memkern.views(images, n_views=2, transform=views, seed=seed, index=place, first_view=2 * step)
        labels = torch.zeros(len(place), dtype=torch.int64, device=context.device)
        batch = Batch(list(drawn.unbind(1)), labels, place, seed, step, 0.0)
        loss = model.loss(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tuning.close()


EXPERIMENT = Experiment(
    id="table-13",
    covers=("Table 13", "Table 14"),
    title="UnitMem of a single unit that is trained on a point, on many, and on one many times",
    inputs="f of every seed: ResNet18 trained with SimSiam; extra points",
    columns=("trained_on", "unit", "steps", "unitmem", "std"),
    findings={
        "highest unit rises": "UnitMem of the unit with the highest peak rises.",
        "lowest unit rises": "UnitMem of the unit with the lowest peak rises.",
        "a repeated point has more effect": "One point many times has more effect than as many different points.",
    },
    published=[
        {"trained_on": name, "unit": which, "steps": step, "unitmem": value}
        for name, both in _PAPER.items()
        for which, values in zip(("highest", "lowest"), both, strict=True)
        for step, value in zip(_STEPS, values, strict=True)
    ],
    run=run,
)
