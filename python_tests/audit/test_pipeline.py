"""An audit end to end: every number of all four result files against plain torch in float64."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audit_helpers
import pytest
import torch
from torch import Tensor, nn

import memkern
from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights
from memkern.audit.options import Options
from memkern.audit.pipeline import dry_run, run_audit
from memkern.audit.run_folder.reader import Run

# A float32 forward pass differs from a float64 one by rounding: a sum of n terms by about sqrt(n) * 6e-8 of its size,
# in networks of a few layers some 1e-6; scores are ratios of differences of such numbers.
CLOSE: dict[str, float] = {"rtol": 2e-4, "atol": 2e-5}


def plain(encoder: nn.Module, modules: dict[str, tuple[str, int, str]], x: Tensor) -> dict[str, Tensor]:
    """Outputs of modules, float64: label -> (module, which call, "out" or "in")."""
    seen: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, -1) + 1
            for label, (where, call, side) in modules.items():
                if (where, call) == (name, calls[name]):
                    seen[label] = (output if side == "out" else args[0]).clone()

        return keep

    found = dict(encoder.named_modules())
    handles = [found[name].register_forward_hook(hook(name)) for name in {where for where, _, _ in modules.values()}]
    with torch.no_grad():
        seen["output"] = encoder.double()(x.double())
    for handle in handles:
        handle.remove()
    return seen


def distances(z: Tensor, pairs: str, distance: str) -> Tensor:
    """Mean distance between the unit-length views of each point; z `[N, V, …]`."""
    z = nn.functional.normalize(z.flatten(2), dim=2)
    both = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    if distance == "cosine":
        both = both.square() / 2
    if pairs == "anchor":
        return both[:, 0, 1:].mean(1)
    views = z.shape[1]
    return both.sum((1, 2)) / (views * (views - 1))


def selectivity(rows: Tensor, centre: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Score, peak, centre of the others and place of the peak; rows `[N, U]`."""
    score, peaks, rests, places = [], [], [], []
    for column in rows.T:
        place = int(column.argmax())
        others = torch.cat([column[:place], column[place + 1 :]])
        peak, rest = float(column[place]), float(centre(others))
        score.append((peak - rest) / (peak + rest) if peak + rest else 0.0 if peak == rest else math.nan)
        peaks.append(peak)
        rests.append(rest)
        places.append(place)
    return torch.tensor(score), torch.tensor(peaks), torch.tensor(rests), torch.tensor(places)


def middle(values: Tensor) -> Tensor:
    ordered = values.sort()[0]
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def check(run: Run, given: Options, dims: dict[str, tuple[str, int, str, int]]) -> None:
    """Every number of the result files; dims: label -> (module, call, side, dimension of the units)."""
    images = torch.stack([picture(Path(path)) for path in run.samples["path"].to_pylist()])
    labels = run.samples["label"].to_pylist()
    ids, index = run.samples["id"].to_pylist(), run.samples["index"].to_pylist()
    drawn = memkern.views(
        images, n_views=given.views, transform=given.spec(), seed=given.seed, index=index, clean=True
    )  # [N, 1 + V, 3, h, w]
    rows = drawn if given.pairs == "anchor" else drawn[:, 1:]
    encoders = {}
    for role, file in (("f", given.weights), ("g", given.reference)):
        encoders[role] = build_encoder(given.encoder)
        load_weights(encoders[role], file[0])
    modules = {label: where[:3] for label, where in dims.items()}
    seen = {role: plain(encoder, modules, rows.flatten(0, 1)) for role, encoder in encoders.items()}
    clean = plain(encoders["f"], modules, drawn[:, 0])
    names = run.layer_names
    assert set(names) == set(dims) | ({"output"} if run.output == "output" else set())
    alignment = {
        role: {
            name: distances(values[name].unflatten(0, rows.shape[:2]), given.pairs, given.distance) for name in names
        }
        for role, values in seen.items()
    }
    memory = alignment["g"][run.output] - alignment["f"][run.output]
    torch.testing.assert_close(column(run.samples, "sslmem"), memory, **CLOSE)
    ratios: dict[str, Tensor] = {}
    ranges: dict[str, Tensor] = {}
    for name in names:
        a_f, a_g = alignment["f"][name], alignment["g"][name]
        torch.testing.assert_close(column(run.samples, f"alignment_f/{name}"), a_f, **CLOSE)
        torch.testing.assert_close(column(run.samples, f"alignment_g/{name}"), a_g, **CLOSE)
        ratios[name] = (a_g - a_f) / (a_g + a_f)
        ranges[name] = (a_g - a_f) / ((a_g - a_f).max() - (a_g - a_f).min())
    candidate = torch.tensor(run.samples["candidate"].to_pylist())
    wanted = {
        "layermem": {name: ratio.mean() for name, ratio in ratios.items()},
        "layermem_range": {name: value.mean() for name, value in ranges.items()},
        "alignment_f": {name: alignment["f"][name].mean() for name in names},
        "alignment_g": {name: alignment["g"][name].mean() for name in names},
    }
    if candidate.any():
        wanted["layermem_candidates"] = {name: ratio[candidate].mean() for name, ratio in ratios.items()}
        wanted["layermem_others"] = {name: ratio[~candidate].mean() for name, ratio in ratios.items()}
    for key, values in wanted.items():
        torch.testing.assert_close(column(run.layers, key), torch.stack([values[name] for name in names]), **CLOSE)
    delta = [
        None,
        *(float(wanted["layermem"][b] - wanted["layermem"][a]) for a, b in itertools.pairwise(names)),
    ]
    assert run.layers["delta"].to_pylist() == [delta[0], *(pytest.approx(d, abs=1e-5, rel=1e-3) for d in delta[1:])]
    for order, name in enumerate(names):
        row = run.layers.slice(order, 1).to_pylist()[0]
        assert (row["layer"], row["order"]) == (name, order)
        units = [unit for unit in run.units.to_pylist() if unit["layer"] == name]
        unit_dim = dims[name][3] if name in dims else 1
        views = seen["f"][name].unflatten(0, rows.shape[:2])
        views = views[:, 1:] if given.pairs == "anchor" else views
        means = views.movedim(unit_dim + 1, 2).flatten(3).mean((1, 3)) if views.ndim > 3 else views.mean(1)
        score, peak, rest, place = selectivity(means, middle if given.median else torch.mean)
        assert [unit["unit"] for unit in units] == list(range(len(score)))
        for key, values in (("peak", peak), ("rest", rest)):
            torch.testing.assert_close(torch.tensor([unit[key] for unit in units]), values, **CLOSE)
        # Signed activations can bring the denominator near zero, which takes the digits of the score with it.
        stable = (peak + rest).abs() > 0.05 * peak.abs()
        got = torch.tensor([unit["unitmem"] for unit in units])
        torch.testing.assert_close(got[stable], score[stable], rtol=2e-3, atol=2e-4)
        assert stable.any()
        ranked = means.T.sort(descending=True)[0]
        clear = ranked[:, 0] - ranked[:, 1] > 1e-5
        for unit, at, sure in zip(units, place.tolist(), clear.tolist(), strict=True):
            assert not sure or (unit["peak_id"], unit["peak_index"]) == (ids[at], index[at])
        assert [unit["signed"] for unit in units] == (means.amin(0) < 0).tolist()
        assert row["signed"] == int((means.amin(0) < 0).sum())
        assert row["units"] == len(units)
        within = got[(got > -1e-6) & (got < 1 + 1e-6)]
        assert row["unbounded"] == len(got) - len(within)
        means = None if not len(within) else pytest.approx(float(within.mean()), rel=1e-5)
        assert row["unitmem_mean"] == means
        assert row["unitmem_max"] == (None if not len(within) else pytest.approx(float(within.max()), rel=1e-6))
        if labels[0] is None:
            assert units[0]["classmem"] is None
            continue
        whole = clean[name].movedim(unit_dim, 1).flatten(2).mean(2) if clean[name].ndim > 2 else clean[name]
        kinds = sorted(set(labels))
        by_class = torch.stack([whole[torch.tensor(labels) == kind].mean(0) for kind in kinds])
        score, peak, rest, place = selectivity(by_class, torch.mean)
        stable = (peak + rest).abs() > 0.05 * peak.abs()
        got = torch.tensor([unit["classmem"] for unit in units])
        torch.testing.assert_close(got[stable], score[stable], rtol=2e-3, atol=2e-4)
        ranked = by_class.T.sort(descending=True)[0]
        for unit, at, sure in zip(units, place, (ranked[:, 0] - ranked[:, 1] > 1e-5).tolist(), strict=True):
            assert not sure or unit["peak_class"] == kinds[int(at)]
        metric = memkern.UnitMem()
        parts = ("peak", "index", "rest", "low", "count")
        metric.load_state_dict({part: run.state[f"{name}/unitmem/{part}"] for part in parts})
        if not given.median:
            assert torch.equal(metric.compute(), torch.tensor([unit["unitmem"] for unit in units]))


def picture(path: Path) -> Tensor:
    from PIL import Image

    return (
        torch.tensor(list(Image.open(path).convert("RGB").tobytes()), dtype=torch.uint8)
        .view(*Image.open(path).size[::-1], 3)
        .permute(2, 0, 1)
    )


def column(table: Any, name: str) -> Tensor:
    return torch.tensor(table[name].to_pylist(), dtype=torch.float64).to(torch.float64)


NET = {"conv": ("conv", 0, "out", 1), "relu": ("relu", 0, "out", 1), "deep": ("deep", 0, "out", 1)}


@pytest.mark.parametrize(
    "changes",
    [{}, {"pairs": "anchor", "candidates": "0:4"}, {"median": True, "labels": "none", "seed": 3, "distance": "cosine"}],
    ids=["all", "anchor", "median"],
)
def test_small_network(tmp_path: Path, changes: dict[str, Any]) -> None:
    given = audit_helpers.options(tmp_path, **changes)
    run = run_audit(given)
    assert run is not None
    check(run, given, NET)


def test_resnet9_and_vit_tiny(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    from safetensors.torch import save_file

    audit_helpers.pictures(tmp_path / "data", count=6, classes=2, size=32)
    vit = "timm:vit_tiny_patch16_224?img_size=32&patch_size=8&depth=2"
    for name, encoder in (("resnet9", "memkern:resnet9"), ("vit", vit)):
        for role, seed in (("f", 1), ("g", 2)):
            torch.manual_seed(seed)
            save_file(build_encoder(encoder).state_dict(), str(tmp_path / f"{name}-{role}.safetensors"))
    common: dict[str, Any] = {"data": str(tmp_path / "data"), "views": 3, "batch_size": 4, "workers": 1}

    def given(name: str, **changes: Any) -> Options:
        f, g = (str(tmp_path / f"{name}-{role}.safetensors") for role in "fg")
        return Options(weights=f, reference=g, out=tmp_path / f"run-{name}", **common, **changes)

    options = given("resnet9", encoder="memkern:resnet9", layers="conv?*.conv,*.relu,res*,pool*")
    run = run_audit(options)
    assert run is not None
    blocks = ("conv1", "conv2_0", "conv2_1", "conv2_2", "conv3", "conv4_0", "conv4_1", "conv4_2")
    dims = {f"{block}.{part}": (f"{block}.{part}", 0, "out", 1) for block in blocks for part in ("conv", "relu")}
    dims |= {name: (name, 0, "out", 1) for name in ("res2", "res6", "pool.0")}
    check(run, options, dims)

    options = given("vit", encoder=vit, layers="sublayers,blocks.1.mlp.act")
    run = run_audit(given("vit", encoder=vit, layers="*"))
    assert run is not None
    assert "blocks.0.norm2:in" in run.layer_names
    dims = {}
    for block in range(2):
        b = f"blocks.{block}"
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2"):
            dims[f"{b}.{part}"] = (f"{b}.{part}", 0, "out", 2)
        dims[f"{b}.norm2:in"] = (f"{b}.norm2", 0, "in", 2)
        dims[b] = (b, 0, "out", 2)
    dims |= {"norm": ("norm", 0, "out", 2), "patch_embed.proj": ("patch_embed.proj", 0, "out", 1)}
    check(run, options, dims)
    rows = {row["layer"]: row for row in run.layers.to_pylist()}
    att, fc = rows["blocks.1.attn.proj"], rows["blocks.1.mlp.fc2"]
    assert (att["kind"], att["block"], fc["kind"]) == ("att", 2, "fc")
    assert att["delta_sublayer"] == pytest.approx(att["layermem"] - rows["blocks.0"]["layermem"])
    assert fc["delta_sublayer"] == pytest.approx(fc["layermem"] - rows["blocks.1.norm2:in"]["layermem"])
    assert rows["blocks.1"]["delta_block"] == pytest.approx(rows["blocks.1"]["layermem"] - rows["blocks.0"]["layermem"])
    assert rows["blocks.0"]["delta_block"] is None


def test_what_was_found_goes_to_the_logger_unless_log_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    options = audit_helpers.options(tmp_path)
    (tmp_path / "data" / "notes.50%s").write_text("no image, which is worth a line")
    told: list[str] = []
    with caplog.at_level(logging.INFO, logger="memkern"):
        dry_run(options, log=told.append)
        assert not caplog.records
        dry_run(options)
    assert told
    assert [(each.name, each.levelname, each.getMessage()) for each in caplog.records] == [
        ("memkern", "INFO", text) for text in told
    ]
    caplog.clear()
    dry_run(options)
    assert (caplog.records, *capsys.readouterr()) == ([], "", "")  # who asks for nothing hears nothing, as ever
