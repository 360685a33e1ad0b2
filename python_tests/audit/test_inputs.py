"""Audits of what people bring: missing labels, orientations, names of any bytes, looks at few images, stores."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import audit_helpers
import numpy as np
import pytest
import torch
from image_data import picture_folder
from PIL import Image

from memkern.audit import Options, from_dataset, read_run, run_audit
from memkern.audit.data.source import Source, from_arrays
from memkern.errors import ArgumentValueError, DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def given(tmp_path: Path) -> Options:
    return replace(audit_helpers.options(tmp_path), views=2, images=False, shard_size=2)


def test_images_without_a_label_are_left_out_of_classmem(given: Options, tmp_path: Path) -> None:
    labels = [-1, -1, 0, 1, 0, 1, -1, 0]
    run = run_audit(given, source=from_arrays(IMAGES, labels))
    assert run is not None
    assert run.samples["label"].to_pylist() == [None, None, 0, 1, 0, 1, None, 0]
    assert (run.arrays().labels == labels).all()
    alone = run_audit(
        replace(given, out=tmp_path / "alone", candidates=None),
        source=replace(from_arrays(IMAGES, labels).without({0, 1, 6})),
    )
    assert alone is not None
    # A convolution of other numbers of images may round otherwise: a mean by some 1e-7, a score by twice that.
    of_class, of_unit = (pytest.approx(alone.units[name].to_pylist(), abs=1e-6) for name in ("classmem", "unitmem"))
    assert run.units["classmem"].to_pylist() == of_class, "as if only the others were there"
    assert run.units["unitmem"].to_pylist() != of_unit


def test_no_label_at_all(given: Options) -> None:
    said: list[str] = []
    run = run_audit(given, source=from_arrays(IMAGES, [-1] * 8), log=said.append)
    assert run is not None
    assert run.samples["label"].null_count == 8
    assert any("No image of arrays has a label" in line for line in said)


def test_a_data_set_of_torch_is_audited(given: Options) -> None:
    data = torch.utils.data.TensorDataset(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    run = run_audit(given, source=from_dataset(data))
    assert run is not None
    assert run.manifest.data.source == "TensorDataset"


def test_what_was_found_stands_in_the_manifest(given: Options, tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "pictures")
    (folder / "cover.png").write_bytes((folder / "a" / "deep" / "0.png").read_bytes())
    Image.fromarray(IMAGES[0]).save(folder / "c" / os.fsdecode(b"\xff\n\x1b[31m.png"))
    said: list[str] = []
    run = run_audit(replace(given, data=str(folder), exif="apply", candidates=None), log=said.append)
    assert run is not None
    data = json.loads((run.folder / "manifest.json").read_text())["data"]
    assert (data["exif"], data["check"]) == ("apply", "full")
    assert data["left_out"] == {"files ending with .txt": 1, "images beside the class folders": 1}
    assert any(line.startswith("Left out of ") and "1 images beside the class folders" in line for line in said)
    name = "c/\\xff\\x0a\\x1b[31m.png"
    assert run.samples["id"].to_pylist()[-1] == name
    assert run.samples["path"].to_pylist()[-1].endswith(name)
    for path in run.folder.rglob("*"):
        if path.suffix in {".json", ".html", ".csv"}:
            assert "\x1b" not in path.read_text(encoding="utf-8")


class CountedSource:
    """Images that count how often each is loaded."""

    def __init__(self) -> None:
        self.loads = [0] * 8
        whole = from_arrays(IMAGES)
        self.source = replace(whole, load=lambda position: self.load(whole, position))

    def load(self, whole: Source, position: int) -> torch.Tensor:
        self.loads[position] += 1
        return whole.load(position)


def test_how_many_images_are_looked_at(given: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memkern.audit.data.check.SAMPLE", 4)
    tables = {}
    for check, most in {"full": [2] * 7, "sample": [1, 2, 1, 2, 1, 2, 1], "none": [1] * 7}.items():
        counted = CountedSource()
        run = run_audit(replace(given, check=check, out=tmp_path / check), source=counted.source)
        assert run is not None
        assert counted.loads[1:] == most, check
        assert run.manifest.data.check == check
        tables[check] = run.samples["sslmem"].to_pylist()
    assert tables["full"] == tables["sample"] == tables["none"]
    with pytest.raises(ArgumentValueError, match="Expected `skip_corrupt` with check='full', got check='none'"):
        replace(given, check="none", skip_corrupt=True)


def test_an_image_that_was_not_looked_at_is_named_when_it_fails(given: Options) -> None:
    whole = from_arrays(IMAGES)

    def load(position: int) -> torch.Tensor:
        if position == 5:
            raise OSError("truncated")
        return whole.load(position)

    with pytest.raises(DataError, match="5: truncated"):
        run_audit(replace(given, check="none"), source=replace(whole, load=load))


def test_an_unreadable_candidate_of_a_range(given: Options) -> None:
    (Path(given.data) / "class0" / "01.png").write_bytes(b"x")
    run = run_audit(replace(given, candidates="0:3", skip_corrupt=True))
    assert run is not None
    marked = [index for index, each in zip(run.samples["index"], run.samples["candidate"], strict=True) if each.as_py()]
    assert [each.as_py() for each in marked] == [0, 2]


@pytest.mark.field("data", "data, weights and RUN at addresses of fsspec")
def test_data_weights_and_results_in_a_store(given: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    local = run_audit(given)
    files = fsspec.filesystem("memory")
    files.store.clear()
    for path in Path(given.data).rglob("*.png"):
        files.pipe(f"/bucket/data/{path.relative_to(given.data).as_posix()}", path.read_bytes())
    for name, weights in (("f", given.weights[0]), ("g", given.reference[0])):
        files.pipe(f"/bucket/{name}.safetensors", Path(weights).read_bytes())
    options = replace(
        given, data="memory://bucket/data", weights="memory://bucket/f.safetensors",
        reference="memory://bucket/g.safetensors", out=Path("memory://runs/one"),
    )  # fmt: skip
    run = run_audit(options)
    assert run is not None
    assert local is not None
    assert files.exists("/runs/one/manifest.json")
    for found in (run, read_run("memory://runs/one")):
        assert found.samples["sslmem"].to_pylist() == local.samples["sslmem"].to_pylist()
        assert found.samples["id"].to_pylist() == local.samples["id"].to_pylist()
    with pytest.raises(ArgumentValueError, match="Expected `out` to be a local folder with `shard`"):
        replace(options, shard=(1, 2))


def test_a_view_that_no_memory_holds_is_refused(given: Options) -> None:
    with pytest.raises(DataError, match="Expected --size of at most 134217728 pixels a view, got 1000000 x 1000000"):
        run_audit(replace(given, size=1_000_000))
