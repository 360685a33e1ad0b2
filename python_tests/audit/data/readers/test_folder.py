"""Images in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from image_data import IMAGES, message, picture_folder, png
from PIL import Image

from memkern._util.text import unescaped
from memkern.audit.data.groups import ImageNames
from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return picture_folder(tmp_path / "data")


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


@pytest.mark.field("data", "class folders that are links, loops of links")
def test_links_to_folders_are_followed_and_loops_end(folder: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "b").symlink_to(folder / "b")
    (chosen / "c").symlink_to(folder / "c")
    (folder / "c" / "up").symlink_to(chosen)  # a loop
    (folder / "c" / "deep" / "self").symlink_to(folder / "c" / "deep")
    source = open_source(str(chosen))
    assert source.ids == ("b/deep/1.png", "b/deep/4.png", "c/deep/2.png", "c/deep/5.png")
    assert source.classes == ("b", "c")
    assert dict(source.left_out)["folders that links lead to again"] == 2
    (chosen / "d").mkdir()
    (chosen / "d" / "1.png").symlink_to(folder / "b" / "deep" / "1.png")
    (chosen / "d" / "gone.png").symlink_to(folder / "gone.png")
    (chosen / "d" / "itself").symlink_to("itself")
    linked = open_source(str(chosen))
    assert linked.repeated == ("d/1.png",), "one file is used once"
    assert dict(linked.left_out)["links to nothing"] == 1, "a link to itself is no error of the walk"
    assert message(linked.image, linked.ids.index("d/gone.png")).startswith("d/gone.png: ")


def test_links_to_a_folder_and_to_one_within(folder: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    (chosen / "a").symlink_to(folder / "a" / "deep")
    (chosen / "b").symlink_to(folder)
    source = open_source(str(chosen))
    assert source.ids[:2] == ("a/0.png", "a/3.png")
    assert len(source) == 6
    assert source.repeated == ()
    assert dict(source.left_out)["folders that links lead to again"] == 1


def test_a_file_keeps_its_own_name_beside_a_link_to_its_folder(folder: Path) -> None:
    ids = open_source(str(folder)).ids
    (folder / "Z").symlink_to(folder / "a")
    assert open_source(str(folder)).ids == ids


@pytest.mark.field("data", "a folder that cannot be read: refused")
def test_a_folder_that_cannot_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    text = message(open_source, str(folder))
    assert text == (
        f"Expected every folder of the images to be readable, got {folder}/b: Permission denied; make it readable, or "
        "take it out"
    )


@pytest.mark.field("data", "hidden files and images beside class folders")
def test_what_is_no_image_of_the_list_is_counted(folder: Path) -> None:
    ids = open_source(str(folder)).ids
    whole = png(IMAGES[0])
    for name in (
        "cover.png",
        "a/._0.png",
        ".hidden.png",
        ".ipynb_checkpoints/0.png",
        "b/x.heic",
        "b/y.HEIC",
        "b/LICENSE",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(whole if name.endswith("png") else b"no image")
    os.mkfifo(folder / "a" / "pipe.png")
    source = open_source(str(folder))
    assert source.ids == ids
    assert source.classes == ("a", "b", "c")
    assert dict(source.left_out) == {
        "files ending with .heic": 2,
        "files ending with .txt": 1,
        "files without an ending": 1,
        "hidden files and folders": 3,
        "images beside the class folders": 1,
        "pipes, sockets and devices": 1,
    }
    everything = open_source(str(folder), labels=False)
    assert everything.labels is None
    assert everything.ids == (*ids, "cover.png"), "without classes no image is beside them"


def test_more_images_beside_the_folders_than_in_them_are_no_strays(folder: Path) -> None:
    for row in range(7):
        (folder / f"{row}.png").write_bytes(png(IMAGES[row % 6]))
    source = open_source(str(folder))
    assert len(source) == 13
    assert source.labels is None


@pytest.mark.field("data", "`.jfif`, `.jpe`, `.avif`, `.jp2`, and images without an ending")
def test_endings_and_none(tmp_path: Path) -> None:
    picture = Image.fromarray(IMAGES[0])
    for name, kind in {
        "a.jfif": "JPEG", "b.JPE": "JPEG", "c.avif": "AVIF", "d.jp2": "JPEG2000", "e": "PNG", "f": "WEBP",
        "g.dib": "DIB",
    }.items():  # fmt: skip
        Image.init()
        if kind in Image.SAVE:
            picture.save(tmp_path / name, kind)
        else:
            picture.save(tmp_path / name, "PNG")
    (tmp_path / "README").write_text("P5 is no image")
    source = open_source(str(tmp_path))
    assert source.ids == ("a.jfif", "b.JPE", "c.avif", "d.jp2", "e", "f", "g.dib")
    assert all(source.image(row).shape == (3, 8, 8) for row in range(7))
    assert dict(source.left_out) == {"files without an ending": 1}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.doc").write_text("")
    assert message(open_source, str(tmp_path / "sub")).endswith("; there are 1 files ending with .doc")


@pytest.mark.field("data", "names that are not UTF-8, or hold control codes")
def test_names_are_kept_whole_and_shown_escaped(tmp_path: Path) -> None:
    names = [b"\xff\xfe.png", b"a\nb.png", b"\x1b[31mred.png", b"\\xff\\xfe.png", "ü\u202e.png".encode(), b"plain.png"]
    for row, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(png(IMAGES[row]))
    source = open_source(str(tmp_path))
    assert all(each.isprintable() and each.encode() for each in source.ids)
    assert len(set(source.ids)) == 6
    assert {os.fsencode(unescaped(each)) for each in source.ids} == set(names)
    assert "plain.png" in source.ids
    listed = tmp_path / "ids.txt"
    listed.write_bytes(b"plain.png\r\n\xff\xfe.png\r\n")
    rows = ImageNames(source).listed(str(listed), "--candidates")
    assert [source.ids[row] for row in rows] == ["plain.png", r"\xff\xfe.png"]
    listed.write_text("\\xff\\xfe.png\n")
    assert len(ImageNames(source).listed(str(listed), "--candidates")) == 1


@pytest.mark.field("data", "EXIF orientations")
def test_the_choice_of_orientations_is_the_users(tmp_path: Path) -> None:
    wide = Image.fromarray(IMAGES[0][:4])
    exif = wide.getexif()
    exif[0x0112] = 6
    for name in ("a.jpg", "b.jpg"):
        wide.save(tmp_path / name, exif=exif)
    kept, turned = open_source(str(tmp_path)), open_source(str(tmp_path), exif="apply")
    assert (kept.exif, turned.exif) == ("ignore", "apply"), "ImageFolder ignores them"
    assert (kept.image(0).shape, turned.image(0).shape) == ((3, 4, 8), (3, 8, 4))
    assert kept.digest != turned.digest
    assert message(open_source, f"{tmp_path}?exif=yes").endswith("to be one of apply, ignore, got 'yes'")
