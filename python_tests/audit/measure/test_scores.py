"""The one assembly of scores: against plain formulas, and against the tables of stored audits."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from torch import Tensor

from memkern import ClassMem, UnitMem
from memkern.audit.measure import tables
from memkern.audit.measure.rescore import rescore
from memkern.audit.measure.scores import EncoderState, LayerScores, LayerState, run_scores
from memkern.audit.pipeline import run_audit
from memkern.audit.run_folder.reader import Run, read_run
from memkern.audit.taps.transformer_blocks import Block
from memkern.errors import RunFolderError

N, U = 6, 4
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def means(seed: int) -> Tensor:
    """Unit means `[N, U]`: unit 0 is dead, unit 1 is signed, unit 3 is undefined on one image."""
    values = torch.rand(N, U, generator=torch.Generator().manual_seed(seed))
    values[:, 0] = 0.0
    values[0, 1] = -0.5
    values[2, 3] = math.nan
    return values


def state(name: str, seed: int, *, reference: bool = True, labels: bool = True, median: bool = False) -> LayerState:
    units, classes = UnitMem(rest="median" if median else "mean"), ClassMem()
    units.update(means(seed))
    if labels:
        classes.update(means(seed), LABELS)
    alignment = torch.rand(2, N, generator=torch.Generator().manual_seed(seed + 100))
    one = EncoderState("f", units.state_dict(), classes.state_dict())
    return LayerState(name, alignment[0], alignment[1] if reference else None, [one])


def selectivity(rows: Tensor, centre: Any = torch.mean) -> list[float]:
    """UnitMem of each column, in Python's floats."""
    found = []
    for column in rows.double().T:
        place = int(column.argmax())
        peak, rest = float(column[place]), float(centre(torch.cat([column[:place], column[place + 1 :]])))
        found.append(0.0 if peak == rest == 0 else (peak - rest) / (peak + rest))
    return found


def plain_ratio(layer: LayerState) -> Tensor:
    assert layer.alignment_g is not None
    a_f, a_g = layer.alignment_f.double(), layer.alignment_g.double()
    return (a_g - a_f) / (a_g + a_f)


def test_every_score_is_its_formula() -> None:
    states = [state("a", 1), state("b", 2)]
    groups = {"candidates": torch.tensor([0, 3]), "empty": torch.tensor([], dtype=torch.long)}
    scores = run_scores(states, output="b", groups=groups)
    assert [layer.name for layer in scores.layers] == ["a", "b"]
    assert states[1].alignment_g is not None
    assert scores.sslmem is not None
    torch.testing.assert_close(scores.sslmem, states[1].alignment_g - states[1].alignment_f)
    assert {name: rows.tolist() for name, rows in scores.groups.items()} == {
        "all": [0, 1, 2, 3, 4, 5], "candidates": [0, 3], "empty": [],
    }  # fmt: skip
    before: dict[str, float] = {}
    for layer, given in zip(scores.layers, states, strict=True):
        ratio = plain_ratio(given)
        torch.testing.assert_close(layer.ratio, ratio.float())
        wanted = {"all": float(ratio.mean()), "candidates": float(ratio[[0, 3]].mean())}
        assert layer.layermem == {**{name: pytest.approx(value) for name, value in wanted.items()}, "empty": None}
        assert given.alignment_g is not None
        memorized = given.alignment_g - given.alignment_f
        spread = memorized.max() - memorized.min()
        assert layer.layermem_range == pytest.approx(float((memorized / spread).mean()))
        for name, value in wanted.items():
            added = value - before[name] if before else math.nan
            assert layer.delta[name] == pytest.approx(added, nan_ok=True, abs=1e-6)
        before = wanted
        check_units(layer, means(1 if given is states[0] else 2))
        assert layer.mean_alignment_f == pytest.approx(float(given.alignment_f.mean()))
        assert layer.mean_alignment_g == pytest.approx(float(given.alignment_g.mean()))


def check_units(layer: LayerScores, rows: Tensor) -> None:
    wanted = selectivity(rows[:, :3])
    assert layer.unitmem.tolist() == [
        *(pytest.approx(value, abs=1e-6) for value in wanted),
        pytest.approx(math.nan, nan_ok=True),
    ]
    assert (layer.n_dead, layer.n_signed, layer.n_undefined) == (1, 1, 1)
    assert layer.signed.tolist() == [False, True, False, False]
    assert layer.mean_unitmem == pytest.approx(sum(wanted) / 3, abs=1e-6)
    assert layer.max_unitmem == pytest.approx(max(wanted), abs=1e-6)
    by_class = torch.stack([rows[label == LABELS].mean(0) for label in range(3)])
    assert layer.classmem is not None
    of_classes = selectivity(by_class[:, :3])
    assert layer.classmem[:3].tolist() == pytest.approx(of_classes, abs=1e-6)
    assert layer.mean_classmem == pytest.approx(sum(of_classes) / 3, abs=1e-6)


def test_the_median_of_the_others() -> None:
    layer = run_scores([state("a", 1, median=True)], output="a", rest="median")["a"]
    middle = selectivity(means(1)[:, :3], lambda others: others.quantile(0.5))
    assert layer.unitmem[:3].tolist() == pytest.approx(middle, abs=1e-6)


def test_without_a_reference_and_labels() -> None:
    scores = run_scores([state("a", 1, reference=False, labels=False)], output="a", groups={"some": torch.tensor([1])})
    layer = scores["a"]
    assert scores.sslmem is layer.ratio is layer.alignment_g is layer.classmem is None
    assert layer.layermem == layer.delta == {}
    assert layer.layermem_range is layer.mean_alignment_g is layer.mean_classmem is None
    assert set(scores.groups) == {"all", "some"}


def test_every_column_holds_its_group() -> None:
    n = 120
    candidate = torch.arange(n) % 2 == 0
    units = next(iter(state("a", 1).encoders)).units
    a_g = torch.rand(n, generator=torch.Generator().manual_seed(5)) + 1
    one = EncoderState("f", units, {})
    layers = [LayerState(name, torch.full((n,), low), a_g, [one]) for name, low in (("a", 0.25), ("b", 0.5))]
    scores = run_scores(layers, output="b", groups=tables.candidate_groups(candidate))
    images = {"id": [f"{i}.png" for i in range(n)], "index": range(n)}
    table = tables.columns(scores, images)["layers"]
    ratio = ((a_g - 0.5) / (a_g + 0.5)).double()
    wanted = {
        "layermem": ratio, "layermem_candidates": ratio[candidate], "layermem_others": ratio[~candidate],
    }  # fmt: skip
    for name, values in wanted.items():
        assert table[name][1] == pytest.approx(float(values.mean()), rel=1e-6), name
    before = ((a_g - 0.25) / (a_g + 0.25)).double()
    for name, rows in (("delta", candidate | True), ("delta_candidates", candidate)):
        added = float(ratio[rows].mean() - before[rows].mean())
        assert table[name] == [None, pytest.approx(added, rel=1e-4)], name
    assert table["layermem_range"][1] == pytest.approx(float(((a_g - 0.5) / (a_g.max() - a_g.min())).mean()), rel=1e-5)


def test_deltas_within_transformer_blocks() -> None:
    names = ("att", "norm:in", "fc", "block")
    states = [state(name, seed) for seed, name in enumerate(("other", *names))]
    scores = run_scores(states, output="block", blocks=[Block(*names)])
    layermem = {layer.name: layer.layermem["all"] for layer in scores.layers}
    assert scores["other"].sublayer is None
    assert scores["fc"].sublayer is not None
    assert scores["fc"].sublayer.kind == "fc"
    assert scores["fc"].sublayer.sublayer == layermem["fc"] - layermem["norm:in"]  # type: ignore[operator]


def test_an_output_that_is_no_layer_is_named() -> None:
    with pytest.raises(ValueError, match=r"Expected `output` to be one of the layers \['a'\], got 'b'"):
        run_scores([state("a", 1)], output="b")


def test_means_kept_for_the_median_are_let_go_layer_by_layer() -> None:
    alive: list[Any] = []

    def made(seed: int) -> LayerState:
        one = state("a", seed, median=True)
        alive.append(weakref.ref(one))
        return one

    def states() -> Iterator[LayerState]:
        for seed in range(3):
            assert not [ref for ref in alive if ref() is not None]
            yield made(seed)

    run_scores(states(), output="a", rest="median")
    assert len(alive) == 3


KINDS: dict[str, dict[str, Any]] = {
    "median": {"median": True},
    "one": {"reference": None, "labels": "none"},
    "pair": {"candidates": "0:4"},
    "anchor": {"pairs": "anchor", "output": "relu"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_audit_gives_its_own_tables_again(tmp_path: Path, kind: str) -> None:
    run = run_audit(audit_helpers.options(tmp_path, **KINDS[kind]))
    assert run is not None
    same_tables(run)


FROZEN = sorted((Path(__file__).parents[2] / "frozen").iterdir())


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: folder.name)
def test_an_audit_that_a_released_version_stored_gives_its_tables_again(folder: Path) -> None:
    run = read_run(folder)
    if run.manifest.plan.median:  # the means of every image are not kept
        with pytest.raises(RunFolderError, match="measured with --median"):
            rescore(run)
    else:
        same_tables(run)


def same_tables(run: Run) -> None:
    again = tables.columns(rescore(run), run.samples.select(["id", "index"]).to_pydict())
    added = {"path", "label", "candidate", "group", "picture", "n_in", "n_out", "leaked_by"}
    old = set() if run.manifest.plan.encoders else {"layermem_top50", "layermem_least50"}  # are cross-fitted now
    for name, columns in again.items():
        table = getattr(run, name)
        measured = {column for column in table.column_names if table[column].null_count < len(table)}
        assert measured - old <= {*columns, *added} | {each for each in measured if each.startswith("member/")}
        bounded = np.asarray(columns.get("unbounded", 0)) == 0
        for column, values in columns.items():
            if column not in table.column_names:
                assert column == "unbounded" or not run.manifest.plan.encoders, column
                continue
            stored = table[column].to_pylist()
            kind = table[column].type.to_pandas_dtype()
            listed = [None if missing(v, values) else v for v in np.asarray(values).tolist()]
            if isinstance(values, np.ndarray):
                listed = [None if v is None else kind(v).item() for v in listed]
            # Until memkern 0.4.0, means had the scores of units whose means are negative, which have no bounds.
            of_units = name == "layers" and column.startswith(("unitmem_", "classmem_"))
            same = [a == b or (a != a and b != b) for a, b in zip(stored, listed, strict=True)]
            assert all(np.asarray(same) | (of_units & ~bounded)), (name, column)


def missing(value: Any, column: Any) -> bool:
    """In a numpy array NaN is null."""
    return isinstance(column, np.ndarray) and value != value
