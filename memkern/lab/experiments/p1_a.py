"""P1-a: the images with the highest and the lowest SSLMem."""

from __future__ import annotations

from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import gallery
from memkern.lab.experiments._statistics import order


def run(context: ExperimentContext) -> Result:
    """Ranks the candidates; the figure shows the first seed's."""
    rows: list[Row] = []
    effects = []
    for seed in context.seeds:
        measured, data = context.measure(seed), context.data()
        place = measured.rows("candidate")
        ranked = place[order(measured.of("candidate"))]
        for rank, at in enumerate(ranked.tolist(), 1):
            image = int(measured.ids[at])
            name = data.label_names[int(measured.labels[at])]
            rows.append({"seed": seed, "rank": rank, "id": image, "class": name, "sslmem": float(measured.sslmem[at])})
        pixels = data.images[measured.ids[ranked]].float().flatten(1)
        # how far an image lies from the mean of the candidates: a crude measure of being atypical
        distance = (pixels - pixels.mean(0)).norm(dim=1)
        half = len(ranked) // 2
        effects.append(float(distance[:half].mean() - distance[half:].mean()) / 255)
    figure = gallery(context.measure(context.seeds[0]), context.data())
    note = "Atypical is measured in pixels, as the distance from the candidates' mean image; the paper judges by eye."
    return Result(rows, {"memorized images are atypical": effects}, figure, [note])


EXPERIMENT = Experiment(
    id="p1-a",
    covers=("P1-a",),
    title="Candidates from the most to the least memorized, with a gallery",
    inputs="pairs f, g; candidates",
    columns=("seed", "rank", "id", "class", "sslmem"),
    findings={"memorized images are atypical": "The more memorized half lies farther from the mean image."},
    published=[],
    run=run,
)
