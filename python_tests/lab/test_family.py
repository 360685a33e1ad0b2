"""`memkern lab family`: who sees which image, and a tiny family that is stopped, goes on, and is not trained again."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from memkern import cli
from memkern.audit import RunArrays, read_run
from memkern.lab import encoder_cache
from memkern.lab.data.packaged import patches
from memkern.lab.data.splits import Sizes, make_split
from memkern.lab.encoder_cache import EncoderCache
from memkern.lab.family import audit_command, half_members, halves_family, split_family, write_family
from memkern.lab.training.recipe import Recipe
from memkern.lab.training.trainer import Training
from python_tests.helpers import testing

for package in ("timm", "torchvision", "safetensors", "PIL"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'memkern[lab,ssl]'")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with testing.threads(1):
        yield


# ---- who sees which image -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trainings", "images"), [(4, 64), (8, 64), (6, 33), (16, 100), (5, 40), (7, 2)])
def test_halves_are_balanced(trainings: int, images: int) -> None:
    labels = torch.arange(images) % 3
    members = half_members(labels, trainings, seed=1)
    assert members.shape == (images, trainings)
    assert set(members.sum(1).tolist()) <= {trainings // 2, (trainings + 1) // 2}
    blocks = trainings // 4
    assert members.sum(0).max() - members.sum(0).min() <= (0 if images % 2 == 0 else blocks)
    for label in range(3):  # within one of half of each class
        own = members[labels == label]
        assert (own.sum(0) - len(own) / 2).abs().max() <= 1


def test_halves_are_seeded_and_a_longer_family_begins_with_a_shorter_one() -> None:
    labels = torch.zeros(60, dtype=torch.int64)
    members = half_members(labels, 8, seed=1)
    assert members.equal(half_members(labels, 8, seed=1))
    assert not members.equal(half_members(labels, 8, seed=2))
    assert members.equal(half_members(labels, 12, seed=1)[:, :8])
    # No two encoders see the same images or complements: all four cells of a pair have images.
    for a in range(8):
        for b in range(a):
            assert len(set(zip(members[:, a].tolist(), members[:, b].tolist(), strict=True))) == 4


def test_membership_of_two_images_is_unrelated() -> None:
    """Over seeds, two images of a class share an encoder as often as independent halves do, up to the balance."""
    labels = torch.zeros(60, dtype=torch.int64)
    drawn = torch.stack([half_members(labels, 4, seed) for seed in range(400)]).double()
    both = (drawn[:, 0] * drawn[:, 1]).mean()  # 1/4, less 1/4 of 1/59 for the balance of the columns
    assert abs(both - 0.25 * (1 - 1 / 59)) < 4 * 0.43 / (400 * 4) ** 0.5


# ---- a tiny family --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 images of 16 px in two folders, a class each."""
    from PIL import Image

    root = tmp_path_factory.mktemp("data")
    generator = torch.Generator().manual_seed(0)
    for number in range(64):
        path = root / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = torch.randint(256, (16, 16, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return root


def arguments(pictures: Path, out: Path, *more: str) -> list[str]:
    """`memkern lab family` of four trainings on halves, two epochs each, at 16 px; later options win."""
    line = "lab family --design halves --trainings 4 --images 64 --preset tiny --encoder vit-nano-8 --data folder"
    line += " --size 16 --every 1 --set epochs=2 --set precision=fp32"
    return [*line.split(), "--root", str(pictures), "--out", str(out), *more]


def files(folder: Path) -> dict[str, bytes]:
    """The files of a family by name, without those of the cache."""
    found = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def family(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    assert cli.main(arguments(pictures, folder)) == 0
    return folder


def test_a_family_is_complete(family: Path) -> None:
    rows = list(csv.DictReader((family / "encoders.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["e1", "e2", "e3", "e4"]
    members = [(family / row["members"]).read_text().split() for row in rows]
    counts = torch.tensor([int(name) for ids in members for name in ids]).bincount(minlength=64)
    assert counts.tolist() == [2] * 64
    assert all(len(ids) == 32 for ids in members)
    about = json.loads((family / "family.json").read_text())
    assert len({each["seed"] for each in about["encoders"]}) == 4
    assert about["recipe"]["epochs"] == 2
    assert [each["members"] for each in about["encoders"]] == [32] * 4
    weights = {(family / row["weights"]).read_bytes() for row in rows}
    assert len(weights) == 4


def test_a_stopped_family_goes_on_to_the_same_bytes(
    pictures: Path, family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted at the end of the third encoder's first epoch, behind a checkpoint."""
    whole, epochs = Training.run_epoch, 0

    def counted(training: Training) -> float:
        nonlocal epochs
        if epochs == 5:
            raise KeyboardInterrupt
        epochs += 1
        return whole(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", counted)
        assert cli.main(arguments(pictures, tmp_path)) == 130
    assert len(list((tmp_path / "cache/encoders").glob("*.checkpoint.safetensors"))) == 1
    epochs = -100
    monkeypatch.setattr(Training, "run_epoch", counted)
    assert cli.main(arguments(pictures, tmp_path)) == 0
    assert epochs + 100 == 3  # the second epoch of the third encoder, and the fourth
    assert files(tmp_path) == files(family)
    shown = capsys.readouterr().out
    assert "encoder 3 of 4: e3" in shown
    assert "  epoch 1 of 2: loss " in shown


def test_a_second_run_trains_nothing(
    pictures: Path, family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("trained again")

    before = files(family)
    monkeypatch.setattr(encoder_cache, "train", refuse)
    assert cli.main(arguments(pictures, family)) == 0
    assert files(family) == before
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[:4] == ["memkern", "audit", "--encoders", str(family / "encoders.csv")]
    shared = arguments(pictures, tmp_path / "other", "--cache", str(family / "cache"))
    assert cli.main(shared) == 0
    assert files(tmp_path / "other") == before
    assert cli.main([*shared, "--trainings", "8"]) == 70  # the fifth is to be trained
    for other in (["--set", "lr=0.1"], ["--seed", "1"], ["--images", "62"]):
        assert cli.main([*shared, "--out", str(tmp_path / other[1]), *other]) == 70


def audited(shown: str, *more: str) -> RunArrays:
    """Runs the command that `memkern lab family` printed last."""
    command = [*shlex.split(shown.splitlines()[-1]), *more]
    assert cli.main(command[1:]) == 0
    return read_run(command[command.index("--out") + 1]).arrays()


def test_halves_are_audited_and_encoders_added_later_are_measured_alone(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'memkern[audit]'")
    assert cli.main(arguments(pictures, tmp_path)) == 0
    run = audited(capsys.readouterr().out)
    found = run.significance
    assert found is not None
    assert (found.design, found.n_scored, found.method) == ("varying", 64, "moderated t")
    assert run.encoders["encoder"] == ["e1", "e2", "e3", "e4"]
    assert run.encoders["n_members"] == [32] * 4
    assert run.n_in is not None
    assert run.n_out is not None
    assert run.n_in.tolist() == run.n_out.tolist() == [2] * 64
    reading = tmp_path / "run/readings/e1/00000.safetensors"
    before = reading.stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main(arguments(pictures, tmp_path, "--trainings", "8")) == 0
    run = audited(capsys.readouterr().out, "--resume")
    assert run.encoders["encoder"] == [f"e{k}" for k in range(1, 9)]
    assert run.n_in is not None
    assert run.n_in.tolist() == [4] * 64
    assert reading.stat().st_mtime_ns == before


def test_a_split_has_groups_and_roles_and_is_audited(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = arguments(pictures, tmp_path)
    del line[line.index("--trainings") : line.index("--preset")]
    line[line.index("halves")] = "split"
    assert cli.main([*line, "--f", "2", "--g", "1", "--sizes", "3,3,15", "--set", "epochs=1"]) == 0
    rows = list(csv.DictReader((tmp_path / "groups.csv").read_text().splitlines()))
    assert [int(row["id"]) for row in rows] == list(range(48))
    groups = [row["group"] for row in rows]
    assert {name: groups.count(name) for name in groups} == {
        "shared": 6, "candidate": 6, "independent": 6, "extra": 30,
    }  # fmt: skip
    about = json.loads((tmp_path / "family.json").read_text())
    assert [each["name"] for each in about["encoders"]] == ["f1", "f2", "g1"]
    assert [each["members"] for each in about["encoders"]] == [12] * 3
    shown = capsys.readouterr().out
    command = shlex.split(shown.splitlines()[-1])
    weights, reference = command.index("--weights"), command.index("--reference")
    assert command[2:weights] == ["memkern:vit-nano-8?image_size=16"]
    assert command[weights + 1 : reference] == [str(tmp_path / f"f{k}.safetensors") for k in (1, 2)]
    assert command[reference + 1 : command.index("--groups")] == [str(tmp_path / "g1.safetensors")]
    assert not (tmp_path / "encoders.csv").exists()
    run = audited(shown)
    found = run.significance
    assert found is not None
    assert (found.design, found.control, found.n_scored, found.n_control) == ("fixed", "extra", 6, 30)
    assert run.group == groups
    assert run.encoders["role"] == ["f", "f", "g"]


@pytest.mark.parametrize("design", ["halves", "split"])
def test_images_that_were_cut_from_one_picture_say_so(design: str, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed; pip install 'memkern[lab]'")
    data, recipe = patches(), Recipe(epochs=1, batch=4, encoder="vit-nano-8")
    split = make_split(data.labels, Sizes(1, 1, 1), 0)
    drawn = {
        "halves": lambda: halves_family(data, torch.cat(list(split.groups().values())), 4, 0),
        "split": lambda: split_family(data, split, 1, 1, 0),
    }
    family = drawn[design]()
    write_family(family, recipe, EncoderCache(tmp_path), tmp_path)
    rows = list(csv.DictReader((tmp_path / "groups.csv").read_text().splitlines()))
    assert [row["picture"] for row in rows] == [data.label_names[label] for label in data.labels[family.rows]]
    assert ("group" in rows[0]) == (design == "split")
    assert "--groups" in audit_command(family, recipe, tmp_path)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("--f 2", "Expected --trainings, --images with --design halves, got --f"),
        ("--design split", "Expected --f, --g, --sizes with --design split, got --trainings, --images"),
        ("--trainings 3", "Expected `trainings` to be 4 or more, "),
        ("--images 65", "Expected --images to be 64 at most, the training images of folder"),
        ("--images 18", "Expected 10 training images (one batch) or more for each encoder, got 9; "),
        ("--encoder resnet9", "Expected resnet9 to take images of 16 px, got: "),
        ("--encoder resnet10", "Expected `encoder` to be one of resnet9, "),
        ("--method clr", "Expected `method` to be one of byol, "),
        ("--data digits", "Expected --size with folder or stl10; images of digits have 32 px"),
        ("--root nowhere", "Expected a folder at nowhere"),
    ],
)
def test_wrong_options_are_refused_before_any_training(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, sentence: str
) -> None:
    assert cli.main([*arguments(pictures, tmp_path), *more.split()]) == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_another_family_in_the_folder_is_refused(
    pictures: Path, family: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(family)
    assert cli.main([*arguments(pictures, family), "--seed", "5"]) == 1
    assert "it holds one with another seed" in capsys.readouterr().err
    assert files(family) == before
