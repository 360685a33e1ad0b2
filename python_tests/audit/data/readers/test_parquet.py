"""Images in a parquet file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as arrow
import pytest
import torch
from image_data import IMAGES, LABELS, message, png, same_images
from pyarrow import parquet

from memkern.audit.data.open import open_source


def test_columns_of_bytes(tmp_path: Path) -> None:
    packed = [{"bytes": png(image), "path": None} for image in IMAGES]
    parquet.write_table(arrow.table({"image": packed, "label": LABELS}), tmp_path / "x.parquet", row_group_size=2)
    parquet.write_table(arrow.table({"jpg": [png(image) for image in IMAGES]}), tmp_path / "bytes.parquet")
    for name, labels in {"x.parquet": tuple(LABELS), "bytes.parquet?images=jpg": None}.items():
        source = open_source(str(tmp_path / name))
        assert same_images(source), name
        assert source.ids == tuple("012345")
        assert source.labels == labels


def shard(path: Path, rows: list[int], **columns: list[object]) -> None:
    """A shard as the hub serves it: features in its metadata."""
    features = {
        "picture": {"_type": "Image"}, "name": {"dtype": "string", "_type": "Value"},
        "kind": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    table = arrow.table(
        {
            "name": [str(row) for row in rows],
            "picture": [{"bytes": png(IMAGES[row]), "path": f"{row}.png"} for row in rows],
            "kind": [int(LABELS[row]) for row in rows],
        }
        | columns
    )
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    parquet.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.field("data", "folders and patterns of parquet shards, as the Hugging Face hub serves them")
def test_folders_and_patterns_of_shards(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    shard(hub / "data" / "train-00001-of-00002.parquet", [3, 4, 5])
    shard(hub / "data" / "train-00000-of-00002.parquet", [0, 1, 2])
    (hub / "README.md").write_text("---\nlicense: mit\n---\n")
    for text in (
        str(hub),
        f"{hub}/data",
        f"{hub}/data/train-*.parquet",
        f"{hub}/data/train-{{00000..00001}}-of-00002.parquet",
    ):
        source = open_source(text)
        assert same_images(source), text
        assert source.ids == tuple("012345")
        assert source.classes == ("cat", "dog", "owl")
        assert source.labels == tuple(LABELS)
    shard(hub / "data" / "test-00000-of-00001.parquet", [5, 0])
    both = open_source(str(hub))
    assert both.ids == ("test/0", "test/1", *(f"train/{row}" for row in range(6)))
    assert same_images(open_source(f"{hub}?split=train"))
    assert message(open_source, f"{hub}?split=valid").endswith(", got test, train")
    assert "no such file or folder" in message(open_source, f"{hub}/*.parquet")
    assert open_source(f"{hub}/data/*.parquet?labels=none").labels is None
    parquet.write_table(arrow.table({"text": ["a"]}), hub / "data" / "zzz.parquet")
    assert "zzz.parquet to have the columns of " in message(open_source, str(hub))


def test_images_beside_shards_are_a_folder(tmp_path: Path) -> None:
    shard(tmp_path / "metadata.parquet", [0])
    (tmp_path / "train").mkdir()
    for row in range(2):
        (tmp_path / "train" / f"{row}.png").write_bytes(png(IMAGES[row]))
    assert open_source(str(tmp_path)).ids == ("train/0.png", "train/1.png")


@pytest.mark.field("data", "parquet files with paths in place of bytes; such that leave their folder: refused")
def test_paths_instead_of_bytes_stay_in_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(IMAGES[4]))
    for row in range(4):
        (data / f"{row}.png").write_bytes(png(IMAGES[row]))
    (data / "link.png").symlink_to(outside)
    pictures = [
        {"bytes": None, "path": "0.png"}, {"bytes": None, "path": str(data / "1.png")},
        {"bytes": png(IMAGES[2]), "path": "/etc/passwd"}, None, {"bytes": None, "path": None},
        {"bytes": None, "path": "../outside.png"}, {"bytes": None, "path": str(outside)},
        {"bytes": None, "path": "link.png"}, {"bytes": None, "path": "gone.png"},
        {"bytes": None, "path": "https://example.org/x.png"},
    ]  # fmt: skip
    shard(data / "x.parquet", [0] * 10, picture=pictures)
    source = open_source(str(data / "x.parquet"))
    assert all(torch.equal(source.image(row), torch.from_numpy(IMAGES[row]).permute(2, 0, 1)) for row in range(3))
    assert message(source.image, 3) == "3: no image: the value is null"
    assert message(source.image, 4) == "4: no image: the value is null"
    for row in (5, 6, 7):
        assert "leaves the folder of the data; state the folder of the images, ?root=DIR" in message(source.image, row)
    assert "the path gone.png is no file in " in message(source.image, 8)
    assert "is no file in " in message(source.image, 9)
    trusted = open_source(f"{data / 'x.parquet'}?root={tmp_path}")
    assert all(trusted.image(row).shape == (3, 8, 8) for row in (5, 6, 7))


def test_plain_paths_and_lists_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(IMAGES[0]))
    table = arrow.table({"file": ["a.png"] * 2, "numbers": [IMAGES[1].tolist(), IMAGES[1].transpose(2, 0, 1).tolist()]})
    parquet.write_table(table, tmp_path / "x.parquet")
    of_paths = open_source(f"{tmp_path / 'x.parquet'}?images=file")
    assert torch.equal(of_paths.image(0), torch.from_numpy(IMAGES[0]).permute(2, 0, 1))
    of_numbers = open_source(f"{tmp_path / 'x.parquet'}?images=numbers")
    for row in range(2):
        assert torch.equal(of_numbers.image(row), torch.from_numpy(IMAGES[1]).permute(2, 0, 1))
    for values, wanted in (
        (IMAGES[1].ravel().tolist(), "a list of shape [192], not [H, W], [H, W, C] or [C, H, W]"),
        ([[1, 2], [3]], "a list of rows of unequal lengths"),
    ):
        parquet.write_table(arrow.table({"image": [values]}), tmp_path / "flat.parquet")
        assert wanted in message(open_source(str(tmp_path / "flat.parquet")).image, 0)


def test_a_number_is_one_class_in_all_shards(tmp_path: Path) -> None:
    for number, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = arrow.table({"image": [png(IMAGES[number])], "label": [number]})
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / f"part{number}.parquet")
    assert f"cat, dog; got dog, cat in {tmp_path / 'part1.parquet'}: audit" in message(open_source, str(tmp_path))
    assert open_source(str(tmp_path), labels=False).labels is None


def test_null_labels_and_orientations(tmp_path: Path) -> None:
    from PIL import Image

    wide = Image.fromarray(IMAGES[0][:4])
    exif = wide.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    wide.save(buffer, "JPEG", exif=exif)
    shard(
        tmp_path / "x.parquet", [0, 1, 2], kind=[None, 1, -1], picture=[{"bytes": buffer.getvalue(), "path": None}] * 3
    )
    source = open_source(str(tmp_path / "x.parquet"))
    assert source.labels == (-1, 1, -1)
    assert (source.exif, source.image(0).shape) == ("apply", (3, 8, 4)), "as `datasets` does"
    assert open_source(str(tmp_path / "x.parquet"), exif="ignore").image(0).shape == (3, 4, 8)
