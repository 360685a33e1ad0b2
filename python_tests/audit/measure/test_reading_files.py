"""Families: one encoder on one shard is the unit of work, whoever does it and in whatever order; encoders are added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from audit_helpers import contents, family, listed
from torch import Tensor

import memkern
from memkern.audit.measure import encoders as encoders_module
from memkern.audit.measure import reading_files
from memkern.audit.measure.alignments import output_alignments
from memkern.audit.measure.begun import read_plan
from memkern.audit.measure.encoder_readings import EncoderReadings, Peaks, join
from memkern.audit.measure.encoders import turns
from memkern.audit.measure.job import share_of
from memkern.audit.measure.prepare import prepare
from memkern.audit.measure.reading_files import read_reading
from memkern.audit.measure.shard import PhaseTimer, draw
from memkern.audit.options import Options
from memkern.audit.pipeline import dry_run, merge_runs, run_audit
from memkern.errors import PlanError
from memkern.families.units import peak_counts
from memkern.metrics.units import UnitMem

MEMBERS = ("0:6", "3:9", "1:12")
MADE = {"family": lambda folder: family(folder, 2, 2), "listed": lambda folder: listed(folder, MEMBERS)}


def files_of(out: Path) -> dict[Path, Path]:
    return {path.relative_to(out / "readings"): path for path in sorted((out / "readings").rglob("*.safetensors"))}


def same_readings(a: Path, b: Path) -> bool:
    """Whether two RUN folders hold the same readings, the time they took aside."""
    one, other = files_of(a), files_of(b)
    names = [(path.parent.name, int(path.stem)) for path in one]
    return one.keys() == other.keys() and all(alike(read_reading(a, *name), read_reading(b, *name)) for name in names)


def alike(a: EncoderReadings, b: EncoderReadings) -> bool:
    first, second = (
        {"alignment": each.alignment, "halves": each.halves, "rows": each.rows}
        | {
            f"{kind}/{key}": value
            for kind in ("units", "classes", "peaks")
            for key, value in getattr(each, kind).items()
        }
        for each in (a, b)
    )
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def killed(given: Options, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """Leaves an audit as a process that is killed after some readings leaves it."""
    original, written = reading_files.write_reading, []

    def deadly(*arguments: Any) -> None:
        if len(written) == files:
            raise KeyboardInterrupt
        written.append(arguments)
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(reading_files, "write_reading", deadly)
        with pytest.raises(KeyboardInterrupt):
            run_audit(given)
    assert len(files_of(given.out)) == files


# ---- the same bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MADE)
def test_killed_resumed_in_parts_and_merged(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = MADE[kind](tmp_path)
    whole = replace(given, out=tmp_path / "whole")
    assert run_audit(whole) is not None
    count = len(read_plan(whole.out).plan.encoders)
    assert len(files_of(whole.out)) == 3 * count
    killed(given, monkeypatch, files=count + 1)
    before = {path: path.stat().st_mtime_ns for path in files_of(given.out).values()}
    run_audit(replace(given, resume=True))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()), "what was read is not read again"
    parts = [replace(given, out=tmp_path / f"part{part}", shard=(part, 2)) for part in (1, 2)]
    assert [run_audit(part) for part in parts] == [None, None]
    merged = tmp_path / "merged"
    merge_runs([part.out for part in reversed(parts)], merged)
    for out in (given.out, merged):
        assert contents(out) == contents(whole.out)
        assert same_readings(out, whole.out)
        assert not (out / "images.parquet").exists()


@pytest.mark.parametrize("kind", MADE)
def test_encoders_one_after_the_other_give_the_same_bytes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = MADE[kind](tmp_path)
    run_audit(given)
    room = 2 * sum(value.numel() * 4 for value in audit_helpers.net().parameters()) + 8
    monkeypatch.setattr(encoders_module, "free_memory", lambda device: room * encoders_module.SHARE)
    few = replace(given, out=tmp_path / "few")
    ready = prepare(few)
    assert [len(turn) for turn in ready.job.encoders.turns] == [2, 2] if kind == "family" else [2, 1]
    assert all(each.module is None for each in ready.job.encoders.entries), "none stays in memory"
    run_audit(few)
    assert contents(few.out) == contents(given.out)
    assert same_readings(few.out, given.out)
    estimate = dry_run(replace(given, out=tmp_path / "never"))
    assert estimate.row_bytes == 4 * 12 * len(estimate.plan.layers) * len(estimate.plan.encoders)


def test_modules_in_memory_are_encoders_too(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 2)
    run_audit(given)
    nets = [[audit_helpers.net(seed) for seed in seeds] for seeds in ((10, 11), (20, 21))]
    run = run_audit(replace(given, out=tmp_path / "memory"), encoders=(nets[0], nets[1]))
    assert run is not None
    assert [each.name for each in run.manifest.encoders] == ["f1", "f2", "g1", "g2"]
    assert contents(tmp_path / "memory") == contents(given.out)


# ---- encoders that are added ----------------------------------------------------------------------------------------


def test_an_added_encoder_is_read_alone(tmp_path: Path) -> None:
    for kind, first, longer in (
        ("finished", family(tmp_path, 2, 1), family(tmp_path, 2, 2)),
        ("pair", family(tmp_path, 1, 1), family(tmp_path, 2, 2)),
        ("listed", listed(tmp_path, MEMBERS), listed(tmp_path, (*MEMBERS, "0:5"))),
    ):
        out = tmp_path / kind
        run_audit(replace(first, out=out))
        inodes = {path.stat().st_ino: path.stat().st_mtime_ns for path in files_of(out).values()}
        run = run_audit(replace(longer, out=out, resume=True))
        assert run is not None
        after = {path.stat().st_ino: path.stat().st_mtime_ns for path in files_of(out).values()}
        assert len(after) == 12
        assert all(after[inode] == time for inode, time in inodes.items()), "the old readings are untouched"
        assert len(run.manifest.encoders) == 4
        whole = replace(longer, out=tmp_path / f"{kind}-whole")
        run_audit(whole)
        assert contents(out) == contents(whole.out)
        assert same_readings(out, whole.out)


def test_an_added_encoder_that_makes_another_design(tmp_path: Path) -> None:
    """Two of the listed encoders are a split, all three are none: peaks are looked for among other images."""
    run_audit(listed(tmp_path, MEMBERS[:2]))
    assert [each.role for each in read_plan(tmp_path / "run").plan.encoders] == ["f", "g"]
    longer = listed(tmp_path, MEMBERS)
    run_audit(replace(longer, resume=True))
    whole = replace(longer, out=tmp_path / "whole")
    run_audit(whole)
    assert [each.role for each in read_plan(whole.out).plan.encoders] == ["", "", ""]
    assert contents(longer.out) == contents(whole.out)
    assert same_readings(longer.out, whole.out)


def test_an_added_encoder_of_an_unfinished_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = family(tmp_path, 2, 2)
    killed(replace(longer, weights=longer.weights[:1], reference=longer.reference[:1]), monkeypatch, files=3)
    run_audit(replace(longer, resume=True))
    whole = replace(longer, out=tmp_path / "whole")
    run_audit(whole)
    assert contents(longer.out) == contents(whole.out)


def test_names_that_change_places_keep_their_readings(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 1)
    run_audit(given)
    before = {path.stat().st_ino for path in files_of(given.out).values()}
    swapped = replace(given, weights=given.weights[::-1])
    run_audit(replace(swapped, resume=True))
    assert {path.stat().st_ino for path in files_of(given.out).values()} == before
    whole = replace(swapped, out=tmp_path / "whole")
    run_audit(whole)
    assert contents(given.out) == contents(whole.out)


def test_readings_under_a_wrong_name_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves that is killed while names change."""
    given = family(tmp_path, 2, 1)
    killed(given, monkeypatch, files=8)
    one, other = (reading_files.folder_of(given.out, name) for name in ("f1", "f2"))
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    run_audit(replace(given, resume=True))
    whole = replace(given, out=tmp_path / "whole")
    run_audit(whole)
    assert same_readings(given.out, whole.out)


def test_what_makes_another_audit_is_refused(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 2)
    run_audit(given)
    for changes, field in (
        ({"weights": (given.weights[0], given.reference[0]), "reference": given.reference[1:]}, "reference"),
        ({"weights": given.reference, "reference": given.weights}, "weights"),
        ({"seed": 5}, "seed"),
        ({"fdr": 0.1}, "fdr"),
    ):
        with pytest.raises(PlanError, match=f"Expected `{field}` to be "):
            run_audit(replace(given, resume=True, **changes))
    text = (tmp_path / "groups.csv").read_text()
    (tmp_path / "groups.csv").write_text(text.replace("p0", "p9"))
    with pytest.raises(PlanError, match="Expected `groups` to be "):
        run_audit(replace(given, resume=True))


# ---- what is read ---------------------------------------------------------------------------------------------------


def test_units_of_all_and_classes_of_the_fs(tmp_path: Path) -> None:
    given = family(tmp_path, 1, 1)
    run_audit(given)
    f, g = (join(read_reading(given.out, name, k) for k in range(3)) for name in "fg")
    assert f.alignment.shape == g.alignment.shape
    assert f.units.keys() == g.units.keys() == {"peak", "index", "rest", "low", "count"}
    assert f.classes
    assert not g.classes
    assert int(f.peaks["count"]) == 6, "candidates and independents"
    varying = listed(tmp_path, MEMBERS, out=tmp_path / "varying")
    run_audit(varying)
    assert all(join([read_reading(varying.out, name, 0)]).classes for name in ("e0", "e1", "e2"))
    plain = audit_helpers.options(tmp_path, out=tmp_path / "plain")
    run_audit(plain)
    assert not read_reading(plain.out, "f", 0).peaks


def test_views_and_halves(tmp_path: Path) -> None:
    """The sums over views belong to the alignments: sum of the rows is twice that of all pairs."""
    given = audit_helpers.options(tmp_path, views=5)
    run_audit(given)
    found = join(read_reading(given.out, "f", number) for number in range(3))
    names = [layer.name for layer in read_plan(given.out).plan.layers]
    output = found.alignment[names.index(read_plan(given.out).plan.output)]
    assert found.rows.shape == (12, 5)
    assert torch.allclose(found.rows.sum(1) / 20, output, rtol=1e-5)
    assert found.halves.shape == (2, len(names), 12)
    job = prepare(replace(given, out=tmp_path / "never")).job
    drawn, _ = draw(job, [job.source.image(row) for row in range(12)], torch.arange(12), PhaseTimer())
    with job.encoders.on_device([0]) as modules:
        output_of_views = modules["f"](drawn).detach().unflatten(0, (12, 5)).double()
    for views, half in ((slice(0, None, 2), found.halves[0]), (slice(1, None, 2), found.halves[1])):
        wanted = memkern.alignment(output_of_views[:, views])
        assert torch.allclose(half[names.index("output")].double(), wanted, rtol=1e-4)
    few, anchor = ({"views": 3, "out": tmp_path / "few"}, {"pairs": "anchor", "out": tmp_path / "anchor"})
    for changes, shapes in ((few, [(2, len(names), 0), (12, 3)]), (anchor, [(2, len(names), 0), (12, 0)])):
        run_audit(replace(given, **changes))
        made = join(read_reading(changes["out"], "f", number) for number in range(3))
        assert [made.halves.shape, made.rows.shape] == shapes


def test_peaks_are_those_of_the_images_among_which_they_are_looked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randint(0, 4, (30, 200), generator=generator).float()  # many ties
    among = torch.rand(30, generator=generator) < 0.6
    parts = []
    for rows in (slice(0, 7), slice(7, 8), slice(8, 30)):
        part = Peaks()
        own = means[rows][among[rows]]
        part.update(own, torch.arange(30)[rows][among[rows]])
        parts.append(part.state())
    whole = Peaks()
    for state in parts:
        whole.merge(state)
    state = whole.state()
    expected = UnitMem()
    expected.update(means[among], ids=torch.arange(30)[among])
    assert all(torch.equal(value, state[name]) for name, value in expected.state_dict().items())
    assert torch.equal(state["tied"], (means[among] == means[among].max(0).values).sum(0) > 1)
    live = ~state["tied"] & (state["peak"] > 0)
    counts = np.bincount(state["index"][live].numpy(), minlength=30)
    wanted = peak_counts([means.numpy()], among.numpy())[:, 0]
    assert (counts == wanted).all()
    assert Peaks().state() == {}


def test_a_peak_that_is_nan_is_nobodys() -> None:
    first, second = Peaks(), Peaks()
    first.update(torch.tensor([[1.0, torch.nan]]), torch.tensor([0]))
    second.update(torch.tensor([[torch.nan, 1.0]]), torch.tensor([1]))
    first.merge(second.state())
    assert first.state()["tied"].tolist() == [True, True]


@pytest.mark.parametrize("name", ["f", "a/b", "..", ".", "übung 1", "x%2Fy"])
def test_any_name_is_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    folder = reading_files.folder_of(tmp_path, name)
    assert folder.parent == tmp_path / "readings"
    assert folder.resolve().parent == (tmp_path / "readings").resolve()
    others = {
        reading_files.folder_of(tmp_path, other)
        for other in ("f", "a/b", "..", ".", "übung 1", "x%2Fy")
        if other != name
    }
    assert folder not in others


# ---- sharing the work -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("n_shards", [1, 3])
def test_every_reading_is_made_once(parts: int, n_shards: int) -> None:
    names = ["f1", "f2", "g1", "g2"]
    shares = [share_of(range(n_shards), names, part, parts) for part in range(parts)]
    made = [(shard, name) for share in shares for shard, on_it in share.items() for name in on_it]
    assert sorted(made) == sorted((shard, name) for shard in range(n_shards) for name in names)
    if parts <= n_shards:
        assert all(on_it == names for share in shares for on_it in share.values()), "views are drawn once"
    else:
        assert sum(bool(share) for share in shares) == min(parts, n_shards * len(names))


def test_more_parts_than_shards(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 2)
    run_audit(given)
    parts = [replace(given, out=tmp_path / f"part{part}", shard=(part, 7)) for part in range(1, 8)]
    for part in parts:
        run_audit(part)
    assert any(len({path.parent for path in files_of(part.out)}) < 4 for part in parts)
    merge_runs([part.out for part in parts], tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(given.out)


def test_turns() -> None:
    assert turns([4, 4, 4, 9], 8) == (range(0, 2), range(2, 3), range(3, 4))
    assert turns([4, 4], 8) == (range(0, 2),)
    assert turns([9], 0) == (range(0, 1),)
    assert turns([1] * 64, 10**9) == (range(64),)


def alignment_of(out: Path, name: str) -> Tensor:
    return join(read_reading(out, name, k) for k in range(3)).alignment


def test_a_reading_is_that_of_the_encoder_alone(tmp_path: Path) -> None:
    """Whoever else is in the audit."""
    given = family(tmp_path, 2, 2)
    run_audit(given)
    alone = audit_helpers.options(
        tmp_path, weights=given.weights[1], reference=given.reference[0], out=tmp_path / "one"
    )
    run_audit(alone)
    assert torch.equal(alignment_of(given.out, "f2"), alignment_of(alone.out, "f"))
    assert torch.equal(alignment_of(given.out, "g1"), alignment_of(alone.out, "g"))


def test_the_output_alone_is_kept(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 1)
    whole = run_audit(given)
    few = run_audit(replace(given, out=tmp_path / "few", keep="output"))
    assert whole is not None
    assert few is not None
    columns = [name for name in whole.samples.column_names if "/" not in name or name.endswith("/output")]
    columns += [name for name in whole.samples.column_names if name.startswith("member/")]
    assert set(few.samples.column_names) == set(columns)
    assert few.samples.equals(whole.samples.select(few.samples.column_names))
    for name in ("units.parquet", "layers.parquet", "encoders.parquet", "state.safetensors"):
        assert (few.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    data, all_data = (output_alignments(run, run.arrays()) for run in (few, whole))
    assert data is not None
    assert all_data is not None
    assert (data.values == all_data.values).all()
    sizes = [sum(path.stat().st_size for path in files_of(run.folder).values()) for run in (few, whole)]
    assert sizes[0] < sizes[1] / 3
    longer = family(tmp_path, 2, 2, out=tmp_path / "few", keep="output", resume=True)
    again = run_audit(longer)  # what was not kept is read again
    other = run_audit(replace(longer, out=tmp_path / "other", resume=False))
    assert again is not None
    assert other is not None
    assert contents(again.folder) == contents(other.folder)
