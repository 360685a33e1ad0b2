"""Reading an encoder in memory: the numbers of the metrics, whatever the batches, and of a stored audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import audit_helpers
import pytest
import torch
from torch import Tensor

import memkern
from memkern.audit.measure.draw import draw_clean, draw_views
from memkern.audit.measure.in_memory import Probe, Reading, layer_states, read_encoder
from memkern.audit.measure.scores import run_scores
from memkern.audit.pipeline import run_audit
from memkern.audit.run_folder.schema import ViewCall
from memkern.transforms import named

LAYERS = {"conv": "conv", "end": ""}
CALL = ViewCall(n_views=3, transform="simclr", spec=named("simclr"), seed=4)


def probe(n: int = 7, **changes: Any) -> Probe:
    images = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Probe(images, torch.arange(n).flip(0) + 10, **changes)


def outputs(rows: Tensor) -> dict[str, Tensor]:
    net = audit_helpers.net()
    with torch.no_grad():
        return {"conv": net.conv(rows), "end": net(rows)}


def test_the_numbers_are_those_of_the_metrics() -> None:
    given = probe()
    found = read_encoder(audit_helpers.net(), LAYERS, given, CALL, clean="apart")
    viewed = {name: out.unflatten(0, (7, 3)) for name, out in outputs(draw_views(CALL, *_of(given))).items()}
    clean = outputs(draw_clean(CALL, *_of(given)))
    for name in LAYERS:
        torch.testing.assert_close(found.alignment[name], memkern.alignment(viewed[name]))
        torch.testing.assert_close(found.unit_means[name], memkern.unit_means(viewed[name], view_dim=1))
        torch.testing.assert_close(found.clean_means[name], memkern.unit_means(clean[name]))


def _of(given: Probe) -> tuple[Any, Tensor]:
    return given.images, given.index


def same(a: Reading, b: Reading) -> None:
    for field in ("alignment", "unit_means", "clean_means"):
        for name, values in getattr(a, field).items():
            torch.testing.assert_close(values, getattr(b, field)[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clean", ["first", "apart"])
def test_batches_and_clean_images_change_nothing(clean: str) -> None:
    whole = read_encoder(audit_helpers.net(), LAYERS, probe(), CALL, clean="apart")
    seen: list[int] = []
    parts = read_encoder(
        audit_helpers.net(), LAYERS, probe(), CALL, clean=clean, batch_size=3, channels_last=True, on_images=seen.append
    )
    same(whole, parts)
    assert seen == [3, 3, 1]
    without = read_encoder(audit_helpers.net(), LAYERS, probe(), CALL)
    assert not without.clean_means
    assert torch.equal(without.alignment["end"], whole.alignment["end"])


def test_the_encoder_and_the_generators_are_left_as_they_were() -> None:
    net, before = audit_helpers.net().train(), torch.get_rng_state()
    read_encoder(net, LAYERS, probe(), CALL)
    assert net.training
    assert torch.equal(torch.get_rng_state(), before)
    assert not net.conv._forward_hooks


def test_states_give_the_scores_of_the_metrics() -> None:
    given = probe(labels=torch.tensor([0, 1, 0, 1, 0, 1, 1]))
    f, g = (read_encoder(audit_helpers.net(seed), LAYERS, given, CALL, clean="first") for seed in (0, 1))
    rows = torch.tensor([0, 2, 3, 5])
    scores = run_scores(layer_states(given, f, g, unit_rows=rows), output="end", groups={"some": rows})
    assert scores.sslmem is not None
    assert torch.equal(scores.sslmem, g.alignment["end"] - f.alignment["end"])
    wanted = memkern.unitmem_stats(f.unit_means["conv"][rows], ids=given.index[rows])
    assert torch.equal(scores["conv"].unitmem, wanted.score)
    assert torch.equal(scores["conv"].units.index, wanted.index)
    assert given.labels is not None
    of_classes = memkern.classmem(f.clean_means["conv"][rows], given.labels[rows])
    assert scores["conv"].classmem is not None
    assert torch.equal(scores["conv"].classmem, of_classes)
    assert len(scores["conv"].alignment_f) == 7


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="clean"):
        read_encoder(audit_helpers.net(), LAYERS, probe(), CALL, clean="yes")
    given = probe(labels=torch.zeros(7, dtype=torch.long))
    reading = read_encoder(audit_helpers.net(), LAYERS, given, CALL)
    with pytest.raises(ValueError, match="where the probe has labels"):
        next(layer_states(given, reading))


def test_a_reading_in_memory_gives_the_scores_of_a_stored_audit(tmp_path: Path) -> None:
    options = audit_helpers.options(tmp_path, candidates="0:4", batch_size=12, shard_size=12)
    run = run_audit(options)
    assert run is not None
    from PIL import Image

    pixels = [Image.open(path).convert("RGB") for path in run.samples["path"].to_pylist()]
    images = torch.stack(
        [torch.tensor(list(each.tobytes()), dtype=torch.uint8).view(8, 8, 3).permute(2, 0, 1) for each in pixels]
    )
    given = Probe(
        images, torch.tensor(run.samples["index"].to_pylist()), torch.tensor(run.samples["label"].to_pylist())
    )
    layers = {"conv": "conv", "relu": "relu", "deep": "deep", "output": ""}
    f, g = (
        read_encoder(audit_helpers.net(seed), layers, given, run.manifest.views, clean="apart", channels_last=True)
        for seed in (1, 2)
    )
    scores = run_scores(layer_states(given, f, g), output="output")
    table = run.layers.to_pydict()
    for place, layer in enumerate(scores.layers):
        assert layer.layermem["all"] == pytest.approx(table["layermem"][place], rel=1e-4, abs=1e-6)
        assert layer.mean_unitmem == pytest.approx(table["unitmem_mean"][place], rel=1e-4)
        assert layer.mean_classmem == pytest.approx(table["classmem_mean"][place], rel=1e-4)
