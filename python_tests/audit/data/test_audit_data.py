"""Images from every source under stable ids; labels, candidates, copies and images that cannot be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from memkern._util.registry import records
from memkern.audit.data import readers
from memkern.audit.data.check import ImageCheck, check_images, copies, unreadable
from memkern.audit.data.groups import candidate_rows
from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import image_readers, open_source, reader_table
from memkern.audit.data.reader import decoded
from memkern.audit.data.source import Source, from_arrays
from memkern.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def same_images(source: Source) -> bool:
    return all(torch.equal(source.image(row), torch.from_numpy(IMAGES[row]).permute(2, 0, 1)) for row in range(6))


def message(work: Any, *arguments: Any) -> str:
    with pytest.raises((DataError, ValueError, ImportError)) as error:
        work(*arguments)
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for row, image in enumerate(IMAGES):
        path = tmp_path / "data" / "abc"[LABELS[row]] / "deep" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (tmp_path / "data" / "notes.txt").write_text("no image")
    return tmp_path / "data"


# ---- sources --------------------------------------------------------------------------------------------------------


def test_folder(folder: Path) -> None:
    source = open_source(str(folder))
    assert source.ids == (
        "a/deep/0.png",
        "a/deep/3.png",
        "b/deep/1.png",
        "b/deep/4.png",
        "c/deep/2.png",
        "c/deep/5.png",
    )
    assert source.labels == (0, 0, 1, 1, 2, 2)
    assert source.classes == ("a", "b", "c")
    assert torch.equal(source.image(1), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    assert source.digest == open_source(str(folder)).digest
    (folder / "a" / "deep" / "0.png").write_bytes(png(IMAGES[0]) + b"x")
    assert source.digest != open_source(str(folder)).digest
    assert apply_labels(source, "none").labels is None
    assert message(apply_labels, source, "folder").startswith("Expected --labels folder with images in two or more")


def test_list_with_and_without_labels(folder: Path) -> None:
    lines = [f"{'abc'[LABELS[row]]}/deep/{row}.png" for row in range(6)]
    path = folder / "list.txt"
    path.write_text("\n".join([*lines, lines[2], f"./{lines[1]}"]))
    source = open_source(str(path))
    assert source.ids == tuple(lines)
    assert len(source.repeated) == 2, "named twice, used once"
    assert same_images(source)
    path.write_text("\n".join(f"{line}\t{'xyz'[row % 3]}" for row, line in enumerate(lines)))
    assert open_source(str(path)).classes == ("x", "y", "z")
    assert open_source(str(path)).labels == (0, 1, 2, 0, 1, 2)
    path.write_text("gone.png\n")
    assert message(open_source, str(path)).endswith("to exist; 1 do not, the first: 'gone.png'")
    path.write_text("")
    assert message(open_source, str(path)).startswith("Expected one image file a line in ")


def test_numpy_hdf5_and_parquet(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    np.save(tmp_path / "x.npy", IMAGES.transpose(0, 3, 1, 2))
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    packed = [{"bytes": png(image), "path": None} for image in IMAGES]
    table = arrow.table({"image": packed, "label": LABELS})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    parquet.write_table(arrow.table({"jpg": [png(image) for image in IMAGES]}), tmp_path / "bytes.parquet")
    names = ["x.npy", "x.npz", "x.parquet", "bytes.parquet?images=jpg"]
    try:
        import h5py
    except ImportError:
        h5py = None
    if h5py is not None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["train/pictures"], file["train/labels"] = IMAGES, LABELS
        names.append("x.h5?images=train/pictures&labels=train/labels")
    for name in names:
        source = open_source(str(tmp_path / name))
        assert same_images(source), name
        assert source.ids == tuple("012345")
        assert source.labels == (None if name in {"x.npy", "bytes.parquet?images=jpg"} else tuple(LABELS)), name


def test_hugging_face_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"picture": [{"bytes": png(image), "path": None} for image in IMAGES], "kind": LABELS.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    source = open_source(str(tmp_path / "set"))
    assert same_images(source)
    assert source.labels == tuple(LABELS)
    assert source.classes == ("a", "b", "c")


def test_torchvision_data_set(folder: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    source = open_source(f"torchvision:ImageFolder?root={folder}")
    assert source.classes == ("a", "b", "c")
    assert torch.equal(source.image(1), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    assert message(open_source, "torchvision:CIFARR").startswith(
        "Expected a data set of torchvision.datasets, got 'CIFARR'"
    )
    text = message(open_source, f"torchvision:CIFAR10?root={folder}")
    assert text.startswith("Expected torchvision's CIFAR10 at hand, got: Dataset not found")


def test_arrays() -> None:
    source = from_arrays(torch.from_numpy(IMAGES), LABELS.tolist(), [f"n{i}" for i in range(6)])
    assert same_images(source)
    assert source.ids[5] == "n5"
    assert from_arrays(np.zeros((2, 1, 4, 4), np.float32)).image(0).shape == (1, 4, 4)
    assert message(from_arrays, np.zeros((2, 4, 4))).startswith("Expected images of arrays to have shape [N, C, H, W]")
    assert message(from_arrays, IMAGES, None, ["a"]) == "Expected one id per image of arrays, got 1 ids and 6 images"


def test_modes_of_pictures() -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert torch.equal(decoded(png(gray)), torch.from_numpy(gray).expand(3, 8, 8))
    deep = (gray.astype(np.uint16) << 8) + 7
    assert torch.equal(decoded(png(deep)), torch.from_numpy(gray).expand(3, 8, 8))
    assert decoded(png(np.dstack([IMAGES[0], gray]))).shape == (3, 8, 8)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.doc").write_text("")
    (tmp_path / "x.parquet").write_text("no")
    (tmp_path / "x.txt").mkdir()
    kinds = (
        "FILE.h5 (HDF5), DIR (folder), FILE.txt (list), FILE.npz (numpy), FILE.parquet (parquet), DIR (saved data "
        "set), torchvision:NAME?root=DIR (torchvision)"
    )
    text = message(open_source, str(tmp_path / "no"))
    assert text == f"Expected --data to be one of {kinds}, got '{tmp_path / 'no'}'; no such file or folder"
    assert message(open_source, str(tmp_path / "empty")).startswith("Expected images under ")
    text = message(open_source, str(tmp_path / "x.doc"))
    assert text == f"Expected --data to be one of {kinds}, got '{tmp_path / 'x.doc'}', which is of no such kind"
    assert message(open_source, str(tmp_path / "x.txt")).startswith("Expected images under "), "a folder by any name"
    assert "to be a parquet file, got: " in message(open_source, str(tmp_path / "x.parquet"))
    np.savez(tmp_path / "x.npz", a=IMAGES, b=LABELS)
    text = message(open_source, str(tmp_path / "x.npz"))
    assert text.endswith(f"got a, b; name it: {tmp_path / 'x.npz'}?images=KEY")
    assert message(open_source, f"{tmp_path / 'x.npz'}?images=c").endswith("to have images under 'c'; it has a, b")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.npy", "an .npy file without Python objects"),
        ("x.npz", "an .npz file without Python objects"),
        ("x.h5", "an HDF5 file"),
        ("x.parquet", "a parquet file"),
        ("x.txt", "a text file in UTF-8"),
    ],
)
def test_files_that_are_not_what_their_name_says(tmp_path: Path, name: str, kind: str) -> None:
    if name == "x.h5":
        pytest.importorskip("h5py", reason="h5py is not installed")
    for content in (b"", b"\xff\xfe garbage", b"PK\x03\x04 garbage", b"\x93NUMPY garbage"):
        (tmp_path / name).write_bytes(content)
        if name != "x.txt" or content:
            whole = f"Expected {tmp_path / name} to be {kind}, got: "
            text = message(open_source, str(tmp_path / name))
            assert text.startswith(whole) or (name == "x.txt" and text.startswith("Expected the files of"))


def test_one_reader_takes_a_path(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    paths = {folder: "folder", tmp_path / "saved": "saved data set"}
    for suffix, kind in {
        "h5": "HDF5", "hdf5": "HDF5", "txt": "list", "lst": "list", "csv": "list", "npy": "numpy", "npz": "numpy",
        "parquet": "parquet",
    }.items():  # fmt: skip
        (tmp_path / f"x.{suffix}").write_bytes(b"")
        (tmp_path / f"folder.{suffix}").mkdir()
        paths |= {tmp_path / f"x.{suffix}": kind, tmp_path / f"folder.{suffix}": "folder"}
    for path, kind in paths.items():
        assert [reader.name for reader in image_readers() if reader.takes(path)] == [kind]
    assert {*paths.values(), "torchvision"} == {reader.name for reader in image_readers()}


def test_a_new_reader_is_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "noise.py").write_text(
        "from memkern.audit.data.reader import Reader\n"
        "from memkern.audit.data.source import from_arrays\n"
        "import numpy as np\n"
        "def _open(spec):\n"
        "    shape = (int(spec.name), 4, 4, 3)\n"
        "    return from_arrays(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), name=spec.text)\n"
        "READER = Reader('noise', 'random pixels', 'noise:N', '', _open, prefix='noise')\n"
    )
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])
    records.cache_clear()
    try:
        assert len(open_source("noise:5")) == 5
        assert "noise:N (noise)" in message(open_source, str(tmp_path / "no"))
        assert "| `noise:N` | noise | random pixels |  |\n" in reader_table()
    finally:
        records.cache_clear()


# ---- labels and candidates ------------------------------------------------------------------------------------------


def test_labels_from_files(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    table = tmp_path / "labels.csv"
    table.write_text("id,label\n" + "\n".join(f"{name},{'yx'[row % 2]}" for row, name in enumerate(source.ids)))
    labeled = apply_labels(source, str(table))
    assert (labeled.labels, labeled.classes) == ((1, 0, 1, 0, 1, 0), ("x", "y"))
    np.save(tmp_path / "labels.npy", LABELS)
    assert apply_labels(source, str(tmp_path / "labels.npy")).labels == tuple(LABELS)
    (tmp_path / "labels.txt").write_text("1 1 0 0 2 2")
    assert apply_labels(source, str(tmp_path / "labels.txt")).labels == (1, 1, 0, 0, 2, 2)
    (tmp_path / "labels.txt").write_text("1 1 0")
    assert message(apply_labels, source, str(tmp_path / "labels.txt")).endswith("(6 images), got 3")
    table.write_text("a/deep/0.png,1\n")
    assert message(apply_labels, source, str(table)).endswith("5 lack one, first 'a/deep/3.png'")
    table.write_text("a/deep/0.png\n")
    assert message(apply_labels, source, str(table)).endswith("the columns id and label, got the row ['a/deep/0.png']")
    np.save(tmp_path / "labels.npy", np.array(["cat"] * 6))
    text = message(apply_labels, source, str(tmp_path / "labels.npy"))
    assert text.startswith(f"Expected whole numbers in {tmp_path / 'labels.npy'}, got: ")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    assert "to be a text file in UTF-8, got: " in message(apply_labels, source, str(tmp_path / "labels.txt"))
    assert message(apply_labels, source, "nowhere").startswith("Expected --labels to be auto, none, folder or a file")


def test_candidates(folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder))
    path = tmp_path / "ids.txt"
    path.write_text("c/deep/5.png\n\n1\n")
    assert candidate_rows(source, str(path)) == [False, True, False, False, False, True]
    assert candidate_rows(source, "2:4") == [False, False, True, True, False, False]
    np.save(tmp_path / "ids.npy", np.array([0]))
    assert candidate_rows(source, str(tmp_path / "ids.npy"))[0]
    assert candidate_rows(source.without({0}), "1:2") == [True, False, False, False, False], "positions stay"
    path.write_text("zebra.png\n7\n0\n")
    text = message(candidate_rows, source, str(path))
    assert text.endswith("; 2 of 3 are none, the first: 'zebra.png'; ids look like 'a/deep/0.png'")
    path.write_text("\n")
    assert message(candidate_rows, source, str(path)).startswith("Expected --candidates to name at least one image")
    assert message(candidate_rows, source, "nowhere").startswith("Expected --candidates to be a file or START:STOP")


# ---- a look at every image ------------------------------------------------------------------------------------------


def test_images_that_cannot_be_read(folder: Path) -> None:
    whole = (folder / "a" / "deep" / "0.png").read_bytes()
    (folder / "a" / "deep" / "0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "deep" / "1.png").write_text("not an image")
    source = open_source(str(folder))
    broken = unreadable(source, check_images(source, range(6), duplicates=True))
    assert [name for name, _ in broken] == ["a/deep/0.png", "b/deep/1.png"]
    assert "truncated" in broken[0][1] or "broken" in broken[0][1]
    left = source.without({0, 2})
    assert left.index == (1, 3, 4, 5)
    assert torch.equal(left.image(0), torch.from_numpy(IMAGES[3]).permute(2, 0, 1))
    floats = from_arrays(np.full((2, 3, 4, 4), 255.0, np.float32))
    assert check_images(floats, [0], duplicates=False)[0].error == "float values from 255 to 255, not in [0, 1]"


def textured(seed: int) -> Tensor:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return torch.from_numpy(np.array(coarse.resize((48, 48), Image.Resampling.BICUBIC)))


def test_copies() -> None:
    images = [textured(seed) for seed in range(12)]
    brighter = (images[3].float() * 0.9 + 20).to(torch.uint8)
    flat = torch.full((48, 48, 3), 9, dtype=torch.uint8)
    images += [images[0].clone(), brighter, flat, flat + 1, images[0].clone()]
    source = from_arrays(torch.stack(images))
    looks = check_images(source, range(len(source)), duplicates=True)
    wanted = [("0", "12", "exact"), ("0", "16", "exact"), ("3", "13", "near")]
    assert copies(source.ids, looks) == wanted, "flat images have no perceptual hash"
    assert copies(source.ids, check_images(source, range(len(source)), duplicates=False)) == []


def test_near_copies_equal_a_search_over_all_pairs() -> None:
    from memkern.audit.data.check import NEAR

    random = np.random.default_rng(0)
    hashes = [int(value) for value in random.integers(0, 2**63, 40, dtype=np.int64)]
    for row in range(20):
        changed = hashes[row]
        for bit in random.choice(63, row % 7, replace=False):
            changed ^= 1 << int(bit)
        hashes.append(changed)
    found = copies([str(row) for row in range(60)], [ImageCheck("", near=value) for value in hashes])
    slow = [
        (str(first), str(row), "near")
        for row in range(60)
        for first in [next((b for b in range(row) if bin(hashes[b] ^ hashes[row]).count("1") <= NEAR), None)]
        if first is not None
    ]
    assert found == slow
    assert len(found) == sum(row % 7 <= NEAR for row in range(20))


def test_the_helpers_make_what_they_say(tmp_path: Path) -> None:
    assert len(open_source(str(audit_helpers.pictures(tmp_path)))) == 12
