"""Audits of several trainings from end to end: the tables are `memkern.families` on alignments computed by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import memkern
from memkern import families
from memkern.audit import Run, dry_run, merge_runs, read_run, run_audit
from memkern.audit.data.open import open_source
from memkern.audit.measure.rescore import rescore
from memkern.audit.options import Options

Array = NDArray[np.float64]
COUNT, VIEWS = 100, 4
GROUPS = ["candidate"] * 30 + ["independent"] * 30 + ["extra"] * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("families")
    audit_helpers.pictures(where / "data", count=COUNT)
    audit_helpers.weights(where / "weights", **{f"n{seed}": seed for seed in range(6)})
    return where


def ids_of(folder: Path) -> list[str]:
    return list(open_source(str(folder / "data")).ids)


def weights(folder: Path, *seeds: int) -> tuple[str, ...]:
    return tuple(str(folder / "weights" / f"n{seed}.safetensors") for seed in seeds)


def table(path: Path, head: list[str], rows: list[list[str]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return str(path)


def groups(folder: Path, names: list[str]) -> str:
    return table(folder / "groups.csv", ["id", "group"], [list(row) for row in zip(ids_of(folder), names, strict=True)])


def options(folder: Path, out: Path, **changes: Any) -> Options:
    return audit_helpers.options(folder, out=out, views=VIEWS, batch_size=16, shard_size=40, **changes)


def distances(folder: Path, seeds: list[int], given: Options) -> Array:
    """Distances between the views of each image at the convolution and at the output of each net, `[2, K, N, V, V]`."""
    source = open_source(given.data)
    images = torch.stack([source.image(row) for row in range(len(source))])
    index = torch.tensor(source.index)
    views = memkern.views(images, n_views=VIEWS, transform=given.transform, seed=given.seed, index=index, size=(8, 8))
    found = []
    for seed in seeds:
        net = audit_helpers.net(seed)
        with torch.no_grad():
            rows = views.flatten(0, 1).float()
            layers = [z.flatten(1).double().unflatten(0, (COUNT, VIEWS)) for z in (net.conv(rows), net(rows))]
        unit = [z / z.norm(dim=-1, keepdim=True) for z in layers]
        found.append(torch.stack([torch.cdist(z, z) for z in unit]))
    wanted: Array = torch.stack(found, 1).numpy()
    return wanted


def column(run: Run, name: str, of: str = "samples") -> Array:
    read = getattr(run, of)[name].to_pylist()
    return np.array([np.nan if value is None else value for value in read], dtype=np.float64)


def check(run: Run, design: families.Design, far: Array) -> tuple[families.ImageScores, families.LayerScores]:
    """Compares a run with families on distances by hand; sums of float32 differ by their rounding."""
    places = [run.layer_names.index(name) for name in ("conv", run.output)]
    by_hand = np.ascontiguousarray(far.sum((3, 4)).transpose(0, 2, 1)) / (VIEWS * (VIEWS - 1))
    halves = [far[..., half::2, half::2].sum((3, 4)).transpose(0, 2, 1) / 2 for half in (0, 1)]  # one pair in each
    images = families.image_scores(by_hand, design, rows=list(far[1].sum(3)))
    layers = families.layer_scores(by_hand, design, halves=(halves[0], halves[1]))
    near = {"rtol": 2e-3, "atol": 2e-5}
    for name, values in {
        "sslmem_ratio": images.ratio[1], "se": images.se[1], "se_views": images.se_views, "p": images.p[1],
        "q": images.q[1], "a_in/conv": images.a_in[0], f"a_out/{run.output}": images.a_out[1],
    }.items():  # fmt: skip
        np.testing.assert_allclose(column(run, name), values, **near, err_msg=name)
    for name, of_layers in {
        "layermem_excess": layers.excess, "layermem_control": layers.control, "se": layers.se, "low": layers.low,
        "se_images": layers.se_images, "layermem_top50": layers.top, "layermem_least50_control": layers.least_control,
        "reliability": images.reliability,
    }.items():  # fmt: skip
        np.testing.assert_allclose(column(run, name, "layers")[places], of_layers, rtol=2e-3, atol=5e-5, err_msg=name)
    said = run.manifest.significance
    assert said is not None
    assert said.method == images.method
    assert said.n_memorized == int(images.memorized.sum())
    return images, layers


@pytest.fixture(scope="module")
def split(folder: Path) -> Run:
    run = run_audit(
        options(
            folder, folder / "split", weights=weights(folder, 0, 1), reference=weights(folder, 2, 3),
            groups=groups(folder, GROUPS),
        )
    )  # fmt: skip
    assert run is not None
    return run


def test_two_and_two_trainings_with_groups(folder: Path, split: Run) -> None:
    given = options(folder, folder / "never", groups=str(folder / "groups.csv"))
    far = distances(folder, [0, 1, 2, 3], given)
    design = families.design(families.membership_of_groups(GROUPS, n_f=2, n_g=2))
    images, _ = check(split, design, far)
    assert images.method == "moderated t"
    np.testing.assert_allclose(
        column(split, f"alignment_f/{split.output}"), far[1, :2].mean(0).sum((1, 2)) / 12, rtol=1e-5
    )
    assert split.samples["group"].to_pylist() == GROUPS
    assert split.samples["memorized"].to_pylist()[:30] == images.memorized[:30].tolist()
    assert split.samples["memorized"].to_pylist()[30:] == [None] * 70
    assert np.isfinite(column(split, "p_check")[:30]).all()
    assert np.isfinite(column(split, "member_peaks_p", "layers")).all()
    assert split.encoders["encoder"].to_pylist() == ["f1", "f2", "g1", "g2"]
    assert split.encoders["n_members"].to_pylist() == [30] * 4
    assert sorted(set(split.units["encoder"].to_pylist())) == ["f1", "f2"]


def test_typed_arrays(split: Run) -> None:
    arrays = read_run(split.folder).arrays()
    with pytest.raises(ValueError, match=r"got 'layermem_exces'; did you mean `layermem_excess` or"):
        arrays.column("layermem_exces")
    assert arrays.significance == split.manifest.significance
    assert arrays.group == GROUPS
    assert arrays.memorized is not None
    assert arrays.memorized.dtype == np.bool_
    assert not arrays.memorized[30:].any()
    for name in ("se", "p", "p_check", "q", "sslmem_ratio", "peaks_in", "peaks_out"):
        values = getattr(arrays, name)
        assert values is not None, name
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, column(split, name))
    assert arrays.n_in is not None
    assert arrays.n_in[0] == 2
    assert arrays.encoders["role"] == ["f", "f", "g", "g"]
    np.testing.assert_array_equal(arrays.column("layermem_excess"), column(split, "layermem_excess", "layers"))
    assert len(arrays.units["conv"].unit) == 4, "the units of the first encoder"
    assert len(split.units) == 2 * sum(len(layer.unit) for layer in arrays.units.values())


def test_the_scores_of_a_finished_family_again(split: Run) -> None:
    again = rescore(split)
    assert again.family is not None
    np.testing.assert_array_equal(again.family.images.p[again.family.output], column(split, "p"))
    np.testing.assert_array_equal(again.family.layers.se, column(split, "se", "layers"))


def test_parts_give_the_same_bytes(folder: Path, split: Run) -> None:
    given = options(
        folder, folder / "part1", weights=weights(folder, 0, 1), reference=weights(folder, 2, 3),
        groups=str(folder / "groups.csv"), shard=(1, 2),
    )  # fmt: skip
    assert run_audit(given) is None
    assert run_audit(replace(given, out=folder / "part2", shard=(2, 2))) is None
    merged = merge_runs([folder / "part1", folder / "part2"], folder / "merged")
    assert merged.manifest.files == split.manifest.files
    assert merged.manifest.significance == split.manifest.significance


def test_a_varying_design(folder: Path) -> None:
    ids = np.array(ids_of(folder))
    rng = np.random.default_rng(0)
    membership = rng.permuted(np.tile([1, 1, 0, 0], (COUNT, 1)), axis=1)
    rows = []
    for k in range(4):
        members = folder / f"members{k}.txt"
        members.write_text("\n".join(ids[membership[:, k] == 1]))
        rows.append([f"e{k}", audit_helpers.encoder_file(folder / "code"), weights(folder, k)[0], str(members)])
    listed = table(folder / "encoders.csv", ["name", "encoder", "weights", "members"], rows)
    given = options(folder, folder / "varying", encoder="", weights=(), reference=(), encoders=listed)
    run = run_audit(given)
    assert run is not None
    far = distances(folder, [0, 1, 2, 3], given)
    images, layers = check(run, families.design(membership), far)
    assert images.method == "moderated t"
    assert run.samples["alignment_f/conv"].null_count == COUNT
    np.testing.assert_allclose(column(run, "sslmem"), images.sslmem[1], rtol=2e-3, atol=2e-5)
    np.testing.assert_array_equal(column(run, "layermem", "layers"), column(run, "layermem_excess", "layers"))
    assert np.isfinite(layers.top).all()
    assert run.encoders["role"].to_pylist() == [None] * 4
    assert sorted(set(run.units["encoder"].to_pylist())) == ["e0", "e1", "e2", "e3"]
    assert np.isfinite(column(run, "auc", "encoders")).all()
    assert run.manifest.significance is not None
    assert run.manifest.significance.design == "varying"
    members = np.stack([column(run, f"member/e{k}") for k in range(4)], 1)
    np.testing.assert_array_equal(members, membership)
    page = (run.folder / "report.html").read_text()
    assert "Listed in" in page
    assert "Reference encoder" not in page  # no training of these is the others' reference


def test_images_that_no_training_or_every_one_saw_are_told_before_the_work(tmp_path: Path) -> None:
    told: list[str] = []
    dry_run(audit_helpers.listed(tmp_path, ["0:6", "0:4", "0:2"]), log=told.append)
    assert any(
        each.startswith(
            "8 of 12 images are not scored: 6 have no encoder that was trained on them, 2 none that was not;"
        )
        for each in told
    ), told
    told.clear()
    dry_run(audit_helpers.listed(tmp_path, ["0:6", "4:12", "0:2"]), log=told.append)
    assert not any("not scored" in each for each in told)


def test_a_pair_with_a_control_group(folder: Path) -> None:
    given = options(
        folder, folder / "pair", weights=weights(folder, 4), reference=weights(folder, 5),
        groups=groups(folder, GROUPS),
    )  # fmt: skip
    run = run_audit(given)
    assert run is not None
    images, layers = check(
        run, families.design(families.membership_of_groups(GROUPS)), distances(folder, [4, 5], given)
    )
    assert images.method == "conformal"
    assert np.isnan(column(run, "se")).all()
    assert np.isfinite(layers.top).all(), "4 views have halves"
    assert np.isfinite(column(run, "se_views")[:30]).all()


def test_a_pair_without_a_control_group_has_no_verdict(folder: Path) -> None:
    given = options(
        folder, folder / "alone", weights=weights(folder, 4), reference=weights(folder, 5), candidates="0:30"
    )
    run = run_audit(given)
    assert run is not None
    said = run.manifest.significance
    assert said is not None
    assert (said.method, said.n_memorized) == ("none", None)
    assert said.verdict.startswith("This audit cannot tell memorization from a tighter encoder; add ")
    assert run.samples["p"].null_count == run.samples["memorized"].null_count == COUNT
    assert run.layers["layermem_top50"].null_count == len(run.layers)
    assert run.samples["group"].to_pylist() == ["candidate"] * 30 + [None] * 70


@pytest.mark.parametrize("candidates", ["0:1", "0:2", "0:100"])
def test_a_pair_with_any_number_of_candidates(folder: Path, candidates: str) -> None:
    out = folder / f"few{candidates.partition(':')[2]}"
    run = run_audit(
        options(folder, out, weights=weights(folder, 4), reference=weights(folder, 5), candidates=candidates)
    )
    assert run is not None
    assert run.manifest.significance is not None
    assert run.manifest.significance.method == "none"
    assert np.isfinite(column(run, "layermem_candidates", "layers")).all()


def test_a_copy_of_a_candidate_among_the_extra_images_is_named(tmp_path: Path) -> None:
    audit_helpers.pictures(tmp_path / "data")
    audit_helpers.weights(tmp_path / "weights")
    copied = (tmp_path / "data" / "class0" / "00.png").read_bytes()
    (tmp_path / "data" / "class1" / "copy.png").write_bytes(copied)
    rows = [[name, "candidate" if name == "class0/00.png" else "extra"] for name in ids_of(tmp_path)]
    listed = table(tmp_path / "groups.csv", ["id", "group"], rows)
    run = run_audit(audit_helpers.options(tmp_path, groups=listed))
    assert run is not None
    found = dict(zip(run.samples["id"].to_pylist(), run.samples["leaked_by"].to_pylist(), strict=True))
    assert {name: leak for name, leak in found.items() if leak} == {"class1/copy.png": "class0/00.png"}
