"""Layers of an audit: what is not read stands in dry run, manifest and report; what is done to activations; names."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from helpers.plain_hooks import tensors_of
from rich.console import Console
from torch import Tensor, nn

import memkern
from memkern.audit import Options, read_run, run_audit, write_report
from memkern.audit.data.source import Source, from_arrays
from memkern.audit.measure.rescore import rescore
from memkern.audit.monitor.monitor import Monitor
from memkern.audit.pipeline import dry_run
from memkern.audit.report.terminal import show_plan, show_run
from memkern.audit.taps.hook_points import TOKENS, find_layers


class Encoder(nn.Module):
    """Layers of every kind: windows, tokens as units, a table for all images, two tensors, signed units."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.patch, self.norm, self.table = nn.Conv2d(3, 6, 2, 2), nn.LayerNorm(6), nn.Embedding(16, 6)
        self.windows, self.act, self.mix = nn.Linear(6, 6), nn.GELU(), nn.Linear(16, 16)
        self.rnn, self.head = nn.GRU(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens = len(x), self.norm(self.patch(x).flatten(2).transpose(1, 2))  # [n, 16, 6]
        tokens = tokens + self.table(torch.arange(16))[None]
        tokens = self.act(self.windows(tokens.reshape(4 * n, 4, 6))).view(n, 16, 6) + self.norm(tokens)
        tokens = tokens + self.mix(self.norm(tokens).transpose(1, 2)).transpose(1, 2)
        return self.head(self.rnn(tokens.transpose(0, 1))[0]).mean(0)


LEFT_OUT = {
    "table": "shape [16, 6] for any number of images: it does not tell one image from another",
    "rnn:1": "tensor 2 of what the layer makes, [1, 5] of an image; it is read if 'rnn:1' is among the names of the "
    "layers",
}


@pytest.fixture
def images() -> Source:
    return from_arrays(np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8))


@pytest.fixture
def given(tmp_path: Path) -> Options:
    return replace(audit_helpers.options(tmp_path), images=False, size=8, labels="none")


def measured(given: Options, images: Source, **changes: Any) -> Any:
    run = run_audit(replace(given, **changes), encoders=(Encoder(1), Encoder(2)), source=images)
    assert run is not None
    return run


def test_what_is_not_read_is_said_everywhere(given: Options, images: Source) -> None:
    told: list[str] = []
    plan = dry_run(given, encoders=(Encoder(1), Encoder(2)), source=images, log=told.append)
    assert "Not read: rnn:1, table; --dry-run and manifest.json say why." in told
    run = measured(given, images)
    for about in (plan.about, read_run(run.folder).manifest):
        assert dict(about.left_out) == LEFT_OUT
        assert dict(about.notes) == {"mix": TOKENS}
        assert about.units_by.startswith("the kinds and shapes of layers alone: the encoder does not take larger")
    shown, ended = (io.StringIO() for _ in range(2))
    show_plan(plan, Console(file=shown, width=250))
    show_run(run, Console(file=ended, width=250))
    assert "2 layers were not read; manifest.json says why." in ended.getvalue()
    page = write_report(run).read_text()
    for text in (*LEFT_OUT.values(), TOKENS):
        assert text in shown.getvalue()
        assert text.replace("'", "&#39;") in page
    assert "2 layers are not read" in shown.getvalue()
    assert "2 layers were not read" in page
    assert "4x4x6" in shown.getvalue()  # the windows of a view


@pytest.mark.parametrize("activation", ["raw", "relu", "abs"])
def test_activations_are_taken_as_they_are_asked_for(given: Options, images: Source, activation: str) -> None:
    run = measured(given, images, activation=activation)
    assert (run.manifest.plan.activation, run.manifest.views.activation) == (activation, activation)
    encoder, table = Encoder(1).eval(), run.units.to_pandas()
    pixels = torch.stack([images.image(row) for row in range(10)])
    rows = memkern.views(pixels, n_views=given.views, transform=given.transform, seed=given.seed, size=8,
                         index=torch.arange(10)).flatten(0, 1)  # fmt: skip
    points = find_layers(encoder, rows[:2]).hook_points
    for name, dim in (("windows", 2), ("norm", 2), ("patch", 1), ("rnn", 2)):
        point = next(each for each in points if each.name == name)
        alone = [tensors_of(encoder, row[None], [point])[name] for row in rows]
        stacked = torch.stack([each.movedim(dim, 0).flatten(1) for each in alone]).unflatten(0, (10, -1))
        want = memkern.unitmem(stacked, view_dim=1, activation=activation)
        own = table[table["layer"] == name]["unitmem"].to_numpy()
        np.testing.assert_allclose(own, want.numpy(), rtol=2e-3, atol=1e-4)
    layers = run.layers.to_pandas()
    assert layers["unitmem_mean"].dropna().between(0, 1).all()
    assert (layers["unbounded"] == [
        int((~table[table["layer"] == name]["unitmem"].between(-1e-6, 1 + 1e-6)).sum()) for name in layers["layer"]
    ]).all()  # fmt: skip
    raw = activation == "raw"
    assert (layers["unbounded"].sum() > 0) == (layers["signed"].sum() > 0) == raw
    page = write_report(run).read_text()
    assert ("in no mean and are never the largest" in page) == raw
    assert (f"mean {'positive part' if activation == 'relu' else 'absolute value'} of the activations" in page) != raw
    again = rescore(run)
    assert [layer.mean_unitmem for layer in again.layers] == run.layers["unitmem_mean"].to_pylist()


def test_distances_do_not_depend_on_what_is_done_to_activations(given: Options, images: Source, tmp_path: Path) -> None:
    runs = [measured(given, images, activation=each, out=tmp_path / each) for each in ("raw", "relu")]
    for column in runs[0].samples.column_names:
        assert runs[0].samples[column].to_pylist() == runs[1].samples[column].to_pylist(), column


def test_the_clean_image_and_its_class(images: Source) -> None:
    """ClassMem, and the image itself as first view, take the same activations."""
    labels, pixels = torch.arange(10) % 2, torch.stack([images.image(row) for row in range(10)])
    encoder = Encoder(1).eval()
    monitor = Monitor(
        pixels, layers="norm", n_views=2, labels=labels, size=8, activation="abs", show=None, transform="simclr"
    )
    found = monitor.measure(encoder)
    clean = memkern.views(pixels, n_views=2, transform="simclr", size=8, seed=0, index=torch.arange(10), clean=True)
    with torch.no_grad():
        at = [encoder.norm(encoder.patch(view).flatten(2).transpose(1, 2)) for view in clean.transpose(0, 1)]
    # The norm is called three times in a pass; its first call is "norm".
    torch.testing.assert_close(found.classmem["norm"], memkern.classmem(at[0], labels, unit_dim=-1, activation="abs"))
    torch.testing.assert_close(
        found.unitmem["norm"],
        memkern.unitmem(torch.stack(at[1:], 1), view_dim=1, unit_dim=-1, activation="abs"),
    )


def test_an_unknown_activation_is_refused(given: Options) -> None:
    with pytest.raises(ValueError, match="Expected `activation` to be one of 'raw', 'relu', 'abs', got 'gelu'"):
        replace(given, activation="gelu")
    with pytest.raises(ValueError, match="Expected `activation`"):
        Monitor(torch.rand(2, 3, 8, 8), activation="gelu")
