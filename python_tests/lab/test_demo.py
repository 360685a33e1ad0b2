"""`memkern demo` and the pair that ships: numbers, files, errors, exit codes."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import memkern
import memkern.reference
from memkern import cli
from memkern._util.files import read_json, sha256
from memkern.errors import TrainingError
from memkern.lab import demo, figures, measure
from memkern.lab import encoder_pairs as pairs
from memkern.lab.data import packaged as data
from memkern.lab.data import splits
from memkern.lab.encoders import resnet9
from memkern.lab.training import trainer

TINY = trainer.Recipe(epochs=1, batch=6)


@pytest.fixture(scope="module")
def small_set() -> data.ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return data.image_set("noise", images, torch.arange(24) % 3, ("a_x", "b_y", "c_z"))


@pytest.fixture(scope="module")
def small_pair(small_set: data.ImageSet) -> pairs.Pair:
    return pairs.train_pair(small_set, 0, recipe=TINY, sizes=splits.Sizes(2, 2, 2))


@pytest.fixture
def stored(small_pair: pairs.Pair, tmp_path: Path) -> Path:
    pairs.save_pair(small_pair, tmp_path / "pair")
    return tmp_path / "pair"


@pytest.fixture
def offline(small_set: data.ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line with the small set in place of the patches."""
    monkeypatch.setattr(demo, "patches", lambda: small_set)
    monkeypatch.setattr(demo, "QUICK_RECIPE", TINY)


# ---- numbers ----------------------------------------------------------------------------------------------


def plain_layers(model: resnet9.ResNet9, x: Tensor) -> dict[str, Tensor]:
    """The forward pass once more, from state-dict tensors and torch functions alone."""
    state, out = model.state_dict(), {}

    def block(x: Tensor, name: str, pool: bool) -> Tensor:
        x = functional.conv2d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=1)
        stats = [state[f"{name}.bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = functional.batch_norm(x, *stats, training=False).relu()
        return functional.max_pool2d(x, 2) if pool else x

    x = out["conv1"] = block(x, "conv1", True)
    skip = x = out["conv2-0"] = block(x, "conv2_0", True)
    x = out["conv2-1"] = block(x, "conv2_1", False)
    x = out["conv2-2"] = block(x, "conv2_2", False)
    x = out["Res2"] = x + skip
    x = out["conv3"] = block(x, "conv3", True)
    skip = x = out["conv4-0"] = block(x, "conv4_0", True)
    x = out["conv4-1"] = block(x, "conv4_1", False)
    x = out["conv4-2"] = block(x, "conv4_2", False)
    x = out["Res6"] = x + skip
    out["output"] = functional.max_pool2d(x, 2).flatten(1)
    return out


def plain_alignment(z: Tensor, n_views: int) -> Tensor:
    points = functional.normalize(z.flatten(1).double(), dim=1).view(-1, n_views, z[0].numel())
    return torch.stack([torch.pdist(point).mean() for point in points])


def plain_selectivity(rows: Tensor) -> Tensor:
    rows = rows.double().sort(0).values
    peak, rest = rows[-1], rows[:-1].mean(0)
    return torch.where(peak + rest == 0, 0.0, (peak - rest) / (peak + rest))


def unit_rows(x: Tensor) -> Tensor:
    return x.flatten(2).mean(2) if x.ndim > 2 else x


def test_audit_of_the_shipped_pair_equals_plain_torch() -> None:
    pair, patches, n_views = pairs.load_pair(), data.patches(), 3
    few = splits.Split(*(ids[:: len(ids) // 6][:6] for ids in pair.split.groups().values()))
    audit = measure.audit_pair(pair.f, pair.g, patches, few, pair.recipe.views, n_views=n_views, seed=4)
    ids = torch.cat(list(few.groups().values()))
    images = patches.images[ids].float() / 255
    table = memkern.view_params(pair.recipe.views, n_views=n_views, seed=4, index=ids, image_size=(32, 32))
    x = memkern.reference.views([patches.images[ids]], table, size=(32, 32)).flatten(0, 1)
    with torch.no_grad():
        of_f, of_g = plain_layers(pair.f, x), plain_layers(pair.g, x)
        clean = plain_layers(pair.f, (images - 0.5) / 0.5)
    a_f = {name: plain_alignment(z, n_views) for name, z in of_f.items()}
    a_g = {name: plain_alignment(z, n_views) for name, z in of_g.items()}
    score = a_g["output"] - a_f["output"]
    close = {"rtol": 1e-4, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(audit.sslmem, score, **close)
    for column, name in enumerate(splits.GROUPS):
        part = slice(6 * column, 6 * column + 6)
        assert audit.means[name] == pytest.approx(score[part].mean().item(), abs=1e-5)
    trained = torch.arange(12)  # shared, candidate
    for row, name in zip(audit.layers, resnet9.TAPS, strict=True):
        ratio = (a_g[name] - a_f[name]) / (a_g[name] + a_f[name])
        assert row.layermem["candidate"] == pytest.approx(ratio[6:12].mean().item(), abs=1e-5)
        units = unit_rows(of_f[name]).view(len(ids), n_views, -1).mean(1)[trained]
        torch.testing.assert_close(
            audit.unitmem[name], plain_selectivity(units), rtol=1e-3, atol=1e-4, check_dtype=False
        )
        assert torch.equal(units.gather(0, units.argmax(0, keepdim=True))[0], units.max(0).values)
        alive = units.max(0).values > 0
        assert torch.equal(audit.peak_ids[name][alive], ids[trained][units.argmax(0)][alive])
        rows, labels = unit_rows(clean[name])[trained], patches.labels[ids[trained]]
        by_class = torch.stack([rows[labels == label].mean(0) for label in labels.unique()])
        torch.testing.assert_close(
            audit.classmem[name], plain_selectivity(by_class), rtol=1e-3, atol=1e-4, check_dtype=False
        )
    deltas = [row.delta for row in audit.layers]
    assert deltas[0] is None
    assert deltas[1] == pytest.approx(audit.layers[1].layermem["candidate"] - audit.layers[0].layermem["candidate"])


def test_the_shipped_pair_is_small_and_documented() -> None:
    assert sum(path.stat().st_size for path in pairs.ASSETS.iterdir()) < 8 * 2**20
    pair = pairs.load_pair()
    split = pairs.make_split(data.patches().labels, pairs.SIZES, pair.seed)
    assert torch.equal(split.f, pair.split.f)
    assert torch.equal(split.g, pair.split.g)
    assert pair.recipe == pairs.RECIPE
    seeds = read_json(pairs.ASSETS / "seeds.json")["pairs"]
    assert [row["seed"] for row in seeds] == [0, 1, 2]
    for row in seeds:
        assert row["mean_sslmem"]["candidate"] > max(row["mean_sslmem"]["shared"], row["mean_sslmem"]["extra"])


def test_comparison_by_hand() -> None:
    score = torch.tensor([3.0, 4.0, 5.0, 1.0, 2.0])
    places = {"candidate": torch.tensor([0, 1, 2]), "extra": torch.tensor([3, 4])}
    row = measure._compare(score, places, "extra")
    assert row.superiority == 1
    assert row.p == pytest.approx(0.1)  # the most extreme of the 10 ways to choose 2 of 5
    assert row.cohens_d == pytest.approx((4 - 1.5) / ((2 * 1 + 1 * 0.5) / 3) ** 0.5)


# ---- storing pairs ----------------------------------------------------------------------------------------


def test_a_pair_comes_back_as_float16_left_it(small_pair: pairs.Pair, stored: Path) -> None:
    loaded = pairs.load_pair(stored)
    for a, b in zip(small_pair.f.state_dict().values(), loaded.f.state_dict().values(), strict=True):
        assert torch.equal(a.half().to(a.dtype) if a.is_floating_point() else a, b)
    assert loaded.recipe == small_pair.recipe
    assert torch.equal(loaded.split.candidate, small_pair.split.candidate)
    assert not loaded.f.training


def test_damaged_and_missing_pairs(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"manifest\.json is missing"):
        pairs.load_pair(tmp_path / "nowhere")
    weights = stored / "g.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TrainingError, match=r"g\.safetensors is damaged"):
        pairs.load_pair(stored)
    weights.unlink()
    with pytest.raises(TrainingError, match=r"g\.safetensors is missing"):
        pairs.load_pair(stored)
    (stored / "manifest.json").write_text("{}")
    with pytest.raises(TrainingError, match="describe an encoder pair"):
        pairs.load_pair(stored)
    (stored / "manifest.json").write_text("{")
    with pytest.raises(TrainingError, match="describe an encoder pair"):
        pairs.load_pair(stored)


def test_summaries_of_the_pairs_of_a_folder(small_pair: pairs.Pair, small_set: data.ImageSet, tmp_path: Path) -> None:
    for seed in (10, 2):
        manifest = {**small_pair.manifest, "seed": seed}
        pairs.save_pair(replace(small_pair, seed=seed, manifest=manifest), tmp_path / f"seed-{seed}")
    rows = pairs.summarize(small_set, tmp_path)
    assert [row["seed"] for row in rows] == [2, 10]
    assert read_json(tmp_path / "seeds.json")["pairs"] == rows
    assert set(rows[0]["mean_sslmem"]) == set(splits.GROUPS)


# ---- the command ------------------------------------------------------------------------------------------

FILES = ["gallery.png", "groups.png", "images.parquet", "layers.parquet", "layers.png"]
FILES += ["manifest.json", "scores.safetensors", "units.parquet", "units.png"]


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.usefixtures("offline")
def test_demo_writes_everything(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pyarrow import parquet
    from safetensors.torch import load_file

    out = tmp_path / "out"
    assert run("demo", "--weights", stored, "--out", out, "--seed", 3) == 0
    printed = capsys.readouterr()
    assert "candidate" in printed.out
    assert "Most memorized" in printed.out
    assert "\x1b" not in printed.out + printed.err  # no terminal, no colors, no bars
    assert sorted(path.name for path in out.iterdir()) == FILES
    manifest = json.loads((out / "manifest.json").read_text())
    assert {name: sha256(out / name) for name in manifest["files"]} == manifest["files"]
    assert sorted([*manifest["files"], "manifest.json"]) == FILES
    assert manifest["views"] == {"count": 10, "seed": 3}
    images = parquet.read_table(out / "images.parquet").to_pydict()
    scores = load_file(out / "scores.safetensors")
    assert images["id"] == scores["ids"].tolist()
    torch.testing.assert_close(scores["sslmem"], scores["alignment_g"][-1] - scores["alignment_f"][-1])
    assert parquet.read_table(out / "units.parquet").num_rows == 1120 + 64 + 256
    assert parquet.read_table(out / "layers.parquet").num_rows == 10
    best = max(
        (s, -i) for s, i, g in zip(images["sslmem"], images["id"], images["group"], strict=True) if g == "candidate"
    )
    assert manifest["most_memorized"][0] == -best[1]


@pytest.mark.usefixtures("offline")
def test_demo_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = splits.Sizes(2, 2, 2)
    train = pairs.train_pair
    monkeypatch.setattr(demo, "train_pair", lambda *args, **kwargs: train(*args, **kwargs, sizes=small))
    assert run("demo", "--train", "--out", tmp_path / "out", "--seed", 1) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["pair"]["trained_now"] is True
    assert manifest["pair"]["seed"] == 1


@pytest.mark.usefixtures("offline")
def test_a_killed_demo_leaves_no_half_written_file(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib.figure import Figure
    from pyarrow import parquet

    def killed_while_writing(figure: Figure, path: Path, **kwargs: Any) -> None:
        path.write_bytes(b"half")
        signal.raise_signal(signal.SIGTERM)

    out = tmp_path / "out"
    out.mkdir()
    for name in FILES:  # of an earlier run
        (out / name).write_text("whole")
    monkeypatch.setattr(Figure, "savefig", killed_while_writing)
    assert run("demo", "--weights", stored, "--out", out) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [name for name in FILES if name != "manifest.json"]
    assert all((out / name).read_text() == "whole" for name in FILES if name.endswith("png"))
    assert parquet.read_table(out / "layers.parquet").num_rows == 10
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("offline")
def test_errors_are_one_line(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stored / "f.safetensors").write_bytes(b"")
    assert run("demo", "--weights", stored, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("memkern: error: ")
    assert "f.safetensors is damaged" in error
    assert error.count("\n") == 1
    with pytest.raises(TrainingError):
        run("demo", "--debug", "--weights", stored, "--out", tmp_path / "out")
    (tmp_path / "file").write_text("")
    assert run("demo", "--weights", stored, "--out", tmp_path / "file") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["dmeo"], ["demo", "--seed", "x"], ["demo", "--seed", "-1"], ["doctor", "x"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert error.value.code == 2


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    for word in ("memkern", "torch", "reference", "cpu", "scikit-image"):
        assert word in printed


def test_gallery_orders_the_candidates(small_pair: pairs.Pair, small_set: data.ImageSet) -> None:
    audit = measure.audit_pair(
        small_pair.f, small_pair.g, small_set, small_pair.split, small_pair.recipe.views, n_views=2
    )
    order = figures.ranked_candidates(audit)
    scores = audit.sslmem[order]
    assert torch.equal(scores, scores.sort(descending=True).values)
    assert set(audit.ids[order].tolist()) == set(small_pair.split.candidate.tolist())
