"""Table 5: fine-tuning the layers that memorize most."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

import memkern
from memkern.audit.interventions.finetune import finetune_layers
from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments import _replacement
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread

_PAPER = {"none": 48.6, "6": 53.0, "8": 52.7, "6,8": 56.7, "7,8": 55.3, "4,6,8": 57.9, "6,7,8": 56.5}


def run(context: ExperimentContext) -> Result:
    """Tunes layers and a linear head on other data, then tests; "none" tunes the head alone."""
    mem, delta = _replacement.layer_scores(context)
    choices: dict[str, _replacement.Layers] = {
        "none": (),
        "most delta": _replacement.best(delta, 1),
        "least delta": _replacement.best(delta, 1, most=False),
        "last": (8,),
        "2 most delta": _replacement.best(delta, 2),
        "3 most delta": _replacement.best(delta, 3),
        "3 most LayerMem": _replacement.best(mem, 3),
    }
    task = context.preset.others[-1]
    accuracy: dict[str, list[float]] = {name: [] for name in choices}
    for seed in context.seeds:
        for name, layers in choices.items():
            accuracy[name].append(tune(context, seed, task, layers))
    rows: list[Row] = [
        {
            "chosen_by": name,
            "layers": ",".join(map(str, layers)) or "none",
            "task": task,
            "accuracy": center(accuracy[name]),
            "accuracy_std": spread(accuracy[name]),
        }
        for name, layers in choices.items()
    ]
    pairs = {
        "tuning helps": ("most delta", "none"),
        "most delta helps more than least": ("most delta", "least delta"),
        "most delta helps more than the last layer": ("most delta", "last"),
        "three layers: delta helps more than LayerMem": ("3 most delta", "3 most LayerMem"),
    }
    effects = {
        finding: [a - b for a, b in zip(accuracy[more], accuracy[less], strict=True)]
        for finding, (more, less) in pairs.items()
    }
    return Result(rows, effects)


def tune(context: ExperimentContext, seed: int, task: str, layers: _replacement.Layers) -> float:
    """Trains some layers and a linear head with labels; norms keep their statistics.

    Args:
        context: The data, encoders and probes of the run.
        seed: The repetition.
        task: Name of the data set to tune on.
        layers: Numbers of the layers that are tuned.

    Returns:
        Accuracy on the test half, in percent.
    """
    data, spec = context.data(task), context.recipe().views
    train, test = context.halves(seed, task)
    epochs = {"tiny": 1, "small": 20, "paper": 90}[context.preset.name]
    encoder = copy.deepcopy(context.encoder(seed)).requires_grad_(bool(layers))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(256, len(data.label_names)).to(context.device)
    generator = torch.Generator().manual_seed(seed)
    learned = list(head.parameters())
    tuning = finetune_layers(encoder, [TAPS[CONV_TAPS[layer - 1]] for layer in layers]) if layers else None
    if tuning is not None:
        learned += [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, weight_decay=0.0)
    encoder.eval()

    def clean(ids: Tensor) -> Tensor:
        images = data.images[ids].to(context.device)
        drawn: Tensor = memkern.views(images, n_views=0, transform=spec, seed=0, index=ids, clean=True)
        return drawn[:, 0]

    for _ in range(epochs):
        for ids in train[torch.randperm(len(train), generator=generator)].split(64):
            loss = functional.cross_entropy(head(encoder(clean(ids))), data.labels[ids].to(context.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if tuning is not None:
        tuning.close()
    right = 0
    with torch.inference_mode():
        for ids in test.split(256):
            right += int((head(encoder(clean(ids))).argmax(1).cpu() == data.labels[ids]).sum())
    return 100 * right / len(test)


EXPERIMENT = Experiment(
    id="table-5",
    covers=("Table 5",),
    title="Accuracy on other data after fine-tuning selected layers and a linear head",
    inputs="pairs f, g; labeled images of another data set",
    columns=("chosen_by", "layers", "task", "accuracy", "accuracy_std"),
    findings={
        "tuning helps": "Tuning one layer is better than tuning the head alone.",
        "most delta helps more than least": "The layer of the largest change of LayerMem helps most.",
        "most delta helps more than the last layer": "It helps more than the last layer does.",
        "three layers: delta helps more than LayerMem": "So it is for three layers.",
    },
    published=[{"layers": layers, "task": "stl10", "accuracy": value} for layers, value in _PAPER.items()],
    run=run,
)
