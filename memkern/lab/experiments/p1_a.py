"""P1-a: the images with the highest and the lowest SSLMem."""

from __future__ import annotations

from memkern.lab import figures
from memkern.lab.experiments._common import order
from memkern.lab.experiments._context import Lab
from memkern.lab.experiments._experiment import Experiment, Result, Row


def run(lab: Lab) -> Result:
    """Ranks the candidates; the figure shows the first seed's."""
    rows: list[Row] = []
    effects = []
    for seed in lab.seeds:
        audit, data = lab.audit(seed), lab.data()
        place = audit.of("candidate")
        ranked = place[order(audit.sslmem[place])]
        for rank, at in enumerate(ranked.tolist(), 1):
            image = int(audit.ids[at])
            name = data.label_names[int(audit.labels[at])]
            rows.append({"seed": seed, "rank": rank, "id": image, "class": name, "sslmem": float(audit.sslmem[at])})
        pixels = data.images[audit.ids[ranked]].float().flatten(1)
        # how far an image lies from the mean of the candidates: a crude measure of being atypical
        distance = (pixels - pixels.mean(0)).norm(dim=1)
        half = len(ranked) // 2
        effects.append(float(distance[:half].mean() - distance[half:].mean()) / 255)
    figure = figures.gallery(lab.audit(lab.seeds[0]), lab.data())
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
