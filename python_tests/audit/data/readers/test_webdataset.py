"""Images in tar files as WebDataset lays them out."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from image_data import IMAGES, LABELS, message, png, same_images

from memkern.audit.data.open import open_source


def tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return str(path)


def sample(row: int, folder: str = "") -> list[tuple[str, bytes]]:
    key = f"{folder}{row:04d}"
    return [(f"{key}.txt", b"a caption"), (f"{key}.png", png(IMAGES[row])), (f"{key}.cls", b"%d\n" % LABELS[row])]


def test_samples_and_labels(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [member for row in range(6) for member in sample(row, "./train/")])
    source = open_source(path)
    assert same_images(source)
    assert source.ids == tuple(f"train/{row:04d}" for row in range(6))
    assert source.labels == tuple(LABELS)
    assert source.exif == "ignore"
    assert open_source(path, labels=False).labels is None


@pytest.mark.field("data", "WebDataset tars")
def test_shards_by_folder_pattern_and_numbers(tmp_path: Path) -> None:
    for number in range(3):
        tar(
            tmp_path / "tars" / f"x-{number:06d}.tar",
            [each for row in (2 * number, 2 * number + 1) for each in sample(row)],
        )
    for text in ("tars", "tars/x-*.tar", "tars/x-{000000..000002}.tar"):
        source = open_source(str(tmp_path / text))
        assert same_images(source), text
        assert source.ids == tuple(f"{row:04d}" for row in range(6))
    assert len(open_source(str(tmp_path / "tars/x-{000001..000002}.tar"))) == 4
    text = message(open_source, str(tmp_path / "tars/x-{0..99999999999}.tar"))
    assert text.startswith("Expected 1 to 1048576 files in ")
    tar(tmp_path / "tars" / "x-000003.tar", sample(0))
    assert message(open_source, str(tmp_path / "tars")).endswith("under a name of its own, got '0000' twice")


def test_labels_in_json_and_missing(tmp_path: Path) -> None:
    members = []
    for row, label in enumerate([3, None, "cat"]):
        members += [(f"{row}.seg.jpg.png", png(IMAGES[row])), (f"{row}.json", json.dumps({"label": label}).encode())]
    source = open_source(tar(tmp_path / "x.tar", members))
    assert (source.labels, source.classes) == ((0, -1, 1), ("3", "cat"))
    assert open_source(tar(tmp_path / "y.tar", [("a.png", png(IMAGES[0])), ("b.png", png(IMAGES[1]))])).labels is None


def test_what_is_no_image_is_counted_and_links_are_not_followed(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "x.tar",
        [("._a.png", b""), ("a.png", png(IMAGES[0])), ("b.txt", b"no"), ("c\x1b\xff.png", png(IMAGES[1]))],
    )
    with tarfile.open(path, "a") as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{kind!r}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
    source = open_source(path)
    assert source.ids == ("a", "c\\x1bÿ")
    assert dict(source.left_out) == {"hidden members": 1, "links and devices": 4, "samples without an image": 1}
    assert torch.equal(source.image(1), torch.from_numpy(IMAGES[1]).permute(2, 0, 1))


def test_files_that_are_cut_off_or_compressed(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [("a.png", bytes(5000))])
    (tmp_path / "x.tar").write_bytes(Path(path).read_bytes()[:3000])
    assert "to hold all of 'a.png', got a file that was cut off" in message(open_source, path)
    assert "a tar file without compression" in message(open_source, tar(tmp_path / "y.tar", sample(0), "w:gz"))
    assert message(open_source, tar(tmp_path / "z.tar", [("a.txt", b"")])).endswith(
        "usual endings; 1 samples without an image"
    )


@pytest.mark.field("data", "WebDataset samples with masks or several images")
def test_a_mask_beside_the_image_is_not_the_image(tmp_path: Path) -> None:
    mask, image = png(IMAGES[1]), png(IMAGES[0])
    path = tar(tmp_path / "x.tar", [("0.mask.png", mask), ("0.png", image), ("0.cls", b"1.0"), ("1.png", mask)])
    source = open_source(path)
    assert torch.equal(source.image(0), torch.from_numpy(IMAGES[0]).permute(2, 0, 1))
    assert source.labels == (1, -1)
    masks = open_source(f"{path}?images=mask.png")
    assert torch.equal(masks.image(0), torch.from_numpy(IMAGES[1]).permute(2, 0, 1))
    assert masks.left_out == (("samples without an image", 1),)
    path = tar(tmp_path / "two.tar", [("0.png", image), ("0.jpg", mask)])
    assert message(open_source, path).endswith(f"got png, jpg of 0; choose one: {path}?images=png")
    assert len(open_source(f"{path}?images=jpg")) == 1
    path = tar(tmp_path / "again.tar", [("0.png", image), ("0.png", mask)])
    assert message(open_source, path).endswith("once, got '0.png' again"), "the second would stand for the first"
